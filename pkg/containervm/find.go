// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"context"
	"slices"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containercache"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// Operator works on the container VMs of one VCH with one session, for the
// length of one SPI call. Not for concurrent use.
type Operator struct {
	client *vcenter.Client
	host   *vch.Config
	data   *migration.Set
	// view may be nil.
	view *containercache.View
}

// NewOperator returns an operator that reads old data with the migrations of a set; no
// call is made.
func NewOperator(client *vcenter.Client, host *vch.Config, data *migration.Set) *Operator {
	return &Operator{client: client, host: host, data: data}
}

// settleTime is how long a task that was begun is watched after its caller gave up.
const settleTime = 10 * time.Second

// await waits for a task. When the wait fails and not the task, the task goes
// on in vCenter: it is waited for once more, so that the machine's next operation does not
// run into it.
func (o *Operator) await(ctx context.Context, task types.ManagedObjectReference) error {
	_, err := o.client.Task(ctx, task)
	if err == nil || vcenter.IsTaskFault(err) {
		return err
	}
	if ctx.Err() == nil {
		_, err = o.client.Task(ctx, task)
		return err
	}
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	_, _ = o.client.Task(settle, task) // the caller's time is over, whatever the answer
	return err
}

// Find looks the machine up by its BIOS UUID, in two calls, or in the second one alone if the view knows
// which VM it is, and checks in the second that the VCH is not being changed by vic-machine (Unavailable) unless
// reading is all that the caller wants.
//
// It returns nil when no VM has the machine's UUID. A VM that has the UUID but
// not the machine's full mark, or stands elsewhere than the VCH's container
// VMs, is foreign: FailedPrecondition, unless the machine's own VM is there
// too. Several with the full mark: OutOfRange. Data that a newer program wrote is
// FailedPrecondition for whoever wants more than to read; data that could not
// be migrated is no reason to refuse anything.
func (o *Operator) Find(ctx context.Context, id identity.Identity, want identity.Mark, change bool) (*VM, error) {
	if vm, err := o.findKnown(ctx, id, want, change); vm != nil || err != nil {
		if vm != nil && change {
			err = vm.writable()
		}
		if err != nil {
			return nil, err
		}
		return vm, nil
	}
	vim := o.client.Vim()
	res, err := methods.FindAllByUuid(ctx, vim, &types.FindAllByUuid{
		This: *vim.ServiceContent.SearchIndex, Datacenter: &o.host.Datacenter, Uuid: id.BIOSUUID, VmSearch: true, InstanceUuid: types.NewBool(false),
	})
	if err != nil {
		return nil, o.convert(err, "find the VM of machine %s by BIOS UUID %s", want.Machine, id.BIOSUUID)
	}
	if len(res.Returnval) == 0 && !change {
		return nil, nil
	}
	vms, err := o.read(ctx, res.Returnval, change)
	if err != nil {
		return nil, err
	}
	var ours []*VM
	var foreign error
	for _, vm := range vms {
		if err := o.Owned(vm, id, want); err != nil {
			foreign = err
			continue
		}
		ours = append(ours, vm)
	}
	switch {
	case len(ours) > 1:
		return nil, errdefs.New(errdefs.OutOfRange, "machine %s: %d VMs bear its BIOS UUID %s and its full mark (%s, %s); remove the copies by hand", want.Machine, len(ours), id.BIOSUUID, ours[0].Ref.Value, ours[1].Ref.Value)
	case len(ours) == 1 && change:
		if err := ours[0].writable(); err != nil {
			return nil, err
		}
		return ours[0], nil
	case len(ours) == 1:
		return ours[0], nil
	case foreign != nil:
		return nil, foreign
	}
	return nil, nil
}

// Owned returns nil if vm is the machine's own: right place, right container
// id, right BIOS UUID, full mark; else FailedPrecondition with the reason.
func (o *Operator) Owned(vm *VM, id identity.Identity, want identity.Mark) error {
	refuse := func(format string, args ...any) error {
		return errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) is not touched: it is not machine %s of cluster %s: "+format,
			append([]any{vm.Name, vm.Ref.Value, want.Machine, want.Cluster}, args...)...)
	}
	switch {
	case vm.Ref == o.host.Appliance || vm.Keys[guestinfo.VCHIDKey] != "":
		return refuse("it is the appliance of a VCH")
	case !o.inPlace(vm):
		return refuse("it stands outside the container VMs of VCH %s", o.host.Name)
	case vm.mark == nil:
		return refuse("it has no mark of this provider")
	case !vm.mark.Owns(want):
		return refuse("its mark says machine %s, cluster %s, role %s (wanted role %s)", vm.mark.Machine, vm.mark.Cluster, vm.mark.Role, want.Role)
	case vm.containerID() != id.ContainerID:
		return refuse("its container id is %q, not %s", vm.containerID(), id.ContainerID)
	case vm.UUID != id.BIOSUUID:
		return refuse("its BIOS UUID is %s, not %s", vm.UUID, id.BIOSUUID)
	}
	return nil
}

// inPlace is VIC's own rule of membership: child of the VCH's folder, or, where
// that is the datacenter's VM folder, member of its pool.
func (o *Operator) inPlace(vm *VM) bool {
	if o.host.FolderIsRoot {
		return vm.ResourcePool != nil && *vm.ResourcePool == o.host.Pool
	}
	return vm.Parent != nil && *vm.Parent == o.host.Folder
}

// read reads VMs and the state of the VCH in one call. VMs that vanish meanwhile
// are left out. A VCH that forbids changes is an error if a change is to follow.
func (o *Operator) read(ctx context.Context, refs []types.ManagedObjectReference, change bool) ([]*VM, error) {
	// name: a filter that asks for properties that an object does not have leaves the object out.
	specs := []types.PropertyFilterSpec{named(append([]string{"name"}, vch.StateProperties()...), o.host.Appliance)}
	if vms := slices.DeleteFunc(slices.Clone(refs), func(ref types.ManagedObjectReference) bool { return ref == o.host.Appliance }); len(vms) > 0 {
		specs = append(specs, named(properties(), vms...))
	}
	content, err := o.retrieveNamed(ctx, specs...)
	if err != nil {
		return nil, o.convert(err, "read container VMs of VCH %s", o.host.Name)
	}
	var vms []*VM
	alive := false
	for _, c := range content {
		if c.Obj == o.host.Appliance {
			alive = true
			if err := o.host.CheckState(c.PropSet); err != nil && change {
				return nil, err
			}
			continue
		}
		if len(c.PropSet) > 0 {
			vm := o.vmFrom(c)
			o.learn(vm)
			vms = append(vms, vm)
		}
	}
	if !alive {
		return nil, errdefs.New(errdefs.Aborted, "the appliance of VCH %s (%s) is gone; its configuration will be read anew", o.host.Name, o.host.Appliance.Value)
	}
	return vms, nil
}

// named selects properties of VMs.
func named(properties []string, refs ...types.ManagedObjectReference) types.PropertyFilterSpec {
	spec := types.PropertyFilterSpec{
		PropSet:                       []types.PropertySpec{{Type: "VirtualMachine", PathSet: properties}},
		ReportMissingObjectsInResults: types.NewBool(true),
	}
	for _, ref := range refs {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: ref})
	}
	return spec
}

// retrieveNamed reads objects that are named, with what others read at the same time.
func (o *Operator) retrieveNamed(ctx context.Context, specs ...types.PropertyFilterSpec) ([]types.ObjectContent, error) {
	if o.view != nil {
		return o.view.Read(ctx, specs...)
	}
	return o.retrieve(ctx, specs...)
}

// Machine is one line of List.
type Machine struct {
	Ref        types.ManagedObjectReference
	VM         string
	Identity   identity.Identity
	Mark       identity.Mark
	PowerState types.VirtualMachinePowerState
}

// members reads properties of all VMs that stand among the container VMs of the VCH.
func (o *Operator) members(ctx context.Context, properties ...string) ([]types.ObjectContent, error) {
	from, traversal := o.host.Members()
	return o.retrieve(ctx, types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{Obj: from, Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{traversal}}},
		PropSet:   []types.PropertySpec{{Type: "VirtualMachine", PathSet: properties}},
	})
}

// List returns the VMs of the VCH that bear a full mark: those that the operator's view has or, without one, in one call (two
// and more only when vCenter pages its answer). Each is proven by place, mark
// and BIOS UUID; everything else that stands there is left out.
// It reads a handful of keys of each VM, and none outside the VCH.
func (o *Operator) List(ctx context.Context) ([]Machine, error) {
	if known, ok := o.knownMachines(); ok {
		return known, nil
	}
	markPath := vch.KeyProperty(guestinfo.AnnotationKey(identity.MarkAnnotation))
	content, err := o.members(ctx, "name", "config.uuid", "runtime.powerState", markPath)
	if err != nil {
		return nil, o.convert(err, "list the container VMs of VCH %s", o.host.Name)
	}
	var out []Machine
	for _, c := range content {
		m := Machine{Ref: c.Obj}
		var uuid, encoded string
		for _, p := range c.PropSet {
			switch p.Name {
			case "name":
				m.VM, _ = p.Val.(string)
			case "config.uuid":
				uuid, _ = p.Val.(string)
			case "runtime.powerState":
				m.PowerState, _ = p.Val.(types.VirtualMachinePowerState)
			case markPath:
				encoded = vch.KeyValue(p.Val)
			}
		}
		mark, id := o.host.Proven(encoded, uuid)
		if mark != nil && c.Obj != o.host.Appliance { // else it is somebody else's VM, which is normal here
			m.Mark, m.Identity = *mark, id
			out = append(out, m)
		}
	}
	return out, nil
}

// Read is ReadWhole for the VMs of a list.
func (o *Operator) Read(ctx context.Context, machines []Machine) (map[types.ManagedObjectReference]*VM, error) {
	refs := make([]types.ManagedObjectReference, 0, len(machines))
	for _, m := range machines {
		refs = append(refs, m.Ref)
	}
	return o.ReadWhole(ctx, refs...)
}

func (o *Operator) retrieve(ctx context.Context, specs ...types.PropertyFilterSpec) ([]types.ObjectContent, error) {
	vim := o.client.Vim()
	// Follows the tokens of a paged answer.
	return mo.RetrievePropertiesEx(ctx, vim, types.RetrievePropertiesEx{This: vim.ServiceContent.PropertyCollector, SpecSet: specs})
}

// convert gives err its kind. What vanished under our hands is Aborted, never
// NotFound: NotFound means "this machine does not exist", and only a look-up
// that was answered may say that.
func (o *Operator) convert(err error, format string, args ...any) error {
	err = vcenter.Convert(err, format, args...)
	if errdefs.Is(err, errdefs.NotFound) {
		return errdefs.Wrap(errdefs.Aborted, err, "an object vanished meanwhile")
	}
	return err
}
