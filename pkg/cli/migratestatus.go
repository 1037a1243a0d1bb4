// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

func migrateStatusCommand(opts Options) *cobra.Command {
	var flags containerFlags
	cmd := &cobra.Command{
		Use:   "status [VM...]",
		Short: "Show which VMs have data of older versions",
		Long: `Show the data versions of the container VMs of one or all VCHs, and of the VCHs' appliances:
what is stored, what it leads to, and whether the VM can be renamed. VMs are named
by their machine, container or VM name, container id or moref; without names it
shows all. Nothing is changed.

The state is "up to date", "needs migration", "newer" for data of a program that is newer
than this one, or "error" with the reason why it cannot be migrated.`,
		Example: `  vchctl migrate status --vch vch-1
  vchctl migrate status shoot-worker-0 -o json`,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := flags.checkWideOutput(); err != nil {
				return err
			}
			return flags.sites(cmd.Context(), opts, func(ctx context.Context, sites []*site, unread error) error {
				found, err := flags.subjects(ctx, opts, sites, names)
				status := make([]dataStatus, 0, len(found))
				for _, s := range found {
					status = append(status, s.dataStatus)
				}
				if err = errors.Join(unread, err); len(status) == 0 && flags.output != outputJSON {
					return noneFound(opts, err)
				}
				// What could be read is shown, whatever else could not.
				return errors.Join(writeStatus(opts, flags.output, status), err)
			})
		},
	}
	flags.add(cmd)
	flags.addWideOutput(cmd)
	return cmd
}

// noneFound says that there are no VMs, unless an error says more.
func noneFound(opts Options, err error) error {
	if err != nil {
		return err
	}
	return note(opts, "No VMs found.")
}

func writeStatus(opts Options, output string, status []dataStatus) error {
	if output == outputJSON {
		return writeJSON(opts.Stdout, status)
	}
	header := []string{"VM", "KIND", "MACHINE", "POWER", "DATA VERSION", "MARK FORMAT", "STATE", "RENAME", "VCH"}
	if output == outputWide {
		header = append(header, "CLUSTER", "NAME", "CONTAINER ID", "MOREF")
	}
	rows := [][]string{header}
	for _, s := range status {
		row := []string{s.VM, s.Kind, s.Machine, s.Power, versionCell(s.DataVersion, s.LatestDataVersion), versionCell(s.MarkFormat, s.LatestMarkFormat), s.stateText(), renameText(&s), s.VCH}
		if s.Kind != kindMachine {
			row[5] = ""
		}
		if output == outputWide {
			row = append(row, s.Cluster, s.Name, s.ContainerID, s.MoRef)
		}
		rows = append(rows, row)
	}
	return writeTable(opts.Stdout, rows)
}

// versionCell shows a stored version, and what it leads to if that is another one.
func versionCell(stored *int, latest int) string {
	switch {
	case stored == nil:
		return "? -> " + strconv.Itoa(latest)
	case *stored < latest:
		return strconv.Itoa(*stored) + " -> " + strconv.Itoa(latest)
	default:
		return strconv.Itoa(*stored)
	}
}

func (s *dataStatus) stateText() string {
	return strings.TrimSuffix(s.State+": "+s.Error, ": ")
}

func renameText(s *dataStatus) string {
	switch {
	case s.Kind == kindAppliance:
		return ""
	case s.Rename:
		return "yes"
	default:
		return "no"
	}
}
