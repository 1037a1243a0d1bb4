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
	// Kind is what the disk is for: image or volume. What is made by another kind is not touched.
	Kind string `json:"kind"`
	// Subject is the image or volume, for people and for the name of the VM.
	Subject string `json:"subject"`
	// Attempt tells this disk from all others: 32 hexadecimal digits.
	Attempt string `json:"attempt"`
	// Owner is the process that makes the disk, for people.
	Owner string `json:"owner,omitempty"`
	// Size is the capacity of the disk in bytes.
	Size int64 `json:"size"`
}

// Holder is a VM that holds a disk until it is copied.
type Holder struct {
	Mark
	Ref types.ManagedObjectReference
	// Name is the VM's.
	Name string
}

// Options of a Maker.
type Options struct {
	// Client is a session with the vCenter, Host the VCH in whose folder and pool holders are.
	Client *vcenter.Client
	Host   *vch.Config
	// Files are those of Datastore.
	Files     *datastore.Files
	Datastore vch.Datastore
	// Kind is the Kind of all marks.
	Kind string
	// Clock is the real one by default.
	Clock clock.WithTicker
}

// Maker makes disks on one datastore. Safe for concurrent use.
type Maker struct{ o Options }

// New returns a Maker. Nothing is sent.
func New(o Options) *Maker { return &Maker{o: o} }

// Imports reports whether disks are imported there, which takes privileges of its
// own, and not uploaded.
func (m *Maker) Imports() bool { return datastore.Objects(m.o.Datastore.Type) }

// Make makes the disk at the path to (relative to the datastore), such as
// dir/data.vmdk, whose directory exists and has nothing else of that name. progress, if not
// nil, is told how many bytes of how many are sent; it starts anew when a request is repeated.
// When Make fails there may be a part of the disk; a holder is taken away, also when ctx has ended.
// What is left of one when even that fails, or the process ends, Holders finds.
func (m *Maker) Make(ctx context.Context, to string, c Content, mark Mark, progress func(done, total int64)) error {
	return errdefs.New(errdefs.Unimplemented, "make disk %s", m.o.Files.Path(to))
}

// Holders returns the holders of this kind in the VCH's folder.
func (m *Maker) Holders(ctx context.Context) ([]Holder, error) {
	return nil, errdefs.New(errdefs.Unimplemented, "look for VMs of imports in %s", m.o.Host.Name)
}

// DestroyHolder destroys a holder with its disk, after it has made sure that the VM
// still is the one with that mark and has none but its own disk. One that is gone is no error.
func (m *Maker) DestroyHolder(ctx context.Context, ref types.ManagedObjectReference, mark Mark) error {
	return errdefs.New(errdefs.Unimplemented, "destroy VM %s", ref.Value)
}
