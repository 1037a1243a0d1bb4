// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// driversLabels begins the labels that only the driver gives, as prune trusts them.
const driversLabels = "vch.provider.machine.sapcloud.io/"

// volumeCreateFlags say what volume create makes.
type volumeCreateFlags struct {
	volumeFlags
	store    string
	capacity string
	labels   []string
	options  []string
}

func volumeCreateCommand(opts Options) *cobra.Command {
	var flags volumeCreateFlags
	cmd := &cobra.Command{
		Use:   "create [NAME]",
		Short: "Make a volume",
		Long: `Make a volume, empty and ready to be mounted, and print its name. Without NAME it
gets a random one, as in docker.

Names are unique in a VCH, whichever store a volume is in. A VCH that runs
knows the volume when its port layer starts the next time; machines can have it at once.

VIC's driver options are understood as well: -o VolumeStore=LABEL and -o Capacity=2GB
(a number without unit is in MB).`,
		Example: `  vchctl volume create --vch vch-1 --capacity 10Gi data
  vchctl volume create --store nfs --label team=a shared
  vchctl volume create -o VolumeStore=ssd -o Capacity=2GB cache`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			label, request, err := flags.request(args)
			if err != nil {
				return err
			}
			// VIC keeps no time; prune spares what is young.
			request.Metadata.Labels[volume.LabelCreated] = opts.clock().Now().UTC().Format(time.RFC3339)
			return flags.volumes(cmd.Context(), opts, func(ctx context.Context, host *vch.Config, set *volume.Set) error {
				v, err := set.Create(ctx, label, request)
				if err != nil {
					return createError(set, label, request.Name, err)
				}
				if flags.output == outputJSON {
					err = writeJSON(opts.Stdout, newVolumeInfo(*v, host.Name))
				} else {
					err = write(opts.Stdout, []byte(v.Name+"\n"))
				}
				if err == nil && v.Driver == volume.NFS && request.Capacity > 0 {
					err = note(opts, "Nothing limits a volume of store %s, which is an NFS export: the capacity has no effect.", v.Store)
				}
				return err
			})
		},
	}
	flags.add(cmd)
	addStore(cmd, &flags.store, " that keeps it (default: "+volume.DefaultStore+")")
	cmd.Flags().StringVar(&flags.capacity, "capacity", "", "size of the disk, such as 10Gi (default: "+sizeText(volume.DefaultCapacity)+"); has no effect on NFS")
	cmd.Flags().StringArrayVar(&flags.labels, "label", nil, "key=value that is kept with the volume; may be repeated")
	cmd.Flags().StringArrayVarP(&flags.options, "opt", "o", nil, "VIC's driver options: VolumeStore=LABEL, Capacity=SIZE; may be repeated")
	// -o is docker's for options here.
	cmd.Flags().StringVar(&flags.output, "output", outputTable, "json")
	return cmd
}

// request reads what was said, and finds what is wrong with it before anybody is
// spoken to. label is that of the store.
func (f *volumeCreateFlags) request(args []string) (label string, r volume.Request, err error) {
	if err = f.checkOutput(); err != nil {
		return "", r, err
	}
	if len(args) > 0 {
		r.Name = args[0]
	} else {
		r.Name = uuid.NewString()
	}
	if err = volume.ValidateName(r.Name); err != nil {
		return "", r, err
	}
	if r.Metadata.Labels, err = parsePairs("--label", f.labels); err != nil {
		return "", r, err
	}
	for key := range r.Metadata.Labels {
		if strings.HasPrefix(key, driversLabels) {
			return "", r, errdefs.New(errdefs.InvalidArgument, "--label %s: labels that begin with %s say what the driver made, and are not for others", key, driversLabels)
		}
	}
	if r.Metadata.DriverOpts, err = parsePairs("--opt", f.options); err != nil {
		return "", r, err
	}
	given, err := volume.ParseOptions(r.Metadata.DriverOpts)
	if err != nil {
		return "", r, errdefs.Wrap(errdefs.InvalidArgument, err, "--opt")
	}
	if r.Capacity, err = parseVolumeCapacity(f.capacity); err != nil {
		return "", r, err
	}
	if given.Capacity != 0 && r.Capacity != 0 && given.Capacity != r.Capacity {
		return "", r, errdefs.New(errdefs.InvalidArgument, "--capacity says %s, and --opt %s; give one of them", sizeText(r.Capacity), sizeText(given.Capacity))
	}
	if given.Store != "" && f.store != "" && given.Store != f.store {
		return "", r, errdefs.New(errdefs.InvalidArgument, "--store says %s, and --opt %s; give one of them", f.store, given.Store)
	}
	r.Capacity = max(r.Capacity, given.Capacity)
	return cmp.Or(f.store, given.Store), r, nil
}

// createError adds to an error of Create what to do about it.
func createError(set *volume.Set, label, name string, err error) error {
	if !errdefs.Is(err, errdefs.ResourceExhausted) {
		return err
	}
	hint := "vchctl volume prune --dry-run shows what could go"
	others := slices.DeleteFunc(set.Labels(), func(l string) bool { return l == cmp.Or(label, volume.DefaultStore) })
	if len(others) > 0 {
		hint += ", and --store chooses another store: " + strings.Join(others, ", ")
	}
	return errdefs.Wrap(errdefs.ResourceExhausted, err, "volume %s is not made for lack of room (%s)", name, hint)
}
