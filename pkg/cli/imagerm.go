// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// What a removal waits for, and does then.
const (
	settleWhy  = "so that nobody can be about to use what is removed"
	settleThen = "looking at vCenter once more, and deleting"
)

func imageRemoveCommand(opts Options) *cobra.Command {
	flags := imageFlags{hostFlags{connection: connectionFlags{timeout: removalTimeout}}}
	var size string
	var allSizes bool
	cmd := &cobra.Command{
		Use:     "rm REFERENCE|DIGEST ...",
		Aliases: []string{"remove"},
		Short:   "Remove image disks that no VM uses",
		Long: `Remove image disks that no VM uses, with all names that lead to them.

A disk that a VM has a child of stays, whosever VM that is. The others are withdrawn
first; some minutes later, when nobody can be about to use them any more, they are
looked at again and deleted. If the command is interrupted before, they are put
back; if it is killed, image prune deletes them, some minutes later.

A digest may be cut short after 6 digits. A machine that needs a removed image
pulls it again.`,
		Example: `  vchctl image rm --vch vch-1 docker.io/rancher/k3s:v1.34.1-k3s1
  vchctl image rm --vch vch-1 --all-sizes 0123456789ab`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(flags.checkOutput(), flags.checkWait(opts)); err != nil {
				return err
			}
			bytes, err := parseSize(size)
			if err != nil {
				return err
			}
			which := make([]diskSelector, len(args))
			for i, arg := range args {
				if which[i], err = parseDiskSelector(arg); err != nil {
					return err
				}
			}
			return flags.store(cmd.Context(), opts, func(ctx context.Context, _ *vch.Config, store image.Store) error {
				disks, err := store.List(ctx)
				if err != nil {
					return err
				}
				named, err := pickAll(which, disks, bytes, allSizes)
				if err != nil {
					return err
				}
				removed, err := removeImages(ctx, opts, flags.output, store, named)
				return errors.Join(writeRemoved(opts, flags.output, removed), err)
			})
		},
	}
	flags.add(cmd)
	flags.addOutput(cmd)
	addSizeFlag(cmd, &size, "which, if the image is there in several sizes")
	cmd.Flags().BoolVar(&allSizes, "all-sizes", false, "the disks of all sizes")
	cmd.MarkFlagsMutuallyExclusive("size", "all-sizes")
	return cmd
}

// pickAll returns the disks that the arguments mean, each once.
func pickAll(which []diskSelector, disks []image.Disk, size int64, allSizes bool) ([]image.Disk, error) {
	var all []image.Disk
	seen := map[image.Key]bool{}
	for _, selector := range which {
		found, err := selector.pick(disks, size)
		if err == nil && !allSizes {
			_, err = selector.one(disks, size, "--size, or take --all-sizes")
		}
		if err != nil {
			return nil, err
		}
		for _, disk := range found {
			if !seen[disk.Key] {
				seen[disk.Key] = true
				all = append(all, disk)
			}
		}
	}
	return all, nil
}

// removeImages removes those of the disks that no VM has. The others are in the error.
func removeImages(ctx context.Context, opts Options, output string, store image.Store, disks []image.Disk) ([]removal, error) {
	users, err := store.Users(ctx, keysOf(disks)...)
	if err != nil {
		return nil, err
	}
	plan, refused := planRemove(disks, users)
	if len(plan) == 0 {
		return nil, errors.Join(refused...)
	}
	going := prunePlan{Disks: plan}
	shown := newProgress(ctx, opts, output == outputJSON)
	shown.wait(opts.settle(), settleWhy, settleThen)
	removed, err := store.Remove(ctx, going.keys()...)
	shown.end(err == nil)
	return going.only(removed), errors.Join(append(refused, err)...)
}

func writeRemoved(opts Options, output string, removed []removal) error {
	if output == outputJSON {
		return writeJSON(opts.Stdout, struct {
			Removed []removal `json:"removed"`
		}{append([]removal{}, removed...)})
	}
	for _, r := range removed {
		if err := write(opts.Stdout, []byte("removed "+oneLine(diskText(image.Disk{Key: r.Key, Names: r.Names}))+"\n")); err != nil {
			return err
		}
	}
	return nil
}

func imagePruneCommand(opts Options) *cobra.Command {
	flags := imageFlags{hostFlags{connection: connectionFlags{timeout: removalTimeout}}}
	var all, dryRun bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove what nobody needs any more",
		Long: `Remove what nobody needs any more: image disks that no VM uses and no name leads to,
since a tag moved on, and what pulls and removals left that were cut off. With
--all, every image disk that no VM uses; machines that need one pull it again.

It asks nothing: look with --dry-run first, which shows what goes and why, and
changes nothing.`,
		Example: `  vchctl image prune --vch vch-1 --dry-run
  vchctl image prune --vch vch-1 --all -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.checkOutput(); err != nil {
				return err
			}
			if !dryRun {
				if err := flags.checkWait(opts); err != nil {
					return err
				}
			}
			return flags.store(cmd.Context(), opts, func(ctx context.Context, _ *vch.Config, store image.Store) error {
				plan, err := readPrunePlan(ctx, store, all)
				if err != nil {
					return err
				}
				if !dryRun && !plan.empty() {
					if plan, err = prune(ctx, opts, flags.output, store, plan); plan.empty() && err != nil {
						return err
					}
				}
				return errors.Join(writePruned(opts, flags.output, plan, dryRun), err)
			})
		},
	}
	flags.add(cmd)
	flags.addOutput(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "also image disks that names lead to")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would go")
	return cmd
}

// readPrunePlan looks at a store; it changes nothing.
func readPrunePlan(ctx context.Context, store image.Store, all bool) (prunePlan, error) {
	disks, err := store.List(ctx)
	if err != nil {
		return prunePlan{}, err
	}
	users := map[image.Key][]image.User{}
	if len(disks) > 0 {
		if users, err = store.Users(ctx, keysOf(disks)...); err != nil {
			return prunePlan{}, err
		}
	}
	leftovers, err := store.Leftovers(ctx)
	if err != nil {
		return prunePlan{}, err
	}
	return planPrune(disks, users, leftovers, all), nil
}

// prune does what the plan says, disks and leftovers at once, since both wait. It
// returns the part of the plan that is done.
func prune(ctx context.Context, opts Options, output string, store image.Store, plan prunePlan) (prunePlan, error) {
	shown := newProgress(ctx, opts, output == outputJSON)
	shown.wait(opts.settle(), settleWhy, settleThen)
	var removed []image.Key
	var removeErr, cleanErr error
	var both sync.WaitGroup
	if len(plan.Disks) > 0 {
		both.Go(func() { removed, removeErr = store.Remove(ctx, plan.keys()...) })
	}
	if len(plan.Leftovers) > 0 {
		both.Go(func() { cleanErr = store.Clean(ctx, plan.Leftovers...) })
	}
	both.Wait()
	err := errors.Join(removeErr, cleanErr)
	shown.end(err == nil)
	done := prunePlan{Disks: plan.only(removed), Leftovers: plan.Leftovers, Unproven: plan.Unproven}
	if cleanErr != nil {
		done.Leftovers = []image.Leftover{}
	}
	return done, err
}

func writePruned(opts Options, output string, plan prunePlan, dryRun bool) error {
	if output == outputJSON {
		return writeJSON(opts.Stdout, struct {
			DryRun bool `json:"dryRun"`
			prunePlan
		}{dryRun, plan})
	}
	note := ""
	switch {
	case plan.empty():
		note = "Nothing to remove."
	case dryRun:
		note = "Nothing was changed: without --dry-run, all this is removed."
	}
	if !plan.empty() {
		rows := [][]string{{"KIND", "DISK", "USED", "WHY", "PATH"}}
		for _, r := range plan.Disks {
			rows = append(rows, []string{"disk", diskText(image.Disk{Key: r.Key, Names: r.Names}), bytesText(r.UsedBytes), r.Reason, r.Path})
		}
		for _, l := range plan.Leftovers {
			rows = append(rows, []string{"leftover", "", "", l.Reason, l.Path})
		}
		if err := writeTable(opts.Stdout, rows); err != nil {
			return err
		}
	}
	if len(plan.Unproven) > 0 {
		note = strings.TrimSpace(note + "\nDisks stay that might go: " + oneLine(unprovenText(plan.Unproven)) + ".")
	}
	if note != "" {
		if _, err := fmt.Fprintln(opts.Stderr, note); err != nil {
			return errdefs.Wrap(errdefs.Unavailable, err, "write the answer")
		}
	}
	return nil
}
