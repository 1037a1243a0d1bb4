// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vch

import (
	"context"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// resolve adds what only vCenter knows: folder, datastores and the backings of the networks.
func (c *Config) resolve(ctx context.Context, client *vcenter.Client, dc types.ManagedObjectReference, parentVApp *types.ManagedObjectReference) error {
	pc := property.DefaultCollector(client.Vim())
	c.Datacenter = dc
	var d mo.Datacenter
	if err := pc.RetrieveOne(ctx, dc, []string{"name", "vmFolder", "datastore"}, &d); err != nil {
		return vcenter.Convert(err, "read datacenter %s", dc.Value)
	}
	if err := c.resolveFolder(ctx, pc, d.VmFolder, parentVApp); err != nil {
		return err
	}
	if err := c.resolveDatastores(ctx, pc, d.Datastore); err != nil {
		return err
	}
	return c.resolveNetworks(ctx, pc)
}

func (c *Config) resolveFolder(ctx context.Context, pc *property.Collector, root types.ManagedObjectReference, parentVApp *types.ManagedObjectReference) error {
	if c.Folder.Value == "" && parentVApp != nil {
		// VCHs of old releases live in a vApp; the vApp's folder is theirs (VIC, pkg/vsphere/vm/vm.go:152-185).
		var v mo.VirtualApp
		if err := pc.RetrieveOne(ctx, *parentVApp, []string{"parentFolder"}, &v); err != nil {
			return vcenter.Convert(err, "read vApp %s of VCH %s", parentVApp.Value, c.Name)
		}
		if v.ParentFolder != nil {
			c.Folder = *v.ParentFolder
		}
	}
	if c.Folder.Value == "" {
		return errdefs.New(errdefs.FailedPrecondition, "VCH %s stands in no VM folder", c.Name)
	}
	c.FolderIsRoot = c.Folder == root
	return nil
}

func (c *Config) resolveDatastores(ctx context.Context, pc *property.Collector, refs []types.ManagedObjectReference) error {
	if len(refs) == 0 {
		return errdefs.New(errdefs.FailedPrecondition, "the datacenter of VCH %s has no datastore", c.Name)
	}
	var stores []mo.Datastore
	if err := pc.Retrieve(ctx, refs, []string{"summary"}, &stores); err != nil {
		return vcenter.Convert(err, "read the datastores of VCH %s", c.Name)
	}
	for _, s := range stores {
		c.Datastores[s.Summary.Name] = Datastore{
			Ref: s.Self, Name: s.Summary.Name, Type: s.Summary.Type, VSAN: s.Summary.Type == string(types.HostFileSystemVolumeFileSystemTypeVsan),
			FreeBytes: s.Summary.FreeSpace, Accessible: s.Summary.Accessible,
		}
	}
	if _, ok := c.Datastores[c.ImageStore.Datastore]; !ok {
		return errdefs.New(errdefs.FailedPrecondition, "image store of VCH %s is on datastore %q, which its datacenter does not have", c.Name, c.ImageStore.Datastore)
	}
	return nil
}

// resolveNetworks finds the NIC backing of each network. A network that vCenter
// does not have (any more) stays without one: machines on other networks are
// not its victims.
func (c *Config) resolveNetworks(ctx context.Context, pc *property.Collector) error {
	groups := map[types.ManagedObjectReference]mo.DistributedVirtualPortgroup{}
	switches := map[types.ManagedObjectReference]string{}
	var refs []types.ManagedObjectReference
	for _, n := range c.Networks {
		if n.Ref.Type == "DistributedVirtualPortgroup" {
			refs = append(refs, n.Ref)
		}
	}
	if err := eachExisting(ctx, pc, refs, []string{"key", "config.distributedVirtualSwitch"}, func(g mo.DistributedVirtualPortgroup) {
		groups[g.Self] = g
		if s := g.Config.DistributedVirtualSwitch; s != nil {
			switches[*s] = ""
		}
	}); err != nil {
		return vcenter.Convert(err, "read the port groups of VCH %s", c.Name)
	}
	refs = refs[:0]
	for s := range switches {
		refs = append(refs, s)
	}
	if err := eachExisting(ctx, pc, refs, []string{"uuid"}, func(s mo.DistributedVirtualSwitch) { switches[s.Self] = s.Uuid }); err != nil {
		return vcenter.Convert(err, "read the switches of VCH %s", c.Name)
	}
	for name, n := range c.Networks {
		var err error
		switch n.Ref.Type {
		case "DistributedVirtualPortgroup":
			if g, ok := groups[n.Ref]; ok && g.Config.DistributedVirtualSwitch != nil {
				n.Backing = &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{
					Port: types.DistributedVirtualSwitchPortConnection{PortgroupKey: g.Key, SwitchUuid: switches[*g.Config.DistributedVirtualSwitch]},
				}
			}
		case "OpaqueNetwork":
			n.Backing, err = opaqueBacking(ctx, pc, n.Ref)
		case "Network":
			n.Backing, err = standardBacking(ctx, pc, n.Ref)
		}
		if err != nil {
			return vcenter.Convert(err, "read network %s of VCH %s", name, c.Name)
		}
		c.Networks[name] = n
	}
	return nil
}

// opaqueBacking serves NSX-T networks.
func opaqueBacking(ctx context.Context, pc *property.Collector, ref types.ManagedObjectReference) (types.BaseVirtualDeviceBackingInfo, error) {
	var backing types.BaseVirtualDeviceBackingInfo
	err := eachExisting(ctx, pc, []types.ManagedObjectReference{ref}, []string{"summary"}, func(n mo.OpaqueNetwork) {
		if s, ok := n.Summary.(*types.OpaqueNetworkSummary); ok {
			backing = &types.VirtualEthernetCardOpaqueNetworkBackingInfo{OpaqueNetworkId: s.OpaqueNetworkId, OpaqueNetworkType: s.OpaqueNetworkType}
		}
	})
	return backing, err
}

// standardBacking serves standard port groups, which VIC allows on ESXi only.
func standardBacking(ctx context.Context, pc *property.Collector, ref types.ManagedObjectReference) (types.BaseVirtualDeviceBackingInfo, error) {
	var backing types.BaseVirtualDeviceBackingInfo
	err := eachExisting(ctx, pc, []types.ManagedObjectReference{ref}, []string{"name"}, func(n mo.Network) {
		backing = &types.VirtualEthernetCardNetworkBackingInfo{
			VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: n.Name},
			Network:                        &ref,
		}
	})
	return backing, err
}

// eachExisting reads properties of those of refs that exist, in one call when
// all do. One vanished object makes the whole read fail, so then each is read by itself.
func eachExisting[T any](ctx context.Context, pc *property.Collector, refs []types.ManagedObjectReference, props []string, visit func(T)) error {
	if len(refs) == 0 {
		return nil
	}
	var all []T
	err := pc.Retrieve(ctx, refs, props, &all)
	if err != nil && !vcenter.IsManagedObjectNotFound(err) {
		return err
	}
	if err != nil {
		all = all[:0]
		for _, ref := range refs {
			var one []T
			switch err := pc.Retrieve(ctx, []types.ManagedObjectReference{ref}, props, &one); {
			case vcenter.IsManagedObjectNotFound(err):
			case err != nil:
				return err
			default:
				all = append(all, one...)
			}
		}
	}
	for _, o := range all {
		visit(o)
	}
	return nil
}
