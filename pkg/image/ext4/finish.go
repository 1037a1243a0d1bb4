// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package ext4

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// finish writes everything that is not content.
func (w *writer) finish() (Result, error) {
	if err := w.writeDirectories(); err != nil {
		return Result{}, err
	}
	begin := 1 + descriptorBlocks(groupsOf(w.opts.Size))
	content := int64(w.out.block() - begin)
	if _, ok := newLayout(w.opts.Size, content+w.holes, w.count); w.out.discard || !ok {
		return Result{}, tooSmall(&TooSmallError{Size: w.opts.Size, Need: smallest(content+w.holes, w.count)})
	}
	l, _ := newLayout(w.opts.Size, content, w.count)
	if needed := 1 + descriptorBlocks(l.groups); needed < begin {
		w.free = append(w.free, run{needed, begin - needed})
	}
	slices.SortFunc(w.free, func(a, b run) int { return int(a.first) - int(b.first) })
	descriptors, err := w.writeBitmaps(&l)
	if err != nil {
		return Result{}, err
	}
	if err := w.out.write(journalSuperblock(l.journalBlocks)); err != nil {
		return Result{}, err
	}
	if err := w.out.pad(); err != nil {
		return Result{}, err
	}
	if err := w.writeInodes(&l); err != nil {
		return Result{}, err
	}
	if err := w.out.flush(); err != nil {
		return Result{}, err
	}
	return w.writeHead(&l, descriptors)
}

// writeHead writes the superblock and the descriptors, which make it a filesystem.
func (w *writer) writeHead(l *layout, descriptors []descriptor) (Result, error) {
	head := make([]byte, blockSize, blockSize*(1+int(descriptorBlocks(l.groups))))
	result := Result{
		Size: w.opts.Size, UsedBytes: int64(l.prefix()) * blockSize, Inodes: int64(l.groups) * int64(l.inodes),
		Entries: w.entries, DroppedXattrs: w.dropped,
	}
	var freeBlocks int64
	for group, d := range descriptors {
		freeBlocks += int64(d.freeBlocks)
		result.FreeInodes += int64(d.freeInodes)
		head = append(head, d.encode(w.opts.UUID, uint32(group))...)
	}
	result.FreeBytes = freeBlocks * blockSize
	copy(head[superblockOffset:], w.superblock(l, freeBlocks, result.FreeInodes))
	if _, err := w.out.file.WriteAt(head, 0); err != nil {
		return Result{}, writeError(err)
	}
	if err := w.out.file.Truncate(result.UsedBytes); err != nil {
		return Result{}, writeError(err)
	}
	return result, nil
}

// writeInodes writes the inode tables, as far as they have content.
func (w *writer) writeInodes(l *layout) error {
	now := newStamp(w.opts.Time)
	*w.node(journalInode) = node{
		mode: typeRegular | 0o600, links: 1, size: int64(l.journalBlocks) * blockSize,
		atime: now, ctime: now, mtime: now, first: l.journal, blocks: l.journalBlocks,
	}
	w.inline[journalInode] = extentNode(l.journalExtents(), 0, rootExtents)
	b := make([]byte, inodeSize)
	for number := uint32(1); number <= w.count; number++ {
		clear(b)
		w.encodeInode(b, number)
		if err := w.out.write(b); err != nil {
			return err
		}
	}
	return w.out.pad()
}

// encodeInode fills b, which is zero, with an inode.
func (w *writer) encodeInode(b []byte, number uint32) {
	n := w.node(number)
	if n.links == 0 {
		return
	}
	le := binary.LittleEndian
	le.PutUint16(b[0:], n.mode)
	le.PutUint16(b[2:], uint16(n.uid))    //nolint:gosec // the low half
	le.PutUint32(b[4:], uint32(n.size))   //nolint:gosec // the low half
	le.PutUint16(b[24:], uint16(n.gid))   //nolint:gosec // the low half
	le.PutUint16(b[26:], uint16(n.links)) //nolint:gosec // at most maxLinks
	sectors := uint64(n.blocks) * (blockSize / 512)
	le.PutUint32(b[28:], uint32(sectors)) //nolint:gosec // the low half
	le.PutUint32(b[104:], n.xattrs)
	le.PutUint32(b[108:], uint32(n.size>>32))  //nolint:gosec // the high half
	le.PutUint16(b[116:], uint16(sectors>>32)) //nolint:gosec // the high half
	le.PutUint16(b[120:], uint16(n.uid>>16))
	le.PutUint16(b[122:], uint16(n.gid>>16))
	le.PutUint16(b[128:], extraIsize)
	for _, t := range []struct {
		stamp      stamp
		low, extra int
	}{{n.atime, 8, 140}, {n.ctime, 12, 132}, {n.mtime, 16, 136}, {n.mtime, 144, 148}} {
		low, extra := t.stamp.words()
		le.PutUint32(b[t.low:], low)
		le.PutUint32(b[t.extra:], extra)
	}
	switch n.mode & typeMask {
	case typeChar, typeBlock:
		short, long := deviceWords(n.major, n.minor)
		le.PutUint32(b[40:], short)
		le.PutUint32(b[44:], long)
	case typeFifo:
	default:
		inline, extents := w.contentOf(number)
		copy(b[40:], inline)
		if extents {
			le.PutUint32(b[32:], inodeFlagExtents)
		}
	}
	copy(b[xattrInInode:], w.attributes[number])
}

// contentOf returns the 60 bytes by which an inode says what its content is, and
// whether these are the root of an extent tree.
func (w *writer) contentOf(number uint32) (inline []byte, extents bool) {
	n := w.node(number)
	if inline, found := w.inline[number]; found {
		return inline, n.mode&typeMask != typeSymlink
	}
	blocks := n.blocks
	if n.xattrs != 0 {
		blocks--
	}
	var whole []extent
	if blocks > 0 {
		whole = []extent{{0, n.first, blocks}}
	}
	return extentNode(splitExtents(whole), 0, rootExtents), true
}

// bitmap has one bit for each block or inode of a group.
type bitmap [blockSize]byte

// set sets the bits from first up to, not including, end to a value, as far as
// they are in the bitmap, which begins with the number base.
func (b *bitmap) set(base, first, end int64, value bool) {
	for i := max(first-base, 0); i < min(end-base, 8*blockSize); {
		switch {
		case i%8 == 0 && min(end-base, 8*blockSize)-i >= 8:
			b[i/8] = 0
			if value {
				b[i/8] = 0xff
			}
			i += 8
			continue
		case value:
			b[i/8] |= 1 << (i % 8)
		default:
			b[i/8] &^= 1 << (i % 8)
		}
		i++
	}
}

// zeroBits counts the bits of the first n that are not set.
func (b *bitmap) zeroBits(n uint32) uint32 {
	free := uint32(0)
	for i := range n {
		if b[i/8]>>(i%8)&1 == 0 {
			free++
		}
	}
	return free
}

// writeBitmaps writes the bitmaps that are in the prefix, and returns the
// descriptors of all groups.
func (w *writer) writeBitmaps(l *layout) ([]descriptor, error) {
	descriptors := make([]descriptor, 0, l.groups)
	for group := range l.groups {
		d, initialized := l.descriptor(group)
		d.flags = groupInodeZeroed
		if !initialized {
			// Only what is its own is in use, which the kernel knows by itself.
			d.flags |= groupInodeUninit | groupBlockUninit
			d.freeBlocks = uint16(blocksPerGroup - 2 - l.tableBlocks)
			d.freeInodes, d.unusedInode = uint16(l.inodes), uint16(l.inodes) //nolint:gosec // at most 32768
			descriptors = append(descriptors, d)
			continue
		}
		blocks := w.blockBitmap(l, group)
		d.freeBlocks = uint16(blocks.zeroBits(blocksPerGroup)) //nolint:gosec // at most 32768
		if err := w.out.write(blocks[:]); err != nil {
			return nil, err
		}
		inodes := w.inodeBitmap(l, group, &d)
		if err := w.out.write(inodes[:]); err != nil {
			return nil, err
		}
		descriptors = append(descriptors, d)
	}
	return descriptors, nil
}

// blockBitmap says which blocks of a group are in use.
func (w *writer) blockBitmap(l *layout, group uint32) *bitmap {
	var b bitmap
	base := int64(group) * blocksPerGroup
	b.set(base, 0, int64(l.end), true)
	first, _ := slices.BinarySearchFunc(w.free, base, func(r run, base int64) int { return int(int64(r.first) + int64(r.blocks) - base) })
	for _, r := range w.free[first:] {
		if int64(r.first) >= base+blocksPerGroup {
			break
		}
		b.set(base, int64(r.first), int64(r.first)+int64(r.blocks), false)
	}
	if group >= l.low {
		b.set(base, base, base+int64(l.tableBlocks), true)
	}
	// What is behind the end of the disk counts as in use.
	b.set(base, int64(l.blocks), base+blocksPerGroup, true)
	return &b
}

// inodeBitmap says which inodes of a group are in use, and counts them in d.
func (w *writer) inodeBitmap(l *layout, group uint32, d *descriptor) *bitmap {
	var b bitmap
	base := group * l.inodes
	highest := uint32(0)
	for i := range l.inodes {
		number := base + i + 1
		if number > w.count {
			break
		}
		n := w.node(number)
		if number >= firstInode && n.links == 0 {
			continue
		}
		b[i/8] |= 1 << (i % 8)
		highest = i + 1
		if n.isDir() {
			d.dirs++
		}
	}
	d.freeInodes = uint16(b.zeroBits(l.inodes))  //nolint:gosec // at most 32768
	d.unusedInode = uint16(l.inodes - highest)   //nolint:gosec // at most 32768
	b.set(0, int64(l.inodes), 8*blockSize, true) // the padding
	return &b
}

// superblock encodes the superblock.
func (w *writer) superblock(l *layout, freeBlocks, freeInodes int64) []byte {
	b := make([]byte, superblockSize)
	le := binary.LittleEndian
	now := uint32(max(w.opts.Time.Unix(), 0)) //nolint:gosec // wraps in 2106, and is only shown
	for at, value := range map[int]uint32{
		0x00:  l.groups * l.inodes,
		0x04:  l.blocks,
		0x0c:  uint32(freeBlocks), //nolint:gosec // no more than blocks
		0x10:  uint32(freeInodes), //nolint:gosec // no more than inodes
		0x18:  2,                  // blocks of 4 KiB
		0x1c:  2,                  // clusters as well
		0x20:  blocksPerGroup,
		0x24:  blocksPerGroup,
		0x28:  l.inodes,
		0x30:  now, // written
		0x40:  now, // checked
		0x4c:  1,   // revision with features
		0x54:  firstInode,
		0x5c:  compatHasJournal | compatXattr | compatDirIndex | compatSparseSuper2,
		0x60:  incompatFiletype | incompatExtents | incompatFlexBG,
		0x64:  roLargeFile | roHugeFile | roGDTChecksum | roDirNlink | roExtraIsize,
		0xe0:  journalInode,
		0x100: 0xc, // mounted with extended attributes and ACLs
		0x108: now, // made
		0x160: 1,   // hashes of names take characters as signed
		0x268: firstInode,
	} {
		le.PutUint32(b[at:], value)
	}
	for at, value := range map[int]uint16{
		0x36:  0xffff, // never check because of the number of mounts
		0x38:  superMagic,
		0x3a:  1, // clean
		0x3c:  1, // carry on after errors
		0x58:  inodeSize,
		0x15c: extraIsize,
		0x15e: extraIsize,
	} {
		le.PutUint16(b[at:], value)
	}
	copy(b[0x68:], w.opts.UUID[:])
	copy(b[0x78:0x88], w.opts.Label)
	seed := sha256.Sum256(w.opts.UUID[:])
	copy(b[0xec:], seed[:16])
	b[0xfc] = 1  // names are hashed with half MD4
	b[0xfd] = 1  // what follows is a copy of the journal's inode
	b[0x174] = 4 // the kernel allocates for 16 groups together
	journal, _ := w.contentOf(journalInode)
	copy(b[0x10c:], journal)
	le.PutUint32(b[0x10c+16*4:], l.journalBlocks*blockSize)
	return b
}

// journalSuperblock encodes the first block of an empty journal.
func journalSuperblock(blocks uint32) []byte {
	be := binary.BigEndian
	b := make([]byte, superblockSize)
	be.PutUint32(b[0x00:], 0xc03b3998)
	be.PutUint32(b[0x04:], 4) // superblock, version 2
	be.PutUint32(b[0x0c:], blockSize)
	be.PutUint32(b[0x10:], blocks)
	be.PutUint32(b[0x14:], 1) // the log begins behind this block
	be.PutUint32(b[0x18:], 1) // with this sequence number
	be.PutUint32(b[0x40:], 1) // one filesystem uses it
	return b
}
