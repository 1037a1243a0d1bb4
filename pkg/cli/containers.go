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
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// containerFlags are what all commands have that are about single container VMs.
type containerFlags struct {
	hostFlags
	cluster string
}

func (f *containerFlags) add(cmd *cobra.Command) {
	f.hostFlags.add(cmd)
	cmd.Flags().StringVar(&f.cluster, "cluster", "", "only machines of this cluster")
}

// site is a VCH with all its container VMs.
type site struct {
	client   *vcenter.Client
	host     *vch.Config
	operator *containervm.Operator
	members  []containervm.Member
}

// sites runs fn with the VCHs of the selection, sorted by name, and with why others could
// not be read. fn is not called if none could.
func (f *containerFlags) sites(ctx context.Context, opts Options, fn func(context.Context, []*site, error) error) error {
	return f.hosts(ctx, opts, func(ctx context.Context, client *vcenter.Client, hosts []*vch.Config, unread error) error {
		errs := []error{unread}
		var sites []*site
		for _, host := range hosts {
			s := &site{client: client, host: host, operator: containervm.NewOperator(client, host, opts.migrations())}
			var err error
			if s.members, err = s.operator.Members(ctx); err != nil {
				errs = append(errs, err)
				continue
			}
			if f.cluster != "" {
				s.members = ofCluster(s.members, f.cluster)
			}
			sites = append(sites, s)
		}
		if len(sites) == 0 {
			return errors.Join(errs...)
		}
		return fn(ctx, sites, errors.Join(errs...))
	})
}

// ofCluster returns the machines of a cluster.
func ofCluster(members []containervm.Member, cluster string) []containervm.Member {
	var out []containervm.Member
	for _, m := range members {
		if m.Mark != nil && m.Mark.Cluster == cluster {
			out = append(out, m)
		}
	}
	return out
}

// candidate is a container VM that a name means.
type candidate struct {
	site   *site
	member containervm.Member
}

// candidates returns the container VMs that a name means: the machine's or the
// container's name, the display name, the container id, long or short, or the moref. Only
// exact matches count.
func candidates(sites []*site, name string) []candidate {
	var out []candidate
	for _, s := range sites {
		for _, m := range s.members {
			if means(name, m) {
				out = append(out, candidate{s, m})
			}
		}
	}
	return out
}

func means(name string, m containervm.Member) bool {
	if name == "" {
		return false
	}
	short := m.ContainerID[:min(identity.ShortLength, len(m.ContainerID))]
	return m.Mark != nil && m.Mark.Machine == name || m.Name == name || m.VM == name || m.ContainerID == name || short == name ||
		m.Ref.Value == strings.TrimPrefix(name, vmPrefix)
}

// notFound says what was looked for, and where.
func (f *containerFlags) notFound(sites []*site, name string) error {
	where := ""
	if f.cluster != "" {
		where = " of cluster " + f.cluster
	}
	return errdefs.New(errdefs.NotFound, "no container VM%s of %s has the machine name, container name, VM name, container id or moref %q", where, hostsText(sites), name)
}

// several says which VMs a name means, and how to be precise.
func several(found []candidate, name string) error {
	texts := make([]string, 0, len(found))
	for _, c := range found {
		text := fmt.Sprintf("VM %q (%s) of VCH %s", c.member.VM, c.member.Ref.Value, c.site.host.Name)
		if m := c.member.Mark; m != nil {
			text += fmt.Sprintf(", machine %s of cluster %s", m.Machine, m.Cluster)
		}
		texts = append(texts, text)
	}
	return errdefs.New(errdefs.OutOfRange, "%q means %d container VMs: %s; give the VM's name or moref, or choose with --cluster or --vch", name, len(found), strings.Join(texts, "; "))
}

func hostsText(sites []*site) string {
	names := make([]string, 0, len(sites))
	for _, s := range sites {
		names = append(names, s.host.Name)
	}
	if len(names) == 1 {
		return "VCH " + names[0]
	}
	return "VCHs " + strings.Join(names, ", ")
}

// machinesOnly leaves out what is no machine of this provider.
func machinesOnly(found []candidate) []candidate {
	var out []candidate
	for _, c := range found {
		if c.member.Mark != nil {
			out = append(out, c)
		}
	}
	return out
}

// noMachine is the answer for container VMs that only --force is for.
func noMachine(c candidate) error {
	return errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) of VCH %s is no machine of this provider; with --force it is changed all the same, if it provably is a container VM of the VCH", c.member.VM, c.member.Ref.Value, c.site.host.Name)
}
