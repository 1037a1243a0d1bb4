// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// defaultBackupDir is below the directory in which vchctl runs.
const defaultBackupDir = "vchctl-backups"

// migrateApplyFlags say what migrate apply writes.
type migrateApplyFlags struct {
	containerFlags
	all, force, dryRun, yes bool
	backupDir               string
}

func migrateApplyCommand(opts Options) *cobra.Command {
	flags := migrateApplyFlags{containerFlags: containerFlags{hostFlags: hostFlags{connection: connectionFlags{timeout: removalTimeout}}}}
	cmd := &cobra.Command{
		Use:   "apply VM... | --all",
		Short: "Write the data of VMs in the form of today",
		Long: `Write the data of VMs in the form of today: what migrate plan shows. It shows it and
asks. Without a terminal it needs --yes, or --dry-run, which only shows.

Before each write it saves all that is stored in a file of its own, for migrate restore;
the file holds secrets. VIC's data is written to VMs that are powered off only, since it
would not last otherwise; others are skipped with the reason. Each VM is written
whole or not at all, one that fails does not stop the others, and running it again goes
on where it stopped.

Only machines of this provider are written; with --force all container VMs that provably
belong to the VCH. The appliance never is: vic-machine upgrade does that.`,
		Example: `  vchctl migrate apply --all --vch vch-1 --dry-run
  vchctl migrate apply shoot-worker-0 --backup-dir /var/backups/vch`,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := flags.check(opts, names); err != nil {
				return err
			}
			return flags.sites(cmd.Context(), opts, func(ctx context.Context, sites []*site, unread error) error {
				return errors.Join(flags.apply(ctx, opts, sites, names, unread), unread)
			})
		},
	}
	flags.add(cmd)
	flags.addOutput(cmd)
	cmd.Flags().BoolVar(&flags.all, "all", false, "all machines of the VCH that need it")
	cmd.Flags().BoolVar(&flags.force, "force", false, "not only machines of this provider, but all container VMs of the VCH, those of docker, too")
	cmd.Flags().StringVar(&flags.backupDir, "backup-dir", defaultBackupDir, "where to save what is stored before it is written; it is made if need be")
	cmd.Flags().BoolVar(&flags.dryRun, "dry-run", false, "only show what would be written")
	cmd.Flags().BoolVarP(&flags.yes, "yes", "y", false, "do not ask")
	return cmd
}

func (f *migrateApplyFlags) check(opts Options, names []string) error {
	if err := f.checkOutput(); err != nil {
		return err
	}
	switch {
	case f.all && len(names) > 0:
		return errdefs.New(errdefs.InvalidArgument, "give names of VMs or --all, not both")
	case !f.all && len(names) == 0:
		return errdefs.New(errdefs.InvalidArgument, "which VMs? Give their names, or --all")
	case f.backupDir == "":
		return errdefs.New(errdefs.InvalidArgument, "--backup-dir must name a directory: nothing is written without a backup")
	}
	return mayAsk(opts, f.output, f.yes || f.dryRun)
}

func (f *migrateApplyFlags) scope() containervm.Scope {
	if f.force {
		return containervm.Containers
	}
	return containervm.Machines
}

// The results of migrate apply, for each VM.
const (
	resultMigrated = "migrated"
	resultPartly   = "partly migrated"
	resultPlanned  = "planned" // or not reached any more
	resultIdle     = "up to date"
	resultSkipped  = "skipped"
	resultFailed   = "failed"
)

// applied is a VM with what became of it. The JSON names are for scripts: they stay.
type applied struct {
	dataPlan
	Result string `json:"result"`
	// Backups are the files that were written before each attempt to write the VM.
	Backups []string `json:"backups"`
	// p is what was planned, err why the VM is failed.
	p   planned
	err error
}

// apply shows what is to be written, asks, and writes it.
func (f *migrateApplyFlags) apply(ctx context.Context, opts Options, sites []*site, names []string, unread error) error {
	vms, err := f.choose(ctx, opts, sites, names, unread)
	if err != nil && len(vms) == 0 {
		return err
	}
	todo := 0
	for _, a := range vms {
		if f.output != outputJSON {
			err = errors.Join(err, f.show(opts, a))
		}
		if a.Result == resultPlanned {
			todo++
		}
	}
	switch {
	case f.output == outputJSON:
		if !f.dryRun {
			err = errors.Join(err, f.write(ctx, opts, vms, nil))
		}
		err = errors.Join(err, writeJSON(opts.Stdout, struct {
			DryRun bool       `json:"dryRun"`
			VMs    []*applied `json:"vms"`
		}{f.dryRun, vms}))
	case todo == 0:
		err = errors.Join(err, note(opts, "%s", idleText(vms)))
	case f.dryRun:
		err = errors.Join(err, note(opts, "Nothing was changed: without --dry-run, %s would be written.", countText(todo, "VM", "VMs")))
	default:
		if !f.yes {
			if err != nil { // who decides must know it before
				err = errors.Join(err, note(opts, "Not all VMs could be found or read: %s", err))
			}
			if yes, askErr := askFor(ctx, opts, "Write "+countText(todo, "VM", "VMs")+"?", "Nothing was written"); askErr != nil || !yes {
				return errors.Join(err, askErr)
			}
		}
		err = errors.Join(err, f.write(ctx, opts, vms, func(line string) error { return write(opts.Stdout, []byte(oneLine(line)+"\n")) }))
		err = errors.Join(err, note(opts, "Done: %s.", resultsText(vms)))
	}
	return errors.Join(err, f.complaints(vms))
}

// choose returns the VMs that are meant, with what is to be done to each.
func (f *migrateApplyFlags) choose(ctx context.Context, opts Options, sites []*site, names []string, unread error) ([]*applied, error) {
	switch {
	case f.all && len(sites) > 1:
		return nil, errdefs.New(errdefs.InvalidArgument, "there are %d VCHs, for example %s and %s; choose one with --vch", len(sites), sites[0].host.Name, sites[1].host.Name)
	case unread != nil: // whether a name means one VM only can be told of all VCHs together
		return nil, errdefs.New(errdefs.FailedPrecondition, "nothing was written: not all VCHs could be searched; choose one with --vch")
	}
	var errs []error
	for _, name := range names {
		if found := candidates(sites, name); len(found) > 1 {
			errs = append(errs, several(found, name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	found, err := f.subjects(ctx, opts, sites, names)
	var out []*applied
	for _, p := range plansOf(found) {
		if f.all && (p.vm == nil || p.site.operator.Proven(p.vm, f.scope()) != nil) {
			continue
		}
		out = append(out, f.begin(p))
	}
	return out, err
}

// begin says what is to be done to a VM.
func (f *migrateApplyFlags) begin(p planned) *applied {
	a := &applied{dataPlan: p.plan, p: p, Backups: []string{}}
	fail := func(err error) *applied {
		a.Result, a.err, a.Error = resultFailed, err, err.Error()
		return a
	}
	if p.vm == nil {
		return fail(errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) is the appliance of VCH %s, which vic-machine upgrade writes", p.VM, p.MoRef, p.VCH))
	}
	if !f.force && p.vm.Mark() == nil {
		return fail(noMachine(candidate{p.site, containervm.Member{VM: p.VM, Ref: p.vm.Ref}}))
	}
	if err := p.site.operator.Proven(p.vm, f.scope()); err != nil {
		return fail(err)
	}
	switch {
	case p.plan.State == dataError || p.plan.State == dataNewer:
		return fail(p.refused)
	case p.plan.State == dataUpToDate:
		a.Result = resultIdle
	case len(p.write.Changes) == 0:
		a.Result = resultSkipped
	default:
		a.Result = resultPlanned
	}
	return a
}

// show shows what is to be done to a VM. What needs nothing is shown if it was named.
func (f *migrateApplyFlags) show(opts Options, a *applied) error {
	if f.all && a.Result == resultIdle {
		return nil
	}
	return write(opts.Stdout, []byte(a.dataPlan.text(a.p.outcomes)))
}

// write writes the VMs that are planned, one after the other. What happens is told.
func (f *migrateApplyFlags) write(ctx context.Context, opts Options, vms []*applied, tell func(string) error) error {
	var errs []error
	said := func(format string, args ...any) {
		if tell != nil {
			errs = append(errs, tell(fmt.Sprintf(format, args...)))
		}
	}
	for _, a := range vms {
		if a.Result != resultPlanned {
			continue
		}
		if ctx.Err() != nil {
			errs = append(errs, errdefs.Wrap(errdefs.KindOf(ctx.Err()), ctx.Err(), "the migration ended early: migrate apply goes on where it stopped"))
			break
		}
		written, err := a.p.site.operator.ApplyMigration(ctx, a.p.vm, f.scope(), func(vm *containervm.VM, plan containervm.MigrationPlan) error {
			file, err := newBackup(a.p.site.host, vm, plan, opts.clock().Now()).save(f.backupDir)
			if err == nil {
				a.Backups = append(a.Backups, file)
				said("backup of VM %q: %s", a.VM, file)
			}
			return err
		})
		switch {
		case err != nil:
			a.Result, a.err, a.Error = resultFailed, err, err.Error()
			said("failed VM %q", a.VM)
		case len(written.Later) > 0:
			a.Result, a.Waits = resultPartly, written.Why
			said("partly migrated VM %q: %s", a.VM, written.Why)
		default:
			a.Result = resultMigrated
			said("migrated VM %q: %s", a.VM, versionsText(a.p.outcomes))
		}
	}
	return errors.Join(errs...)
}

// complaints are why the exit code is not 0: VMs that failed, and those that were named and wait.
func (f *migrateApplyFlags) complaints(vms []*applied) error {
	var errs []error
	for _, a := range vms {
		switch {
		case a.err != nil:
			errs = append(errs, a.err)
		case a.Waits != "" && !f.all:
			errs = append(errs, errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) is not migrated, or not whole: %s", a.VM, a.MoRef, a.Waits))
		}
	}
	return errors.Join(errs...)
}

// idleText says why nothing is to be written.
func idleText(vms []*applied) string {
	for _, a := range vms {
		if a.Result != resultIdle {
			return "Nothing can be written: " + resultsText(vms) + "."
		}
	}
	return "Nothing to migrate."
}

// resultsText counts what became of VMs.
func resultsText(vms []*applied) string {
	count := map[string]int{}
	for _, a := range vms {
		count[a.Result]++
	}
	var texts []string
	for _, result := range []string{resultMigrated, resultPartly, resultIdle, resultSkipped, resultFailed, resultPlanned} {
		if n := count[result]; n > 0 {
			texts = append(texts, fmt.Sprintf("%d %s", n, result))
		}
	}
	return strings.Join(texts, ", ")
}
