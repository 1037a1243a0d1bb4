// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package ext4

import (
	"context"
	"encoding/binary"
	"io"
	"path"
	"slices"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// maxDepth bounds how deep directories and extent trees are followed.
const (
	maxDepth       = maxPath
	maxExtentDepth = 5
)

// Walk calls visit for every name in the filesystem, a directory before what is
// in it, in the order of the directories. It ends with the first error, of visit
// too, and when ctx ends. No directory is visited twice.
func (f *Filesystem) Walk(ctx context.Context, visit func(*Entry) error) error {
	root, err := f.entry(".", rootInode)
	if err != nil {
		return err
	}
	if err := visit(&root); err != nil {
		return err
	}
	type level struct {
		path  string
		depth int
		inode uint32
	}
	seen := map[uint32]bool{rootInode: true}
	for queue := []level{{".", 0, rootInode}}; len(queue) > 0; {
		dir := queue[0]
		queue = queue[1:]
		err := f.readDirectory(ctx, dir.path, dir.inode, func(e *Entry) error {
			if err := visit(e); err != nil {
				return err
			}
			if !e.IsDir() {
				return nil
			}
			if seen[e.Inode] || dir.depth == maxDepth {
				return invalid("the directory %q is in itself, or has two names", short(e.Path))
			}
			seen[e.Inode] = true
			queue = append(queue, level{e.Path, dir.depth + 1, e.Inode})
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readDirectory calls visit for every name in a directory.
func (f *Filesystem) readDirectory(ctx context.Context, name string, number uint32, visit func(*Entry) error) error {
	self, err := f.entry(name, number)
	if err != nil {
		return err
	}
	content := f.Content(&self)
	le := binary.LittleEndian
	b := make([]byte, blockSize)
	for range self.Size / blockSize {
		if err := ctx.Err(); err != nil {
			return errdefs.Wrap(errdefs.KindOf(err), err, "reading the directory %q", short(name))
		}
		if _, err := io.ReadFull(content, b); err != nil {
			return invalid("the directory %q is cut off: %w", short(name), err)
		}
		for rest := b; len(rest) > 0; {
			if len(rest) < entryHeader {
				return invalid("the directory %q has an entry of %d bytes", short(name), len(rest))
			}
			child, size, length := le.Uint32(rest), int(le.Uint16(rest[4:])), int(rest[6])
			if size%4 != 0 || size < entryHeader+length || size > len(rest) {
				return invalid("the directory %q has an entry of %d bytes for a name of %d", short(name), size, length)
			}
			entry := string(rest[entryHeader : entryHeader+length])
			rest = rest[size:]
			if child == 0 || entry == "." || entry == ".." {
				continue
			}
			e, err := f.entry(path.Join(name, entry), child)
			if err != nil {
				return err
			}
			if err := visit(&e); err != nil {
				return err
			}
		}
	}
	return nil
}

// Content returns what a file, a directory or a long symbolic link contains.
// Holes read as zeroes.
func (f *Filesystem) Content(e *Entry) io.Reader {
	return &content{f: f, inode: e.Inode, left: e.Size}
}

// content reads a file from its begin to its end.
type content struct {
	f     *Filesystem
	inode uint32
	left  int64

	extents []extent
	opened  bool
	at      int64
}

// Read implements io.Reader.
func (c *content) Read(b []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	if !c.opened {
		extents, err := c.f.extentsOf(c.inode)
		if err != nil {
			return 0, err
		}
		c.extents, c.opened = extents, true
	}
	n := min(int64(len(b)), c.left)
	block := c.at / blockSize
	for len(c.extents) > 0 && int64(c.extents[0].logical)+int64(c.extents[0].blocks) <= block {
		c.extents = c.extents[1:]
	}
	hole := len(c.extents) == 0 || block < int64(c.extents[0].logical)
	switch {
	case hole && len(c.extents) > 0:
		n = min(n, int64(c.extents[0].logical)*blockSize-c.at)
		clear(b[:n])
	case hole:
		clear(b[:n])
	default:
		e := c.extents[0]
		n = min(n, (int64(e.logical)+int64(e.blocks))*blockSize-c.at)
		if err := c.f.readAt(b[:n], int64(e.physical)*blockSize+c.at-int64(e.logical)*blockSize); err != nil {
			return 0, err
		}
	}
	c.at += n
	c.left -= n
	return int(n), nil
}

// extentsOf returns where the content of an inode is, in order.
func (f *Filesystem) extentsOf(number uint32) ([]extent, error) {
	i, err := f.inode(number)
	if err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(i.raw[32:])&inodeFlagExtents == 0 {
		return nil, invalid("inode %d has no extents", number)
	}
	// A tree cannot have more blocks than the disk.
	budget := f.blocks
	extents, err := f.readExtents(nil, i.raw[40:40+inlineSize], maxExtentDepth, &budget)
	if err != nil {
		return nil, err
	}
	if !slices.IsSortedFunc(extents, func(a, b extent) int { return int(int64(a.logical) - int64(b.logical)) }) {
		return nil, invalid("the extents of inode %d are not in order", number)
	}
	return extents, nil
}

// readExtents adds the extents of one node of a tree and all below it.
func (f *Filesystem) readExtents(all []extent, b []byte, maxDepth uint16, budget *uint32) ([]extent, error) {
	le := binary.LittleEndian
	entries, depth := int(le.Uint16(b[2:])), le.Uint16(b[6:])
	if le.Uint16(b) != extentMagic || depth > maxDepth || extentEntry*(1+entries) > len(b) {
		return nil, invalid("a node of an extent tree has the depth %d and %d entries", depth, entries)
	}
	for entry := b[extentEntry : extentEntry*(1+entries)]; len(entry) > 0; entry = entry[extentEntry:] {
		if *budget == 0 {
			return nil, invalid("an extent tree is larger than the disk")
		}
		*budget--
		if depth > 0 {
			block, err := f.block(le.Uint32(entry[4:]))
			if err != nil {
				return nil, err
			}
			if le.Uint16(block[6:]) != depth-1 {
				return nil, invalid("a node of an extent tree has not the depth %d", depth-1)
			}
			if all, err = f.readExtents(all, block, depth-1, budget); err != nil {
				return nil, err
			}
			continue
		}
		e := extent{le.Uint32(entry), le.Uint32(entry[8:]), uint32(le.Uint16(entry[4:]))}
		if e.blocks > maxExtent {
			// Allocated by a kernel, and not written yet.
			continue
		}
		if uint64(e.physical)+uint64(e.blocks) > uint64(f.blocks) || e.blocks == 0 {
			return nil, invalid("an extent has %d blocks from %d, of %d", e.blocks, e.physical, f.blocks)
		}
		all = append(all, e)
	}
	return all, nil
}
