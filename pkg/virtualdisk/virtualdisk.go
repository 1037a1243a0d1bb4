// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package virtualdisk makes a virtual disk on a datastore of the content of a raw
// disk.
//
// Where files become disks (VMFS, NFS) the part that has content is uploaded together
// with a descriptor, and the disk enlarged to its capacity. Where disks are objects
// (vSAN, vVol) it is imported through an NFC lease into a VM that never runs, the
// holder, copied to its place, and the holder destroyed.
//
// Called by pkg/image/vsphere and pkg/volume/vmdk, which have a directory for the
// disk, publish it, and find what a process left that ended meanwhile.
package virtualdisk

import (
	"context"
	"io"
	"path"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// Content is what is on a disk.
type Content struct {
	// Capacity is the size of the disk in bytes, of whole MiB.
	Capacity int64
	// Raw is the part of the raw disk that has content, Used how long that is; the
	// rest of the disk is zero.
	Raw  io.ReaderAt
	Used int64
	// Stream returns the whole disk as a streamOptimized VMDK and its length. It is
	// called only where disks are imported.
	Stream func(ctx context.Context) (io.ReaderAt, int64, error)
	// Identity tells the content from any other's.
	Identity [16]byte
}

// Mark is what a holder says of itself.
type Mark struct {
	// Kind is what the disk is for: image or volume. What is made by another kind is not
	// touched. Make fills it in.
	Kind string `json:"kind"`
	// Subject is the image or volume, for people and for the name of the VM.
	Subject string `json:"subject"`
	// Attempt tells this disk from all others: 32 hexadecimal digits.
	Attempt string `json:"attempt"`
	// Owner is the process that makes the disk, for people.
	Owner string `json:"owner,omitempty"`
	// Size is the capacity of the disk in bytes. Make fills it in.
	Size int64 `json:"size"`
	// To is the datastore path that the disk is for, which tells the holders of one store
	// from those of another one in the same VCH. Make fills it in.
	To string `json:"to,omitempty"`
}

// Holder is a VM that holds a disk until it is copied.
type Holder struct {
	Mark
	Ref types.ManagedObjectReference
	// Name is the VM's.
	Name string
}

// Files are what a Maker needs of a datastore; see datastore.Files.
type Files interface {
	Path(p string) string
	Resolve(ctx context.Context, p string) (string, error)
	Size(ctx context.Context, p string) (int64, error)
	Write(ctx context.Context, p string, r io.ReaderAt, size int64, progress func(done int64)) error
	Upload(ctx context.Context, what string, to datastore.Address, r io.ReaderAt, size int64, progress func(done int64)) error
	ExtendDisk(ctx context.Context, p string, size int64) error
	CopyDisk(ctx context.Context, from, to string) error
	DeleteDisk(ctx context.Context, p string) error
}

// Options of a Maker. All but Clock are required.
type Options struct {
	// Client is a session with the vCenter, Host the VCH in whose folder and pool holders are.
	Client *vcenter.Client
	Host   *vch.Config
	// Files are those of Datastore.
	Files     Files
	Datastore vch.Datastore
	// Kind is the Kind of all marks.
	Kind string
	// Clock is the real one by default.
	Clock clock.WithTicker
}

// Maker makes disks on one datastore. Safe for concurrent use.
type Maker struct{ o Options }

// New returns a Maker. Nothing is sent.
func New(o Options) *Maker {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Maker{o: o}
}

// Imports reports whether disks are imported there, which takes privileges of its
// own, and not uploaded.
func (m *Maker) Imports() bool { return datastore.Objects(m.o.Datastore.Type) }

// Make makes the disk at the path to (relative to the datastore), such as
// dir/data.vmdk, whose directory exists and has nothing else of that name. progress, if not
// nil, is told how many bytes of how many are sent; it starts anew when a request is repeated.
// When Make fails there may be a part of the disk; a holder is taken away, also when ctx has ended.
// What is left of one when even that fails, or the process ends, Holders finds.
func (m *Maker) Make(ctx context.Context, to string, c Content, mark Mark, progress func(done, total int64)) error {
	mark.Kind, mark.Size, mark.To = m.o.Kind, c.Capacity, m.o.Files.Path(to)
	switch {
	case !strings.HasSuffix(to, diskSuffix) || path.Base(to) == diskSuffix:
		return errdefs.New(errdefs.Internal, "make disk %s: its name must end in %s", mark.To, diskSuffix)
	case c.Capacity <= 0 || c.Capacity%extentUnit != 0:
		return errdefs.New(errdefs.Internal, "make disk %s: its capacity of %d bytes is not of whole MiB", mark.To, c.Capacity)
	case c.Used < 0 || c.Used > c.Capacity:
		return errdefs.New(errdefs.Internal, "make disk %s: the content has %d bytes, the disk %d", mark.To, c.Used, c.Capacity)
	case !mark.valid():
		return errdefs.New(errdefs.Internal, "make disk %s: the mark of its holder has the kind %q, subject %q, attempt %q", mark.To, mark.Kind, mark.Subject, mark.Attempt)
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	if m.Imports() {
		return m.importDisk(ctx, to, c, mark, progress)
	}
	return m.uploadFlat(ctx, to, c, progress)
}
