// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Filesystem is an ext4 filesystem that is read.
type Filesystem struct {
	// Label and UUID are its identity.
	Label string
	UUID  [16]byte
	// Size is what the filesystem covers, FreeBytes what is left of it.
	Size, FreeBytes int64
	// Inodes and FreeInodes are how many files there can be, and how many more.
	Inodes, FreeInodes int64
	// Writable is false when the kernel would mount it read-only whatever it is told.
	Writable bool
	// JournalBytes is the size of the journal, 0 if there is none.
	JournalBytes int64

	r              io.ReaderAt
	blocks         uint32
	inodes, groups uint32
	tables         []uint32
}

// Open reads what a filesystem says of itself. It knows the filesystems that
// Write makes, also after a kernel wrote to them, and refuses others. Behind its
// end r counts as zero, so that a prefix is enough.
//
// Everything read is checked before it is used: input of any kind is answered
// with InvalidArgument, within bounded time and memory.
func Open(r io.ReaderAt) (*Filesystem, error) {
	f := &Filesystem{r: r}
	b := make([]byte, superblockSize)
	if err := f.readAt(b, superblockOffset); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	u32 := func(at int) uint32 { return le.Uint32(b[at:]) }
	if le.Uint16(b[0x38:]) != superMagic {
		return nil, invalid("it has no superblock of ext4")
	}
	const incompat = incompatFiletype | incompatExtents | incompatFlexBG
	if u32(0x60)&^incompat != 0 || u32(0x60)&incompatExtents == 0 || u32(0x18) != 2 || le.Uint16(b[0x58:]) != inodeSize || u32(0x20) != blocksPerGroup {
		return nil, invalid("it has features (%#x) or sizes that are not known here", u32(0x60))
	}
	f.blocks, f.inodes = u32(0x04), u32(0x28)
	if f.blocks == 0 || f.blocks > MaxSize/blockSize || f.inodes == 0 || f.inodes > maxInodesPerGroup || f.inodes%inodesPerBlock != 0 {
		return nil, invalid("it has %d blocks and %d inodes in a group", f.blocks, f.inodes)
	}
	f.groups = (f.blocks + blocksPerGroup - 1) / blocksPerGroup
	f.Label = strings.TrimRight(string(b[0x78:0x88]), "\x00")
	copy(f.UUID[:], b[0x68:])
	f.Size, f.FreeBytes = int64(f.blocks)*blockSize, int64(u32(0x0c))*blockSize
	f.Inodes, f.FreeInodes = int64(f.groups)*int64(f.inodes), int64(u32(0x10))
	const roReadonly = 0x1000
	f.Writable = u32(0x64)&roReadonly == 0
	descriptors := make([]byte, int(f.groups)*descriptorSize)
	if err := f.readAt(descriptors, blockSize); err != nil {
		return nil, err
	}
	for at := 8; at < len(descriptors); at += descriptorSize {
		table := le.Uint32(descriptors[at:])
		if uint64(table)+uint64(f.inodes/inodesPerBlock) > uint64(f.blocks) {
			return nil, invalid("its inode table is at block %d of %d", table, f.blocks)
		}
		f.tables = append(f.tables, table)
	}
	if u32(0x5c)&compatHasJournal != 0 {
		journal, err := f.inode(u32(0xe0))
		if err != nil {
			return nil, err
		}
		f.JournalBytes = journal.size
	}
	return f, nil
}

func invalid(format string, args ...any) error {
	return errdefs.Wrap(errdefs.InvalidArgument, fmt.Errorf(format, args...), "reading an ext4 filesystem")
}

// readAt reads bytes, of which those behind the end are zero.
func (f *Filesystem) readAt(b []byte, offset int64) error {
	n, err := f.r.ReadAt(b, offset)
	if n < len(b) && err != nil && !errors.Is(err, io.EOF) {
		kind := errdefs.KindOf(err)
		if kind == errdefs.Unknown {
			kind = errdefs.Unavailable
		}
		return errdefs.Wrap(kind, err, "reading an ext4 filesystem")
	}
	clear(b[n:])
	return nil
}

// block reads one block, which must be on the disk.
func (f *Filesystem) block(number uint32) ([]byte, error) {
	if number == 0 || number >= f.blocks {
		return nil, invalid("something is in block %d of %d", number, f.blocks)
	}
	b := make([]byte, blockSize)
	return b, f.readAt(b, int64(number)*blockSize)
}

// inodeData is an inode as it is on the disk.
type inodeData struct {
	raw   []byte
	mode  uint16
	size  int64
	links uint16
}

func (f *Filesystem) inode(number uint32) (inodeData, error) {
	if number == 0 || int64(number) > f.Inodes {
		return inodeData{}, invalid("something has the inode %d of %d", number, f.Inodes)
	}
	group, index := (number-1)/f.inodes, (number-1)%f.inodes
	b := make([]byte, inodeSize)
	if err := f.readAt(b, int64(f.tables[group])*blockSize+int64(index)*inodeSize); err != nil {
		return inodeData{}, err
	}
	le := binary.LittleEndian
	i := inodeData{
		raw: b, mode: le.Uint16(b), links: le.Uint16(b[26:]),
		size: int64(le.Uint32(b[4:])) | int64(le.Uint32(b[108:]))<<32,
	}
	if i.size < 0 || i.size > 1<<44 {
		return inodeData{}, invalid("inode %d has %d bytes", number, i.size)
	}
	return i, nil
}

// Entry is one name in a filesystem.
type Entry struct {
	// Path is relative to the root, which is ".".
	Path string
	// Inode tells hard links to one file.
	Inode uint32
	// Mode is type and permissions, as Linux has them in st_mode.
	Mode uint32
	// UID and GID are its owner.
	UID, GID uint32
	// Links is the number of names; of a directory 1 when there are too many to count.
	Links int
	// Size is the length in bytes, Blocks how many blocks of 4 KiB it takes.
	Size, Blocks int64
	// Major and Minor are the device of a device file.
	Major, Minor uint32
	// Target is where a symbolic link leads.
	Target string
	// Modified, Accessed and Changed are its times.
	Modified, Accessed, Changed time.Time
	// Xattrs are its extended attributes, ACLs as programs see them; nil if none.
	Xattrs map[string][]byte
}

// IsDir reports whether it is a directory.
func (e *Entry) IsDir() bool { return e.Mode&typeMask == typeDir }

// IsRegular reports whether it is a regular file.
func (e *Entry) IsRegular() bool { return e.Mode&typeMask == typeRegular }

// IsSymlink reports whether it is a symbolic link.
func (e *Entry) IsSymlink() bool { return e.Mode&typeMask == typeSymlink }

// entry returns all of a name.
func (f *Filesystem) entry(path string, number uint32) (Entry, error) {
	i, err := f.inode(number)
	if err != nil {
		return Entry{}, err
	}
	le, b := binary.LittleEndian, i.raw
	if i.links == 0 {
		return Entry{}, invalid("%q has inode %d, which is not in use", path, number)
	}
	e := Entry{
		Path: path, Inode: number, Mode: uint32(i.mode), Links: int(i.links), Size: i.size,
		UID:      uint32(le.Uint16(b[2:])) | uint32(le.Uint16(b[120:]))<<16,
		GID:      uint32(le.Uint16(b[24:])) | uint32(le.Uint16(b[122:]))<<16,
		Blocks:   (int64(le.Uint32(b[28:])) | int64(le.Uint16(b[116:]))<<32) / (blockSize / 512),
		Accessed: stampOf(le.Uint32(b[8:]), le.Uint32(b[140:])),
		Changed:  stampOf(le.Uint32(b[12:]), le.Uint32(b[132:])),
		Modified: stampOf(le.Uint32(b[16:]), le.Uint32(b[136:])),
	}
	switch i.mode & typeMask {
	case typeChar, typeBlock:
		e.Major, e.Minor = deviceOf(le.Uint32(b[40:]), le.Uint32(b[44:]))
	case typeSymlink:
		if e.Target, err = f.target(&e, b); err != nil {
			return Entry{}, err
		}
	case typeRegular, typeDir, typeFifo, typeSocket:
	default:
		return Entry{}, invalid("%q has the mode %#o", path, i.mode)
	}
	e.Xattrs, err = f.xattrs(b)
	return e, err
}

func (f *Filesystem) target(e *Entry, raw []byte) (string, error) {
	switch {
	case e.Size > maxPath:
		return "", invalid("the target of %q has %d bytes", e.Path, e.Size)
	case e.Size < inlineSize:
		return string(raw[40 : 40+e.Size]), nil
	}
	b, err := io.ReadAll(f.Content(e))
	return string(b), err
}

// xattrs returns the extended attributes of an inode.
func (f *Filesystem) xattrs(raw []byte) (map[string][]byte, error) {
	all := map[string][]byte{}
	le := binary.LittleEndian
	if le.Uint16(raw[128:]) == extraIsize && le.Uint32(raw[xattrInInode:]) == xattrMagic {
		if err := readXattrs(all, raw[xattrInInode+4:], raw[xattrInInode+4:]); err != nil {
			return nil, err
		}
	}
	if number := le.Uint32(raw[104:]); number != 0 {
		b, err := f.block(number)
		if err != nil {
			return nil, err
		}
		if le.Uint32(b) != xattrMagic {
			return nil, invalid("block %d has no extended attributes", number)
		}
		if err := readXattrs(all, b[xattrHeader:], b); err != nil {
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, nil //nolint:nilnil // no attributes are no error
	}
	return all, nil
}

// readXattrs adds the attributes of entries, whose values are in values.
func readXattrs(all map[string][]byte, entries, values []byte) error {
	le := binary.LittleEndian
	for len(entries) >= xattrEnd && le.Uint32(entries) != 0 {
		if len(entries) < xattrEntry || len(entries) < xattrEntry+int(entries[0]) {
			return invalid("its extended attributes are cut off")
		}
		x := xattr{index: entries[1], name: string(entries[xattrEntry : xattrEntry+int(entries[0])])}
		at, size := int(le.Uint16(entries[2:])), int64(le.Uint32(entries[8:]))
		if int64(at)+size > int64(len(values)) {
			return invalid("its extended attribute %q is cut off", x.fullName())
		}
		x.value = append([]byte{}, values[at:at+int(size)]...)
		if x.hash() != le.Uint32(entries[12:]) {
			return invalid("its extended attribute %q has a wrong checksum", x.fullName())
		}
		if x.index == indexACLAccess || x.index == indexACLDefault {
			acl, err := decodeACL(x.value)
			if err != nil {
				return invalid("its extended attribute %q: %w", x.fullName(), err)
			}
			x.value = acl
		}
		all[x.fullName()] = x.value
		entries = entries[min(x.nameSize(), len(entries)):]
	}
	return nil
}
