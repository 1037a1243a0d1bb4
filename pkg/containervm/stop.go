// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// killWait is the part of the grace period, at most, that a killed process group gets to end.
const killWait = 5 * time.Second

// Stop ends the VM's process: the stop signal, then, with the last quarter of
// the grace period or five seconds left, KILL to its process group; power-off
// when the grace period is over. A VM that is off is done. It never reports a
// guest that did not obey: the power-off has the last word.
//
// An empty signal is the one that the VM was made with, which its image may have set.
func (o *Operator) Stop(ctx context.Context, vm *VM, signal string, grace time.Duration) error {
	if vm.PowerState == types.VirtualMachinePowerStatePoweredOff {
		return nil
	}
	if signal == "" {
		signal = vm.stopSignal()
	}
	if vm.PowerState == types.VirtualMachinePowerStatePoweredOn && grace > 0 {
		last := min(killWait, grace/4)
		for _, step := range []struct {
			program, argument string
			wait              time.Duration
		}{{"kill", signal, grace - last}, {"group-kill", "KILL", last}} {
			off, err := o.signal(ctx, vm, step.program, step.argument, step.wait)
			if off {
				return nil
			}
			if ctx.Err() != nil {
				return o.convert(errors.Join(ctx.Err(), err), "stop VM %q (%s)", vm.Name, vm.Ref.Value)
			}
			if err != nil {
				// The signal may have arrived all the same, and the power-off below ends what goes on (VIC, lib/portlayer/exec/base.go:295-423).
				klog.FromContext(ctx).V(1).Info("guest did not take the stop program", "vm", vm.Ref.Value, "program", step.program, "reason", err.Error())
				break
			}
		}
	}
	return o.powerOff(ctx, vm)
}

// signal runs one of the tether's programs and waits for the VM to go off.
func (o *Operator) signal(ctx context.Context, vm *VM, program, argument string, limit time.Duration) (off bool, err error) {
	manager, err := o.processManager(ctx)
	if err != nil {
		return false, err
	}
	_, err = methods.StartProgramInGuest(ctx, o.client.Vim(), &types.StartProgramInGuest{
		This: manager, Vm: vm.Ref,
		// The tether knows one user, the container id, and no password (VIC, lib/tether/toolbox.go:127-145).
		Auth: &types.NamePasswordAuthentication{Username: vm.containerID()},
		Spec: &types.GuestProgramSpec{ProgramPath: program, Arguments: argument},
	})
	if err != nil {
		return false, vcenter.Convert(err, "run %s %s in VM %q (%s)", program, argument, vm.Name, vm.Ref.Value)
	}
	waitCtx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = o.client.Until(waitCtx, []types.PropertyFilterSpec{{
		ObjectSet: []types.ObjectSpec{{Obj: vm.Ref}},
		PropSet:   []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{"runtime.powerState"}}},
	}}, func(updates []types.ObjectUpdate) (bool, error) {
		for _, u := range updates {
			for _, c := range u.ChangeSet {
				off = off || c.Val == types.VirtualMachinePowerStatePoweredOff
			}
		}
		return off, nil
	})
	if err != nil && ctx.Err() == nil && errors.Is(waitCtx.Err(), context.DeadlineExceeded) {
		return false, nil // the next, harder step follows
	}
	return off, err
}

func (o *Operator) processManager(ctx context.Context) (types.ManagedObjectReference, error) {
	guest := o.client.Vim().ServiceContent.GuestOperationsManager
	if guest == nil {
		return types.ManagedObjectReference{}, errdefs.New(errdefs.Unimplemented, "this vCenter has no guest operations")
	}
	var m mo.GuestOperationsManager
	if err := property.DefaultCollector(o.client.Vim()).RetrieveOne(ctx, *guest, []string{"processManager"}, &m); err != nil {
		return types.ManagedObjectReference{}, vcenter.Convert(err, "find the guest process manager")
	}
	if m.ProcessManager == nil {
		return types.ManagedObjectReference{}, errdefs.New(errdefs.Unimplemented, "this vCenter has no guest process manager")
	}
	return *m.ProcessManager, nil
}

func (o *Operator) powerOff(ctx context.Context, vm *VM) error {
	res, err := methods.PowerOffVM_Task(ctx, o.client.Vim(), &types.PowerOffVM_Task{This: vm.Ref})
	if err == nil {
		err = o.await(ctx, res.Returnval)
	}
	if vcenter.IsInvalidPowerState(err) {
		// It went off by itself, perhaps; what follows must not meet a running VM.
		fresh, readErr := o.Reread(ctx, vm)
		if readErr != nil {
			return readErr
		}
		if fresh.PowerState == types.VirtualMachinePowerStatePoweredOff {
			return nil
		}
	}
	return o.convert(err, "power off VM %q (%s)", vm.Name, vm.Ref.Value)
}

// Abandon powers a VM off whose process did not start in time, so that the next
// Start begins anew instead of waiting for a guest that hangs.
func (o *Operator) Abandon(ctx context.Context, vm *VM) error { return o.powerOff(ctx, vm) }

// RecordStop notes in a VM that is off that it was stopped on purpose, as VIC
// does: the time, and no "started" of the run that ended (lib/portlayer/exec/handle.go:211-215).
func (o *Operator) RecordStop(ctx context.Context, vm *VM, now time.Time) error {
	fresh, err := o.Reread(ctx, vm) // what the guest wrote while it stopped must survive
	if err != nil {
		return err
	}
	_, err = o.reconfigure(ctx, fresh, "record the stop of", func(vm *VM) *types.VirtualMachineConfigSpec {
		if vm.PowerState != types.VirtualMachinePowerStatePoweredOff || vm.Started() == "" {
			return nil
		}
		id := vm.containerID()
		return &types.VirtualMachineConfigSpec{ExtraConfig: Options(guestinfo.OptionValues(map[string]string{
			guestinfo.StartedKey(id):  "",
			guestinfo.StopTimeKey(id): strconv.FormatInt(now.Unix(), 10),
		}))}
	})
	return err
}
