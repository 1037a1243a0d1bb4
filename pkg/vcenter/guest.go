// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// ProcessManager returns vCenter's manager of processes in guests, which it asks for once. A vCenter without
// guest operations is Unimplemented.
func (c *Client) ProcessManager(ctx context.Context) (types.ManagedObjectReference, error) {
	if known := c.processes.Load(); known != nil {
		return *known, nil
	}
	guest := c.vim.ServiceContent.GuestOperationsManager
	if guest == nil {
		return types.ManagedObjectReference{}, errdefs.New(errdefs.Unimplemented, "this vCenter has no guest operations")
	}
	var m mo.GuestOperationsManager
	if err := property.DefaultCollector(c.vim).RetrieveOne(ctx, *guest, []string{"processManager"}, &m); err != nil {
		return types.ManagedObjectReference{}, Convert(err, "find the guest process manager")
	}
	if m.ProcessManager == nil {
		return types.ManagedObjectReference{}, errdefs.New(errdefs.Unimplemented, "this vCenter has no guest process manager")
	}
	c.processes.Store(m.ProcessManager)
	return *m.ProcessManager, nil
}
