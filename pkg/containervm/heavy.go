// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"context"

	"github.com/vmware/govmomi/object"
)

// heavy waits for the turn of an operation that keeps the datastore of a file busy; see
// vcenter.Client.Heavy. A datastore that the VCH does not know has no limit: vCenter
// refuses what is meant for it.
func (o *Operator) heavy(ctx context.Context, file string) (release func(), err error) {
	var p object.DatastorePath
	p.FromString(file)
	ds, ok := o.host.Datastores[p.Datastore]
	if !ok {
		return func() {}, nil
	}
	return o.client.Heavy(ctx, ds.Ref)
}
