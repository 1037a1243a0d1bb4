// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"strconv"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containercache"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// Cached lets the operator ask a view before vCenter, and leave there what it learns. The view is
// that of the operator's client and VCH.
func (o *Operator) Cached(view *containercache.View) *Operator {
	o.view = view
	return o
}

// Known returns the machine's VM as the view has it, in place of Find(…, false), without a call to vCenter; nil if vCenter is to
// be asked. It is proven by the same rules. Its Keys are those that tell whether and where its process runs, and how it
// is started and told to stop; Disks and the like it does not have, so nothing can be planned on it that destroys.
func (o *Operator) Known(id identity.Identity, want identity.Mark) *VM {
	if o.view == nil {
		return nil
	}
	known, ok := o.view.Find(id, want)
	if !ok || known.Facts == nil || known.Facts.Disks == 0 || known.Ref == o.host.Appliance {
		return nil
	}
	// Older data is migrated when it is read, newer data is not ours to understand.
	version, err := strconv.Atoi(known.DataVersion)
	if err != nil || version < o.data.Latest(migration.Container) || version > migration.VICVersion || known.Mark.Format > identity.MarkFormat {
		return nil
	}
	vm := &VM{
		Ref: known.Ref, Name: known.Name, UUID: id.BIOSUUID, VMX: known.Facts.VMX, PowerState: known.Power, GuestIP: known.Address,
		Keys: known.Facts.Keys, Stored: known.Facts.Keys, known: true, disks: known.Facts.Disks,
	}
	vm.mark = &known.Mark
	return vm
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
		if vm.Ref != o.host.Appliance {
			out = append(out, Machine{Ref: vm.Ref, VM: vm.Name, Identity: vm.Identity, Mark: vm.Mark, PowerState: vm.Power})
		}
	}
	return out, true
}

// KnownState is CheckState without a call to vCenter; ok is false if vCenter is to be asked.
func (o *Operator) KnownState() (err error, ok bool) { //nolint:revive // the error is the answer, not a failure
	if o.view == nil {
		return nil, false
	}
	return o.view.State()
}

// knownKeys are the keys of a VM that Known has.
func knownKeys(keys map[string]string) map[string]string {
	id := keys[guestinfo.CommonIDKey]
	wanted := []string{
		guestinfo.CommonIDKey, guestinfo.NetworksKey, guestinfo.StopSignalKey(id),
		guestinfo.StartedKey(id), guestinfo.StatusKey(id), guestinfo.StartTimeKey(id), guestinfo.StopTimeKey(id),
	}
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
			containercache.Facts{Keys: knownKeys(vm.Keys), VMX: vm.VMX, Disks: max(len(vm.Disks), vm.disks)})
	}
}

// learnNew leaves what is known of a VM that was made a moment ago.
func (o *Operator) learnNew(ref types.ManagedObjectReference, spec *types.VirtualMachineConfigSpec) {
	if o.view == nil {
		return
	}
	facts := containercache.Facts{Keys: knownKeys(guestinfo.FromOptionValues(vch.Keys(spec.ExtraConfig)))}
	if spec.Files != nil {
		facts.VMX = spec.Files.VmPathName
	}
	for _, c := range spec.DeviceChange {
		if _, ok := c.GetVirtualDeviceConfigSpec().Device.(*types.VirtualDisk); ok {
			facts.Disks++
		}
	}
	o.view.LearnNew(ref, facts)
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
