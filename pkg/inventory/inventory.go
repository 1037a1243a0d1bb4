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
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

const (
	// pageSize is how many VMs vCenter tells of in one answer at most.
	pageSize = 1000
	// readAttempts is how often a read is begun when VMs vanish meanwhile.
	readAttempts = 3
	// tidyTime is how long clearing away may take after a call has ended.
	tidyTime = time.Minute
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
	// Unproven says that vCenter cannot tell all of that: files or keys may be missing.
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
type Reader struct {
	o Options
	// page is how many VMs an answer has at most.
	page int32
}

// New returns a Reader. Nothing is sent.
func New(o Options) *Reader { return &Reader{o: o, page: pageSize} }

// Now is vCenter's clock, by which the times of files are judged.
func (r *Reader) Now(ctx context.Context) (time.Time, error) {
	now, err := methods.GetCurrentTime(ctx, r.o.Client.Vim())
	if err != nil {
		return time.Time{}, vcenter.Convert(err, "ask vCenter for its time")
	}
	return *now, nil
}

// VMs returns all VMs of the datacenter and all that have files on the datastores, in
// a few calls and one for each thousand VMs, whichever keys of ExtraConfig are asked
// for. It begins anew when some vanish meanwhile.
func (r *Reader) VMs(ctx context.Context, keys ...string) ([]VM, error) {
	if err := validate(keys); err != nil {
		return nil, err
	}
	vim := r.o.Client.Vim()
	view, err := methods.CreateContainerView(ctx, vim, &types.CreateContainerView{
		This: *vim.ServiceContent.ViewManager, Container: r.o.Datacenter, Type: []string{"VirtualMachine"}, Recursive: true,
	})
	if err != nil {
		return nil, vcenter.Convert(err, "look at all VMs of %s", r.o.Datacenter.Value)
	}
	defer func() {
		tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
		defer cancel()
		if _, err := methods.DestroyView(tidy, vim, &types.DestroyView{This: view.Returnval}); err != nil {
			klog.FromContext(ctx).V(1).Info("Could not destroy a view", "view", view.Returnval.Value, "reason", err.Error())
		}
	}()
	among := []types.ObjectSpec{objectsOf(view.Returnval, "ContainerView", "view")}
	for _, ds := range r.o.Datastores {
		among = append(among, objectsOf(ds, "Datastore", "vm"))
	}
	content, err := r.retrieve(ctx, append(fileProperties(), properties(keys)...), r.page, among)
	if err != nil {
		return nil, vcenter.Convert(err, "read all VMs of %s", r.o.Datacenter.Value)
	}
	return vms(content, keys), nil
}

// Keys returns keys of the ExtraConfig of given VMs, by VM, in one call. VMs that are
// gone are absent, and so are those that have none of the keys. One of which vCenter
// cannot tell them is an error: nothing can be proven by it.
func (r *Reader) Keys(ctx context.Context, vms []types.ManagedObjectReference, keys ...string) (map[types.ManagedObjectReference]map[string]string, error) {
	if err := validate(keys); err != nil {
		return nil, err
	}
	if len(vms) == 0 || len(keys) == 0 {
		return map[types.ManagedObjectReference]map[string]string{}, nil
	}
	var among []types.ObjectSpec
	for _, vm := range vms {
		among = append(among, types.ObjectSpec{Obj: vm})
	}
	content, err := r.retrieve(ctx, append([]string{configProperty}, properties(keys)...), 0, among)
	if err != nil {
		return nil, vcenter.Convert(err, "read %d keys of %d VMs of %s", len(keys), len(vms), r.o.Datacenter.Value)
	}
	return keysOf(content, keys)
}
