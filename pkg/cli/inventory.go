// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// vmPrefix begins a reference to a VM in text form.
const vmPrefix = "VirtualMachine:"

// vmRow is one VM of the whole inventory.
type vmRow struct {
	ref  types.ManagedObjectReference
	name string
	// vchID is the key that makes a VM an appliance.
	vchID string
}

// allVMs reads the name of every VM, and whether it is an appliance, in three
// calls. Unlike the driver, an operator may not know where to look.
func allVMs(ctx context.Context, client *vcenter.Client) (rows []vmRow, err error) {
	vim := client.Vim()
	all, err := view.NewManager(vim).CreateContainerView(ctx, vim.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		return nil, vcenter.Convert(err, "list all VMs")
	}
	defer func() {
		if destroyErr := all.Destroy(ctx); destroyErr != nil && err == nil {
			err = vcenter.Convert(destroyErr, "end the list of all VMs")
		}
	}()
	idKey := vch.KeyProperty(guestinfo.VCHIDKey)
	var content []types.ObjectContent
	if err := all.Retrieve(ctx, []string{"VirtualMachine"}, []string{"name", idKey}, &content); err != nil {
		return nil, vcenter.Convert(err, "read the names of all VMs")
	}
	for _, c := range content {
		row := vmRow{ref: c.Obj}
		for _, p := range c.PropSet {
			switch p.Name {
			case "name":
				row.name, _ = p.Val.(string)
			case idKey:
				row.vchID = vch.KeyValue(p.Val)
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// findVM returns the VM of an inventory path, a name, or a moref. A name must
// be unique in the vCenter.
func findVM(ctx context.Context, client *vcenter.Client, name string) (types.ManagedObjectReference, error) {
	vim := client.Vim()
	if strings.HasPrefix(name, "/") {
		res, err := methods.FindByInventoryPath(ctx, vim, &types.FindByInventoryPath{This: *vim.ServiceContent.SearchIndex, InventoryPath: strings.Trim(name, "/")})
		if err != nil {
			return types.ManagedObjectReference{}, vcenter.Convert(err, "look up VM %s", name)
		}
		if res.Returnval == nil || res.Returnval.Type != "VirtualMachine" {
			return types.ManagedObjectReference{}, errdefs.New(errdefs.NotFound, "no VM at the inventory path %s", name)
		}
		return *res.Returnval, nil
	}
	rows, err := allVMs(ctx, client)
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	var found []types.ManagedObjectReference
	for _, row := range rows {
		if row.name == name || row.ref.Value == strings.TrimPrefix(name, vmPrefix) {
			found = append(found, row.ref)
		}
	}
	switch len(found) {
	case 0:
		return types.ManagedObjectReference{}, errdefs.New(errdefs.NotFound, "no VM %q; give its name, inventory path or moref", name)
	case 1:
		return found[0], nil
	default:
		return types.ManagedObjectReference{}, errdefs.New(errdefs.OutOfRange, "%d VMs are called %q (%s, %s, ...); give the inventory path or the moref", len(found), name, found[0].Value, found[1].Value)
	}
}

// readKeysOf reads the ExtraConfig of a VM.
func readKeysOf(ctx context.Context, client *vcenter.Client, ref types.ManagedObjectReference) (map[string]string, error) {
	var vm mo.VirtualMachine
	if err := property.DefaultCollector(client.Vim()).RetrieveOne(ctx, ref, []string{"config.extraConfig"}, &vm); err != nil {
		return nil, vcenter.Convert(err, "read the configuration of VM %s", ref.Value)
	}
	if vm.Config == nil {
		return nil, errdefs.New(errdefs.FailedPrecondition, "VM %s has no configuration that could be read: it is inaccessible, or the privilege System.Read is missing", ref.Value)
	}
	return vch.Keys(vm.Config.ExtraConfig), nil
}

// vchSelector says which VCHs a command is about; empty is all.
type vchSelector struct {
	datacenter string
	vch        string
}

// reference returns the selection as a ProviderSpec would make it, if it is complete.
func (s vchSelector) reference() (ref v1alpha1.VirtualContainerHost, complete bool) {
	ref = v1alpha1.VirtualContainerHost{Datacenter: s.datacenter}
	switch {
	case strings.HasPrefix(s.vch, "/"):
		ref.Path = s.vch
	case strings.HasPrefix(s.vch, vmPrefix):
		ref.MoRef = strings.TrimPrefix(s.vch, vmPrefix)
	default:
		ref.Name = s.vch
	}
	return ref, s.datacenter != "" && s.vch != ""
}

// find returns the VCHs of the selection, sorted by name. VCHs that cannot be
// read are in the error; those that can are returned nevertheless. None at all
// is NotFound.
func (s vchSelector) find(ctx context.Context, client *vcenter.Client) ([]*vch.Config, error) {
	if ref, complete := s.reference(); complete {
		config, err := vch.Find(ctx, client, ref)
		if err != nil {
			return nil, err
		}
		return []*vch.Config{config}, nil
	}
	rows, err := allVMs(ctx, client)
	if err != nil {
		return nil, err
	}
	var configs []*vch.Config
	var errs []error
	seen := 0
	for _, row := range rows {
		// VIC's own test: the key names the VM that holds it.
		if row.vchID != row.ref.String() {
			continue
		}
		place, err := locate(ctx, client, row.ref)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !s.selects(row, place) {
			continue
		}
		seen++
		config, err := vch.Find(ctx, client, v1alpha1.VirtualContainerHost{Datacenter: place.datacenter, MoRef: row.ref.Value})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		configs = append(configs, config)
	}
	if seen == 0 && len(errs) == 0 {
		return nil, errdefs.New(errdefs.NotFound, "no VCH%s in this vCenter that the user may see", s)
	}
	slices.SortFunc(configs, func(a, b *vch.Config) int { return strings.Compare(a.Name+"\x00"+a.UUID, b.Name+"\x00"+b.UUID) })
	return configs, errors.Join(errs...)
}

// one is find for commands that need exactly one VCH.
func (s vchSelector) one(ctx context.Context, client *vcenter.Client) (*vch.Config, error) {
	hosts, err := s.find(ctx, client)
	if err != nil {
		return nil, err
	}
	if len(hosts) > 1 {
		return nil, errdefs.New(errdefs.InvalidArgument, "there are %d VCHs, for example %s and %s; choose one with --vch", len(hosts), hosts[0].Name, hosts[1].Name)
	}
	return hosts[0], nil
}

// String describes the selection for messages.
func (s vchSelector) String() string {
	out := ""
	if s.vch != "" {
		out += " " + s.vch
	}
	if s.datacenter != "" {
		out += " in datacenter " + s.datacenter
	}
	return out
}

func (s vchSelector) selects(row vmRow, at location) bool {
	ref, _ := s.reference()
	switch {
	case s.datacenter != "" && strings.Trim(s.datacenter, "/") != strings.Trim(at.datacenter, "/") && s.datacenter != at.datacenterName:
		return false
	case ref.Path != "":
		return strings.Trim(ref.Path, "/") == strings.Trim(at.path, "/")
	case ref.MoRef != "":
		return ref.MoRef == row.ref.Value
	default:
		return ref.Name == "" || ref.Name == row.name
	}
}

// location is where an object stands in the inventory.
type location struct {
	// path is the inventory path.
	path string
	// datacenter is the inventory path of the datacenter, datacenterName its name.
	datacenter, datacenterName string
}

func locate(ctx context.Context, client *vcenter.Client, ref types.ManagedObjectReference) (location, error) {
	vim := client.Vim()
	chain, err := mo.Ancestors(ctx, vim, vim.ServiceContent.PropertyCollector, ref)
	if err != nil {
		return location{}, vcenter.Convert(err, "find out where VM %s stands", ref.Value)
	}
	var at location
	for _, entity := range chain {
		if entity.Self == vim.ServiceContent.RootFolder {
			continue
		}
		at.path += "/" + entity.Name
		if entity.Self.Type == "Datacenter" {
			at.datacenter, at.datacenterName = at.path, entity.Name
		}
	}
	if at.datacenter == "" {
		return location{}, errdefs.New(errdefs.PermissionDenied, "the datacenter of VM %s cannot be seen; the user needs System.View there", ref.Value)
	}
	return at, nil
}
