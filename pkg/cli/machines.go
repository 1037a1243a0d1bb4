// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// machine is one line of machines ls. The JSON names are for scripts: they stay.
type machine struct {
	Machine     string `json:"machine"`
	ContainerID string `json:"containerID"`
	VM          string `json:"vm"`
	// Power is vSphere's word: poweredOn, poweredOff or suspended.
	Power string `json:"power"`
	// Started is "true", "" before the first word of the guest, or its error.
	Started    string   `json:"started"`
	Addresses  []string `json:"addresses"`
	VCH        string   `json:"vch"`
	Cluster    string   `json:"cluster"`
	Role       string   `json:"role"`
	MoRef      string   `json:"moref"`
	ProviderID string   `json:"providerID"`
	// Name is the container's, which vchctl rename changes.
	Name string `json:"name"`
	// DataVersion is the version of VIC's data that is stored.
	DataVersion int `json:"dataVersion"`
}

// The values of --output.
const (
	outputTable = ""
	outputWide  = "wide"
	outputJSON  = "json"
)

func machinesCommand(opts Options) *cobra.Command {
	return group("machines", "Look at the machines that the provider made", machinesListCommand(opts))
}

func machinesListCommand(opts Options) *cobra.Command {
	var connection connectionFlags
	var which vchFlags
	var output string
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the machines of one or all VCHs",
		Long: `List the machines of one or all VCHs.

A machine is a VM with the full mark of this provider, at the right place and with
the right ids: just what the driver would list, for all clusters.`,
		Example: `  vchctl machines ls --secret-file secret.yaml
  vchctl machines ls --datacenter dc-1 --vch vch-1 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains([]string{outputTable, outputWide, outputJSON}, output) {
				return errdefs.New(errdefs.InvalidArgument, "--output must be %s or %s, got %q", outputWide, outputJSON, output)
			}
			selector, err := which.selector(connection.govc(opts.Env))
			if err != nil {
				return err
			}
			return connection.client(cmd.Context(), opts, func(ctx context.Context, client *vcenter.Client) error {
				found, err := listMachines(ctx, opts, client, selector)
				if found == nil && err != nil {
					return err
				}
				// What could be read is shown, even if some VCH could not.
				return errors.Join(writeMachines(opts, output, found), err)
			})
		},
	}
	connection.add(cmd)
	which.add(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", outputTable, "wide (more columns) or json")
	return cmd
}

// listMachines lists the machines of the selected VCHs. With an error, machines
// is nil only if no VCH could be read at all.
func listMachines(ctx context.Context, opts Options, client *vcenter.Client, selector vchSelector) ([]machine, error) {
	hosts, err := selector.find(ctx, client)
	if len(hosts) == 0 {
		return nil, err
	}
	errs := []error{err}
	machines := []machine{}
	for _, host := range hosts {
		found, err := machinesOf(ctx, opts, client, host)
		if err != nil {
			errs = append(errs, err)
		}
		machines = append(machines, found...)
	}
	slices.SortFunc(machines, func(a, b machine) int {
		return cmp.Or(strings.Compare(a.VCH, b.VCH), strings.Compare(a.Cluster, b.Cluster), strings.Compare(a.Machine, b.Machine), strings.Compare(a.MoRef, b.MoRef))
	})
	return machines, errors.Join(errs...)
}

func machinesOf(ctx context.Context, opts Options, client *vcenter.Client, host *vch.Config) ([]machine, error) {
	operator := containervm.NewOperator(client, host, opts.migrations())
	listed, err := operator.List(ctx)
	if err != nil {
		return nil, err
	}
	vms, err := operator.Read(ctx, listed)
	if err != nil {
		return nil, err
	}
	machines := make([]machine, 0, len(listed))
	for _, m := range listed {
		vm, ok := vms[m.Ref]
		if !ok {
			continue // deleted meanwhile
		}
		line := machine{
			Machine: m.Mark.Machine, ContainerID: m.Identity.ContainerID, VM: vm.Name, Power: string(vm.PowerState), Started: vm.Started(),
			Addresses: []string{}, VCH: host.Name, Cluster: m.Mark.Cluster, Role: m.Mark.Role, MoRef: m.Ref.Value, ProviderID: m.Identity.ProviderID(),
			Name: vm.Keys[guestinfo.NameKey], DataVersion: vm.Data.Container.From,
		}
		for _, address := range vm.Addresses() {
			line.Addresses = append(line.Addresses, address.Address)
		}
		machines = append(machines, line)
	}
	return machines, nil
}

func writeMachines(opts Options, output string, machines []machine) error {
	if output == outputJSON {
		return writeJSON(opts.Stdout, machines)
	}
	if len(machines) == 0 {
		if _, err := fmt.Fprintln(opts.Stderr, "No machines found."); err != nil {
			return errdefs.Wrap(errdefs.Unavailable, err, "write the answer")
		}
		return nil
	}
	header := []string{"MACHINE", "CONTAINER ID", "VM", "POWER", "STARTED", "ADDRESS", "VCH", "CLUSTER"}
	if output == outputWide {
		header = append(header, "ROLE", "MOREF", "PROVIDER ID", "NAME", "DATA VERSION")
	}
	rows := [][]string{header}
	for _, m := range machines {
		row := []string{m.Machine, m.ContainerID, m.VM, m.Power, m.Started, strings.Join(m.Addresses, ","), m.VCH, m.Cluster}
		if output == outputWide {
			row = append(row, m.Role, m.MoRef, m.ProviderID, m.Name, strconv.Itoa(m.DataVersion))
		}
		rows = append(rows, row)
	}
	return writeTable(opts.Stdout, rows)
}
