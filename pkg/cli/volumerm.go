// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// removedVolumes is the answer of volume rm as JSON.
type removedVolumes struct {
	DryRun  bool     `json:"dryRun"`
	Removed []string `json:"removed"`
}

func volumeRemoveCommand(opts Options) *cobra.Command {
	flags := volumeFlags{hostFlags{connection: connectionFlags{timeout: removalTimeout}}}
	var label string
	var dryRun bool
	cmd := &cobra.Command{
		Use:     "rm NAME ...",
		Aliases: []string{"remove"},
		Short:   "Remove volumes that no VM has, with all that is on them",
		Long: `Remove volumes that no VM has, with all that is on them. What was on a volume cannot
be brought back.

A volume that a VM has stays, whosever VM that is and whether it runs or not. All
names are tried. As with docker, nothing is asked; --dry-run only says what would go.`,
		Example: `  vchctl volume rm --vch vch-1 data --dry-run
  vchctl volume rm --vch vch-1 data cache
  vchctl volume rm --vch vch-1 --store nfs data`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.checkOutput(); err != nil {
				return err
			}
			return flags.volumes(cmd.Context(), opts, func(ctx context.Context, _ *vch.Config, set *volume.Set) error {
				answer := removedVolumes{DryRun: dryRun, Removed: []string{}}
				var errs []error
				for _, name := range unique(args) {
					said := "removed " + name
					var err error
					if dryRun {
						said, err = wouldRemove(ctx, set, label, name)
					} else {
						err = set.Remove(ctx, label, name)
					}
					if err == nil {
						answer.Removed = append(answer.Removed, name)
						if flags.output != outputJSON {
							err = write(opts.Stdout, []byte(oneLine(said)+"\n"))
						}
					}
					errs = append(errs, err)
				}
				if flags.output == outputJSON {
					errs = append([]error{writeJSON(opts.Stdout, answer)}, errs...)
				}
				return errors.Join(errs...)
			})
		},
	}
	flags.add(cmd)
	flags.addOutput(cmd)
	addStore(cmd, &label, ", if two have the name")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would go")
	return cmd
}

// wouldRemove says what a removal would take, or why it would not.
func wouldRemove(ctx context.Context, set *volume.Set, label, name string) (string, error) {
	found, err := findVolume(ctx, set, label, name)
	if err != nil {
		return "", err
	}
	if len(found) > 1 {
		return "", errdefs.New(errdefs.FailedPrecondition, "volume %s stays: %s; say with --store which one is meant", name, twiceText(found))
	}
	infos := []volumeInfo{newVolumeInfo(found[0], "")}
	if err := fillUsers(ctx, set, infos); err != nil {
		return "", err
	}
	if users := infos[0].Users; len(users) > 0 {
		return "", errdefs.New(errdefs.FailedPrecondition, "volume %s stays: %s", name, heldText(users))
	}
	said := "would remove " + name + ", " + found[0].Location
	if capacity := capacityText(found[0].Capacity); capacity != "" {
		said += ", " + capacity
	}
	return said, nil
}

// heldText says who has a volume, and what to do about it.
func heldText(users []volume.User) string {
	using, unproven := splitUsers(users)
	var parts []string
	if len(using) > 0 {
		parts = append(parts, vmsText(using)+" has it; delete its machine first")
	}
	if len(unproven) > 0 {
		parts = append(parts, unprovenText(unproven))
	}
	return strings.Join(parts, "; ")
}
