// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

// execVersion is the data version from which on VIC takes a guest for one that it can
// attach to (VIC, lib/migration/feature/feature.go:17-39).
const execVersion = 6

func migratePlanCommand(opts Options) *cobra.Command {
	var flags containerFlags
	var offline offlinePlan
	var all bool
	cmd := &cobra.Command{
		Use:   "plan [VM...]",
		Short: "Show what a migration would change, key by key",
		Long: `Show what a migration would change of VMs, key by key, and what of it can be written
now. Without names it shows all VMs that need something. Secrets are hidden, and all
values that are not known to be harmless. Nothing is changed.

The appliance of a VCH is shown, too; it is vic-machine upgrade that writes it.

With --file, the keys are those of a JSON object of texts, - for the standard input, and
no vCenter is asked. Empty values may be "" or "<nil>". With -o json the answer is the
migrated object, with all its values: it is your own file.`,
		Example: `  vchctl migrate plan --vch vch-1
  vchctl migrate plan shoot-worker-0 -o json
  vchctl migrate plan --file keys.json --target container --output json`,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := flags.checkOutput(); err != nil {
				return err
			}
			if cmd.Flags().Changed("file") {
				if len(names) > 0 {
					return errdefs.New(errdefs.InvalidArgument, "with --file no VM is asked for, got %q", names[0])
				}
				offline.output = flags.output
				return offline.run(opts)
			}
			if all && len(names) > 0 {
				return errdefs.New(errdefs.InvalidArgument, "give names of VMs or --all, not both")
			}
			return flags.sites(cmd.Context(), opts, func(ctx context.Context, sites []*site, unread error) error {
				found, err := flags.subjects(ctx, opts, sites, names)
				plans := plansOf(found)
				if err = errors.Join(unread, err); len(plans) == 0 && flags.output != outputJSON {
					return noneFound(opts, err)
				}
				return errors.Join(writePlans(opts, flags.output, plans, len(names) > 0), err)
			})
		},
	}
	flags.add(cmd)
	flags.addOutput(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "all VMs, as without names")
	cmd.Flags().StringVar(&offline.file, "file", "", "migrate the keys of this JSON file instead, - for the standard input")
	cmd.Flags().StringVar(&offline.target, "target", "", "with --file: container or appliance")
	for _, flag := range []string{"all", "vch", "datacenter", "provider-spec", "cluster", "secret-file"} {
		cmd.MarkFlagsMutuallyExclusive("file", flag)
	}
	cmd.MarkFlagsRequiredTogether("file", "target")
	return cmd
}

// dataPlan is what a migration would change of a VM. The JSON names are for scripts: they stay.
type dataPlan struct {
	dataStatus
	// Steps are the plugins that have something to do.
	Steps []keyStep `json:"steps"`
	// Waits says why keys cannot be written now, if there are such.
	Waits string   `json:"waits,omitempty"`
	Notes []string `json:"notes"`
}

// planned is a subject with its plan.
type planned struct {
	*subject
	plan dataPlan
	// write is what would be written, for container VMs, and refused why nothing can be.
	write   containervm.MigrationPlan
	refused error
}

// plansOf plans the migration of VMs.
func plansOf(subjects []*subject) []planned {
	out := make([]planned, 0, len(subjects))
	for _, s := range subjects {
		out = append(out, planOf(s))
	}
	return out
}

// planOf is pure.
func planOf(s *subject) planned {
	p := planned{subject: s, plan: dataPlan{dataStatus: s.dataStatus, Steps: []keyStep{}, Notes: []string{}}}
	var err error
	if s.vm != nil {
		p.write, err = containervm.PlanMigration(s.vm)
	} else if err = s.failed; err == nil {
		err = s.outcomes[0].Writable(fmt.Sprintf("the appliance of VCH %s (%s)", s.Name, s.MoRef))
	}
	if err != nil {
		p.refused, p.plan.Error = err, err.Error()
		if p.plan.State != dataNewer {
			p.plan.State = dataError
		}
		return p
	}
	if s.State != dataOld {
		return p
	}
	p.plan.Steps, p.plan.Waits = keySteps(s.stored, s.outcomes, p.write.Later), p.write.Why
	switch s.Kind {
	case kindAppliance:
		p.plan.Notes = append(p.plan.Notes, "vchctl does not write it: vic-machine upgrade does")
	case kindContainer:
		p.plan.Notes = append(p.plan.Notes, "it is no machine of this provider: it is written with --force only")
	}
	if s.vm != nil {
		p.plan.Notes = append(p.plan.Notes, isoNotes(s)...)
	}
	return p
}

// isoNotes tells if a VM has other programs than those of its VCH.
func isoNotes(s *subject) []string {
	iso := s.vm.ISO
	if iso == "" || iso == s.site.host.BootstrapISO {
		return nil
	}
	text := fmt.Sprintf("it boots %s, and machines of today %s: a migration does not renew the programs of its guest", iso, s.site.host.BootstrapISO)
	if o := s.outcomes[0]; o.From < execVersion && o.To >= execVersion {
		text += fmt.Sprintf("; VIC takes data version %d and above for a guest that can exec", execVersion)
	}
	return []string{text}
}

// writePlans shows plans. VMs that need nothing are only counted, unless they were named.
func writePlans(opts Options, output string, plans []planned, named bool) error {
	if output == outputJSON {
		all := make([]dataPlan, 0, len(plans))
		for i := range plans {
			all = append(all, plans[i].plan)
		}
		return writeJSON(opts.Stdout, all)
	}
	idle := 0
	for i := range plans {
		p := &plans[i].plan
		if p.State == dataUpToDate && !named {
			idle++
			continue
		}
		if err := write(opts.Stdout, []byte(p.text(plans[i].outcomes))); err != nil {
			return err
		}
	}
	if idle > 0 {
		return note(opts, "%s up to date.", countText(idle, "VM is", "VMs are"))
	}
	return nil
}

// text is a plan for people.
func (p *dataPlan) text(outcomes []migration.Outcome) string {
	var lines []string
	switch p.State {
	case dataOld:
		lines = append([]string{versionsText(outcomes)}, stepLines(p.Steps)...)
		switch {
		case p.Waits != "":
			lines = append(lines, oneLine(p.waitingText()))
		case p.Kind != kindAppliance:
			lines = append(lines, "all of it can be written now")
		}
	case dataUpToDate:
		lines = []string{versionsText(outcomes) + ": up to date"}
	default:
		lines = []string{oneLine(p.stateText())}
	}
	for _, text := range p.Notes {
		lines = append(lines, "note: "+oneLine(text))
	}
	return oneLine(p.title()) + "\n" + indented("  ", lines)
}

// waitingText says what cannot be written now, and why.
func (p *dataPlan) waitingText() string {
	waiting, count := 0, 0
	for _, s := range p.Steps {
		for _, c := range s.Changes {
			count++
			if c.Waits {
				waiting++
			}
		}
	}
	if waiting == count {
		return "nothing of it can be written now: " + p.Waits
	}
	return fmt.Sprintf("%d of %d keys cannot be written now: %s", waiting, count, p.Waits)
}

// title names a VM.
func (s *dataStatus) title() string {
	text := fmt.Sprintf("VM %q (%s), ", s.VM, s.MoRef)
	switch s.Kind {
	case kindAppliance:
		text += "appliance"
	case kindMachine:
		text += fmt.Sprintf("machine %s of cluster %s", s.Machine, s.Cluster)
	default:
		text += "container " + s.Name
	}
	return text + fmt.Sprintf(", VCH %s, %s", s.VCH, s.Power)
}
