// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"context"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// Create makes the VM in the VCH's folder and pool and waits for it. The VM is
// there complete and marked, or not at all.
//
// AlreadyExists: a VM of that display name or files of that path exist; it may
// be the machine's own, made by a call that was cut off. A missing image disk,
// ISO or disk of a volume is FailedPrecondition, and vcenter.IsFileNotFound tells it from others.
func (o *Operator) Create(ctx context.Context, spec *types.VirtualMachineConfigSpec) error {
	release, err := o.heavy(ctx, spec.Files.VmPathName)
	if err != nil {
		return o.convert(err, "create VM %q in VCH %s", spec.Name, o.host.Name)
	}
	defer release()
	task, err := o.createTask(ctx, spec)
	if err == nil {
		err = o.await(ctx, task)
	}
	if vcenter.IsFileNotFound(err) {
		// vCenter does not say which file it is.
		return errdefs.Wrap(errdefs.FailedPrecondition, err, "create VM %q: one of these does not exist: the image disk (%s), the VCH's bootstrap ISO %s%s", spec.Name, parentIn(spec), o.host.BootstrapISO, volumesIn(spec))
	}
	if err != nil {
		return o.convert(err, "create VM %q in VCH %s", spec.Name, o.host.Name)
	}
	return nil
}

// parentIn says for people what the root disk of a plan is a child of, with the
// field of the provider spec that it follows from.
func parentIn(spec *types.VirtualMachineConfigSpec) string {
	field := "rootDisk.vmdk"
	if guestinfo.FromOptionValue(vch.Keys(spec.ExtraConfig)[guestinfo.ImageIDKey]) != "" {
		field = "image"
	}
	for _, c := range spec.DeviceChange {
		if d, ok := c.GetVirtualDeviceConfigSpec().Device.(*types.VirtualDisk); ok {
			if files, _ := vcenter.DiskChain(d.Backing); len(files) > 1 {
				return field + ": " + files[1]
			}
		}
	}
	return field
}

// volumesIn lists for people the disks of volumes in a plan.
func volumesIn(spec *types.VirtualMachineConfigSpec) string {
	var disks []string
	for _, c := range spec.DeviceChange {
		if d, ok := c.GetVirtualDeviceConfigSpec().Device.(*types.VirtualDisk); ok && independent(d) {
			files, _ := vcenter.DiskChain(d.Backing)
			disks = append(disks, files...)
		}
	}
	if len(disks) == 0 {
		return ""
	}
	return ", disks of volumes (" + strings.Join(disks, ", ") + ")"
}

func (o *Operator) createTask(ctx context.Context, spec *types.VirtualMachineConfigSpec) (types.ManagedObjectReference, error) {
	vim := o.client.Vim()
	if o.host.Pool.Type == "VirtualApp" {
		// VCHs of old releases live in a vApp (VIC, lib/portlayer/exec/commit.go:33-105).
		res, err := methods.CreateChildVM_Task(ctx, vim, &types.CreateChildVM_Task{This: o.host.Pool, Config: *spec})
		if err != nil {
			return types.ManagedObjectReference{}, err
		}
		return res.Returnval, nil
	}
	res, err := methods.CreateVM_Task(ctx, vim, &types.CreateVM_Task{This: o.host.Folder, Config: *spec, Pool: o.host.Pool})
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	return res.Returnval, nil
}

// retries bounds how often a change is tried again from a fresh read.
func retries() wait.Backoff {
	return wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 6}
}

// change is a change of a VM's configuration.
type change struct {
	// what says what is done, for people: "rename".
	what string
	// again reads the VM again and proves anew that it may be changed.
	again func(context.Context, *VM) (*VM, error)
	// build says what is to be changed of a VM as it was read; nil: nothing, any more. Its error
	// ends the change, and is answered as it is.
	build func(*VM) (*types.VirtualMachineConfigSpec, error)
}

// reconfigure is change for a VM that was found as ours.
func (o *Operator) reconfigure(ctx context.Context, vm *VM, what string, build func(*VM) *types.VirtualMachineConfigSpec) (*VM, error) {
	return o.change(ctx, vm, change{what: what, again: o.Reread, build: func(vm *VM) (*types.VirtualMachineConfigSpec, error) { return build(vm), nil }})
}

// change changes the VM with the changeVersion of the read that the change
// follows from. When somebody else was faster (ConcurrentAccess, InvalidState,
// TaskInProgress) it reads again, asks build again, and repeats; Aborted in the
// end. Data that is newer than ours is not changed. It returns the VM as it was read last.
func (o *Operator) change(ctx context.Context, vm *VM, c change) (*VM, error) {
	var last, refused error
	err := wait.ExponentialBackoffWithContext(ctx, retries(), func(ctx context.Context) (bool, error) {
		if last != nil {
			fresh, err := c.again(ctx, vm)
			if err != nil {
				return false, err
			}
			vm = fresh
		}
		if refused = vm.writable(); refused != nil {
			return false, refused
		}
		var spec *types.VirtualMachineConfigSpec
		if spec, refused = c.build(vm); spec == nil || refused != nil {
			return true, refused
		}
		spec.ChangeVersion = vm.ChangeVersion
		o.unlearn(vm)
		last = o.reconfigureOnce(ctx, vm.Ref, spec)
		if vcenter.IsConcurrent(last) {
			return false, nil
		}
		return true, last
	})
	if refused != nil {
		return vm, refused
	}
	if wait.Interrupted(err) && last != nil && ctx.Err() == nil {
		err = last
	}
	return vm, o.convert(err, "%s VM %q (%s)", c.what, vm.Name, vm.Ref.Value)
}

func (o *Operator) reconfigureOnce(ctx context.Context, ref types.ManagedObjectReference, spec *types.VirtualMachineConfigSpec) error {
	res, err := methods.ReconfigVM_Task(ctx, o.client.Vim(), &types.ReconfigVM_Task{This: ref, Spec: *spec})
	if err != nil {
		return err
	}
	return o.await(ctx, res.Returnval)
}

// Reread reads a VM that was ours again, within an operation that was allowed to
// begin; what was proven of it is proven anew by mark and UUID.
func (o *Operator) Reread(ctx context.Context, vm *VM) (*VM, error) {
	f, err := o.readAgain(ctx, vm, false)
	if err != nil {
		return nil, err
	}
	if f.mark == nil || vm.mark == nil || !f.mark.Owns(*vm.mark) || f.UUID != vm.UUID {
		return nil, errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) is not touched any more: its mark or BIOS UUID was changed meanwhile", vm.Name, vm.Ref.Value)
	}
	return f, nil
}

func (o *Operator) readAgain(ctx context.Context, vm *VM, change bool) (*VM, error) {
	vms, err := o.read(ctx, []types.ManagedObjectReference{vm.Ref}, change)
	if err != nil {
		return nil, err
	}
	if len(vms) != 1 {
		return nil, errdefs.New(errdefs.Aborted, "VM %q (%s) vanished meanwhile", vm.Name, vm.Ref.Value)
	}
	return vms[0], nil
}
