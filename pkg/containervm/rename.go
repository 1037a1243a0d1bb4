// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"context"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Renamed is what Rename did.
type Renamed struct {
	// VM is the VM as it was read last before the change; Display the display name that it has now.
	VM      *VM
	Display string
	// Links are container VMs of the VCH that know the VM by its old name (docker run --link), by
	// their display names: their own configuration is not changed.
	Links []string
}

// Rename gives a container VM a new name, in one reconfigure: the display name by the
// VCH's name convention, the hidden name, and the VM's own aliases in its networks. It
// works on running VMs, too. The directory on the datastore, the host name and the
// identity of a machine stay. A VM that has the name already is done; a display
// name that somebody changed by hand is mended.
//
// InvalidArgument: the name is none (VIC: [a-zA-Z0-9][a-zA-Z0-9_.-]+). FailedPrecondition: the
// VM is outside of the scope, its stored data version is below that of
// migration.Rename or newer than ours, or an update of the VCH is under way
// (Unavailable). AlreadyExists: a container VM of the VCH has the name; if two renames to one name
// meet, none of them, or one, succeeds. Aborted: the VM vanished, or others kept changing it.
func (o *Operator) Rename(ctx context.Context, vm *VM, name string, scope Scope) (Renamed, error) {
	return Renamed{}, errdefs.New(errdefs.Unimplemented, "TODO")
}
