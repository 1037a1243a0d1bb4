// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/klog/v2"

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
	o.unlearn(vm)
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
	manager, err := o.client.ProcessManager(ctx)
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
	err = o.awaitOff(waitCtx, vm)
	if err != nil && ctx.Err() == nil && errors.Is(waitCtx.Err(), context.DeadlineExceeded) {
		return false, nil // the next, harder step follows
	}
	return err == nil, err
}

// awaitOff waits for a VM to go off.
func (o *Operator) awaitOff(ctx context.Context, vm *VM) error {
	news := o.news(vm)
	defer news.done()
	for pause := news.pause(0); ; pause = news.pause(pause) {
		off, err := o.isOff(ctx, vm, news)
		if off || err != nil {
			return o.convert(err, "wait for VM %q (%s) to go off", vm.Name, vm.Ref.Value)
		}
		timer := time.NewTimer(pause)
		select {
		case <-news.changes:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return vcenter.Convert(ctx.Err(), "wait for VM %q (%s) to go off", vm.Name, vm.Ref.Value)
		}
	}
}

// isOff asks the view, and vCenter where that does not know.
func (o *Operator) isOff(ctx context.Context, vm *VM, news *news) (bool, error) {
	if news.view != nil {
		if seen, ok := news.view.Seen(vm.Ref); ok {
			return seen.Power == types.VirtualMachinePowerStatePoweredOff, nil
		}
	}
	props, err := o.lookAt(ctx, vm.Ref, []string{"runtime.powerState"})
	for _, p := range props {
		if p.Val == types.VirtualMachinePowerStatePoweredOff {
			return true, err
		}
	}
	return false, err
}

func (o *Operator) powerOff(ctx context.Context, vm *VM) error {
	o.unlearn(vm)
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
