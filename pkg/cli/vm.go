// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// vmFlags name one VM of a vCenter.
type vmFlags struct {
	connection  connectionFlags
	name        string
	showSecrets bool
	stored      bool
}

func (f *vmFlags) add(cmd *cobra.Command) {
	f.connection.add(cmd)
	cmd.Flags().StringVar(&f.name, "vm", "", "take the keys of this VM: its name, inventory path or moref")
	cmd.Flags().BoolVar(&f.showSecrets, "show-secrets", false, "with --vm: show environment values, keys and tokens too")
	cmd.Flags().BoolVar(&f.stored, "stored", false, "with --vm: the data as it is stored, not as it is read; see vchctl migrate")
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
	if f.stored {
		return keys, nil
	}
	return f.migrated(opts, keys, appliance)
}

// migrated returns the keys as programs of today read them. What cannot be migrated is
// shown as far as it came, with a note.
func (f *vmFlags) migrated(opts Options, stored map[string]string, appliance bool) (map[string]string, error) {
	target := migration.Container
	if appliance {
		target = migration.Appliance
	}
	outcomes, err := migrateKeys(opts.migrations(), target, guestinfo.FromOptionValues(stored))
	if err != nil {
		err = note(opts, "The data of VM %q is shown as far as it could be migrated: %s", f.name, err)
	}
	for _, o := range outcomes {
		if o.Newer {
			err = errors.Join(err, note(opts, "The %s data of VM %q is of version %d, newer than this program: it is shown as far as it is known.", o.Target, f.name, o.From))
		}
	}
	return outcomes[len(outcomes)-1].Keys, err
}
