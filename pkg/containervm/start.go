// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// Start powers the VM on, unless it is on, and waits until the tether reports
// the process. What an earlier run left is cleared first, so that it is not
// taken for an answer. A VM whose process runs is answered at once. It returns the VM with
// what its guest reported.
//
// A process that does not start is Internal, with the tether's own words; the
// VM is then off, or will be in a moment, and Start may be called again.
func (o *Operator) Start(ctx context.Context, vm *VM, now time.Time) (*VM, error) {
	if vm.Running() {
		return vm, nil
	}
	if vm.PowerState == types.VirtualMachinePowerStateSuspended {
		return nil, errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) is suspended; resume it or power it off", vm.Name, vm.Ref.Value)
	}
	if vm.PowerState == types.VirtualMachinePowerStatePoweredOff {
		if err := o.clear(ctx, vm, now); err != nil {
			return nil, err
		}
	}
	o.unlearn(vm)
	news := o.news(vm) // from before the power-on
	defer news.done()
	var powerOn *types.ManagedObjectReference
	if vm.PowerState == types.VirtualMachinePowerStatePoweredOff {
		// DRS places a VM that is powered on by itself as it places one of many.
		res, err := methods.PowerOnVM_Task(ctx, o.client.Vim(), &types.PowerOnVM_Task{This: vm.Ref})
		switch {
		case vcenter.IsInvalidPowerState(err):
			// Somebody else powered it on, perhaps.
			fresh, readErr := o.Reread(ctx, vm)
			if readErr != nil {
				return nil, readErr
			}
			if fresh.PowerState != types.VirtualMachinePowerStatePoweredOn {
				return nil, o.convert(err, "power on VM %q (%s)", vm.Name, vm.Ref.Value)
			}
		case err != nil:
			return nil, o.convert(err, "power on VM %q (%s)", vm.Name, vm.Ref.Value)
		default:
			powerOn = &res.Returnval
		}
	}
	return o.awaitStarted(ctx, vm, powerOn, news)
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

// oneLine keeps a guest's text from filling logs and events.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 512 {
		s = strings.ToValidUTF8(s[:512], "") + "…"
	}
	return s
}
