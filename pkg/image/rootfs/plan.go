// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"math"
	"slices"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Plan is what a flattened image has, decided from the headers of its layers.
// Nothing of it changes after NewPlan, so it may be written more than once and by
// several at the same time, when the layers can be opened so.
type Plan struct {
	layers []Layer
	opts   Options
	tree   *tree
	// files are the inodes that have content or a header of their own in the result,
	// directories excepted, by layer and index.
	files []uint32
}

// Stats says how large a flattened image is.
type Stats struct {
	// Paths counts all paths of the tree, the root among them.
	Paths int
	// Bytes is the content of all regular files, hard links counted once.
	Bytes int64
	// Memory is what the plan holds, by its own account.
	Memory int64
}

// Entry is a path of the result, in the order of the stream.
type Entry struct {
	// Name is the path without a leading slash; the root is "".
	Name string
	// Type is its type in the stream, one of archive/tar's.
	Type byte
	// Layer and Index name the entry whose header and content it has, both from 0.
	// Layer is -1 for what no layer has an entry for.
	Layer, Index int
	// Link is the path that a hard link (tar.TypeLink) has its content from.
	Link string
}

// NewPlan reads the headers of all layers, the lowest first, and decides what the
// flattened image has. It reads each layer once. Its errors name the layer and the
// entry: InvalidArgument for what no image may have, ResourceExhausted for more
// than opts allows, Unavailable when a layer cannot be read.
func NewPlan(ctx context.Context, layers []Layer, opts Options) (*Plan, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if len(layers) > maxLayers {
		return nil, errdefs.New(errdefs.InvalidArgument, "flatten an image: it has %d layers, at most %d can be", len(layers), maxLayers)
	}
	p := &Plan{layers: slices.Clone(layers), opts: opts, tree: newTree(opts)}
	s := scanner{
		tree:    p.tree,
		content: budget{left: opts.MaxBytes, limit: opts.MaxBytes},
		raw:     budget{left: opts.MaxBytes, limit: opts.MaxBytes},
	}
	for i, layer := range layers {
		s.layer, s.index = uint16(i+1), 0
		if err := s.scan(ctx, layer); err != nil {
			return nil, err
		}
	}
	for i, r := range opts.Require {
		if err := p.tree.require(r, i); err != nil {
			return nil, refused(err, "/%s, which a container VM needs", r.Name)
		}
	}
	p.finish()
	return p, nil
}

// Stats says how large the flattened image is.
func (p *Plan) Stats() Stats {
	return Stats{Paths: p.tree.count, Bytes: p.tree.bytes, Memory: p.tree.memory}
}

// Entries returns all paths in the order in which Write writes them.
func (p *Plan) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		t := p.tree
		entry := func(n uint32) Entry {
			i := t.inodeOf(n)
			return Entry{Name: t.path(n), Type: i.kind, Layer: int(i.layer) - 1, Index: int(i.index)}
		}
		for n := range t.directories() {
			if !yield(entry(n)) {
				return
			}
		}
		for _, number := range p.files {
			if !yield(entry(t.inodes.at(number).first)) {
				return
			}
		}
		for n, first := range t.links() {
			e := entry(n)
			e.Type, e.Link = tar.TypeLink, t.path(first)
			if !yield(e) {
				return
			}
		}
	}
}

// finish decides which path of each inode carries its content, and in which order.
func (p *Plan) finish() {
	t := p.tree
	for n := range t.all() {
		if t.isDir(n) {
			continue
		}
		if i := t.inodeOf(n); i.first == 0 {
			i.first = n
			p.files = append(p.files, t.nodes.at(n).inode)
		}
	}
	slices.SortFunc(p.files, func(a, b uint32) int {
		x, y := t.inodes.at(a), t.inodes.at(b)
		return cmp.Or(cmp.Compare(x.layer, y.layer), cmp.Compare(x.index, y.index))
	})
}

// directories iterates over the directories, parents first.
func (t *tree) directories() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for n := range t.all() {
			if t.isDir(n) && !yield(n) {
				return
			}
		}
	}
}

// links iterates over the paths whose content another path carries, and those.
func (t *tree) links() iter.Seq2[uint32, uint32] {
	return func(yield func(uint32, uint32) bool) {
		for n := range t.all() {
			if i := t.inodeOf(n); i.kind != tar.TypeDir && i.first != n && !yield(n, i.first) {
				return
			}
		}
	}
}

// scanner applies the entries of layers to a tree.
type scanner struct {
	tree    *tree
	layer   uint16
	index   uint32 // of the next entry in its layer
	entries int    // of all layers
	// content counts what the headers say, raw what was read: a sparse file is short
	// in one, a layer full of extended records in the other.
	content, raw budget
}

// scan applies one layer.
func (s *scanner) scan(ctx context.Context, layer Layer) error {
	src, closer, err := openLayer(ctx, layer, &s.raw)
	if err != nil {
		return err
	}
	defer func() { _ = closer.Close() }() // it was only read
	tr := tar.NewReader(src)
	last := "the start"
	for ; ; s.index++ {
		h, err := next(tr)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return src.readFailed(ctx, err, "read layer %s after %q", layer.Name, clip(last))
		}
		last = h.Name
		if s.entries++; s.entries > s.tree.opts.MaxEntries {
			return errdefs.New(errdefs.ResourceExhausted, "layer %s, entry %q: the layers have more than %d entries",
				layer.Name, clip(h.Name), s.tree.opts.MaxEntries)
		}
		if err := s.apply(h); err != nil {
			return refused(err, "layer %s, entry %q", layer.Name, clip(h.Name))
		}
	}
}

// clip keeps a hostile name out of the logs.
func clip(name string) string {
	if len(name) > 300 {
		return name[:300] + "..."
	}
	return name
}

// apply applies an entry.
func (s *scanner) apply(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil // git puts a commit there
	}
	if err := s.content.spend(max(h.Size, 0)); err != nil {
		return err
	}
	clean, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	mark, name, err := markerOf(clean)
	if err != nil {
		return err
	}
	switch mark {
	case markIgnore:
		return nil
	case markOpaque:
		dir, err := s.tree.walk(rootNode, name, s.layer, create)
		if err == nil {
			s.tree.clear(dir, s.layer)
		}
		return err
	case markHide:
		return s.hide(name)
	default:
	}
	if err := checkHeader(h); err != nil {
		return err
	}
	if name == "" {
		if h.Typeflag != tar.TypeDir {
			return errdefs.New(errdefs.InvalidArgument, "the root of the image must be a directory")
		}
		return s.setDir(rootNode, h)
	}
	if h.Typeflag == tar.TypeLink {
		return s.link(name, h.Linkname)
	}
	return s.place(name, h)
}

// hide applies a whiteout.
func (s *scanner) hide(name string) error {
	in, base := split(name)
	dir, err := s.tree.walk(rootNode, in, s.layer, look)
	if err != nil || dir == 0 {
		return err
	}
	if n := s.tree.lookup(dir, base); n != 0 {
		s.tree.hide(n, s.layer)
	}
	return nil
}

// link gives the content at a path a second name.
func (s *scanner) link(name, target string) error {
	t := s.tree
	clean, err := cleanName(target)
	if err != nil {
		return refused(err, "hard link to %q", clip(target))
	}
	in, base := split(clean)
	dir, err := t.walk(rootNode, in, s.layer, look)
	if err != nil {
		return refused(err, "hard link to %q", clip(target))
	}
	n := uint32(0)
	if dir != 0 {
		n = t.lookup(dir, base)
	}
	switch {
	case clean == "", n != 0 && t.isDir(n):
		return errdefs.New(errdefs.InvalidArgument, "hard link to %q, which is a directory", clip(target))
	case n == 0:
		return errdefs.New(errdefs.InvalidArgument, "hard link to %q, which does not exist", clip(target))
	}
	number := t.nodes.at(n).inode
	i := t.inodes.at(number)
	i.names++ // before the path is made, which may take the target away
	in, base = split(name)
	if dir, err = t.walk(rootNode, in, s.layer, create); err != nil {
		return err
	}
	return t.put(dir, base, number, s.layer)
}

// place makes a path of an entry that is no hard link.
func (s *scanner) place(name string, h *tar.Header) error {
	t := s.tree
	in, base := split(name)
	dir, err := t.walk(rootNode, in, s.layer, create)
	if err != nil {
		return err
	}
	n := t.lookup(dir, base)
	i := inode{kind: h.Typeflag, layer: s.layer, index: s.index, names: 1}
	switch {
	case isSocket(h):
		if n != 0 {
			t.remove(n)
		}
		return nil
	case h.Typeflag == tar.TypeDir:
		if n == 0 || !t.isDir(n) {
			if n, err = t.mkdir(dir, base, n, s.layer); err != nil {
				return err
			}
		}
		return s.setDir(n, h)
	case h.Typeflag == tar.TypeSymlink:
		i.data, err = t.newSymlink(h.Linkname)
	case isRegular(h):
		i.kind, i.data = tar.TypeReg, uint64(h.Size) //nolint:gosec // checked to be positive
	}
	if err != nil {
		return err
	}
	number, err := t.newInode(i)
	if err != nil {
		return err
	}
	return t.put(dir, base, number, s.layer)
}

// setDir gives a directory the attributes of its entry.
func (s *scanner) setDir(n uint32, h *tar.Header) error {
	t := s.tree
	i := t.inodeOf(n)
	i.layer, i.index = s.layer, s.index
	t.nodes.at(n).layer = s.layer
	d := uint32(i.data) //nolint:gosec // a number of dirs
	t.dirs.at(d).attributes = attributes{
		mode: uint16(h.Mode & permissions), uid: uint32(h.Uid), gid: uint32(h.Gid), //nolint:gosec // checked by checkHeader
		seconds: h.ModTime.Unix(), nanos: uint32(h.ModTime.Nanosecond()), //nolint:gosec // below 1e9
	}
	xattrs := make([]record, 0, len(h.PAXRecords))
	for k, v := range xattrsOf(h) {
		// Clones: what archive/tar gives are pieces of the whole extended header.
		xattrs = append(xattrs, record{strings.Clone(k), strings.Clone(v)})
	}
	return t.setXattrs(d, slices.Clip(xattrs))
}

const (
	permissions  = 0o7777
	xattrPrefix  = "SCHILY.xattr."
	typeBits     = 0o170000
	socketBits   = 0o140000
	maxMajor     = 1<<12 - 1
	maxMinor     = 1<<20 - 1
	maxTimestamp = 1 << 62
)

// xattrsOf iterates over the records of extended attributes.
func xattrsOf(h *tar.Header) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for k, v := range h.PAXRecords {
			if strings.HasPrefix(k, xattrPrefix) && len(k) > len(xattrPrefix) && !yield(k, v) {
				return
			}
		}
	}
}

func isRegular(h *tar.Header) bool {
	return h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeCont || h.Typeflag == tar.TypeGNUSparse
}

// isSocket reports an entry for a socket: tar has no type for them, so some
// programs pack an empty file and leave its kind in the mode.
func isSocket(h *tar.Header) bool {
	return h.Typeflag == tar.TypeReg && h.Size == 0 && h.Mode&typeBits == socketBits
}

// checkHeader refuses what no Linux file system can hold.
func checkHeader(h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse, tar.TypeLink, tar.TypeSymlink, tar.TypeDir, tar.TypeFifo:
	case tar.TypeChar, tar.TypeBlock:
		if h.Devmajor < 0 || h.Devmajor > maxMajor || h.Devminor < 0 || h.Devminor > maxMinor {
			return errdefs.New(errdefs.InvalidArgument, "there is no device %d:%d", h.Devmajor, h.Devminor)
		}
	default:
		return errdefs.New(errdefs.InvalidArgument, "entries of type %q are unknown", h.Typeflag)
	}
	switch {
	case h.Uid < 0 || h.Uid >= math.MaxUint32 || h.Gid < 0 || h.Gid >= math.MaxUint32:
		return errdefs.New(errdefs.InvalidArgument, "there is no user and group %d:%d", h.Uid, h.Gid)
	case h.Size < 0:
		return errdefs.New(errdefs.InvalidArgument, "its size is %d", h.Size)
	case h.ModTime.Unix() > maxTimestamp || h.ModTime.Unix() < -maxTimestamp:
		return errdefs.New(errdefs.InvalidArgument, "its time is %d", h.ModTime.Unix())
	}
	return nil
}
