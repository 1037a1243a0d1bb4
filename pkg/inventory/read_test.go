// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

func ref(value string) types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "VirtualMachine", Value: value}
}

// content is what vCenter tells of a VM.
func content(props ...types.DynamicProperty) types.ObjectContent {
	return types.ObjectContent{Obj: ref("vm-1"), PropSet: append([]types.DynamicProperty{{Name: "name", Val: "one"}}, props...)}
}

func prop(name string, val any) types.DynamicProperty {
	return types.DynamicProperty{Name: name, Val: val}
}

func disks(backings ...types.BaseVirtualDeviceBackingInfo) types.DynamicProperty {
	all := types.ArrayOfVirtualDevice{VirtualDevice: []types.BaseVirtualDevice{&types.VirtualCdrom{}, &types.VirtualKeyboard{}}}
	for _, b := range backings {
		all.VirtualDevice = append(all.VirtualDevice, &types.VirtualDisk{VirtualDevice: types.VirtualDevice{Backing: b}})
	}
	return prop("config.hardware.device", all)
}

func flat(files ...string) *types.VirtualDiskFlatVer2BackingInfo {
	b := &types.VirtualDiskFlatVer2BackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: files[0]}}
	if len(files) > 1 {
		b.Parent = flat(files[1:]...)
	}
	return b
}

func layoutEx(files ...string) types.DynamicProperty {
	var all types.ArrayOfVirtualMachineFileLayoutExFileInfo
	for _, f := range files {
		all.VirtualMachineFileLayoutExFileInfo = append(all.VirtualMachineFileLayoutExFileInfo, types.VirtualMachineFileLayoutExFileInfo{Name: f})
	}
	return prop("layoutEx.file", all)
}

func option(key, value string) types.DynamicProperty {
	return prop(vcenter.ExtraConfigProperty(key), types.OptionValue{Key: key, Value: value})
}

// without is content of which some properties could not be read.
func without(c types.ObjectContent, fault types.BaseMethodFault, paths ...string) types.ObjectContent {
	for _, p := range paths {
		c.MissingSet = append(c.MissingSet, types.MissingProperty{Path: p, Fault: types.LocalizedMethodFault{Fault: fault}})
	}
	return c
}

func TestWhatAVMHas(t *testing.T) {
	t.Parallel()
	const a, b, c = "[ds1] vm/a.vmdk", "[ds1] images/b.vmdk", "[ds2] images/c.vmdk"
	se := &types.VirtualDiskSeSparseBackingInfo{
		VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: a},
		Parent:                       &types.VirtualDiskSeSparseBackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: b}},
	}
	state := func(s types.VirtualMachineConnectionState) types.DynamicProperty {
		return prop("runtime.connectionState", s)
	}
	snapshots := prop("snapshot", types.VirtualMachineSnapshotInfo{})
	for what, tc := range map[string]struct {
		vm       types.ObjectContent
		files    []string
		keys     map[string]string
		unproven bool
	}{
		"no disks":                       {vm: content(disks(), layoutEx())},
		"a disk":                         {vm: content(disks(flat(a)), layoutEx()), files: []string{a}},
		"a child":                        {vm: content(disks(flat(a, b))), files: []string{a, b}},
		"a grandchild elsewhere":         {vm: content(disks(flat(a, b, c))), files: []string{a, b, c}},
		"two disks":                      {vm: content(disks(flat(a), flat(c))), files: []string{a, c}},
		"a child in another format":      {vm: content(disks(se)), files: []string{a, b}},
		"other files":                    {vm: content(disks(flat(a)), layoutEx(b, c), snapshots), files: []string{a, b, c}},
		"no devices known":               {vm: content(layoutEx(a)), files: []string{a}, unproven: true},
		"nothing known":                  {vm: content(), unproven: true},
		"may not be read":                {vm: without(content(), &types.NoPermission{}, "config.hardware.device"), unproven: true},
		"inaccessible":                   {vm: content(disks(flat(a)), state(types.VirtualMachineConnectionStateInaccessible)), files: []string{a}, unproven: true},
		"invalid":                        {vm: content(disks(flat(a)), state(types.VirtualMachineConnectionStateInvalid)), files: []string{a}, unproven: true},
		"of a host that is away":         {vm: content(disks(flat(a)), state(types.VirtualMachineConnectionStateDisconnected)), files: []string{a}},
		"an orphan":                      {vm: content(disks(flat(a)), state(types.VirtualMachineConnectionStateOrphaned)), files: []string{a}},
		"snapshots, whose files are not": {vm: content(disks(flat(a)), snapshots), files: []string{a}, unproven: true},
		"a disk without a name":          {vm: content(disks(flat(""))), files: []string{""}, unproven: true},
		"a disk of an unknown kind":      {vm: content(disks(&types.VirtualDiskPartitionedRawDiskVer2BackingInfo{})), unproven: true},
		"keys":                           {vm: content(disks(), option("x", "1"), option("y|z", "/2")), keys: map[string]string{"x": "1", "y|z": "/2"}},
		"a key that is empty":            {vm: content(disks(), option("x", "<nil>"), option("y|z", ""))},
		"a key that nobody asked for":    {vm: content(disks(), option("other", "1"))},
		"a key by reference":             {vm: content(disks(), prop(vcenter.ExtraConfigProperty("x"), &types.OptionValue{Key: "x", Value: "1"})), keys: map[string]string{"x": "1"}},
		"a key that is a number":         {vm: content(disks(), prop(vcenter.ExtraConfigProperty("x"), types.OptionValue{Key: "x", Value: 7}))},
		"a key that is not there":        {vm: without(content(disks()), &types.InvalidProperty{}, vcenter.ExtraConfigProperty("x"))},
		"a key that may not be read":     {vm: without(content(disks()), &types.NoPermission{}, vcenter.ExtraConfigProperty("x")), unproven: true},
		"another property is missing":    {vm: without(content(disks()), &types.NoPermission{}, "snapshot")},
	} {
		// Whoever is in the datacenter and on the datastore is told of twice.
		got := vms([]types.ObjectContent{tc.vm, tc.vm}, []string{"x", "y|z"})
		want := []VM{{Ref: ref("vm-1"), Name: "one", Files: tc.files, Keys: tc.keys, Unproven: tc.unproven}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
}

func TestAVMThatVanishedIsNone(t *testing.T) {
	t.Parallel()
	gone := types.ObjectContent{Obj: ref("vm-1")}
	if all := vms([]types.ObjectContent{without(gone, &types.ManagedObjectNotFound{}, "name", "snapshot")}, nil); len(all) != 0 {
		t.Errorf("a VM that vanished counts: %+v", all)
	}
	want := []VM{{Ref: ref("vm-1"), Name: "vm-1", Unproven: true}}
	if diff := cmp.Diff(want, vms([]types.ObjectContent{without(gone, &types.NoPermission{}, "name", "snapshot")}, nil)); diff != "" {
		t.Errorf("a VM that may not be read (-want +got):\n%s", diff)
	}
	other := types.ObjectContent{Obj: types.ManagedObjectReference{Type: "Folder", Value: "group-1"}}
	if all := vms([]types.ObjectContent{other}, nil); len(all) != 0 {
		t.Errorf("a folder counts: %+v", all)
	}
}

func TestKeysThatCannotBeToldAreAnError(t *testing.T) {
	t.Parallel()
	known := prop(configProperty, "564d0000-0000-0000-0000-000000000000")
	keys := []string{"x"}
	for what, tc := range map[string]struct {
		vm    types.ObjectContent
		want  map[types.ManagedObjectReference]map[string]string
		fails bool
	}{
		"it has one":          {vm: content(known, option("x", "1")), want: map[types.ManagedObjectReference]map[string]string{ref("vm-1"): {"x": "1"}}},
		"it has none":         {vm: content(known), want: map[types.ManagedObjectReference]map[string]string{}},
		"it has not this one": {vm: without(content(known), &types.InvalidProperty{}, vcenter.ExtraConfigProperty("x")), want: map[types.ManagedObjectReference]map[string]string{}},
		"it vanished":         {vm: without(types.ObjectContent{Obj: ref("vm-1")}, &types.ManagedObjectNotFound{}, configProperty), want: map[types.ManagedObjectReference]map[string]string{}},
		"no configuration":    {vm: content(), fails: true},
		"it is withheld":      {vm: without(content(known), &types.NoPermission{}, vcenter.ExtraConfigProperty("x")), fails: true},
		"all is withheld":     {vm: without(types.ObjectContent{Obj: ref("vm-1")}, &types.NoPermission{}, configProperty), fails: true},
	} {
		got, err := keysOf([]types.ObjectContent{tc.vm}, keys)
		if tc.fails != (err != nil) || tc.fails && (!errdefs.Is(err, errdefs.Unavailable) || !strings.Contains(err.Error(), "vm-1")) {
			t.Errorf("%s: %v", what, err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
}
