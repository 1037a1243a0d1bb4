// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vsphere"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

func imageCommand(opts Options) *cobra.Command {
	return group("image", "Keep the image disks that machines are made from",
		imagePullCommand(opts), imageListCommand(opts), imageInspectCommand(opts), imageRemoveCommand(opts), imagePruneCommand(opts))
}

// imageDisk is an image disk as the commands show it. The JSON names are for
// scripts: they stay.
type imageDisk struct {
	image.Disk
	// Users are the VMs whose disk chains have it, or may have.
	Users []image.User `json:"users"`
	// Store is where it is kept, VCHs are those that keep their images there, as
	// far as the command looked.
	Store string   `json:"store"`
	VCHs  []string `json:"vchs"`
}

// imageFlags are what all image commands have.
type imageFlags struct{ hostFlags }

// removalTimeout leaves time for the wait of a removal, and a slow datastore.
const removalTimeout = 15 * time.Minute

// checkWait refuses a time limit that a removal cannot keep.
func (f *imageFlags) checkWait(opts Options) error {
	if f.connection.timeout <= opts.settle() {
		return errdefs.New(errdefs.InvalidArgument, "--timeout must be longer than %s, which a removal waits, got %s", opts.settle(), f.connection.timeout)
	}
	return nil
}

// store runs fn with the image store of the one VCH that the flags select.
func (f *imageFlags) store(ctx context.Context, opts Options, fn func(context.Context, *vch.Config, image.Store) error) error {
	return f.host(ctx, opts, func(ctx context.Context, client *vcenter.Client, host *vch.Config) error {
		return fn(ctx, host, imageStoreOf(opts, client, host))
	})
}

// imageStoreOf returns the image store of a VCH.
func imageStoreOf(opts Options, client *vcenter.Client, host *vch.Config) image.Store {
	if opts.ImageStore != nil {
		return opts.ImageStore(client, host)
	}
	return vsphere.New(vsphere.Options{Client: client, Host: host, Owner: opts.Owner, Clock: opts.clock(), Settle: opts.settle()})
}

// withUsers adds to disks of one store who uses them, in one look at vCenter.
func withUsers(ctx context.Context, store image.Store, disks []image.Disk, vchs ...string) ([]imageDisk, error) {
	users := map[image.Key][]image.User{}
	if len(disks) > 0 {
		var err error
		if users, err = store.Users(ctx, keysOf(disks)...); err != nil {
			return nil, err
		}
	}
	out := make([]imageDisk, 0, len(disks))
	for _, disk := range disks {
		disk.Names = append([]string{}, disk.Names...)
		out = append(out, imageDisk{Disk: disk, Users: append([]image.User{}, users[disk.Key]...), Store: store.String(), VCHs: vchs})
	}
	return out, nil
}

func keysOf(disks []image.Disk) []image.Key {
	keys := make([]image.Key, 0, len(disks))
	for _, disk := range disks {
		if !slices.Contains(keys, disk.Key) {
			keys = append(keys, disk.Key)
		}
	}
	return keys
}
