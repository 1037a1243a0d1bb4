// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

func imageListCommand(opts Options) *cobra.Command {
	var flags imageFlags
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the image disks of one or all VCHs",
		Long: `List the image disks of one or all VCHs, and how many VMs use each.

A VM uses a disk if it, or one of its snapshots, has a child of it; whose VM it is
does not matter.`,
		Example: `  vchctl image ls --secret-file secret.yaml
  vchctl image ls --datacenter dc-1 --vch vch-1 -o wide`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.checkWideOutput(); err != nil {
				return err
			}
			selector, err := flags.which.selector(flags.connection.govc(opts.Env))
			if err != nil {
				return err
			}
			return flags.connection.client(cmd.Context(), opts, func(ctx context.Context, client *vcenter.Client) error {
				found, err := listImages(ctx, opts, client, selector)
				if found == nil && err != nil {
					return err
				}
				// What could be read is shown, even if some VCH could not.
				return errors.Join(writeImages(opts, flags.output, found), err)
			})
		},
	}
	flags.add(cmd)
	flags.addWideOutput(cmd)
	return cmd
}

// listImages lists the image disks of the selected VCHs; those that keep theirs
// in the same place are looked at once. With an error, the list is nil only if no
// store could be read at all.
func listImages(ctx context.Context, opts Options, client *vcenter.Client, selector vchSelector) ([]imageDisk, error) {
	hosts, err := selector.find(ctx, client)
	if len(hosts) == 0 {
		return nil, err
	}
	var stores []image.Store
	vchs := map[string][]string{}
	for _, host := range hosts {
		store := imageStoreOf(opts, client, host)
		if len(vchs[store.String()]) == 0 {
			stores = append(stores, store)
		}
		vchs[store.String()] = append(vchs[store.String()], host.Name)
	}
	errs := []error{err}
	var all []imageDisk
	for _, store := range stores {
		disks, err := store.List(ctx)
		var found []imageDisk
		if err == nil {
			found, err = withUsers(ctx, store, disks, vchs[store.String()]...)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(append([]imageDisk{}, all...), found...)
	}
	return all, errors.Join(errs...)
}

func writeImages(opts Options, output string, disks []imageDisk) error {
	if output == outputJSON {
		return writeJSON(opts.Stdout, disks)
	}
	if len(disks) == 0 {
		if _, err := fmt.Fprintln(opts.Stderr, "No image disks found."); err != nil {
			return errdefs.Wrap(errdefs.Unavailable, err, "write the answer")
		}
		return nil
	}
	now := opts.clock().Now()
	header := []string{"REFERENCE", "DIGEST", "SIZE", "USED", "AGE", "VMS", "VCH"}
	if output == outputWide {
		header = append(header, "CREATED", "PATH", "USED BY")
	}
	rows := [][]string{header}
	for _, disk := range disks {
		names := disk.Names
		if len(names) == 0 {
			names = []string{""}
		}
		for _, name := range names {
			row := []string{
				name, shortDigest(disk.Digest), sizeText(disk.Size), bytesText(disk.UsedBytes), duration.HumanDuration(now.Sub(disk.Created)),
				strconv.Itoa(len(disk.Users)), strings.Join(disk.VCHs, ","),
			}
			if output == outputWide {
				row[1] = disk.Digest
				row = append(row, disk.Created.UTC().Format(time.RFC3339), disk.Path, usersText(disk.Users, len(disk.Users)))
			}
			rows = append(rows, row)
		}
	}
	return writeTable(opts.Stdout, rows)
}

func imageInspectCommand(opts Options) *cobra.Command {
	var flags imageFlags
	var size string
	cmd := &cobra.Command{
		Use:   "inspect REFERENCE|DIGEST",
		Short: "Show all about an image disk as JSON",
		Long: `Show all about an image disk as JSON: where it is, the names that lead to it, how a
container of it starts, and which VMs use it.

A digest may be cut short after 6 digits.`,
		Example: `  vchctl image inspect --vch vch-1 docker.io/rancher/k3s:v1.34.1-k3s1
  vchctl image inspect --vch vch-1 --size 16Gi 0123456789ab`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			which, err := parseDiskSelector(args[0])
			if err != nil {
				return err
			}
			bytes, err := parseSize(size)
			if err != nil {
				return err
			}
			return flags.store(cmd.Context(), opts, func(ctx context.Context, host *vch.Config, store image.Store) error {
				disks, err := store.List(ctx)
				if err != nil {
					return err
				}
				disk, err := which.one(disks, bytes, "--size")
				if err != nil {
					return err
				}
				found, err := withUsers(ctx, store, []image.Disk{disk}, host.Name)
				if err != nil {
					return err
				}
				return writeJSON(opts.Stdout, found[0])
			})
		},
	}
	flags.add(cmd)
	addSizeFlag(cmd, &size, "which, if the image is there in several sizes")
	return cmd
}

func addSizeFlag(cmd *cobra.Command, size *string, usage string) {
	cmd.Flags().StringVar(size, "size", "", "size of the disk, such as 8Gi: "+usage)
}
