// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package contender

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// planner makes the same plans as the backend, from a configuration of the VCH that
// was read once.
type planner struct {
	site          Site
	spec          *v1alpha1.ProviderSpec
	host          *vch.Config
	cluster, role string
	// folder, pool and network are inventory paths.
	folder, pool, network string
}

func newPlanner(ctx context.Context, site Site, spec *v1alpha1.ProviderSpec) (p *planner, err error) {
	p = &planner{site: site, spec: spec}
	if p.cluster, p.role, err = identity.Tags(spec.Tags); err != nil {
		return nil, err
	}
	pool := vcenter.NewPool(vcenter.Options{})
	defer func() { err = errors.Join(err, pool.Close(ctx)) }()
	config, err := vcenter.ConfigFromSecret(site.secret().Data)
	if err != nil {
		return nil, err
	}
	client, err := pool.Client(ctx, config)
	if err != nil {
		return nil, err
	}
	if p.host, err = vch.Find(ctx, client, spec.VCH); err != nil {
		return nil, err
	}
	network, ok := p.host.Networks[spec.Networks[0].Name]
	if !ok {
		return nil, fmt.Errorf("the VCH has no network %s", spec.Networks[0].Name)
	}
	for ref, path := range map[types.ManagedObjectReference]*string{p.host.Folder: &p.folder, p.host.Pool: &p.pool, network.Ref: &p.network} {
		if *path, err = inventoryPath(ctx, client.Vim(), ref); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func inventoryPath(ctx context.Context, client *vim25.Client, ref types.ManagedObjectReference) (string, error) {
	path, err := find.InventoryPath(ctx, client, ref)
	if err != nil {
		return "", fmt.Errorf("find the path of %s: %w", ref.Value, err)
	}
	return path, nil
}

// machine is a planned one.
type machine struct {
	id identity.Identity
	// display is the VM's name, path where the inventory has it, dir its directory.
	display, path, dir string
}

func (p *planner) machine(name string) (machine, error) {
	id, err := identity.New(p.host.UUID, p.cluster, name)
	if err != nil {
		return machine{}, err
	}
	dir, known := containervm.Directory(p.spec, p.host, id)
	if !known {
		return machine{}, fmt.Errorf("the directory of machine %s cannot be known", name)
	}
	display := containervm.DisplayName(p.host.NameConvention, name, id.ContainerID)
	return machine{id: id, display: display, path: p.folder + "/" + display, dir: dir}, nil
}

func (p *planner) plan(name string, m machine) (*types.VirtualMachineConfigSpec, error) {
	return containervm.Plan(containervm.Request{
		Machine: name, Identity: m.id, Spec: p.spec, Secret: p.site.secret().Data, VCH: p.host,
		HostKey: p.site.HostKey, Now: time.Now(), ProviderVersion: "bench",
	})
}

// started is the property by which a guest says that its process runs.
func (m machine) started() string { return vch.KeyProperty(guestinfo.StartedKey(m.id.ContainerID)) }

// isStarted says whether a guest said so.
func isStarted(val types.AnyType) bool { return vch.KeyValue(val) == guestinfo.StartedTrue }
