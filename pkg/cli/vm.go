// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// vmFlags name one VM of a vCenter.
type vmFlags struct {
	connection  connectionFlags
	name        string
	showSecrets bool
}

func (f *vmFlags) add(cmd *cobra.Command) {
	f.connection.add(cmd)
	cmd.Flags().StringVar(&f.name, "vm", "", "take the keys of this VM: its name, inventory path or moref")
	cmd.Flags().BoolVar(&f.showSecrets, "show-secrets", false, "with --vm: show environment values, keys and tokens too")
}

// keys reads the VM's keys.
func (f *vmFlags) keys(ctx context.Context, opts Options) (keys map[string]string, err error) {
	err = f.connection.client(ctx, opts, func(ctx context.Context, client *vcenter.Client) error {
		ref, err := findVM(ctx, client, f.name)
		if err != nil {
			return err
		}
		keys, err = readKeysOf(ctx, client, ref)
		return err
	})
	if err != nil {
		return nil, err
	}
	_, container := keys[guestinfo.CommonIDKey]
	_, appliance := keys[guestinfo.VCHIDKey]
	if !container && !appliance {
		return nil, errdefs.New(errdefs.FailedPrecondition, "VM %q is neither a container VM nor a VCH: it has neither %s nor %s", f.name, guestinfo.CommonIDKey, guestinfo.VCHIDKey)
	}
	return keys, nil
}
