// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"context"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// configProperty is one that every VM has whose configuration vCenter knows.
const configProperty = "config.uuid"

// fileProperties are what tells the files of VMs.
func fileProperties() []string {
	return []string{"name", "runtime.connectionState", "config.hardware.device", "layoutEx.file", "snapshot"}
}

func properties(keys []string) []string {
	all := make([]string, 0, len(keys))
	for _, key := range keys {
		all = append(all, vcenter.ExtraConfigProperty(key))
	}
	return all
}

// validate refuses keys that no property path can name.
func validate(keys []string) error {
	for _, key := range keys {
		if key == "" || strings.ContainsAny(key, `"[]`) {
			return errdefs.New(errdefs.Internal, "key %q of ExtraConfig cannot be asked for alone", key)
		}
	}
	return nil
}

// objectsOf selects what a property of an object refers to.
func objectsOf(ref types.ManagedObjectReference, kind, property string) types.ObjectSpec {
	return types.ObjectSpec{
		Obj: ref, Skip: types.NewBool(true),
		SelectSet: []types.BaseSelectionSpec{&types.TraversalSpec{Type: kind, Path: property}},
	}
}

// retrieve reads properties of VMs, in pages of a size if that is not 0.
func (r *Reader) retrieve(ctx context.Context, paths []string, page int32, among []types.ObjectSpec) ([]types.ObjectContent, error) {
	vim := r.o.Client.Vim()
	req := types.RetrievePropertiesEx{
		This: vim.ServiceContent.PropertyCollector,
		SpecSet: []types.PropertyFilterSpec{{
			PropSet:                       []types.PropertySpec{{Type: "VirtualMachine", PathSet: paths}},
			ObjectSet:                     among,
			ReportMissingObjectsInResults: types.NewBool(true),
		}},
		Options: types.RetrieveOptions{MaxObjects: page},
	}
	for attempt := 1; ; attempt++ {
		content, err := mo.RetrievePropertiesEx(ctx, vim, req)
		if vcenter.IsManagedObjectNotFound(err) && attempt < readAttempts {
			continue
		}
		return content, err
	}
}

// vanished reports that a VM was gone when its properties were to be read.
func vanished(c types.ObjectContent) bool {
	return len(c.PropSet) == 0 && slices.ContainsFunc(c.MissingSet, func(m types.MissingProperty) bool {
		_, gone := m.Fault.Fault.(*types.ManagedObjectNotFound)
		return gone
	})
}

// vms reads what was retrieved of VMs. Those that vanished are left out.
func vms(content []types.ObjectContent, keys []string) []VM {
	seen := map[types.ManagedObjectReference]bool{}
	var all []VM
	for _, c := range content {
		if !seen[c.Obj] && c.Obj.Type == "VirtualMachine" && !vanished(c) {
			all = append(all, vmOf(c, keys))
		}
		seen[c.Obj] = true
	}
	return all
}

// vmOf reads one VM. It is unproven unless its devices are known, and its files too
// if it has snapshots, whose disks are in no device.
func vmOf(c types.ObjectContent, keys []string) VM {
	vm := VM{Ref: c.Obj, Name: c.Obj.Value}
	var devices, layout, snapshots, unreachable, unknown bool
	for _, p := range c.PropSet {
		switch v := p.Val.(type) {
		case string:
			if p.Name == "name" {
				vm.Name = v
			}
		case types.VirtualMachineConnectionState:
			unreachable = v == types.VirtualMachineConnectionStateInaccessible || v == types.VirtualMachineConnectionStateInvalid
		case types.ArrayOfVirtualDevice:
			devices = true
			for _, d := range v.VirtualDevice {
				if disk, ok := d.(*types.VirtualDisk); ok {
					files, known := vcenter.DiskChain(disk.Backing)
					vm.Files = append(vm.Files, files...)
					unknown = unknown || !known
				}
			}
		case types.ArrayOfVirtualMachineFileLayoutExFileInfo:
			layout = true
			for _, f := range v.VirtualMachineFileLayoutExFileInfo {
				vm.Files = append(vm.Files, f.Name)
			}
		case types.VirtualMachineSnapshotInfo:
			snapshots = true
		}
	}
	var withheld bool
	vm.Keys, withheld = valuesOf(c, keys)
	vm.Unproven = !devices || unreachable || unknown || withheld || snapshots && !layout
	return vm
}

// keysOf reads what was retrieved of VMs' keys, with configProperty. Those that
// vanished are left out.
func keysOf(content []types.ObjectContent, keys []string) (map[types.ManagedObjectReference]map[string]string, error) {
	found := map[types.ManagedObjectReference]map[string]string{}
	for _, c := range content {
		if vanished(c) {
			continue
		}
		values, withheld := valuesOf(c, keys)
		if withheld || !slices.ContainsFunc(c.PropSet, func(p types.DynamicProperty) bool { return p.Name == configProperty }) {
			return nil, errdefs.New(errdefs.Unavailable, "vCenter cannot tell the configuration of VM %s: connect its host, or let this user read it", c.Obj.Value)
		}
		if len(values) > 0 {
			found[c.Obj] = values
		}
	}
	return found, nil
}

// valuesOf are those of the keys that have one. withheld says that one could not be
// read; that it is not there is no reason for that.
func valuesOf(c types.ObjectContent, keys []string) (values map[string]string, withheld bool) {
	key := map[string]string{}
	for _, k := range keys {
		key[vcenter.ExtraConfigProperty(k)] = k
	}
	for _, p := range c.PropSet {
		k, asked := key[p.Name]
		if text := guestinfo.FromOptionValue(vcenter.ExtraConfigText(p.Val)); asked && text != "" {
			if values == nil {
				values = map[string]string{}
			}
			values[k] = text
		}
	}
	for _, m := range c.MissingSet {
		_, absent := m.Fault.Fault.(*types.InvalidProperty)
		if _, asked := key[m.Path]; asked && !absent {
			withheld = true
		}
	}
	return values, withheld
}
