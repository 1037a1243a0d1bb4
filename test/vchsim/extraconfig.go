// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// setExtraConfig writes keys as the guest or VIC would, and publishes them like
// vSphere: each key and the whole list. The version of the configuration
// changes, so that a reconfigure that read before this one is refused. The
// caller holds the VM's lock under ctx.
func setExtraConfig(ctx *simulator.Context, vm *simulator.VirtualMachine, keys map[string]string) {
	list := slices.Clone(vm.Config.ExtraConfig)
	var changes []types.PropertyChange
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		option := &types.OptionValue{Key: key, Value: keys[key]}
		op := types.PropertyChangeOpAssign
		i := slices.IndexFunc(list, func(o types.BaseOptionValue) bool { return o.GetOptionValue().Key == key })
		if i < 0 {
			op = types.PropertyChangeOpAdd
			list = append(list, option)
		} else {
			list[i] = option
		}
		field := mo.Field{Path: "config.extraConfig", Key: key}
		changes = append(changes, types.PropertyChange{Name: field.String(), Val: option, Op: op})
	}
	ctx.Update(vm, append(changes,
		types.PropertyChange{Name: "config.extraConfig", Val: list},
		types.PropertyChange{Name: "config.changeVersion", Val: strconv.FormatInt(time.Now().UnixNano(), 10)},
	))
}

// extraConfig returns a VM's string options, "<nil>" as "". The caller holds the VM's lock.
func extraConfig(vm *mo.VirtualMachine) map[string]string {
	keys := map[string]string{}
	if vm.Config == nil {
		return keys
	}
	for _, o := range object.OptionValueList(vm.Config.ExtraConfig) {
		option := o.GetOptionValue()
		if value, ok := option.Value.(string); ok {
			if value == "<nil>" {
				value = ""
			}
			keys[option.Key] = value
		}
	}
	return keys
}

// setPower changes the power state without a task, as a guest does that ends
// itself. The caller holds the VM's lock under ctx.
func setPower(ctx *simulator.Context, vm *simulator.VirtualMachine, state types.VirtualMachinePowerState) {
	ctx.Update(vm, []types.PropertyChange{
		{Name: "runtime.powerState", Val: state},
		{Name: "summary.runtime.powerState", Val: state},
	})
}

// setTools publishes whether the toolbox in the guest answers. The caller holds
// the VM's lock under ctx.
func setTools(ctx *simulator.Context, vm *simulator.VirtualMachine, up bool) {
	status, running := types.VirtualMachineToolsStatusToolsNotRunning, types.VirtualMachineToolsRunningStatusGuestToolsNotRunning
	if up {
		status, running = types.VirtualMachineToolsStatusToolsOk, types.VirtualMachineToolsRunningStatusGuestToolsRunning
	}
	ctx.Update(vm, []types.PropertyChange{
		{Name: "guest.toolsStatus", Val: status},
		{Name: "guest.toolsRunningStatus", Val: string(running)},
		{Name: "guest.guestOperationsReady", Val: up},
	})
}

func lockedPowerOn(ctx *simulator.Context, vm *simulator.VirtualMachine) soap.HasFault {
	var res soap.HasFault
	ctx.WithLock(vm, func() { res = vm.PowerOnVMTask(ctx, &types.PowerOnVM_Task{This: vm.Self}) })
	if res == nil {
		return &methods.PowerOnVM_TaskBody{Fault_: simulator.Fault("power on "+vm.Self.Value, new(types.InvalidState))}
	}
	return res
}

// list splits a key that holds a list of map keys.
func list(value string) []string {
	if value == "" {
		return nil
	}
	return strings.Split(value, "|")
}
