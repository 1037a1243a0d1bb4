// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"bytes"
	"context"
	"io"
	"path"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vmdk"
)

const (
	// extentUnit is what the length of a flat extent is rounded up to: the blocks of
	// VMFS, of which the disk's own size is a multiple too.
	extentUnit = int64(1 << 20)
	diskSuffix = ".vmdk"
	flatSuffix = "-flat.vmdk"
)

// uploadFlat makes a disk of a raw extent and a descriptor. Only the part that has
// content is sent; the rest comes with the enlargement.
func (m *Maker) uploadFlat(ctx context.Context, to string, c Content, progress func(done, total int64)) error {
	size := max(extentUnit, (c.Used+extentUnit-1)/extentUnit*extentUnit)
	sent := func(done int64) { progress(min(done, c.Used), c.Used) }
	sent(0)
	extent := strings.TrimSuffix(to, diskSuffix) + flatSuffix
	if err := m.o.Files.Write(ctx, extent, &padded{c.Raw, c.Used}, size, sent); err != nil {
		return err
	}
	got, err := m.o.Files.Size(ctx, extent)
	if err != nil {
		return err
	}
	if got != size {
		return errdefs.New(errdefs.Unavailable, "%s has %d bytes after the upload of %d", m.o.Files.Path(extent), got, size)
	}
	text, err := vmdk.Descriptor(vmdk.Flat{Capacity: size, Extent: path.Base(extent), Identity: c.Identity, Thin: true})
	if err != nil {
		return err
	}
	if err := m.o.Files.Write(ctx, to, bytes.NewReader(text), int64(len(text)), nil); err != nil || size == c.Capacity {
		return err
	}
	return m.o.Files.ExtendDisk(ctx, to, c.Capacity)
}

// padded reads zeroes behind the end.
type padded struct {
	from io.ReaderAt
	size int64
}

// ReadAt implements io.ReaderAt.
func (p *padded) ReadAt(b []byte, at int64) (int, error) {
	inside := int64(0)
	if at < p.size {
		inside = min(int64(len(b)), p.size-at)
		n, err := p.from.ReadAt(b[:inside], at)
		if int64(n) < inside {
			return n, err
		}
	}
	clear(b[inside:])
	return len(b), nil
}
