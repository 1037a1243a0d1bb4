// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// RenameTask renames a VM as its reconfiguration does, which is what vCenter makes of
// it: vcsim would change no more than the name in the inventory. Other entities are vcsim's.
func (o *overrides) RenameTask(ctx *simulator.Context, req *types.Rename_Task) soap.HasFault {
	res, ok := o.ReconfigVMTask(ctx, &types.ReconfigVM_Task{This: req.This, Spec: types.VirtualMachineConfigSpec{Name: req.NewName}}).(*methods.ReconfigVM_TaskBody)
	if !ok || res.Res == nil {
		return &methods.Rename_TaskBody{Fault_: res.Fault()}
	}
	return &methods.Rename_TaskBody{Res: &types.Rename_TaskResponse{Returnval: res.Res.Returnval}}
}

// refuseName returns the fault of giving a VM a name that another entity in its folder
// has. The caller holds the VM's lock under ctx.
func (o *overrides) refuseName(ctx *simulator.Context, vm *simulator.VirtualMachine, name string) types.BaseMethodFault {
	if name == "" || vm.Parent == nil {
		return nil // it stays, or the VM is in a vApp, where names need not be unique
	}
	for _, child := range o.children(ctx, *vm.Parent) {
		if child != vm.Self && o.entityName(ctx, child) == name {
			return &types.DuplicateName{Name: name, Object: child}
		}
	}
	return nil
}

// publishName tells who waits for it that a VM is renamed: vcsim changes the fields
// and says nothing. Files stay where they are. The caller holds the VM's lock under ctx.
func publishName(ctx *simulator.Context, vm *simulator.VirtualMachine, name string) {
	if name == "" || name == vm.Name {
		return
	}
	ctx.Update(vm, []types.PropertyChange{
		{Name: "name", Val: name},
		{Name: "config.name", Val: name},
		{Name: "summary.config.name", Val: name},
	})
}

// withoutEmpty drops keys to be deleted that are not there: vcsim would make them.
func withoutEmpty(there, wanted []types.BaseOptionValue) []types.BaseOptionValue {
	return slices.DeleteFunc(slices.Clone(wanted), func(w types.BaseOptionValue) bool {
		text, ok := w.GetOptionValue().Value.(string)
		return ok && text == "" && !slices.ContainsFunc(there, func(t types.BaseOptionValue) bool {
			return t.GetOptionValue().Key == w.GetOptionValue().Key
		})
	})
}
