// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// VMs reads all VMs of the inventory whole.
func (w *World) VMs() map[types.ManagedObjectReference]mo.VirtualMachine {
	w.Helper()
	return w.read("name", "parent", "resourcePool", "runtime.powerState", "config")
}

// VMOf returns the VM of a machine of ours, which must be there.
func (w *World) VMOf(machine string) *object.VirtualMachine {
	w.Helper()
	for ref, vm := range w.VMs() {
		if m, ok := markOf(vm); ok && m.Machine == machine && !w.foreign[ref] {
			return object.NewVirtualMachine(w.Admin, ref)
		}
	}
	w.Fatalf("machine %s has no VM", machine)
	return nil
}

func (w *World) read(properties ...string) map[types.ManagedObjectReference]mo.VirtualMachine {
	w.Helper()
	ctx := w.Context()
	v, err := view.NewManager(w.Admin).CreateContainerView(ctx, w.Admin.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		w.Fatal(err)
	}
	var all []mo.VirtualMachine
	err = errors.Join(v.Retrieve(ctx, []string{"VirtualMachine"}, properties, &all), v.Destroy(ctx))
	if err != nil {
		w.Fatal(err)
	}
	out := map[types.ManagedObjectReference]mo.VirtualMachine{}
	for _, vm := range all {
		out[vm.Self] = vm
	}
	return out
}

func markOf(vm mo.VirtualMachine) (identity.Mark, bool) {
	if vm.Config == nil {
		return identity.Mark{}, false
	}
	m, err := identity.DecodeMark(vch.Keys(vm.Config.ExtraConfig)[guestinfo.AnnotationKey(identity.MarkAnnotation)])
	return m, err == nil
}

// Machines returns all VMs that are ours.
func (w *World) Machines() []spitest.Machine {
	w.Helper()
	cluster, role, err := identity.Tags(w.Spec().Tags)
	if err != nil {
		w.Fatal(err)
	}
	var out []spitest.Machine
	for ref, vm := range w.read("config.extraConfig", "runtime.powerState") {
		if m, ok := markOf(vm); ok && !w.foreign[ref] && m.Cluster == cluster && m.Role == role {
			out = append(out, spitest.Machine{Name: m.Machine, Running: vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn})
		}
	}
	slices.SortFunc(out, func(a, b spitest.Machine) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (w *World) allFiles() map[string]bool {
	w.Helper()
	out := map[string]bool{}
	root := filepath.Join(w.Sim.Dir(), "datastores")
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err == nil && rel != "." {
			out[filepath.ToSlash(rel)] = true
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// Leftovers compares files, but those in the directories of VMs that are there and of volumes.
func (w *World) Leftovers() []string {
	w.Helper()
	var dirs []string
	for _, vm := range w.read("config.files") {
		if vm.Config != nil {
			if ds, p, ok := strings.Cut(strings.TrimPrefix(vm.Config.Files.VmPathName, "["), "] "); ok {
				dirs = append(dirs, ds+"/"+filepath.Dir(p))
			}
		}
	}
	excepted := func(p string) bool {
		return slices.ContainsFunc(dirs, func(d string) bool { return p == d || strings.HasPrefix(p, d+"/") })
	}
	now := w.allFiles()
	var out []string
	for p := range now {
		if !w.files[p] && !excepted(p) && !w.ofVolumes(p) {
			out = append(out, "left: "+p)
		}
	}
	for p := range w.files {
		if !now[p] {
			out = append(out, "lost: "+p)
		}
	}
	slices.Sort(out)
	return out
}

// Foreigners returns all that can be read of the VMs that are not ours.
func (w *World) Foreigners() map[string]string {
	w.Helper()
	out := map[string]string{}
	for ref, vm := range w.VMs() {
		if !w.foreign[ref] {
			continue
		}
		b, err := json.Marshal([]any{vm.Name, vm.Parent, vm.ResourcePool, vm.Runtime.PowerState, vm.Config})
		if err != nil {
			w.Fatal(err)
		}
		out[vm.Name+" "+ref.Value] = string(b)
	}
	return out
}
