// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"context"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containercache"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
)

// Cached lets the operator ask a view before vCenter, and leave there what it learns. The view is
// that of the operator's client and VCH.
func (o *Operator) Cached(view *containercache.View) *Operator {
	o.view = view
	return o
}

// Known returns the machine's VM as the view has it, in place of Find(…, false), without a call to vCenter; nil if vCenter is to
// be asked. It is proven by the same rules, and tells whether and where its process runs: Running, Started and Addresses are of use, and
// nothing may be changed by it.
func (o *Operator) Known(id identity.Identity, want identity.Mark) *VM {
	known, ok := o.knownVM(id, want)
	if !ok || known.Facts == nil {
		return nil
	}
	return &VM{
		Ref: known.Ref, Name: known.Name, UUID: id.BIOSUUID, PowerState: known.Power, GuestIP: known.Address,
		Keys: known.Facts.Keys, Stored: known.Facts.Keys, mark: &known.Mark,
	}
}

func (o *Operator) knownVM(id identity.Identity, want identity.Mark) (containercache.VM, bool) {
	if o.view == nil {
		return containercache.VM{}, false
	}
	return o.view.Find(id, want)
}

// findKnown is Find for a VM that the view knows: it is read and proven, in one call that is shared with others. nil
// says that Find has to look.
func (o *Operator) findKnown(ctx context.Context, id identity.Identity, want identity.Mark, change bool) (*VM, error) {
	known, ok := o.knownVM(id, want)
	if !ok {
		return nil, nil
	}
	vms, err := o.read(ctx, []types.ManagedObjectReference{known.Ref}, change)
	if err != nil {
		return nil, err
	}
	for _, vm := range vms {
		if o.Owned(vm, id, want) == nil {
			return vm, nil
		}
	}
	return nil, nil
}

// knownMachines is List without a call to vCenter.
func (o *Operator) knownMachines() ([]Machine, bool) {
	if o.view == nil {
		return nil, false
	}
	known, ok := o.view.Machines()
	if !ok {
		return nil, false
	}
	out := make([]Machine, 0, len(known))
	for _, vm := range known {
		out = append(out, Machine{Ref: vm.Ref, VM: vm.Name, Identity: vm.Identity, Mark: vm.Mark, PowerState: vm.Power})
	}
	return out, true
}

// knownKeys are the keys of a VM that Known has.
func knownKeys(keys map[string]string) map[string]string {
	id := keys[guestinfo.CommonIDKey]
	wanted := []string{guestinfo.CommonIDKey, guestinfo.NetworksKey, guestinfo.StartedKey(id)}
	for _, network := range guestinfo.Names(keys[guestinfo.NetworksKey]) {
		wanted = append(wanted, guestinfo.AssignedIPKey(network), guestinfo.AssignedMaskKey(network))
	}
	out := map[string]string{}
	for _, key := range wanted {
		if value := keys[key]; value != "" {
			out[key] = value
		}
	}
	return out
}

// learn leaves what was read of a VM to the view.
func (o *Operator) learn(vm *VM) {
	if o.view != nil && vm.mark != nil {
		o.view.Learn(vm.Ref, containercache.Seen{ChangeVersion: vm.ChangeVersion, Address: vm.GuestIP, Power: vm.PowerState},
			containercache.Facts{Keys: knownKeys(vm.Keys)})
	}
}

// unlearn is called before a VM is changed: own writes are visible, however late vCenter tells of them.
func (o *Operator) unlearn(vm *VM) {
	if o.view != nil {
		o.view.Unlearn(vm.Ref)
	}
}

// forget is called when a VM was removed.
func (o *Operator) forget(vm *VM) {
	if o.view != nil {
		o.view.Forget(vm.Ref)
	}
}
