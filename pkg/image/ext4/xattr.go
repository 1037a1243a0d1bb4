// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package ext4

import (
	"archive/tar"
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"strings"
)

const (
	// xattrRecord is how tar archives name extended attributes.
	xattrRecord = "SCHILY.xattr."
	// xattrHeader is the size of the header of a block of attributes.
	xattrHeader = 32
	xattrEntry  = 16
	xattrEnd    = 4

	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// Numbers of the namespaces, of which the ACLs have one each.
const (
	indexUser       = 1
	indexACLAccess  = 2
	indexACLDefault = 3
	indexTrusted    = 4
	indexSecurity   = 6
)

// xattr is one extended attribute.
type xattr struct {
	index uint8
	name  string
	value []byte
}

func (x xattr) nameSize() int  { return xattrEntry + (len(x.name)+3)&^3 }
func (x xattr) valueSize() int { return (len(x.value) + 3) &^ 3 }

// xattrOf returns the attribute of a full name; ok is false if ext4 does not
// keep those of its namespace.
func xattrOf(name string, value []byte) (x xattr, ok bool, err error) {
	switch name {
	case aclAccess, aclDefault:
		x.index = indexACLAccess
		if name == aclDefault {
			x.index = indexACLDefault
		}
		x.value, err = encodeACL(value)
		return x, true, err
	}
	for prefix, index := range map[string]uint8{"user.": indexUser, "trusted.": indexTrusted, "security.": indexSecurity} {
		if rest, found := strings.CutPrefix(name, prefix); found && rest != "" {
			return xattr{index, rest, value}, true, nil
		}
	}
	return xattr{}, false, nil
}

// fullName is the reverse of xattrOf, for the name.
func (x xattr) fullName() string {
	switch x.index {
	case indexUser:
		return "user." + x.name
	case indexACLAccess:
		return aclAccess
	case indexACLDefault:
		return aclDefault
	case indexTrusted:
		return "trusted." + x.name
	case indexSecurity:
		return "security." + x.name
	}
	return "?." + x.name
}

// addXattrs gives an inode the extended attributes of a header: those that fit
// into the inode, and the rest in a block of its own.
func (w *writer) addXattrs(header *tar.Header, number uint32) error {
	var all []xattr
	for key, value := range header.PAXRecords {
		name, found := strings.CutPrefix(key, xattrRecord)
		if !found {
			continue
		}
		if strings.ContainsRune(name, 0) || len(name) > maxName {
			return entryError(header.Name, "the name of its extended attribute %q is not one that Linux allows", short(name))
		}
		x, ok, err := xattrOf(name, []byte(value))
		if err != nil {
			return entryError(header.Name, "its extended attribute %q: %v", name, err)
		}
		if !ok {
			w.dropped++
			continue
		}
		all = append(all, x)
	}
	if len(all) == 0 {
		return nil
	}
	// This is the order that the kernel searches in.
	slices.SortFunc(all, func(a, b xattr) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(len(a.name), len(b.name)), cmp.Compare(a.name, b.name))
	})
	inInode, inBlock := inodeSize-xattrInInode-4-xattrEnd, blockSize-xattrHeader-xattrEnd
	var near, far []xattr
	for _, x := range all {
		switch size := x.nameSize() + x.valueSize(); {
		case size <= inInode:
			inInode -= size
			near = append(near, x)
		case size <= inBlock:
			inBlock -= size
			far = append(far, x)
		default:
			return entryError(header.Name, "its extended attribute %q with %d bytes has no room: ext4 has about 4000 bytes for all of a file", x.fullName(), len(x.value))
		}
	}
	if len(near) > 0 {
		b := make([]byte, inodeSize-xattrInInode)
		binary.LittleEndian.PutUint32(b, xattrMagic)
		putXattrs(near, b[4:], 0)
		w.attributes[number] = b
		w.kept += len(b)
	}
	if len(far) == 0 {
		return nil
	}
	return w.addXattrBlock(number, far)
}

// addXattrBlock writes a block of extended attributes.
func (w *writer) addXattrBlock(number uint32, xattrs []xattr) error {
	if err := w.reserve(1); err != nil {
		return err
	}
	b := make([]byte, blockSize)
	le := binary.LittleEndian
	le.PutUint32(b[0:], xattrMagic)
	le.PutUint32(b[4:], 1) // users
	le.PutUint32(b[8:], 1) // blocks
	var hash uint32
	for _, x := range xattrs {
		hash = hash<<16 ^ hash>>16 ^ x.hash()
	}
	le.PutUint32(b[12:], hash)
	putXattrs(xattrs, b[xattrHeader:], xattrHeader)
	n := w.node(number)
	n.xattrs = w.out.block()
	n.blocks++
	return w.out.write(b)
}

// putXattrs writes attributes into b: what they are from its begin, values from
// its end. Offsets count from base bytes before b.
func putXattrs(xattrs []xattr, b []byte, base int) {
	le := binary.LittleEndian
	entry, end := 0, len(b)
	for _, x := range xattrs {
		end -= x.valueSize()
		b[entry] = uint8(len(x.name)) //nolint:gosec // at most 255
		b[entry+1] = x.index
		if len(x.value) > 0 {
			le.PutUint16(b[entry+2:], uint16(end+base)) //nolint:gosec // at most 4096
		}
		le.PutUint32(b[entry+8:], uint32(len(x.value))) //nolint:gosec // at most 4096
		le.PutUint32(b[entry+12:], x.hash())
		copy(b[entry+xattrEntry:], x.name)
		copy(b[end:], x.value)
		entry += x.nameSize()
	}
}

// hash is the checksum of an attribute.
func (x xattr) hash() uint32 {
	var h uint32
	for i := range len(x.name) {
		h = h<<5 ^ h>>27 ^ uint32(x.name[i])
	}
	padded := append(bytes.Clone(x.value), 0, 0, 0)
	for len(padded) >= 4 {
		h = h<<16 ^ h>>16 ^ binary.LittleEndian.Uint32(padded)
		padded = padded[4:]
	}
	return h
}

// Tags of ACL entries that name a user or a group.
const (
	aclUser, aclGroup = 0x02, 0x08
	// aclVersionOutside and aclVersionOnDisk are the versions of ACLs as programs
	// see them, and as ext4 keeps them, which has an id only where there is one.
	aclVersionOutside, aclVersionOnDisk = 2, 1
)

type aclError string

func (e aclError) Error() string { return string(e) }

// encodeACL turns an ACL as programs see it, which is what archives have, into
// what ext4 keeps.
func encodeACL(value []byte) ([]byte, error) {
	le := binary.LittleEndian
	if len(value) < 4 || (len(value)-4)%8 != 0 || le.Uint32(value) != aclVersionOutside {
		return nil, aclError("it is not an ACL of version 2")
	}
	b := le.AppendUint32(nil, aclVersionOnDisk)
	for entry := value[4:]; len(entry) > 0; entry = entry[8:] {
		b = append(b, entry[:4]...)
		if tag := le.Uint16(entry); tag == aclUser || tag == aclGroup {
			b = append(b, entry[4:8]...)
		}
	}
	return b, nil
}

// decodeACL is the reverse of encodeACL.
func decodeACL(value []byte) ([]byte, error) {
	le := binary.LittleEndian
	if len(value) < 4 || le.Uint32(value) != aclVersionOnDisk {
		return nil, aclError("it is not an ACL of version 1")
	}
	b := le.AppendUint32(nil, aclVersionOutside)
	for entry := value[4:]; len(entry) > 0; {
		size := 4
		if len(entry) >= 4 && (le.Uint16(entry) == aclUser || le.Uint16(entry) == aclGroup) {
			size = 8
		}
		if len(entry) < size {
			return nil, aclError("it is cut off")
		}
		b = append(b, entry[:4]...)
		if size == 8 {
			b = append(b, entry[4:8]...)
		} else {
			b = le.AppendUint32(b, math.MaxUint32)
		}
		entry = entry[size:]
	}
	return b, nil
}
