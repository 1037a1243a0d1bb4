// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// Member is one line of Members: a container VM of the VCH, whoever made it.
type Member struct {
	Ref types.ManagedObjectReference
	// VM is the display name, Name the container's, wherever its data version has that.
	VM, Name string
	// ContainerID is not empty.
	ContainerID string
	// Mark is nil for a VM that is no machine of this provider: without a full mark, or
	// with a BIOS UUID that does not follow from it.
	Mark       *identity.Mark
	PowerState types.VirtualMachinePowerState
}

// Members returns the container VMs that stand among those of the VCH, sorted by
// display name, in one call (more only when vCenter pages its answer). It reads a
// handful of keys of each VM, and none outside the VCH.
func (o *Operator) Members(ctx context.Context) ([]Member, error) {
	all, err := o.survey(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Member, 0, len(all))
	for _, n := range all {
		if n.Ref != o.host.Appliance && n.ContainerID != "" {
			out = append(out, n.Member)
		}
	}
	return out, nil
}

// neighbor is a VM among the container VMs of the VCH: one of them, its appliance, or
// what somebody put there.
type neighbor struct {
	Member
	// keys are those that were asked for.
	keys map[string]string
}

// survey reads what Members shows, and keys, of all VMs that stand among the container
// VMs of the VCH, sorted by display name.
func (o *Operator) survey(ctx context.Context, keys ...string) ([]neighbor, error) {
	markKey := guestinfo.AnnotationKey(identity.MarkAnnotation)
	paths := map[string]string{}
	for _, key := range append([]string{guestinfo.CommonIDKey, guestinfo.NameKey, guestinfo.OldNameKey, markKey}, keys...) {
		paths[vch.KeyProperty(key)] = key
	}
	props := []string{"name", "config.uuid", "runtime.powerState"}
	for path := range paths {
		props = append(props, path)
	}
	slices.Sort(props)
	content, err := o.members(ctx, props...)
	if err != nil {
		return nil, o.convert(err, "list the container VMs of VCH %s", o.host.Name)
	}
	out := make([]neighbor, 0, len(content))
	for _, c := range content {
		n := neighbor{Member: Member{Ref: c.Obj}, keys: map[string]string{}}
		uuid := ""
		for _, p := range c.PropSet {
			switch p.Name {
			case "name":
				n.VM, _ = p.Val.(string)
			case "config.uuid":
				uuid, _ = p.Val.(string)
			case "runtime.powerState":
				n.PowerState, _ = p.Val.(types.VirtualMachinePowerState)
			default:
				n.keys[paths[p.Name]] = vch.KeyValue(p.Val)
			}
		}
		n.ContainerID = n.keys[guestinfo.CommonIDKey]
		n.Name = cmp.Or(n.keys[guestinfo.NameKey], n.keys[guestinfo.OldNameKey])
		n.Mark, _ = o.host.Proven(n.keys[markKey], uuid)
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b neighbor) int {
		return cmp.Or(strings.Compare(a.VM, b.VM), strings.Compare(a.Ref.Value, b.Ref.Value))
	})
	return out, nil
}

// ReadWhole reads VMs whole, in one call. VMs that vanished meanwhile are left out.
func (o *Operator) ReadWhole(ctx context.Context, refs ...types.ManagedObjectReference) (map[types.ManagedObjectReference]*VM, error) {
	if len(refs) == 0 {
		return map[types.ManagedObjectReference]*VM{}, nil
	}
	spec := types.PropertyFilterSpec{
		PropSet:                       []types.PropertySpec{{Type: "VirtualMachine", PathSet: properties()}},
		ReportMissingObjectsInResults: types.NewBool(true),
	}
	for _, ref := range refs {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: ref})
	}
	content, err := o.retrieve(ctx, spec)
	if err != nil {
		return nil, o.convert(err, "read the container VMs of VCH %s", o.host.Name)
	}
	out := make(map[types.ManagedObjectReference]*VM, len(content))
	for _, c := range content {
		if len(c.PropSet) > 0 {
			out[c.Obj] = o.vmFrom(c)
		}
	}
	return out, nil
}

// Scope says which container VMs an operation for people may change.
type Scope int

// The scopes.
const (
	// Machines are those with the full mark of this provider, at the right place and with the right ids.
	Machines Scope = iota
	// Containers are all container VMs that provably belong to the VCH, docker's too: by
	// place, container id, and the BIOS UUID that follows from both. Never its appliance.
	Containers
)

// Proven returns nil if vm is within the scope, else FailedPrecondition with the reason.
func (o *Operator) Proven(vm *VM, scope Scope) error {
	refuse := func(format string, args ...any) error {
		return errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) is not touched: "+format, append([]any{vm.Name, vm.Ref.Value}, args...)...)
	}
	switch {
	case vm.Ref == o.host.Appliance || vm.Keys[guestinfo.VCHIDKey] != "":
		return refuse("it is the appliance of a VCH")
	case !o.inPlace(vm):
		return refuse("it stands outside the container VMs of VCH %s", o.host.Name)
	case scope == Machines && vm.mark == nil:
		return refuse("it is no machine of this provider, since it has no full mark")
	}
	id, err := o.claimed(vm, scope)
	switch {
	case err != nil:
		return refuse("it is no container VM of VCH %s: %v", o.host.Name, err)
	case vm.containerID() != id.ContainerID:
		return refuse("its mark says machine %s of cluster %s, whose container id is %s, but its own is %q", vm.mark.Machine, vm.mark.Cluster, id.ContainerID, vm.containerID())
	case vm.UUID != id.BIOSUUID:
		return refuse("its BIOS UUID is %s, but that of container %s of VCH %s is %s", vm.UUID, id.ContainerID, o.host.Name, id.BIOSUUID)
	}
	return nil
}

// claimed returns the identity that follows from what a VM says of itself: from its mark,
// or from its container id.
func (o *Operator) claimed(vm *VM, scope Scope) (identity.Identity, error) {
	if scope == Machines {
		return identity.New(o.host.UUID, vm.mark.Cluster, vm.mark.Machine)
	}
	id, err := identity.ParseProviderID(identity.Identity{VCH: o.host.UUID, ContainerID: vm.containerID()}.ProviderID())
	return id, errdefs.Wrap(errdefs.InvalidArgument, err, "its container id is %q, not 64 hex digits", vm.containerID())
}
