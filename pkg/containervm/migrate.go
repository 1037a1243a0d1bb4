// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"context"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
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
	return MigrationPlan{}, errdefs.New(errdefs.Unimplemented, "TODO")
}

// ApplyMigration writes PlanMigration's Changes in one reconfigure, so that all of them are
// stored or none, with the versions that were reached. A VM that needs nothing is
// done without a call.
//
// backup is called before each attempt to write with the VM as it was read for it, and
// its plan; its error ends the operation, and nothing was written. Errors are those of
// PlanMigration; FailedPrecondition for a VM out of the scope; Unavailable while the
// VCH is being updated; Aborted when the VM vanished or others kept changing it.
func (o *Operator) ApplyMigration(ctx context.Context, vm *VM, scope Scope, backup func(*VM, MigrationPlan) error) (MigrationPlan, error) {
	return MigrationPlan{}, errdefs.New(errdefs.Unimplemented, "TODO")
}
