// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vch

import (
	"context"
	"path"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration/plugins"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// Find resolves ref, proves that it is a VCH and reads its configuration, in at
// most eight calls whatever the size of the inventory.
//
// NotFound: no such datacenter or VM. FailedPrecondition: the VM is no VCH, or
// its configuration lacks what container VMs need; the text names the part.
func Find(ctx context.Context, client *vcenter.Client, ref v1alpha1.VirtualContainerHost) (*Config, error) {
	dc, err := findDatacenter(ctx, client, ref.Datacenter)
	if err != nil {
		return nil, err
	}
	var found *appliance
	for _, locate := range locators(client, ref) {
		vm, err := locate(ctx)
		if err != nil {
			return nil, err
		}
		if vm == nil {
			continue
		}
		if found, err = readAppliance(ctx, client, *vm); err != nil {
			return nil, err
		}
		if found.isVCH() {
			break
		}
	}
	if found == nil {
		return nil, errdefs.New(errdefs.NotFound, "no VM for VCH %s in datacenter %q; give vch.path or vch.moref if it was moved", describe(ref), ref.Datacenter)
	}
	cfg, err := found.config()
	if err != nil {
		return nil, err
	}
	cfg.DatacenterPath = "/" + strings.Trim(ref.Datacenter, "/")
	if err := cfg.resolve(ctx, client, dc, found.parentVApp); err != nil {
		return nil, err
	}
	return cfg, nil
}

func describe(ref v1alpha1.VirtualContainerHost) string {
	switch {
	case ref.MoRef != "":
		return "moref " + ref.MoRef
	case ref.Path != "":
		return "path " + ref.Path
	default:
		return ref.Name
	}
}

func findDatacenter(ctx context.Context, client *vcenter.Client, name string) (types.ManagedObjectReference, error) {
	ref, err := byInventoryPath(ctx, client, strings.Trim(name, "/"))
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	if ref == nil || ref.Type != "Datacenter" {
		return types.ManagedObjectReference{}, errdefs.New(errdefs.NotFound, "no datacenter %q; for a datacenter in a folder give its inventory path, for example /folder/dc-1", name)
	}
	return *ref, nil
}

type locator func(context.Context) (*types.ManagedObjectReference, error)

// locators returns the places to look at, in order. A VCH on vCenter has a
// folder of its own; old ones stand in the datacenter's VM folder.
func locators(client *vcenter.Client, ref v1alpha1.VirtualContainerHost) []locator {
	at := func(p string) locator {
		return func(ctx context.Context) (*types.ManagedObjectReference, error) {
			r, err := byInventoryPath(ctx, client, p)
			if r != nil && r.Type != "VirtualMachine" {
				r = nil
			}
			return r, err
		}
	}
	switch {
	case ref.MoRef != "":
		return []locator{func(context.Context) (*types.ManagedObjectReference, error) {
			return &types.ManagedObjectReference{Type: "VirtualMachine", Value: strings.TrimPrefix(ref.MoRef, "VirtualMachine:")}, nil
		}}
	case ref.Path != "":
		return []locator{at(strings.Trim(ref.Path, "/"))}
	default:
		// A slash in a name is written %2f in inventory paths.
		name, dc := strings.ReplaceAll(ref.Name, "/", "%2f"), strings.Trim(ref.Datacenter, "/")
		return []locator{at(dc + "/vm/" + name + "/" + name), at(dc + "/vm/" + name)}
	}
}

func byInventoryPath(ctx context.Context, client *vcenter.Client, inventoryPath string) (*types.ManagedObjectReference, error) {
	vim := client.Vim()
	res, err := methods.FindByInventoryPath(ctx, vim, &types.FindByInventoryPath{This: *vim.ServiceContent.SearchIndex, InventoryPath: inventoryPath})
	if err != nil {
		return nil, vcenter.Convert(err, "look up inventory path %s", inventoryPath)
	}
	return res.Returnval, nil
}

type appliance struct {
	mo         mo.VirtualMachine
	keys       map[string]string
	parentVApp *types.ManagedObjectReference
}

func readAppliance(ctx context.Context, client *vcenter.Client, ref types.ManagedObjectReference) (*appliance, error) {
	a := &appliance{}
	// One property per leaf: an inaccessible VM has no config at all.
	err := property.DefaultCollector(client.Vim()).RetrieveOne(ctx, ref, []string{"name", "parent", "parentVApp", "resourcePool", "config.uuid", "config.files.vmPathName", "config.extraConfig"}, &a.mo)
	if vcenter.IsManagedObjectNotFound(err) {
		return nil, errdefs.Wrap(errdefs.NotFound, err, "read appliance VM %s", ref.Value)
	}
	if err != nil {
		return nil, vcenter.Convert(err, "read appliance VM %s", ref.Value)
	}
	a.parentVApp = a.mo.ParentVApp
	a.keys = map[string]string{}
	if a.mo.Config != nil {
		a.keys = Keys(a.mo.Config.ExtraConfig)
	}
	return a, nil
}

// Keys returns ExtraConfig as a map. Values that are not text are left out:
// neither VIC nor this provider writes any.
func Keys(options []types.BaseOptionValue) map[string]string {
	m := make(map[string]string, len(options))
	for _, o := range options {
		if v, ok := o.GetOptionValue().Value.(string); ok {
			m[o.GetOptionValue().Key] = v
		}
	}
	return m
}

// isVCH is VIC's own test: the configuration names the VM that holds it
// (lib/install/management/appliance.go:73-94).
func (a *appliance) isVCH() bool { return a.keys[guestinfo.VCHIDKey] == a.mo.Self.String() }

func (a *appliance) config() (*Config, error) {
	fail := func(format string, args ...any) error {
		return errdefs.New(errdefs.FailedPrecondition, "VM %s (%s): "+format, append([]any{a.mo.Name, a.mo.Self.Value}, args...)...)
	}
	if !a.isVCH() {
		return nil, fail("is not a VCH: %s is %q, it should be %q", guestinfo.VCHIDKey, a.keys[guestinfo.VCHIDKey], a.mo.Self.String())
	}
	// Old data is read as the code of today has it. What cannot be migrated is read as it is.
	data, migrationErr := plugins.Shipped().Migrate(migration.Appliance, guestinfo.FromOptionValues(a.keys))
	g, err := guestinfo.DecodeVCH(data.Keys)
	if err != nil {
		return nil, errdefs.Wrap(errdefs.FailedPrecondition, err, "decode the configuration of VCH %s", a.mo.Name)
	}
	c := fromGuestinfo(g)
	c.Data, c.MigrationError = data, migrationErr
	c.KVStores = kvStores(c.ImageStore.Datastore, a.mo.Config.Files.VmPathName)
	c.Appliance, c.Name, c.UUID = a.mo.Self, a.mo.Name, strings.ToLower(a.mo.Config.Uuid)
	if a.mo.Parent != nil {
		c.Folder = *a.mo.Parent
	}
	switch {
	case c.UUID == "":
		return nil, fail("has no BIOS UUID")
	case c.Pool.Value == "":
		return nil, fail("its configuration names no resource pool (container/ComputeResources)")
	case c.BootstrapISO == "":
		return nil, fail("its configuration names no bootstrap ISO (container/bootstrap_image_path)")
	case c.ImageStore.Datastore == "":
		return nil, fail("its configuration names no image store (storage/image_stores)")
	}
	return c, nil
}

// kvStores is where the port layer keeps its key/value stores: in the appliance's
// directory, but always on the datastore of the image store (VIC, lib/portlayer/portlayer.go:54-90).
func kvStores(datastore, vmx string) StorePath {
	var p object.DatastorePath
	if !p.FromString(vmx) || path.Ext(p.Path) != ".vmx" {
		return StorePath{}
	}
	return StorePath{Datastore: datastore, Path: path.Join(path.Dir(p.Path), "kvStores")}
}
