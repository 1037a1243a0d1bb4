// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// volumePruneFlags say what volume prune removes.
type volumePruneFlags struct {
	volumeFlags
	filters          []string
	all, dryRun, yes bool
}

func volumePruneCommand(opts Options) *cobra.Command {
	flags := volumePruneFlags{volumeFlags: volumeFlags{hostFlags{connection: connectionFlags{timeout: removalTimeout}}}}
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove the volumes that nobody needs any more",
		Long: `Remove the volumes that nobody needs any more, with all that is on them: anonymous
volumes of machines that no VM has, and what operations left that were cut off.

With --all, every volume that no VM has: named ones and those of docker, too. A machine
that is just being replaced has no VM, and a volume that waits for its next machine
has no user: look closely.

It shows what goes and asks. Without a terminal it needs --yes, or --dry-run, which only
shows. Volumes that are less than 10 minutes old stay, since a machine has its
volumes before it has a VM; and damaged ones. Each volume is looked at again right before
it goes, and stays if a VM has it by then.

Filters are those of volume ls, without dangling. Leftovers have no name or label: a
filter other than store spares them.`,
		Example: `  vchctl volume prune --vch vch-1 --dry-run
  vchctl volume prune --vch vch-1 --all --filter label=team=a
  vchctl volume prune --vch vch-1 --yes -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.checkOutput(); err != nil {
				return err
			}
			filter, err := parseVolumeFilter(flags.filters, filterDriver, filterLabel, filterName, filterStore)
			if err != nil {
				return err
			}
			if err := flags.checkConsent(opts); err != nil {
				return err
			}
			return flags.volumes(cmd.Context(), opts, func(ctx context.Context, host *vch.Config, set *volume.Set) error {
				return flags.prune(ctx, opts, host, set, &filter)
			})
		},
	}
	flags.add(cmd)
	flags.addOutput(cmd)
	cmd.Flags().BoolVar(&flags.all, "all", false, "every volume that no VM has, named ones and those of docker, too")
	cmd.Flags().StringArrayVar(&flags.filters, "filter", nil, "only such volumes, for example label=team=a; may be repeated")
	cmd.Flags().BoolVar(&flags.dryRun, "dry-run", false, "only show what would go")
	cmd.Flags().BoolVarP(&flags.yes, "yes", "y", false, "do not ask")
	return cmd
}

// checkConsent refuses a command that would have to ask and cannot.
func (f *volumePruneFlags) checkConsent(opts Options) error {
	return mayAsk(opts, f.output, f.yes || f.dryRun)
}

// mayAsk refuses a command that would have to ask and cannot; consent is there if a
// flag says so.
func mayAsk(opts Options, output string, consent bool) error {
	switch {
	case consent:
		return nil
	case output == outputJSON:
		return errdefs.New(errdefs.InvalidArgument, "with --output %s nothing is asked: give --yes, or look with --dry-run", outputJSON)
	}
	if file, ok := opts.Stdin.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return nil
	}
	return errdefs.New(errdefs.InvalidArgument, "there is no terminal to ask on: give --yes, or look with --dry-run")
}

// prune shows what goes, asks, and removes it.
func (f *volumePruneFlags) prune(ctx context.Context, opts Options, host *vch.Config, set *volume.Set, filter *volumeFilter) error {
	plan, planErr := readVolumePrunePlan(ctx, opts, host, set, filter, f.all)
	if planErr != nil && plan.empty() {
		return planErr
	}
	if f.output == outputJSON {
		err := error(nil)
		if !f.dryRun {
			plan, err = removeVolumes(ctx, set, plan, nil)
		}
		return errors.Join(writeJSON(opts.Stdout, struct {
			DryRun bool `json:"dryRun"`
			volumePrunePlan
		}{f.dryRun, plan}), planErr, err)
	}
	if err := writeVolumePrunePlan(opts, &plan); err != nil {
		return err
	}
	switch {
	case plan.empty():
		return note(opts, "Nothing to remove.")
	case f.dryRun:
		return errors.Join(note(opts, "Nothing was changed: without --dry-run, %s would go.", plan.count()), planErr)
	case !f.yes:
		if planErr != nil {
			// Who decides must know it before.
			if err := note(opts, "Not all could be looked at: %s", planErr); err != nil {
				return err
			}
		}
		if yes, err := ask(ctx, opts, question(&plan)); err != nil || !yes {
			return errors.Join(err, planErr)
		}
	}
	done, err := removeVolumes(ctx, set, plan, func(line string) error { return write(opts.Stdout, []byte(oneLine(line)+"\n")) })
	return errors.Join(note(opts, "Removed %s.", done.count()), planErr, err)
}

// readVolumePrunePlan looks at the stores of a VCH; it changes nothing. With an
// error, the plan is for those stores that could be read.
func readVolumePrunePlan(ctx context.Context, opts Options, host *vch.Config, set *volume.Set, filter *volumeFilter, all bool) (volumePrunePlan, error) {
	volumes, listErr := set.List(ctx)
	var wanted []volumeInfo
	for _, v := range volumes {
		if filter.matches(&v) && (all || v.Anonymous()) {
			wanted = append(wanted, newVolumeInfo(v, host.Name))
		}
	}
	usersErr := fillUsers(ctx, set, wanted)
	plan := planVolumePrune(wanted, all, opts.clock().Now())
	leftovers, leftoversErr := set.Leftovers(ctx)
	for _, l := range leftovers {
		if filter.matchesLeftover(l) {
			plan.Leftovers = append(plan.Leftovers, l)
		}
	}
	return plan, errors.Join(listErr, usersErr, leftoversErr)
}

// removeVolumes does what the plan says, and returns the part that is done. Each
// thing that is gone is told.
func removeVolumes(ctx context.Context, set *volume.Set, plan volumePrunePlan, tell func(string) error) (volumePrunePlan, error) {
	done := volumePrunePlan{Volumes: []volumeRemoval{}, Leftovers: []volume.Leftover{}, Kept: plan.Kept}
	var errs []error
	said := func(text string) {
		if tell != nil {
			errs = append(errs, tell(text))
		}
	}
	for _, v := range plan.Volumes {
		if ctx.Err() != nil {
			break
		}
		err := set.Remove(ctx, v.Store, v.Name)
		switch {
		case err == nil:
			done.add(v)
			said("removed " + v.Name)
		case errdefs.Is(err, errdefs.NotFound):
			// Somebody else removed it.
		default:
			errs = append(errs, err)
		}
	}
	if len(plan.Leftovers) > 0 && ctx.Err() == nil {
		if err := set.Clean(ctx, plan.Leftovers...); err != nil {
			errs = append(errs, err)
		} else {
			done.Leftovers = plan.Leftovers
		}
	}
	if err := ctx.Err(); err != nil {
		errs = append(errs, errdefs.Wrap(errdefs.KindOf(err), err, "the removal ended early: volume prune goes on where it stopped"))
	}
	return done, errors.Join(errs...)
}

func writeVolumePrunePlan(opts Options, plan *volumePrunePlan) error {
	if !plan.empty() {
		now := opts.clock().Now()
		rows := [][]string{{"KIND", "NAME", "STORE", "CAPACITY", "AGE", "MACHINE", "WHY", "LOCATION"}}
		for _, v := range plan.Volumes {
			rows = append(rows, []string{"volume", v.Name, v.Store, capacityText(v.Capacity), ageText(now, v.Created), v.Machine, v.Reason, v.Location})
		}
		for _, l := range plan.Leftovers {
			rows = append(rows, []string{"leftover", "", l.Store, "", "", "", l.Reason, l.Path})
		}
		if err := writeTable(opts.Stdout, rows); err != nil {
			return err
		}
	}
	for _, text := range plan.keptTexts() {
		if err := note(opts, "%s", text); err != nil {
			return err
		}
	}
	return nil
}

// question is what is asked before a plan is carried out.
func question(plan *volumePrunePlan) string {
	text := "Remove " + plan.count() + " for good?"
	if named := plan.named(); named > 0 {
		text += " " + countText(named, "volume has a name of its own, and may wait for a machine.", "volumes have a name of their own, and may wait for a machine.")
	}
	return text
}

// ask asks a person whether something is to be removed, and takes anything but y or
// yes for no.
func ask(ctx context.Context, opts Options, text string) (bool, error) {
	return askFor(ctx, opts, text, "Nothing was removed")
}

// askFor is ask for anything; no is what is told after a no.
func askFor(ctx context.Context, opts Options, text, no string) (bool, error) {
	if _, err := fmt.Fprintf(opts.Stderr, "%s [y/N] ", oneLine(text)); err != nil {
		return false, errdefs.Wrap(errdefs.Unavailable, err, "ask")
	}
	answer := make(chan string, 1)
	// It ends with the process at the latest: a read of a terminal cannot be cut off.
	go func() {
		// What cannot be read is no answer.
		line, _ := bufio.NewReader(opts.Stdin).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		return false, errdefs.Wrap(errdefs.KindOf(ctx.Err()), ctx.Err(), "%s: there was no answer", strings.ToLower(no[:1])+no[1:])
	case line := <-answer:
		if line == "y" || line == "yes" {
			return true, nil
		}
		return false, note(opts, "%s.", no)
	}
}
