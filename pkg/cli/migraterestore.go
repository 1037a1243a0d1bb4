// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

// migrateRestoreFlags say what migrate restore puts back.
type migrateRestoreFlags struct {
	hostFlags
	force, dryRun, yes bool
}

func migrateRestoreCommand(opts Options) *cobra.Command {
	var flags migrateRestoreFlags
	cmd := &cobra.Command{
		Use:   "restore BACKUP-FILE",
		Short: "Undo a migration with the file that it saved",
		Long: `Undo a migration with the file that migrate apply saved: the keys that it changed get
the values that they had. It shows them and asks. Without a terminal it needs --yes, or
--dry-run, which only shows.

It must be the same VM, by container id and BIOS UUID, and it must be powered off if its
guest sees one of the keys. If a key was changed after the migration, nothing is
put back, and the keys are named. Other keys stay as they are.`,
		Example: `  vchctl migrate restore vchctl-backups/vm-123-20260102T030405Z-1234567890.json --dry-run`,
		Args:    exactly(1, "BACKUP-FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.checkOutput(); err != nil {
				return err
			}
			if err := mayAsk(opts, flags.output, flags.yes || flags.dryRun); err != nil {
				return err
			}
			backup, err := readBackup(args[0])
			if err != nil {
				return err
			}
			which := containerFlags{hostFlags: flags.hostFlags}
			return which.sites(cmd.Context(), opts, func(ctx context.Context, sites []*site, unread error) error {
				return flags.restore(ctx, opts, sites, unread, backup)
			})
		},
	}
	flags.add(cmd)
	flags.addOutput(cmd)
	cmd.Flags().BoolVar(&flags.force, "force", false, "not only machines of this provider, but all container VMs of the VCH, those of docker, too")
	cmd.Flags().BoolVar(&flags.dryRun, "dry-run", false, "only show what would be put back")
	cmd.Flags().BoolVarP(&flags.yes, "yes", "y", false, "do not ask")
	return cmd
}

// restored is what restore says. The JSON names are for scripts: they stay.
type restored struct {
	DryRun      bool        `json:"dryRun"`
	VM          string      `json:"vm"`
	MoRef       string      `json:"moref"`
	ContainerID string      `json:"containerID"`
	VCH         string      `json:"vch"`
	Changes     []keyChange `json:"changes"`
}

func (f *migrateRestoreFlags) restore(ctx context.Context, opts Options, sites []*site, unread error, backup *migrationBackup) error {
	s, vm, err := findBackedUp(ctx, sites, unread, backup)
	if err != nil {
		return err
	}
	scope := containervm.Machines
	if f.force {
		scope = containervm.Containers
	}
	if !f.force && vm.Mark() == nil {
		return noMachine(candidate{s, containervm.Member{VM: vm.Name, Ref: vm.Ref}})
	}
	if err := s.operator.Proven(vm, scope); err != nil {
		return err
	}
	plan, err := containervm.PlanRestore(vm, backup.differences())
	if err != nil {
		return err
	}
	answer := restored{DryRun: f.dryRun, VM: vm.Name, MoRef: vm.Ref.Value, ContainerID: backup.VM.ContainerID, VCH: s.host.Name, Changes: keyChanges(plan)}
	if f.output != outputJSON {
		if done, err := f.agreed(ctx, opts, answer, len(plan)); done || err != nil {
			return err
		}
	}
	if !f.dryRun {
		if plan, err = s.operator.RestoreMigration(ctx, vm, scope, backup.differences()); err != nil {
			return err
		}
		answer.Changes = keyChanges(plan)
	}
	if f.output == outputJSON {
		return writeJSON(opts.Stdout, answer)
	}
	return write(opts.Stdout, []byte(oneLine(fmt.Sprintf("restored %s of VM %q", countText(len(plan), "key", "keys"), vm.Name))+"\n"))
}

// agreed shows what is put back, and asks; done means that nothing is to be written.
func (f *migrateRestoreFlags) agreed(ctx context.Context, opts Options, answer restored, count int) (done bool, err error) {
	if count == 0 {
		return true, note(opts, "VM %q has all that the migration changed as it was before.", answer.VM)
	}
	lines := make([]string, 0, count)
	for _, c := range answer.Changes {
		lines = append(lines, c.line())
	}
	title := oneLine(fmt.Sprintf("VM %q (%s), VCH %s", answer.VM, answer.MoRef, answer.VCH)) + "\n"
	if err := write(opts.Stdout, []byte(title+indented("  ", lines))); err != nil {
		return false, err
	}
	switch {
	case f.dryRun:
		return true, note(opts, "Nothing was changed: without --dry-run, %s would be put back.", countText(count, "key", "keys"))
	case f.yes:
		return false, nil
	}
	yes, err := askFor(ctx, opts, "Put back "+countText(count, "key", "keys")+"?", "Nothing was written")
	return !yes, err
}

// findBackedUp returns the VM of a backup. Its moref may be another one by now.
func findBackedUp(ctx context.Context, sites []*site, unread error, backup *migrationBackup) (*site, *containervm.VM, error) {
	for _, s := range sites {
		if s.host.UUID != strings.ToLower(backup.VCH.UUID) {
			continue
		}
		for _, m := range s.members {
			if m.ContainerID != backup.VM.ContainerID {
				continue
			}
			vms, err := s.operator.ReadWhole(ctx, m.Ref)
			if err != nil {
				return nil, nil, err
			}
			if vm, ok := vms[m.Ref]; ok && vm.UUID == backup.VM.UUID {
				return s, vm, nil
			}
		}
	}
	err := errdefs.New(errdefs.NotFound, "the VM of the backup is not among the container VMs of %s: it was VM %q (%s) of VCH %s, with container id %s and BIOS UUID %s",
		hostsText(sites), backup.VM.Name, backup.VM.MoRef, backup.VCH.Name, backup.VM.ContainerID, backup.VM.UUID)
	if unread != nil {
		err = errdefs.Wrap(errdefs.KindOf(unread), unread, "%v; not all VCHs could be searched", err)
	}
	return nil, nil, err
}

// keyChanges are differences as they may be shown.
func keyChanges(differences []migration.Difference) []keyChange {
	out := make([]keyChange, 0, len(differences))
	for _, d := range differences {
		out = append(out, keyChange{Key: d.Key, Old: visibleValue(d.Key, d.Old), New: visibleValue(d.Key, d.New)})
	}
	return out
}
