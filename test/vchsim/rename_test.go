// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func reconfigure(t *testing.T, vm *object.VirtualMachine, spec types.VirtualMachineConfigSpec) error {
	t.Helper()
	return run(t.Context(), func(ctx context.Context) (*object.Task, error) { return vm.Reconfigure(ctx, spec) })
}

// whole reads what a rename may and may not change.
func whole(t *testing.T, vm *object.VirtualMachine) mo.VirtualMachine {
	t.Helper()
	var m mo.VirtualMachine
	must(t, vm.Properties(t.Context(), vm.Reference(), []string{"name", "summary.config", "config"}, &m))
	return m
}

// at returns the VM in the VCH's folder that has a name there.
func at(t *testing.T, sim *Sim, client *govmomi.Client, name string) object.Reference {
	t.Helper()
	found, err := object.NewSearchIndex(client.Client).FindByInventoryPath(t.Context(), path.Join("/", sim.Datacenter, "vm", sim.VCHName, name))
	must(t, err)
	return found
}

func TestARenameChangesNamesAndNoFiles(t *testing.T) {
	t.Parallel()
	for name, rename := range map[string]func(*object.VirtualMachine) starter{
		"reconfigure": func(vm *object.VirtualMachine) starter {
			return func(ctx context.Context) (*object.Task, error) {
				return vm.Reconfigure(ctx, types.VirtualMachineConfigSpec{Name: "renamed"})
			}
		},
		"rename": func(vm *object.VirtualMachine) starter {
			return func(ctx context.Context) (*object.Task, error) { return vm.Rename(ctx, "renamed") }
		},
	} {
		for _, vsan := range []bool{false, true} {
			for _, on := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, vSAN %v, running %v", name, vsan, on), func(t *testing.T) {
					t.Parallel()
					renamed(t, start(t, Options{NoForeign: true, VSAN: vsan}), on, rename)
				})
			}
		}
	}
}

func renamed(t *testing.T, sim *Sim, on bool, rename func(*object.VirtualMachine) starter) {
	t.Helper()
	client := login(t, sim)
	vm := mustCreate(t, sim, client, "machine-1")
	if on {
		must(t, run(t.Context(), vm.PowerOn))
		until(t, vm, isStarted, sim)
	}
	before, files := whole(t, vm), sim.Files()
	must(t, run(t.Context(), rename(vm)))
	after := whole(t, vm)
	if got, want := []string{after.Name, after.Config.Name, after.Summary.Config.Name}, []string{"renamed", "renamed", "renamed"}; !cmp.Equal(got, want) {
		t.Errorf("the names are %q", got)
	}
	if old := at(t, sim, client, before.Name); old != nil {
		t.Errorf("%s still stands at its old path", old.Reference())
	}
	if found := at(t, sim, client, "renamed"); found == nil || found.Reference() != vm.Reference() {
		t.Errorf("at its new path stands %v", found)
	}
	if m, _ := sim.Machine("machine-1"); m.Name != "renamed" || m.On != on {
		t.Errorf("it became %q, running %v", m.Name, m.On)
	}
	if diff := cmp.Diff(before.Config.Files, after.Config.Files); diff != "" || before.Summary.Config.VmPathName != after.Summary.Config.VmPathName {
		t.Errorf("paths (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(files, sim.Files()); diff != "" {
		t.Errorf("files (-before +after):\n%s", diff)
	}
	if before.Config.ChangeVersion == after.Config.ChangeVersion {
		t.Errorf("changeVersion stayed %s", after.Config.ChangeVersion)
	}
	if on {
		return // its logs would outlive it
	}
	must(t, run(t.Context(), vm.Destroy))
	left := slices.DeleteFunc(sim.Files(), func(f string) bool { return !strings.HasPrefix(f, vmDir(after.Config.Files.VmPathName)) })
	if len(left) > 0 {
		t.Errorf("it left %q", left)
	}
}

func TestWhoWaitsForANameHearsOfIt(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	vm := mustCreate(t, sim, client, "machine-1")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	seen := false
	err := property.Wait(ctx, property.DefaultCollector(client.Client), vm.Reference(), []string{"name"}, func(changes []types.PropertyChange) bool {
		if !seen { // and thus it is waited for
			seen = true
			must(t, reconfigure(t, vm, types.VirtualMachineConfigSpec{Name: "renamed"}))
			return false
		}
		return changes[0].Val == "renamed"
	})
	if err != nil {
		t.Error(err)
	}
}

func TestANameIsTakenOncePerFolder(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{})
	client := login(t, sim)
	vm := mustCreate(t, sim, client, "machine-1")
	other := whole(t, mustCreate(t, sim, client, "machine-2")).Name
	before := whole(t, vm)
	for _, name := range []string{other, sim.VCHName} {
		err := reconfigure(t, vm, types.VirtualMachineConfigSpec{Name: name, NumCPUs: 7, ExtraConfig: options(map[string]string{"k": "v"})})
		if !sameFault(err, &types.DuplicateName{}) {
			t.Errorf("%s: %v", name, err)
		}
		if err := run(t.Context(), func(ctx context.Context) (*object.Task, error) { return vm.Rename(ctx, name) }); !sameFault(err, &types.DuplicateName{}) {
			t.Errorf("%s, by rename: %v", name, err)
		}
	}
	after := whole(t, vm)
	if _, there := clientKeys(t, vm)["k"]; there || after.Name != before.Name || after.Config.Hardware.NumCPU != before.Config.Hardware.NumCPU || after.Config.ChangeVersion != before.Config.ChangeVersion {
		t.Error("a reconfigure that was refused changed something")
	}
	must(t, reconfigure(t, vm, types.VirtualMachineConfigSpec{Name: before.Name})) // its own
	must(t, reconfigure(t, vm, types.VirtualMachineConfigSpec{Name: SecondVCH}))   // a name in another folder
	if _, err := create(t.Context(), sim, client, machineSpec(t, sim, "machine-1")); !sameFault(err, &types.FileAlreadyExists{}) {
		t.Errorf("a VM of the old name meets: %v, want the directory of the renamed one", err)
	}
}

func TestARenameFollowsFromTheLatestRead(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	vm := mustCreate(t, sim, login(t, sim), "machine-1")
	first := whole(t, vm)
	must(t, reconfigure(t, vm, types.VirtualMachineConfigSpec{Name: "second", ChangeVersion: first.Config.ChangeVersion}))
	err := reconfigure(t, vm, types.VirtualMachineConfigSpec{Name: "third", ChangeVersion: first.Config.ChangeVersion})
	if !sameFault(err, &types.ConcurrentAccess{}) {
		t.Errorf("a rename with the version from before a rename: %v", err)
	}
	if name := whole(t, vm).Name; name != "second" {
		t.Errorf("it is called %s", name)
	}
}

// As the package comment says it.
func TestSomebodyIsFasterBetweenReadAndWrite(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	vm := mustCreate(t, sim, login(t, sim), "machine-1")
	before := whole(t, vm)
	stop := sim.OnCall("ReconfigVM_Task", func() { must(t, sim.SetKeys(before.Name, map[string]string{"k": "v"})) })
	defer stop()
	spec := types.VirtualMachineConfigSpec{Name: "renamed", ChangeVersion: before.Config.ChangeVersion}
	if err := reconfigure(t, vm, spec); !sameFault(err, &types.ConcurrentAccess{}) {
		t.Errorf("a change meanwhile: %v", err)
	}
	spec.ChangeVersion = whole(t, vm).Config.ChangeVersion
	must(t, reconfigure(t, vm, spec))
	if clientKeys(t, vm)["k"] != "v" {
		t.Error("the change of the other one is lost")
	}
}

func TestAnEmptyValueDeletesAKey(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	spec := machineSpec(t, sim, "machine-1")
	spec.ExtraConfig = append(spec.ExtraConfig, options(map[string]string{"at/creation": ""})...)
	vm, err := create(t.Context(), sim, client, spec)
	must(t, err)
	want := clientKeys(t, vm)
	delete(want, "common/name")
	want["k"] = "" // which is stored as <nil>
	must(t, reconfigure(t, vm, types.VirtualMachineConfigSpec{ExtraConfig: options(map[string]string{"common/name": "", "never/was": "", "k": "<nil>"})}))
	got := clientKeys(t, vm)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if _, there := got["at/creation"]; there {
		t.Error("a key without a value was made at the VM's creation")
	}
}
