// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// volumeListFlags say what volume ls shows.
type volumeListFlags struct {
	volumeFlags
	filters []string
	quiet   bool
}

func volumeListCommand(opts Options) *cobra.Command {
	var flags volumeListFlags
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the volumes of one or all VCHs",
		Long: `List the volumes of one or all VCHs, and which VMs have each.

A VM has a volume if its disk is attached or belongs to a snapshot, or, on NFS, if
the VM is configured to mount it; whose VM it is, and whether it runs, does not
matter. A question mark means that vCenter cannot tell, so that it counts.

Filters are docker's: dangling=true|false, name=PART, driver=vsphere-vmdk|vsphere-nfs,
label=KEY[=VALUE], and store=LABEL. Of several of one kind one must match, but all
labels; different kinds must all match.`,
		Example: `  vchctl volume ls --secret-file secret.yaml
  vchctl volume ls --vch vch-1 --filter dangling=true --filter driver=vsphere-vmdk -o wide
  vchctl volume ls --vch vch-1 -q --filter label=team=a`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.checkWideOutput(); err != nil {
				return err
			}
			filter, err := parseVolumeFilter(flags.filters, filterDangling, filterDriver, filterLabel, filterName, filterStore)
			if err != nil {
				return err
			}
			return flags.hosts(cmd.Context(), opts, func(ctx context.Context, client *vcenter.Client, hosts []*vch.Config, unread error) error {
				errs := []error{unread}
				found := []volumeInfo{}
				for _, host := range hosts {
					of, err := flags.list(ctx, host, volumesOf(opts, client, host), &filter)
					found, errs = append(found, of...), append(errs, err)
				}
				// What could be read is shown, even if some store could not.
				err := errors.Join(errs...)
				return errors.Join(flags.write(opts, found, err != nil), err)
			})
		},
	}
	flags.add(cmd)
	flags.addWideOutput(cmd)
	cmd.Flags().StringArrayVarP(&flags.filters, "filter", "f", nil, "show only such volumes, for example dangling=true; may be repeated")
	cmd.Flags().BoolVarP(&flags.quiet, "quiet", "q", false, "only the names")
	cmd.MarkFlagsMutuallyExclusive("quiet", "output")
	return cmd
}

// list returns the volumes of one VCH that the filter wants. With an error it has
// those that could be read.
func (f *volumeListFlags) list(ctx context.Context, host *vch.Config, set *volume.Set, filter *volumeFilter) ([]volumeInfo, error) {
	volumes, err := set.List(ctx)
	var found []volumeInfo
	for _, v := range volumes {
		if filter.matches(&v) {
			found = append(found, newVolumeInfo(v, host.Name))
		}
	}
	if f.quiet && filter.dangling == nil {
		return found, err
	}
	err = errors.Join(err, fillUsers(ctx, set, found))
	return slices.DeleteFunc(found, func(v volumeInfo) bool { return !filter.matchesUsers(&v) }), err
}

// write writes volumes. With failed an empty list is not called one.
func (f *volumeListFlags) write(opts Options, volumes []volumeInfo, failed bool) error {
	switch {
	case f.output == outputJSON:
		return writeJSON(opts.Stdout, volumes)
	case f.quiet:
		for _, v := range volumes {
			if err := write(opts.Stdout, []byte(oneLine(v.Name)+"\n")); err != nil {
				return err
			}
		}
		return nil
	case len(volumes) == 0 && failed:
		return nil
	case len(volumes) == 0:
		return note(opts, "No volumes found.")
	}
	now := opts.clock().Now()
	header := []string{"NAME", "STORE", "DRIVER", "CAPACITY", "USED BY", "AGE", "VCH", "STATE"}
	if f.output == outputWide {
		header = append(header, "CREATED", "LOCATION", "DAMAGE")
	}
	rows, damaged := [][]string{header}, 0
	for _, v := range volumes {
		row := []string{v.Name, v.Store, string(v.Driver), capacityText(v.Capacity), v.usersText(fewUsers), ageText(now, v.Created), v.VCH, "ok"}
		if v.Damage != "" {
			damaged++
			row[len(row)-1] = "damaged"
		}
		if f.output == outputWide {
			row[4] = v.usersText(len(v.Users))
			row = append(row, timeText(v.Created), v.Location, v.Damage)
		}
		rows = append(rows, row)
	}
	if err := writeTable(opts.Stdout, rows); err != nil || damaged == 0 {
		return err
	}
	return note(opts, "%s damaged, and may hide all others of the store from a VCH that restarts. -o wide says why, docs/volumes.md what to do.", countText(damaged, "volume is", "volumes are"))
}

// fewUsers is how many users a table shows that is not wide.
const fewUsers = 3

// usersText lists the first users, if they are known.
func (v *volumeInfo) usersText(limit int) string {
	if v.UsersError != "" {
		return "?"
	}
	return usersText(v.Users, limit)
}

// ageText is how long something exists; empty if that is not known.
func ageText(now, created time.Time) string {
	if created.IsZero() {
		return ""
	}
	return duration.HumanDuration(now.Sub(created))
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// countText is a number with its word, such as 2 volumes.
func countText(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func volumeInspectCommand(opts Options) *cobra.Command {
	var flags volumeFlags
	var label string
	cmd := &cobra.Command{
		Use:   "inspect NAME ...",
		Short: "Show all about volumes as JSON",
		Long: `Show all about volumes as JSON, in a list: where they are, the label by which a
guest finds the disk, what VIC's docker keeps with them, what is wrong with them, and
which VMs have them.`,
		Example: `  vchctl volume inspect --vch vch-1 data
  vchctl volume inspect --vch vch-1 data cache | jq '.[].users'`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return flags.volumes(cmd.Context(), opts, func(ctx context.Context, host *vch.Config, set *volume.Set) error {
				found := []volumeInfo{}
				var errs []error
				for _, name := range unique(args) {
					volumes, err := findVolume(ctx, set, label, name)
					errs = append(errs, err)
					for _, v := range volumes {
						found = append(found, newVolumeInfo(v, host.Name))
					}
				}
				errs = append(errs, fillUsers(ctx, set, found))
				return errors.Join(writeJSON(opts.Stdout, found), errors.Join(errs...))
			})
		},
	}
	flags.add(cmd)
	addStore(cmd, &label, ", if two have the name")
	return cmd
}

// unique returns the words in their order, each once.
func unique(words []string) []string {
	var out []string
	for _, word := range words {
		if !slices.Contains(out, word) {
			out = append(out, word)
		}
	}
	return out
}
