// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package ext4

import (
	"encoding/binary"
	"time"
)

// Geometry. All of it is what mkfs chooses for disks of this size, too.
const (
	blockSize      = 4096
	blocksPerGroup = 8 * blockSize
	inodeSize      = 256
	inodesPerBlock = blockSize / inodeSize
	// maxInodesPerGroup is what one block of inode bitmap can tell.
	maxInodesPerGroup = 8 * blockSize
	// inodesPerGroup is one inode for 16 KiB.
	inodesPerGroup     = 8192
	descriptorSize     = 32
	descriptorsInBlock = blockSize / descriptorSize
	superblockOffset   = 1024
	superblockSize     = 1024
)

// Inodes with a meaning of their own.
const (
	rootInode    = 2
	journalInode = 8
	firstInode   = 11
)

// Features. SparseSuper2 without backup groups means that there are no backups
// of the superblock; GDTChecksum is what permits uninitialized groups.
const (
	compatHasJournal   = 0x4
	compatXattr        = 0x8
	compatDirIndex     = 0x20
	compatSparseSuper2 = 0x200

	incompatFiletype = 0x2
	incompatExtents  = 0x40
	incompatFlexBG   = 0x200

	roLargeFile   = 0x2
	roHugeFile    = 0x8
	roGDTChecksum = 0x10
	roDirNlink    = 0x20
	roExtraIsize  = 0x40
)

// Flags of a group descriptor.
const (
	groupInodeUninit = 0x1
	groupBlockUninit = 0x2
	groupInodeZeroed = 0x4
)

// Types of files, as in the mode of an inode.
const (
	typeMask    = 0xf000
	typeFifo    = 0x1000
	typeChar    = 0x2000
	typeDir     = 0x4000
	typeBlock   = 0x6000
	typeRegular = 0x8000
	typeSymlink = 0xa000
	typeSocket  = 0xc000
)

const (
	superMagic  = 0xef53
	extentMagic = 0xf30a
	xattrMagic  = 0xea020000

	inodeFlagExtents = 0x80000
	// extraIsize is how much of an inode is in use behind its first 128 bytes.
	extraIsize = 32
	// xattrInInode is where extended attributes begin inside an inode.
	xattrInInode = 128 + extraIsize
	// inlineSize is the room for the root of an extent tree, or a short target.
	inlineSize = 60
	// maxLinks is the limit of link counts; a directory with more has the count 1.
	maxLinks = 65000
	maxName  = 255
	// maxPath is the kernel's limit for a path, and for the target of a symbolic link.
	maxPath = 4095
)

// stamp is a time as ext4 keeps it: seconds in the low 34 bits, counted from
// 1901, nanoseconds above.
type stamp uint64

// epoch is where the seconds of a stamp begin, the lowest that 32 bits hold.
const epoch = -1 << 31

// newStamp returns the stamp of t, or the nearest that can be told.
func newStamp(t time.Time) stamp {
	seconds := t.Unix() - epoch
	switch {
	case seconds < 0:
		return 0
	case seconds >= 1<<34:
		return 1<<34 - 1
	}
	return stamp(seconds) | stamp(t.Nanosecond())<<34 //nolint:gosec // both were checked to fit
}

// words are the two fields of an inode: the low 32 bits of the seconds since
// 1970, and what 64-bit times need beyond.
func (s stamp) words() (low, extra uint32) {
	seconds := int64(s&(1<<34-1)) + epoch
	low = uint32(seconds)                         //nolint:gosec // the low half is meant
	high := (seconds - int64(int32(low))) >> 32   //nolint:gosec // the field is signed
	return low, uint32(high)&3 | uint32(s>>34)<<2 //nolint:gosec // two bits and 30 bits
}

// stampOf is the reverse of words.
func stampOf(low, extra uint32) time.Time {
	seconds := int64(int32(low)) + int64(extra&3)<<32 //nolint:gosec // the field is signed
	return time.Unix(seconds, int64(extra>>2)).UTC()
}

// deviceWords are the two forms of a device number, of which one is 0: the short
// one is for numbers below 256.
func deviceWords(major, minor uint32) (short, long uint32) {
	if major < 256 && minor < 256 {
		return major<<8 | minor, 0
	}
	return 0, minor&0xff | major<<8 | minor&^0xff<<12
}

// deviceOf is the reverse of deviceWords.
func deviceOf(short, long uint32) (major, minor uint32) {
	if short != 0 {
		return short >> 8 & 0xff, short & 0xff
	}
	return long >> 8 & 0xfff, long&0xff | long>>12&^0xff
}

// crc16 continues a checksum of the kind that group descriptors have.
func crc16(crc uint16, b []byte) uint16 {
	for _, c := range b {
		crc ^= uint16(c)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0xa001
			} else {
				crc >>= 1
			}
		}
	}
	return crc
}

// descriptor is what a group says of itself.
type descriptor struct {
	blockBitmap, inodeBitmap, inodeTable      uint32
	freeBlocks, freeInodes, dirs, unusedInode uint16
	flags                                     uint16
}

// encode returns the descriptor of a group with its checksum.
func (d descriptor) encode(uuid [16]byte, group uint32) []byte {
	b := make([]byte, descriptorSize)
	le := binary.LittleEndian
	le.PutUint32(b[0:], d.blockBitmap)
	le.PutUint32(b[4:], d.inodeBitmap)
	le.PutUint32(b[8:], d.inodeTable)
	le.PutUint16(b[12:], d.freeBlocks)
	le.PutUint16(b[14:], d.freeInodes)
	le.PutUint16(b[16:], d.dirs)
	le.PutUint16(b[18:], d.flags)
	le.PutUint16(b[28:], d.unusedInode)
	crc := crc16(^uint16(0), uuid[:])
	crc = crc16(crc, le.AppendUint32(nil, group))
	le.PutUint16(b[30:], crc16(crc, b[:30]))
	return b
}

func blocksOf(bytes int64) int64 { return (bytes + blockSize - 1) / blockSize }
