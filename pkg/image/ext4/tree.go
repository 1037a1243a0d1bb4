// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package ext4

import (
	"context"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// node is what is remembered of an inode until the inode tables are written.
// There are many of them, so it is small and has no pointers.
type node struct {
	atime, ctime, mtime stamp
	size                int64
	uid, gid            uint32
	// first is where its blocks begin: all of them follow each other.
	first uint32
	// blocks counts data, extent tree and the block of extended attributes.
	blocks uint32
	// xattrs is the block of extended attributes, or 0.
	xattrs       uint32
	major, minor uint32
	// links is 0 when the inode is not in use.
	links uint32
	mode  uint16
}

func (n *node) isDir() bool { return n.mode&typeMask == typeDir }

// directory is what a directory contains, by name.
type directory struct {
	parent   uint32
	subdirs  uint32
	children map[string]uint32
}

// run is a number of blocks.
type run struct{ first, blocks uint32 }

// keptPerEntry is how many bytes of names, targets and attributes an entry may
// have on average when there are as many as there may be.
const keptPerEntry = 100

// nodesInChunk keeps the list of nodes from being copied as it grows.
const nodesInChunk = 4096

// writer is one filesystem that is being written.
type writer struct {
	ctx  context.Context //nolint:containedctx // lives as long as one call of Write
	opts Options
	out  *output

	nodes [][]node
	count uint32
	dirs  map[uint32]*directory
	// inline has what is in an inode itself, where the node cannot tell: targets
	// of short symbolic links, roots of extent trees that are not one run.
	inline map[uint32][]byte
	// attributes has the extended attributes that are in the inode itself.
	attributes map[uint32][]byte
	// free are blocks of files that were replaced.
	free []run
	// holes counts blocks that were left out because they are zero.
	holes int64

	entries, dropped int
	// kept is how many bytes of names, targets and attributes are in memory.
	kept int
	// parent is the directory that was used last, whose path is parentPath.
	parent     uint32
	parentPath string
	chunk      []byte
}

func newWriter(ctx context.Context, file File, opts Options) *writer {
	w := &writer{
		ctx: ctx, opts: opts, out: newOutput(ctx, file),
		dirs: map[uint32]*directory{}, inline: map[uint32][]byte{}, attributes: map[uint32][]byte{},
		parent: rootInode, chunk: make([]byte, chunkSize),
	}
	w.out.start = int64(1+descriptorBlocks(groupsOf(opts.Size))) * blockSize
	now := newStamp(opts.Time)
	for range firstInode - 1 {
		w.newNode(node{})
	}
	*w.node(rootInode) = node{mode: typeDir | 0o755, atime: now, ctime: now, mtime: now, links: 1}
	w.dirs[rootInode] = &directory{parent: rootInode}
	// Checkers miss this one if it is not there.
	w.addChild(rootInode, "lost+found", node{mode: typeDir | 0o700, atime: now, ctime: now, mtime: now})
	return w
}

// node returns an inode that exists, counted from 1.
func (w *writer) node(number uint32) *node {
	return &w.nodes[(number-1)/nodesInChunk][(number-1)%nodesInChunk]
}

func (w *writer) newNode(n node) uint32 {
	last := len(w.nodes) - 1
	if last < 0 || len(w.nodes[last]) == nodesInChunk {
		w.nodes = append(w.nodes, make([]node, 0, nodesInChunk))
		last++
	}
	w.nodes[last] = append(w.nodes[last], n)
	w.count++
	return w.count
}

// addChild makes an inode with a name.
func (w *writer) addChild(parent uint32, name string, n node) uint32 {
	number := w.newNode(n)
	w.link(parent, name, number)
	if n.isDir() {
		w.dirs[number] = &directory{parent: parent}
		w.dirs[parent].subdirs++
	}
	return number
}

// link gives an inode one more name.
func (w *writer) link(parent uint32, name string, number uint32) {
	d := w.dirs[parent]
	if d.children == nil {
		d.children = map[string]uint32{} // not before: most directories may be empty
	}
	// The name is part of a whole path, which is not to be kept.
	d.children[strings.Clone(name)] = number
	w.kept += len(name)
	w.node(number).links++
}

// unlink takes a name from a file, and forgets the file if it was the last one.
func (w *writer) unlink(parent uint32, name string) {
	number := w.dirs[parent].children[name]
	delete(w.dirs[parent].children, name)
	n := w.node(number)
	n.links--
	if n.links > 0 {
		return
	}
	blocks := n.blocks
	if n.xattrs != 0 {
		blocks--
		w.free = append(w.free, run{n.xattrs, 1})
	}
	if blocks > 0 {
		w.free = append(w.free, run{n.first, blocks})
	}
	delete(w.inline, number)
	delete(w.attributes, number)
	*n = node{}
}

// countEntry bounds what is kept in memory.
func (w *writer) countEntry() error {
	if w.entries >= w.opts.MaxEntries {
		return errdefs.New(errdefs.ResourceExhausted, "the archive has more than %d entries, which is the limit", w.opts.MaxEntries)
	}
	if limit := w.opts.MaxEntries * keptPerEntry; w.kept > limit {
		return errdefs.New(errdefs.ResourceExhausted, "names and attributes in the archive take more than %d bytes, which is the limit", limit)
	}
	w.entries++
	return nil
}

// splitPath returns the elements of a path inside the archive. Names that lead
// out of it are refused; a leading slash means the root of the filesystem.
func splitPath(what, name string) ([]string, error) {
	if len(name) > maxPath {
		return nil, entryError(what, "the path %q has %d bytes, more than the %d that Linux allows", short(name), len(name), maxPath)
	}
	if strings.ContainsRune(name, 0) {
		return nil, entryError(what, "the path %q has a zero byte", short(name))
	}
	var elements []string
	for element := range strings.SplitSeq(name, "/") {
		switch {
		case element == "" || element == ".":
		case element == "..":
			return nil, entryError(what, "the path %q leads out of the archive", short(name))
		case len(element) > maxName:
			return nil, entryError(what, "a name in the path %q has %d bytes, more than %d", short(name), len(element), maxName)
		default:
			elements = append(elements, element)
		}
	}
	return elements, nil
}

// directoryOf returns the directory with the given path, and makes what is missing.
func (w *writer) directoryOf(what string, elements []string) (uint32, error) {
	path := strings.Join(elements, "/")
	if path == w.parentPath {
		return w.parent, nil
	}
	number := uint32(rootInode)
	for i, element := range elements {
		child, found := w.dirs[number].children[element]
		if !found {
			if err := w.countEntry(); err != nil {
				return 0, err
			}
			now := newStamp(w.opts.Time)
			child = w.addChild(number, element, node{mode: typeDir | 0o755, atime: now, ctime: now, mtime: now})
		} else if !w.node(child).isDir() {
			return 0, entryError(what, "%q is not a directory", short(strings.Join(elements[:i+1], "/")))
		}
		number = child
	}
	w.parent, w.parentPath = number, path
	return number, nil
}

// short cuts a name off that is too long for an error.
func short(name string) string {
	const limit = 200
	if len(name) <= limit {
		return name
	}
	return name[:limit] + "..."
}

func entryError(name, format string, args ...any) error {
	return errdefs.Wrap(errdefs.InvalidArgument, errdefs.New(errdefs.InvalidArgument, format, args...), "archive entry %q", short(name))
}
