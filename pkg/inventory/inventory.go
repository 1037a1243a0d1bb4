// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package inventory tells which VMs have which files, and what their configuration
// says under given keys: it is how disks and volumes are proven unused.
//
// Called by pkg/image/vsphere, pkg/volume/vmdk and pkg/volume/nfs, which decide what
// a file or key means to them. It never changes anything.
package inventory

import (
	"context"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// VM is one VM, of whomever.
type VM struct {
	// Ref is the VM, Name its name in the inventory.
	Ref  types.ManagedObjectReference
	Name string
	// Files are the datastore paths of its disks, with all that these are children of, and of
	// its other files, those of snapshots included.
	Files []string
	// Keys is the part of its ExtraConfig that was asked for; keys without a value are absent.
	Keys map[string]string
	// Unproven says that vCenter cannot tell all of that: files may be missing.
	Unproven bool
}

// Options of a Reader. All are required.
type Options struct {
	// Client is a session with the vCenter.
	Client *vcenter.Client
	// Datacenter is looked at with all that is in it.
	Datacenter types.ManagedObjectReference
	// Datastores are looked at too, for VMs that have files there.
	Datastores []types.ManagedObjectReference
}

// Reader reads VMs. Safe for concurrent use.
type Reader struct{ o Options }

// New returns a Reader. Nothing is sent.
func New(o Options) *Reader { return &Reader{o: o} }

// VMs returns all VMs of the datacenter and all that have files on the datastores, in
// a few calls and one for each thousand VMs, whichever keys of ExtraConfig are asked
// for. It begins anew when some vanish meanwhile.
func (r *Reader) VMs(ctx context.Context, keys ...string) ([]VM, error) {
	return nil, errdefs.New(errdefs.Unimplemented, "read all VMs of %s, %d keys", r.o.Datacenter.Value, len(keys))
}

// Keys returns keys of the ExtraConfig of given VMs, by VM, in one call. VMs that are
// gone are absent.
func (r *Reader) Keys(ctx context.Context, vms []types.ManagedObjectReference, keys ...string) (map[types.ManagedObjectReference]map[string]string, error) {
	return nil, errdefs.New(errdefs.Unimplemented, "read %d keys of %d VMs of %s", len(keys), len(vms), r.o.Datacenter.Value)
}
