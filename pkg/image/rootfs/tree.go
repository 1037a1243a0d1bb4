// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"archive/tar"
	"hash/maphash"
	"iter"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// tree is a file tree without content. Layers have numbers from 1; layer 0 is for
// what no layer has an entry for.
//
// It is made of numbers, not of pointers and maps: an image has 100,000 paths, a
// hostile one as many as the limits allow, and the rest of the pipeline wants
// memory too.
type tree struct {
	nodes  pool[node]
	inodes pool[inode]
	dirs   pool[directory]
	texts  texts
	xattrs map[uint32][]record // of directories, by their number
	// heads are the chains of a hash table from (directory, name) to node.
	heads []uint32
	seed  maphash.Seed

	opts   Options
	count  int   // nodes
	memory int64 // bytes charged
	bytes  int64 // content of the regular files
	steps  int   // parts of paths walked
}

// node is a path. Number 0 is none.
type node struct {
	parent, next, prev uint32 // the directory and its other children
	chain              uint32 // next in the hash table
	inode              uint32
	name               uint32 // place of the name
	layer              uint16 // that wrote this path last
	length             uint8  // of the name
}

// inode is what a path, or several by hard links, stands for. Number 0 is none.
type inode struct {
	// data is the size of a regular file, the number of a directory, the place and
	// length of a symbolic link's target.
	data  uint64
	index uint32 // of the entry in its layer, or of the requirement
	names uint32 // how many paths it has
	first uint32 // the path that carries the content in the result
	layer uint16 // whose entry it is
	kind  uint8  // one of the types of archive/tar
}

// directory is what only directories have. Their attributes are kept, since they
// come first in the result, whatever layer they are from.
type directory struct {
	attributes
	first, last uint32
	cleared     uint16 // the last layer that hid what lower layers have here
	length      uint16 // of the path
}

// attributes are those of a header that are not of its content.
type attributes struct {
	seconds  int64
	nanos    uint32
	uid, gid uint32
	mode     uint16
}

// record is an extended attribute, with its key as in a tar.
type record struct{ key, value string }

func (r record) cost() int { return recordCost + len(r.key) + len(r.value) }

// What a tree charges for its parts, from the sizes of the types above; a node
// also has two heads at most.
const (
	nodeCost   = 28 + 8
	inodeCost  = 24 + 8 // and its place in the plan's order
	dirCost    = 40
	recordCost = 160 // and its place in a map
	rootNode   = 1
	maxHops    = 40 // as in Linux, for one path
	// Paths of images have ten parts. A hostile one has 2,000, or more with symbolic
	// links, and half a million of these would take minutes.
	stepsPerEntry = 64
)

func newTree(opts Options) *tree {
	t := &tree{opts: opts, seed: maphash.MakeSeed(), heads: make([]uint32, 1024), xattrs: map[uint32][]record{}}
	t.nodes.take() // 0 is none
	t.inodes.take()
	root := t.nodes.take()
	ino := t.inodes.take()
	d := t.dirs.take()
	*t.inodes.at(ino) = inode{kind: tar.TypeDir, data: uint64(d), names: 1}
	*t.nodes.at(root) = node{parent: root, inode: ino}
	t.dirs.at(d).attributes = t.implied()
	t.count = 1
	return t
}

// implied are the attributes of a directory that no layer has an entry for.
func (t *tree) implied() attributes {
	return attributes{mode: 0o755, seconds: t.opts.ModTime.Unix(), nanos: uint32(t.opts.ModTime.Nanosecond())} //nolint:gosec // below 1e9
}

func (t *tree) charge(cost int) error {
	if t.memory += int64(cost); t.memory > t.opts.MaxMemory {
		return errdefs.New(errdefs.ResourceExhausted, "the file tree needs more than %d bytes of memory to plan", t.opts.MaxMemory)
	}
	return nil
}

func (t *tree) inodeOf(n uint32) *inode   { return t.inodes.at(t.nodes.at(n).inode) }
func (t *tree) dirOf(n uint32) *directory { return t.dirs.at(uint32(t.inodeOf(n).data)) } //nolint:gosec // a number of dirs
func (t *tree) isDir(n uint32) bool       { return t.inodeOf(n).kind == tar.TypeDir }

func (t *tree) name(n uint32) []byte {
	nd := t.nodes.at(n)
	return t.texts.get(nd.name, int(nd.length))
}

// head returns the chain in which a child of a directory is.
func (t *tree) head(dir uint32, name string) *uint32 {
	h := maphash.String(t.seed, name) + uint64(dir)*0x9e3779b97f4a7c15
	return &t.heads[(h^h>>32)&uint64(len(t.heads)-1)] //nolint:gosec // a length
}

// lookup returns a child of a directory, or 0.
func (t *tree) lookup(dir uint32, name string) uint32 {
	for n := *t.head(dir, name); n != 0; n = t.nodes.at(n).chain {
		if t.nodes.at(n).parent == dir && string(t.name(n)) == name {
			return n
		}
	}
	return 0
}

// add makes a path that does not exist, for an inode whose count of names is right.
func (t *tree) add(dir uint32, name string, ino uint32, layer uint16) (uint32, error) {
	d := t.dirOf(dir)
	length := int(d.length) + 1 + len(name)
	switch {
	case len(name) > maxPart:
		return 0, errdefs.New(errdefs.InvalidArgument, "a part of the path has %d bytes, a file system takes %d", len(name), maxPart)
	case length > t.opts.MaxName+1: // the root's length is 0, and its slash counts
		return 0, errdefs.New(errdefs.InvalidArgument, "the path has more than %d bytes", t.opts.MaxName)
	case t.count >= t.opts.MaxEntries:
		return 0, errdefs.New(errdefs.ResourceExhausted, "the file tree has more than %d paths", t.opts.MaxEntries)
	}
	if err := t.charge(nodeCost + len(name)); err != nil {
		return 0, err
	}
	t.count++
	t.grow()
	n := t.nodes.take()
	*t.nodes.at(n) = node{parent: dir, prev: d.last, inode: ino, name: t.texts.add(name), layer: layer, length: uint8(len(name))} //nolint:gosec // checked above
	if d.last == 0 {
		d.first = n
	} else {
		t.nodes.at(d.last).next = n
	}
	d.last = n
	t.hang(n, name)
	if i := t.inodes.at(ino); i.kind == tar.TypeDir {
		t.dirs.at(uint32(i.data)).length = uint16(length) //nolint:gosec // at most MaxName+1
	}
	return n, nil
}

func (t *tree) hang(n uint32, name string) {
	head := t.head(t.nodes.at(n).parent, name)
	t.nodes.at(n).chain, *head = *head, n
}

// grow doubles the hash table when it is full.
func (t *tree) grow() {
	if t.count <= len(t.heads) {
		return
	}
	t.heads = make([]uint32, 2*len(t.heads))
	for n := range t.all() {
		if n != rootNode {
			t.hang(n, string(t.name(n)))
		}
	}
}

// remove takes a path, and what is below it, out of the tree.
func (t *tree) remove(n uint32) {
	t.release(n)
	nd := *t.nodes.at(n)
	d := t.dirOf(nd.parent)
	if nd.prev == 0 {
		d.first = nd.next
	} else {
		t.nodes.at(nd.prev).next = nd.next
	}
	if nd.next == 0 {
		d.last = nd.prev
	} else {
		t.nodes.at(nd.next).prev = nd.prev
	}
	at := t.head(nd.parent, string(t.name(n)))
	for *at != n {
		at = &t.nodes.at(*at).chain
	}
	*at = nd.chain
	t.nodes.give(n)
	t.count--
	t.memory -= nodeCost // but not the name, whose place is not used again
}

// release takes the inode away from a path, with what is below it, and frees it
// when it has no other name. The path itself stays.
func (t *tree) release(n uint32) {
	number := t.nodes.at(n).inode
	i := t.inodes.at(number)
	switch i.kind {
	case tar.TypeDir:
		d := uint32(i.data) //nolint:gosec // a number of dirs
		for child := t.dirs.at(d).first; child != 0; child = t.dirs.at(d).first {
			t.remove(child)
		}
		t.dropXattrs(d)
		t.dirs.give(d)
		t.memory -= dirCost
	case tar.TypeReg:
		if i.names == 1 {
			t.bytes -= int64(i.data) //nolint:gosec // from an int64
		}
	}
	if i.names--; i.names == 0 {
		t.inodes.give(number)
		t.memory -= inodeCost
	}
}

// newInode returns the number of an inode without a name, of which the caller
// makes one.
func (t *tree) newInode(i inode) (uint32, error) {
	if err := t.charge(inodeCost); err != nil {
		return 0, err
	}
	number := t.inodes.take()
	*t.inodes.at(number) = i
	if i.kind == tar.TypeReg {
		t.bytes += int64(i.data) //nolint:gosec // from an int64
	}
	return number, nil
}

// put gives a path an inode, in place of what was there. The count of the inode's
// names must have been raised for it.
func (t *tree) put(dir uint32, name string, ino uint32, layer uint16) error {
	n := t.lookup(dir, name)
	if n == 0 {
		_, err := t.add(dir, name, ino, layer)
		return err
	}
	t.release(n)
	nd := t.nodes.at(n)
	nd.inode, nd.layer = ino, layer
	return nil
}

// mkdir makes an implied directory, in place of n if that is not 0.
func (t *tree) mkdir(dir uint32, name string, n uint32, layer uint16) (uint32, error) {
	if err := t.charge(dirCost); err != nil {
		return 0, err
	}
	d := t.dirs.take()
	t.dirs.at(d).attributes = t.implied()
	ino, err := t.newInode(inode{kind: tar.TypeDir, data: uint64(d), names: 1})
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return t.add(dir, name, ino, layer)
	}
	t.dirs.at(d).length = uint16(int(t.dirOf(dir).length) + 1 + len(name)) //nolint:gosec // as long as what was there
	t.release(n)
	nd := t.nodes.at(n)
	nd.inode, nd.layer = ino, layer
	return n, nil
}

// setXattrs replaces the extended attributes of a directory.
func (t *tree) setXattrs(d uint32, xattrs []record) error {
	for _, r := range t.xattrs[d] {
		t.memory -= int64(r.cost())
	}
	delete(t.xattrs, d)
	for _, r := range xattrs {
		if err := t.charge(r.cost()); err != nil {
			return err
		}
	}
	if len(xattrs) > 0 {
		t.xattrs[d] = xattrs
	}
	return nil
}

// dropXattrs takes them away.
func (t *tree) dropXattrs(d uint32) { _ = t.setXattrs(d, nil) } // which costs nothing

// clear hides what the layers below a layer have in a directory. A second time in
// the same layer there is nothing left to hide, and no need to look.
func (t *tree) clear(dir uint32, layer uint16) {
	d := t.dirOf(dir)
	if d.cleared == layer {
		return
	}
	d.cleared = layer
	for n := d.first; n != 0; {
		next := t.nodes.at(n).next
		t.hide(n, layer)
		n = next
	}
}

// hide hides what the layers below a layer have at a path. A directory stays when
// this layer has something in it, but as one that only its children name.
func (t *tree) hide(n uint32, layer uint16) {
	dir := t.isDir(n)
	if dir {
		t.clear(n, layer)
	}
	nd := t.nodes.at(n)
	switch {
	case nd.layer == layer:
	case dir && t.dirOf(n).first != 0:
		i := t.inodes.at(nd.inode)
		d := uint32(i.data) //nolint:gosec // a number of dirs
		t.dropXattrs(d)
		t.dirs.at(d).attributes = t.implied()
		i.layer, i.index, nd.layer = 0, 0, layer
	default:
		t.remove(n)
	}
}

// all iterates over the paths: the root, then each directory's children in the
// order in which they came, each followed by its own.
func (t *tree) all() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		n := uint32(rootNode)
		for {
			if !yield(n) {
				return
			}
			if t.isDir(n) && t.dirOf(n).first != 0 {
				n = t.dirOf(n).first
				continue
			}
			for n != rootNode && t.nodes.at(n).next == 0 {
				n = t.nodes.at(n).parent
			}
			if n == rootNode {
				return
			}
			n = t.nodes.at(n).next
		}
	}
}

// path returns a path without a leading slash; the root is "".
func (t *tree) path(n uint32) string {
	length := -1
	for m := n; m != rootNode; m = t.nodes.at(m).parent {
		length += 1 + int(t.nodes.at(m).length)
	}
	if length < 0 {
		return ""
	}
	path := make([]byte, length)
	for m := n; m != rootNode; m = t.nodes.at(m).parent {
		length -= int(t.nodes.at(m).length)
		copy(path[length:], t.name(m))
		if length--; length > 0 {
			path[length] = '/'
		}
	}
	return string(path)
}
