// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"context"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

// PlanRestore returns what is to be written to undo what a migration changed: Old is what is
// stored, New what is put back. Keys that have their old value already need nothing. Pure.
//
// FailedPrecondition: keys have neither the value that the migration wrote nor the one
// before, and are named; or a key is visible to the guest, and the VM is not powered off.
func PlanRestore(vm *VM, changes []migration.Difference) ([]migration.Difference, error) {
	var plan []migration.Difference
	var foreign, visible []string
	for _, c := range changes {
		var stored *string
		if value, there := vm.Stored[c.Key]; there {
			stored = &value
		}
		switch {
		case sameText(stored, c.Old):
		case !sameText(stored, c.New):
			foreign = append(foreign, strconv.Quote(c.Key))
		default:
			plan = append(plan, migration.Difference{Key: c.Key, Old: stored, New: c.Old})
			if len(guestinfo.PoweredOnKeys(map[string]string{c.Key: ""})) == 0 {
				visible = append(visible, strconv.Quote(c.Key))
			}
		}
	}
	refuse := func(format string, args ...any) ([]migration.Difference, error) {
		return nil, errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) is not restored: "+format, append([]any{vm.Name, vm.Ref.Value}, args...)...)
	}
	switch {
	case len(foreign) > 0:
		return refuse("keys were changed after the migration: %s", strings.Join(foreign, ", "))
	case len(visible) > 0 && vm.PowerState != types.VirtualMachinePowerStatePoweredOff:
		return refuse("it is %s, and these keys, which its guest sees, would not last: %s; power it off first", vm.PowerState, strings.Join(visible, ", "))
	}
	return plan, nil
}

func sameText(a, b *string) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }

// RestoreMigration carries PlanRestore out in one reconfigure, so that all of it is undone or
// nothing, and returns what it wrote: nothing if all keys have their old values.
//
// Errors are those of PlanRestore; FailedPrecondition for a VM out of the scope; Unavailable
// while the VCH is being updated; Aborted when the VM vanished or others kept
// changing it. After any other error it is wholly undone or not at all; repeat it to know.
func (o *Operator) RestoreMigration(ctx context.Context, vm *VM, scope Scope, changes []migration.Difference) ([]migration.Difference, error) {
	again := o.proveAgain(scope)
	vm, err := again(ctx, vm)
	if err != nil {
		return nil, err
	}
	var written []migration.Difference
	_, err = o.change(ctx, vm, change{what: "restore the data of", again: again, build: func(vm *VM) (*types.VirtualMachineConfigSpec, error) {
		plan, err := PlanRestore(vm, changes)
		if err != nil || len(plan) == 0 { // or an earlier attempt did it whose answer was lost
			return nil, err
		}
		written = plan
		return &types.VirtualMachineConfigSpec{ExtraConfig: optionsOf(plan)}, nil
	}})
	if err != nil {
		return nil, err
	}
	return written, nil
}
