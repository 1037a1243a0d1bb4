// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/inventory"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/virtualdisk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/volumetest"
)

// seam stands between a store and the world, and lets a step go wrong.
type seam struct {
	w     *world
	files files
	inv   machines
	disks disks
	fault volumetest.Fault
	// before, if set, is told of each step before it is taken.
	before func(what string)

	mu    sync.Mutex
	steps int
}

// newSeam puts a seam between a store and the world. Disks that are uploaded are made
// through it file by file.
func newSeam(w *world, s *Store, fault volumetest.Fault) *seam {
	m := &seam{w: w, files: s.files, inv: s.inventory, disks: s.disks, fault: fault}
	s.use(m)
	s.inventory = m
	if s.disks.Imports() {
		s.disks = m
	}
	return m
}

func (m *seam) step(what string, do func() error) error {
	if m.before != nil {
		m.before(what)
	}
	m.mu.Lock()
	m.steps++
	n := m.steps
	m.mu.Unlock()
	return m.fault.Around(n, what, do)
}

func (m *seam) struck() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.steps >= m.fault.Step
}

func (m *seam) Path(p string) string { return m.files.Path(p) }

func (m *seam) Read(ctx context.Context, p string, limit int64) (b []byte, err error) {
	return b, m.step("read "+p, func() error {
		b, err = m.files.Read(ctx, p, limit)
		return err
	})
}

func (m *seam) Size(ctx context.Context, p string) (n int64, err error) {
	return n, m.step("look at "+p, func() error {
		n, err = m.files.Size(ctx, p)
		return err
	})
}

func (m *seam) Write(ctx context.Context, p string, r io.ReaderAt, size int64, progress func(int64)) error {
	return m.step("write "+p, func() error { return m.files.Write(ctx, p, r, size, progress) })
}

func (m *seam) Upload(ctx context.Context, what string, to datastore.Address, r io.ReaderAt, size int64, progress func(int64)) error {
	return m.step("upload "+what, func() error { return m.files.Upload(ctx, what, to, r, size, progress) })
}

func (m *seam) List(ctx context.Context, dir, pattern string) (entries []datastore.Entry, err error) {
	return entries, m.step("list "+dir, func() error {
		entries, err = m.files.List(ctx, dir, pattern)
		return err
	})
}

func (m *seam) Tree(ctx context.Context, dir string) (tree map[string][]datastore.Entry, err error) {
	return tree, m.step("search "+dir, func() error {
		tree, err = m.files.Tree(ctx, dir)
		return err
	})
}

func (m *seam) MakeDirectory(ctx context.Context, dir string, parents bool) error {
	return m.step("make "+dir, func() error { return m.files.MakeDirectory(ctx, dir, parents) })
}

func (m *seam) Resolve(ctx context.Context, p string) (resolved string, err error) {
	return resolved, m.step("resolve "+p, func() error {
		resolved, err = m.files.Resolve(ctx, p)
		return err
	})
}

func (m *seam) Delete(ctx context.Context, p string) error {
	return m.step("delete "+p, func() error { return m.files.Delete(ctx, p) })
}

func (m *seam) Move(ctx context.Context, from, to string) error {
	return m.step("move "+from+" to "+to, func() error { return m.files.Move(ctx, from, to) })
}

func (m *seam) ExtendDisk(ctx context.Context, p string, size int64) error {
	return m.step("extend "+p, func() error { return m.files.ExtendDisk(ctx, p, size) })
}

func (m *seam) CopyDisk(ctx context.Context, from, to string) error {
	return m.step("copy "+from+" to "+to, func() error { return m.files.CopyDisk(ctx, from, to) })
}

func (m *seam) DeleteDisk(ctx context.Context, p string) error {
	return m.step("delete disk "+p, func() error { return m.files.DeleteDisk(ctx, p) })
}

func (m *seam) VMs(ctx context.Context, keys ...string) (vms []inventory.VM, err error) {
	return vms, m.step("look at VMs", func() error {
		vms, err = m.inv.VMs(ctx, keys...)
		m.w.mu.Lock()
		defer m.w.mu.Unlock()
		for i := range vms {
			if m.w.hidden[vms[i].Ref] {
				vms[i].Unproven, vms[i].Files = true, nil
			}
			if file := m.w.snapshots[vms[i].Ref]; file != "" {
				vms[i].Files = append(vms[i].Files, file)
			}
		}
		return err
	})
}

func (m *seam) Now(ctx context.Context) (now time.Time, err error) {
	return now, m.step("ask for the time", func() error {
		now, err = m.inv.Now(ctx)
		return err
	})
}

func (m *seam) Imports() bool { return m.disks.Imports() }

func (m *seam) Make(ctx context.Context, to string, c virtualdisk.Content, mark virtualdisk.Mark, progress func(done, total int64)) error {
	return m.step("import "+to, func() error { return m.disks.Make(ctx, to, c, mark, progress) })
}

func (m *seam) Holders(ctx context.Context) (h []virtualdisk.Holder, err error) {
	return h, m.step("look for holders", func() error {
		h, err = m.disks.Holders(ctx)
		return err
	})
}

func (m *seam) DestroyHolder(ctx context.Context, ref types.ManagedObjectReference, mark virtualdisk.Mark) error {
	return m.step("destroy holder "+ref.Value, func() error { return m.disks.DestroyHolder(ctx, ref, mark) })
}
