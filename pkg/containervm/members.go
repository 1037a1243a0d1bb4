// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"context"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
)

// Member is one line of Members: a container VM of the VCH, whoever made it.
type Member struct {
	Ref types.ManagedObjectReference
	// VM is the display name, Name the container's, wherever its data version has that.
	VM, Name string
	// ContainerID is not empty.
	ContainerID string
	// Mark is nil for a VM that is no machine of this provider.
	Mark       *identity.Mark
	PowerState types.VirtualMachinePowerState
}

// Members returns the container VMs that stand among those of the VCH, sorted by
// display name, in one call (more only when vCenter pages its answer). It reads a
// handful of keys of each VM, and none outside the VCH.
func (o *Operator) Members(ctx context.Context) ([]Member, error) {
	return nil, errdefs.New(errdefs.Unimplemented, "TODO")
}

// ReadWhole reads VMs whole, in one call. VMs that vanished meanwhile are left out.
func (o *Operator) ReadWhole(ctx context.Context, refs ...types.ManagedObjectReference) (map[types.ManagedObjectReference]*VM, error) {
	return nil, errdefs.New(errdefs.Unimplemented, "TODO")
}

// Scope says which container VMs an operation for people may change.
type Scope int

// The scopes.
const (
	// Machines are those with the full mark of this provider, at the right place and with the right ids.
	Machines Scope = iota
	// Containers are all container VMs that provably belong to the VCH, docker's too: by
	// place, container id, and the BIOS UUID that follows from both. Never its appliance.
	Containers
)

// Proven returns nil if vm is within the scope, else FailedPrecondition with the reason.
func (o *Operator) Proven(vm *VM, scope Scope) error {
	return errdefs.New(errdefs.Unimplemented, "TODO")
}
