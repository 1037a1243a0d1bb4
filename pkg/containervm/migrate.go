// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"context"
	"fmt"
	"slices"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

// MigrationPlan is what ApplyMigration would write.
type MigrationPlan struct {
	// Changes are the keys that can be written now, plain values, sorted by key.
	Changes []migration.Difference
	// Later are those that cannot, and Why says why: guest-visible keys of a VM that is not
	// powered off would not last.
	Later []migration.Difference
	Why   string
}

// PlanMigration returns what is to be written so that what is stored is what is read.
// Pure. Container data and machine data are written independently of each other,
// each whole or not at all: the former only on a VM that is powered off.
//
// The error is why the VM cannot be migrated (VM.MigrationError, or data that is newer than
// ours: FailedPrecondition); nothing is to be written then.
func PlanMigration(vm *VM) (MigrationPlan, error) {
	if err := vm.writable(); err != nil {
		return MigrationPlan{}, err
	}
	if vm.MigrationError != nil {
		return MigrationPlan{}, errdefs.Wrap(errdefs.KindOf(vm.MigrationError), vm.MigrationError, "the data of VM %q (%s) cannot be brought up to date", vm.Name, vm.Ref.Value)
	}
	all := migration.Diff(vm.Stored, vm.Keys)
	if vm.PowerState == types.VirtualMachinePowerStatePoweredOff || len(all) == 0 {
		return MigrationPlan{Changes: all}, nil
	}
	why := fmt.Sprintf("keys that the guest can see last only if they are written while the VM is off, and it is %s; power it off", vm.PowerState)
	// A key that both parts change has its value of the machine's part only after the container's.
	container := migration.Diff(vm.Stored, vm.Data.Container.Keys)
	machine := migration.Diff(vm.Data.Container.Keys, vm.Keys)
	if len(container) > 0 && overlap(container, machine) || !hidden(machine) {
		return MigrationPlan{Later: all, Why: why}, nil
	}
	plan := MigrationPlan{Changes: machine, Later: container}
	if len(container) > 0 {
		plan.Why = why
	}
	return plan, nil
}

func overlap(a, b []migration.Difference) bool {
	return slices.ContainsFunc(a, func(x migration.Difference) bool {
		return slices.ContainsFunc(b, func(y migration.Difference) bool { return x.Key == y.Key })
	})
}

// hidden reports whether all of the keys may be written while the VM is on.
func hidden(changes []migration.Difference) bool {
	keys := map[string]string{}
	for _, d := range changes {
		keys[d.Key] = ""
	}
	return len(guestinfo.PoweredOnKeys(keys)) == len(keys)
}

// ApplyMigration writes PlanMigration's Changes in one reconfigure, so that all of them are
// stored or none, with the versions that were reached. A VM that needs nothing is
// done without a call.
//
// backup is called before each attempt to write with the VM as it was read for it, and
// its plan; its error ends the operation, and nothing was written. Errors are those of
// PlanMigration; FailedPrecondition for a VM out of the scope; Unavailable while the
// VCH is being updated; Aborted when the VM vanished or others kept changing it. After
// any other error what is stored is wholly old or wholly new; repeat it to know.
//
// A power-on does not always change the changeVersion. A VM that somebody else starts between
// read and write may lose the keys that its guest sees when it goes off again; the
// version is one of them, so that it is then old data again, which is read as before.
func (o *Operator) ApplyMigration(ctx context.Context, vm *VM, scope Scope, backup func(*VM, MigrationPlan) error) (MigrationPlan, error) {
	if err := o.Proven(vm, scope); err != nil {
		return MigrationPlan{}, err
	}
	plan, err := PlanMigration(vm)
	if err != nil || len(plan.Changes) == 0 {
		return plan, err
	}
	again := o.proveAgain(scope)
	if vm, err = again(ctx, vm); err != nil {
		return MigrationPlan{}, err
	}
	_, err = o.change(ctx, vm, change{what: "migrate the data of", again: again, build: func(vm *VM) (*types.VirtualMachineConfigSpec, error) {
		var err error
		if plan, err = PlanMigration(vm); err != nil || len(plan.Changes) == 0 {
			return nil, err
		}
		if err := backup(vm, plan); err != nil {
			return nil, err
		}
		return &types.VirtualMachineConfigSpec{ExtraConfig: optionsOf(plan.Changes)}, nil
	}})
	if err != nil {
		return MigrationPlan{}, err
	}
	return plan, nil
}

// optionsOf returns differences as ExtraConfig takes them: the empty text deletes.
func optionsOf(changes []migration.Difference) []types.BaseOptionValue {
	options := map[string]string{}
	for _, d := range changes {
		options[d.Key] = ""
		if d.New != nil {
			options[d.Key] = guestinfo.OptionValues(map[string]string{d.Key: *d.New})[d.Key]
		}
	}
	return Options(options)
}
