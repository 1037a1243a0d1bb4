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
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
)

// renameFlags say which VM gets another name.
type renameFlags struct {
	containerFlags
	force bool
}

func renameCommand(opts Options) *cobra.Command {
	var flags renameFlags
	cmd := &cobra.Command{
		Use:   "rename MACHINE-OR-VM NEWNAME",
		Short: "Give a container VM another name",
		Long: `Give a container VM another name, as docker rename does: the name in vCenter, by the
name convention of the VCH, the container's name, and its aliases in networks. It
works on running VMs, too. The directory on the datastore, the host name and the
machine stay: its Machine, its provider id and its node are called as before.

The VM is named by its machine, container or VM name, container id or moref. Only machines
of this provider are renamed; with --force all container VMs that provably belong to
the VCH.

VMs with data of a version below 4 cannot be renamed; see vchctl migrate.`,
		Example: `  vchctl rename shoot-worker-0 edge-1 --vch vch-1
  vchctl rename vm-123 edge-1 --force`,
		Args: exactly(2, "MACHINE-OR-VM NEWNAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.checkOutput(); err != nil {
				return err
			}
			return flags.sites(cmd.Context(), opts, func(ctx context.Context, sites []*site, unread error) error {
				// Whether a name means one VM only can be told of all VCHs together.
				if unread != nil {
					return errdefs.Wrap(errdefs.KindOf(unread), unread, "not all VCHs could be searched; choose one with --vch")
				}
				return flags.rename(ctx, opts, sites, args[0], args[1])
			})
		},
	}
	flags.add(cmd)
	flags.addOutput(cmd)
	cmd.Flags().BoolVar(&flags.force, "force", false, "not only machines of this provider, but all container VMs of the VCH, those of docker, too")
	return cmd
}

// exactly is cobra.ExactArgs with a message that says what is wanted.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return errdefs.New(errdefs.InvalidArgument, "%s wants %s; see %s --help", cmd.CommandPath(), what, cmd.CommandPath())
		}
		return nil
	}
}

// renameAnswer is what rename says. The JSON names are for scripts: they stay.
type renameAnswer struct {
	VM          string `json:"vm"`
	OldVM       string `json:"oldVM"`
	Name        string `json:"name"`
	OldName     string `json:"oldName"`
	Renamed     bool   `json:"renamed"`
	Machine     string `json:"machine,omitempty"`
	Cluster     string `json:"cluster,omitempty"`
	ContainerID string `json:"containerID"`
	MoRef       string `json:"moref"`
	VCH         string `json:"vch"`
	// Directory stays as it is.
	Directory string `json:"directory,omitempty"`
	// Links are VMs that know the old name.
	Links []string `json:"links"`
}

func (f *renameFlags) rename(ctx context.Context, opts Options, sites []*site, which, name string) error {
	c, err := f.pick(sites, which)
	if err != nil {
		return err
	}
	scope := containervm.Machines
	if f.force {
		scope = containervm.Containers
	}
	vms, err := c.site.operator.ReadWhole(ctx, c.member.Ref)
	if err != nil {
		return err
	}
	vm, ok := vms[c.member.Ref]
	if !ok {
		return errdefs.New(errdefs.Aborted, "VM %q (%s) vanished meanwhile", c.member.VM, c.member.Ref.Value)
	}
	done, err := c.site.operator.Rename(ctx, vm, name, scope)
	if err != nil {
		return err
	}
	return f.answer(opts, c, newRenameAnswer(c, done, name))
}

// pick returns the one VM that is meant.
func (f *renameFlags) pick(sites []*site, which string) (candidate, error) {
	found := candidates(sites, which)
	if !f.force {
		if machines := machinesOnly(found); len(machines) > 0 {
			found = machines
		}
	}
	switch {
	case len(found) == 0:
		return candidate{}, f.notFound(sites, which)
	case len(found) > 1:
		return candidate{}, several(found, which)
	case !f.force && found[0].member.Mark == nil:
		return candidate{}, noMachine(found[0])
	}
	return found[0], nil
}

func newRenameAnswer(c candidate, done containervm.Renamed, name string) renameAnswer {
	before := done.VM
	a := renameAnswer{
		VM: done.Display, OldVM: before.Name, Name: name, OldName: before.Keys[guestinfo.NameKey],
		ContainerID: before.Keys[guestinfo.CommonIDKey], MoRef: before.Ref.Value, VCH: c.site.host.Name,
		Links: append([]string{}, done.Links...),
	}
	a.Renamed = a.VM != a.OldVM || a.Name != a.OldName
	a.Directory, _ = before.Directory()
	if mark := before.Mark(); mark != nil {
		a.Machine, a.Cluster = mark.Machine, mark.Cluster
	}
	return a
}

func (f *renameFlags) answer(opts Options, c candidate, a renameAnswer) error {
	var errs []error
	if f.output == outputJSON {
		errs = append(errs, writeJSON(opts.Stdout, a))
	} else {
		errs = append(errs, write(opts.Stdout, []byte(a.text())))
	}
	if f.force && a.Renamed {
		errs = append(errs, note(opts, "A VCH that runs shows the old name until its next restart: VCH %s was not told.", c.site.host.Name))
	}
	return errors.Join(errs...)
}

// text is the answer for people.
func (a renameAnswer) text() string {
	if !a.Renamed {
		return oneLine(fmt.Sprintf("VM %q has this name already", a.VM)) + "\n"
	}
	lines := []string{fmt.Sprintf("renamed VM %q to %q", a.OldVM, a.VM)}
	if a.Directory != "" {
		lines = append(lines, "its directory stays "+a.Directory)
	}
	if a.Machine != "" {
		lines = append(lines, fmt.Sprintf("it stays machine %s of cluster %s", a.Machine, a.Cluster))
	}
	if len(a.Links) > 0 {
		lines = append(lines, fmt.Sprintf("links still use the old name %q in %s", a.OldName, strings.Join(a.Links, ", ")))
	}
	for i, line := range lines {
		indent := ""
		if i > 0 {
			indent = "  "
		}
		lines[i] = indent + oneLine(line)
	}
	return strings.Join(lines, "\n") + "\n"
}
