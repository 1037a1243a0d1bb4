// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// Start powers the VM on, unless it is on, and waits until the tether reports
// the process. What an earlier run left is cleared first, so that it is not
// taken for an answer. A VM whose process runs is answered at once.
//
// A process that does not start is Internal, with the tether's own words; the
// VM is then off, or will be in a moment, and Start may be called again.
func (o *Operator) Start(ctx context.Context, vm *VM, now time.Time) error {
	if vm.Running() {
		return nil
	}
	if vm.PowerState == types.VirtualMachinePowerStateSuspended {
		return errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) is suspended; resume it or power it off", vm.Name, vm.Ref.Value)
	}
	var powerOn *types.ManagedObjectReference
	if vm.PowerState == types.VirtualMachinePowerStatePoweredOff {
		if err := o.clear(ctx, vm, now); err != nil {
			return err
		}
		// DRS places a VM that is powered on by itself as it places one of many.
		res, err := methods.PowerOnVM_Task(ctx, o.client.Vim(), &types.PowerOnVM_Task{This: vm.Ref})
		switch {
		case vcenter.IsInvalidPowerState(err):
			// Somebody else powered it on, perhaps.
			fresh, readErr := o.Reread(ctx, vm)
			if readErr != nil {
				return readErr
			}
			if fresh.PowerState != types.VirtualMachinePowerStatePoweredOn {
				return o.convert(err, "power on VM %q (%s)", vm.Name, vm.Ref.Value)
			}
		case err != nil:
			return o.convert(err, "power on VM %q (%s)", vm.Name, vm.Ref.Value)
		default:
			powerOn = &res.Returnval
		}
	}
	return o.awaitStarted(ctx, vm, powerOn)
}

// clear resets what the last run of the process left, as VIC does before each
// power-on (lib/portlayer/exec/handle.go:204-210). A VM that never ran needs none.
func (o *Operator) clear(ctx context.Context, vm *VM, now time.Time) error {
	if vm.fresh() {
		return nil
	}
	_, err := o.reconfigure(ctx, vm, "prepare the start of", func(vm *VM) *types.VirtualMachineConfigSpec {
		if vm.PowerState != types.VirtualMachinePowerStatePoweredOff {
			return nil // values written to a running VM would not last
		}
		id := vm.containerID()
		return &types.VirtualMachineConfigSpec{ExtraConfig: Options(guestinfo.OptionValues(map[string]string{
			guestinfo.StartedKey(id):   "",
			guestinfo.StatusKey(id):    "0",
			guestinfo.StartTimeKey(id): strconv.FormatInt(now.Unix(), 10),
			guestinfo.StopTimeKey(id):  "0",
		}))}
	})
	return err
}

// progress is what the wait for a start has seen so far.
type progress struct {
	task  types.TaskInfoState
	fault *types.LocalizedMethodFault
	power types.VirtualMachinePowerState
	start string
	wasOn bool
}

// awaitStarted watches the power-on task and the VM in one wait.
func (o *Operator) awaitStarted(ctx context.Context, vm *VM, powerOn *types.ManagedObjectReference) error {
	key := vch.KeyProperty(guestinfo.StartedKey(vm.containerID()))
	specs := []types.PropertyFilterSpec{{
		ObjectSet: []types.ObjectSpec{{Obj: vm.Ref}},
		PropSet:   []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{"runtime.powerState", key}}},
	}}
	p := progress{task: types.TaskInfoStateSuccess, wasOn: powerOn == nil}
	if powerOn != nil {
		p.task = types.TaskInfoStateQueued
		specs = append(specs, types.PropertyFilterSpec{
			ObjectSet: []types.ObjectSpec{{Obj: *powerOn}},
			PropSet:   []types.PropertySpec{{Type: "Task", PathSet: []string{"info.state", "info.error"}}},
		})
	}
	err := o.client.Until(ctx, specs, func(updates []types.ObjectUpdate) (bool, error) {
		for _, u := range updates {
			for _, c := range u.ChangeSet {
				p.note(c, key)
			}
		}
		return p.judge(vm)
	})
	return o.convert(err, "wait for the start of VM %q (%s)", vm.Name, vm.Ref.Value)
}

func (p *progress) note(c types.PropertyChange, startedProperty string) {
	switch v := c.Val.(type) {
	case types.TaskInfoState:
		p.task = v
	case types.LocalizedMethodFault:
		p.fault = &v
	case types.VirtualMachinePowerState:
		p.power = v
		p.wasOn = p.wasOn || v == types.VirtualMachinePowerStatePoweredOn
	default:
		if c.Name == startedProperty {
			p.start = vch.KeyValue(c.Val)
		}
	}
}

// judge says whether the wait is over. The text may arrive before or after the
// power state; a VM that was on and is off without one gave up on its own.
func (p *progress) judge(vm *VM) (bool, error) {
	switch {
	case p.task == types.TaskInfoStateError && p.fault != nil:
		return false, vcenter.Convert(task.Error{LocalizedMethodFault: p.fault}, "power on VM %q (%s)", vm.Name, vm.Ref.Value)
	case p.start == guestinfo.StartedTrue && p.power == types.VirtualMachinePowerStatePoweredOn:
		return true, nil
	case p.start != "" && p.start != guestinfo.StartedTrue:
		return false, errdefs.New(errdefs.Internal, "the process of VM %q (%s) does not start: the guest says: %s", vm.Name, vm.Ref.Value, oneLine(p.start))
	case p.wasOn && p.power == types.VirtualMachinePowerStatePoweredOff:
		return false, errdefs.New(errdefs.Internal, "VM %q (%s) powered itself off before its process started; see tether.debug and output.log in its directory %s", vm.Name, vm.Ref.Value, vm.VMX)
	}
	return false, nil
}

// oneLine keeps a guest's text from filling logs and events.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 512 {
		s = strings.ToValidUTF8(s[:512], "") + "…"
	}
	return s
}
