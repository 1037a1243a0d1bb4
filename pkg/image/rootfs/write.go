// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"io"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Flatten plans and writes; see NewPlan and Plan.Write.
func Flatten(ctx context.Context, layers []Layer, w io.Writer, opts Options) (Stats, error) {
	p, err := NewPlan(ctx, layers, opts)
	if err != nil {
		return Stats{}, err
	}
	return p.Stats(), p.Write(ctx, w)
}

// Write writes the flattened image to w as one tar in PAX format: all directories,
// what opts.Require made, the files layer by layer, the hard links. Each path is
// there once, behind its parents and behind the path that it links to. Names have
// no leading slash, except that the root is "./"; those of directories end in one.
//
// Each layer is read at most once. The same layers and options give the same bytes.
// A layer that changed since NewPlan is an Aborted error, one that cannot be read,
// or a writer that fails, mostly Unavailable. After an error w has a part of a tar.
func (p *Plan) Write(ctx context.Context, w io.Writer) error {
	sink := &sink{w: w}
	buffered := bufio.NewWriterSize(sink, bufferSize)
	out := &output{tw: tar.NewWriter(buffered), sink: sink, copy: make([]byte, 4*bufferSize)}
	if err := p.writeDirs(ctx, out); err != nil {
		return err
	}
	files := p.files
	for len(files) > 0 {
		layer := p.tree.inodes.at(files[0]).layer
		n := 1
		for n < len(files) && p.tree.inodes.at(files[n]).layer == layer {
			n++
		}
		write := p.writeRequired
		if layer > 0 {
			write = p.writeLayer
		}
		if err := write(ctx, out, files[:n]); err != nil {
			return err
		}
		files = files[n:]
	}
	if err := p.writeLinks(ctx, out); err != nil {
		return err
	}
	err := out.tw.Close()
	if err == nil {
		err = buffered.Flush()
	}
	if err != nil {
		return out.failed(ctx, err, "the end")
	}
	return nil
}

// sink remembers that it was the writer that failed.
type sink struct {
	w   io.Writer
	err error
}

// Write writes.
func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil {
		s.err = err
	}
	return n, err
}

// output is what Write writes to.
type output struct {
	tw   *tar.Writer
	sink *sink
	copy []byte
}

// failed says what writing a path failed with: the writer, or a header that cannot
// be packed, such as one with too many extended attributes.
func (o *output) failed(ctx context.Context, err error, name string) error {
	if o.sink.err != nil {
		return failed(ctx, o.sink.err, "write %q of the flattened image", clip(name))
	}
	return errdefs.Wrap(errdefs.InvalidArgument, err, "pack %q of the flattened image", clip(name))
}

func (o *output) header(ctx context.Context, h *tar.Header) error {
	if err := ctx.Err(); err != nil {
		return failed(ctx, err, "write %q of the flattened image", clip(h.Name))
	}
	h.Format = tar.FormatPAX
	if err := o.tw.WriteHeader(h); err != nil {
		return o.failed(ctx, err, h.Name)
	}
	return nil
}

func (p *Plan) writeDirs(ctx context.Context, out *output) error {
	t := p.tree
	for n := range t.directories() {
		d := t.dirOf(n)
		name := t.path(n) + "/"
		if n == rootNode {
			name = "./"
		}
		h := &tar.Header{
			Typeflag: tar.TypeDir, Name: name, Mode: int64(d.mode), Uid: int(d.uid), Gid: int(d.gid),
			ModTime: time.Unix(d.seconds, int64(d.nanos)),
		}
		for _, r := range t.xattrs[uint32(t.inodeOf(n).data)] { //nolint:gosec // a number of dirs
			addRecord(h, r.key, r.value)
		}
		if err := out.header(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

func addRecord(h *tar.Header, key, value string) {
	if h.PAXRecords == nil {
		h.PAXRecords = map[string]string{}
	}
	h.PAXRecords[key] = value
}

func (p *Plan) writeRequired(ctx context.Context, out *output, files []uint32) error {
	for _, number := range files {
		i := p.tree.inodes.at(number)
		h := &tar.Header{
			Typeflag: i.kind, Name: p.tree.path(i.first), Mode: int64(p.opts.Require[i.index].Mode), ModTime: p.opts.ModTime,
		}
		if i.kind == tar.TypeSymlink {
			h.Linkname = p.tree.target(i)
		}
		if err := out.header(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plan) writeLinks(ctx context.Context, out *output) error {
	for n, first := range p.tree.links() {
		if err := out.header(ctx, &tar.Header{
			Typeflag: tar.TypeLink, Name: p.tree.path(n), Linkname: p.tree.path(first), ModTime: p.opts.ModTime,
		}); err != nil {
			return err
		}
	}
	return nil
}

// writeLayer reads a layer up to the last entry that survives, and writes those.
func (p *Plan) writeLayer(ctx context.Context, out *output, files []uint32) error {
	layer := p.layers[p.tree.inodes.at(files[0]).layer-1]
	src, closer, err := openLayer(ctx, layer, &budget{left: p.opts.MaxBytes, limit: p.opts.MaxBytes})
	if err != nil {
		return err
	}
	defer func() { _ = closer.Close() }() // it was only read
	tr := tar.NewReader(src)
	index := uint32(0)
	for _, number := range files {
		i := p.tree.inodes.at(number)
		var h *tar.Header
		for ; index <= i.index; index++ {
			if h, err = next(tr); errors.Is(err, io.EOF) {
				return changed(layer, "it is shorter")
			}
			if err != nil {
				return src.readFailed(ctx, err, "read layer %s again, entry %d", layer.Name, index)
			}
		}
		if err := p.writeFile(ctx, out, i, h, tr, src, layer); err != nil {
			return err
		}
	}
	return nil
}

func changed(layer Layer, how string) error {
	return errdefs.New(errdefs.Aborted, "layer %s changed between two readings: %s", layer.Name, how)
}

// writeFile writes one entry that survives under the path that carries it.
func (p *Plan) writeFile(ctx context.Context, out *output, i *inode, h *tar.Header, content io.Reader, src *source, layer Layer) error {
	kind := h.Typeflag
	if isRegular(h) {
		kind = tar.TypeReg
	}
	if err := checkHeader(h); err != nil || kind != i.kind ||
		kind == tar.TypeReg && uint64(h.Size) != i.data || kind == tar.TypeSymlink && h.Linkname != p.tree.target(i) { //nolint:gosec // checked to be positive
		return changed(layer, "entry "+clip(h.Name)+" was another one")
	}
	name := p.tree.path(i.first)
	kept := &tar.Header{
		Typeflag: kind, Name: name, Mode: h.Mode & permissions, Uid: h.Uid, Gid: h.Gid, ModTime: h.ModTime,
		Devmajor: h.Devmajor, Devminor: h.Devminor,
	}
	switch kind {
	case tar.TypeSymlink:
		kept.Linkname = h.Linkname
	case tar.TypeReg:
		kept.Size = h.Size
	}
	for k, v := range xattrsOf(h) {
		addRecord(kept, k, v)
	}
	if err := out.header(ctx, kept); err != nil {
		return err
	}
	if kind != tar.TypeReg || h.Size == 0 {
		return nil
	}
	// Only the two methods: whatever else reader and writer can do, it goes through
	// this one buffer.
	_, err := io.CopyBuffer(struct{ io.Writer }{out.tw}, struct{ io.Reader }{content}, out.copy)
	switch {
	case err == nil:
		return nil
	case out.sink.err != nil:
		return out.failed(ctx, err, name)
	}
	return src.readFailed(ctx, err, "read layer %s again, content of %q", layer.Name, clip(h.Name))
}
