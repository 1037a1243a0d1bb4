// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package ext4

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// entryHeader is the size of a directory entry without its name.
const entryHeader = 8

// child is a name in a directory.
type child struct {
	name   string
	number uint32
}

// writeDirectories writes what directories contain, and forgets their names.
func (w *writer) writeDirectories() error {
	for number := uint32(1); number <= w.count; number++ {
		dir := w.dirs[number]
		if dir == nil {
			continue
		}
		n := w.node(number)
		n.first = w.out.block()
		if err := w.writeDirectory(number, dir); err != nil {
			return err
		}
		blocks := w.out.block() - n.first
		n.blocks += blocks
		n.size = int64(blocks) * blockSize
		n.links = 2 + dir.subdirs
		if n.links > maxLinks {
			n.links = 1
		}
		if blocks > rootExtents*maxExtent {
			root, err := w.extentTree(splitExtents([]extent{{0, n.first, blocks}}))
			if err != nil {
				return err
			}
			w.inline[number] = root
			n.blocks += w.out.block() - n.first - blocks
		}
		dir.children = nil
	}
	return nil
}

// writeDirectory writes the blocks of one directory.
func (w *writer) writeDirectory(number uint32, dir *directory) error {
	children := make([]child, 0, len(dir.children))
	for name, number := range dir.children {
		children = append(children, child{name, number})
	}
	// By inode, so that listing with attributes reads the inode tables in order.
	slices.SortFunc(children, func(a, b child) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.name, b.name))
	})
	b := directoryBlock{w: w, last: -1}
	if err := b.add(".", number); err != nil {
		return err
	}
	if err := b.add("..", dir.parent); err != nil {
		return err
	}
	for _, c := range children {
		if err := b.add(c.name, c.number); err != nil {
			return err
		}
	}
	return b.flush()
}

// directoryBlock fills the blocks of a directory.
type directoryBlock struct {
	w    *writer
	data [blockSize]byte
	used int
	// last is where the last entry begins.
	last int
}

// add appends an entry, in the next block if it does not fit.
func (b *directoryBlock) add(name string, number uint32) error {
	size := (entryHeader + len(name) + 3) &^ 3
	if b.used+size > blockSize {
		if err := b.flush(); err != nil {
			return err
		}
	}
	e := b.data[b.used:]
	binary.LittleEndian.PutUint32(e, number)
	binary.LittleEndian.PutUint16(e[4:], uint16(size)) //nolint:gosec // at most 264
	e[6] = uint8(len(name))                            //nolint:gosec // at most 255
	e[7] = entryType(b.w.node(number).mode)
	copy(e[entryHeader:], name)
	b.last = b.used
	b.used += size
	return nil
}

// flush writes the block, whose last entry reaches to its end.
func (b *directoryBlock) flush() error {
	binary.LittleEndian.PutUint16(b.data[b.last+4:], uint16(blockSize-b.last)) //nolint:gosec // at most 4096
	err := b.w.out.write(b.data[:])
	b.data, b.used, b.last = [blockSize]byte{}, 0, -1
	return err
}

// entryType is what a directory entry says of the type of a file.
func entryType(mode uint16) byte {
	switch mode & typeMask {
	case typeRegular:
		return 1
	case typeDir:
		return 2
	case typeChar:
		return 3
	case typeBlock:
		return 4
	case typeFifo:
		return 5
	case typeSocket:
		return 6
	case typeSymlink:
		return 7
	}
	return 0
}
