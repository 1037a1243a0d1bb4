// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func TestObjectsEnterAndLeaveByTraversal(t *testing.T) {
	t.Parallel()
	for what, path := range map[string]string{"folder": "childEntity", "pool": "vm", "host": "vm", "datastore": "vm", "view": "view"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			sim := start(t, Options{NoForeign: true})
			aside, err := sim.makeFolder("aside")
			must(t, err)
			w := watch(t, sim)
			in := sim.vch.folder
			switch what {
			case "pool":
				in = sim.vch.pool
			case "host":
				in = sim.places.host
			case "datastore":
				in = sim.registry.Get(sim.vch.appliance).(*simulator.VirtualMachine).Datastore[0]
			case "view":
				v, err := view.NewManager(w.client.Client).CreateContainerView(t.Context(), in, []string{"VirtualMachine"}, true)
				must(t, err)
				in = v.Reference()
			}
			w.mustFilter(listed("VirtualMachine", []string{"name"}, in, path))
			w.expect("at first", w.next(), "enter, VirtualMachine, assign name=vch-1")
			// On that host; one that a client makes may come to any.
			vm := object.NewVirtualMachine(w.client.Client, bare(t, sim, "m").Self)
			if got := w.next(); len(got) != 1 || !strings.HasPrefix(got[0], "enter, VirtualMachine, assign name=") {
				t.Errorf("a new VM: %v", got)
			}
			if what == "folder" || what == "view" {
				for _, to := range []ref{aside, sim.vch.folder} {
					must(t, run(t.Context(), func(ctx context.Context) (*object.Task, error) {
						return object.NewFolder(w.client.Client, to).MoveInto(ctx, []ref{vm.Reference()})
					}))
					got, want := w.next(), "leave, VirtualMachine"
					if to == sim.vch.folder {
						want = "enter, VirtualMachine, assign name="
					}
					if len(got) != 1 || !strings.HasPrefix(got[0], want) {
						t.Errorf("moved to %v: %v", to, got)
					}
				}
			}
			must(t, run(t.Context(), vm.Destroy))
			w.expect("destroyed", w.next(), "leave, VirtualMachine")
			if what == "view" {
				must(t, view.NewContainerView(w.client.Client, in).Destroy(t.Context()))
				w.expect("a view that is destroyed", w.next(), "leave, VirtualMachine", "no ContainerView *types.ManagedObjectNotFound")
			}
		})
	}
}

func TestNamedTraversalsGoDown(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	w := watch(t, sim)
	dc := sim.places.datacenter
	spec := types.PropertyFilterSpec{
		PropSet: []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{"name"}}, {Type: "Folder", PathSet: []string{"name"}}},
		ObjectSet: []types.ObjectSpec{{Obj: dc, SelectSet: []types.BaseSelectionSpec{
			&types.TraversalSpec{Type: "Datacenter", Path: "vmFolder", SelectSet: []types.BaseSelectionSpec{&types.SelectionSpec{Name: "down"}}},
			&types.TraversalSpec{SelectionSpec: types.SelectionSpec{Name: "down"}, Type: "Folder", Path: "childEntity", SelectSet: []types.BaseSelectionSpec{&types.SelectionSpec{Name: "down"}}},
		}}},
	}
	w.mustFilter(spec)
	got := w.next()
	for _, want := range []string{"enter, Folder, assign name=vm", "enter, Folder, assign name=vch-1", "enter, VirtualMachine, assign name=vch-1"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not in %v", want, got)
		}
	}
	pools := watch(t, sim)
	pools.mustFilter(listed("ResourcePool", []string{"name"}, sim.vch.pool, "resourcePool"))
	pools.expect("no pool in the pool", pools.next(), []string{}...)
	pool, ok := sim.registry.Get(sim.vch.pool).(*simulator.ResourcePool)
	if !ok {
		t.Fatal("no pool")
	}
	pool.CreateResourcePool(sim.newContext(), &types.CreateResourcePool{This: pool.Self, Name: "child", Spec: types.DefaultResourceConfigSpec()})
	pools.expect("a pool", pools.next(), "enter, ResourcePool, assign name=child")
	deep, err := sim.makeFolder("deep")
	must(t, err)
	w.expect("a folder", w.next(), "enter, Folder, assign name=deep")
	vm := bare(t, sim, "m")
	w.expect("a VM", w.next(), "enter, VirtualMachine, assign name=m")
	must(t, run(t.Context(), func(ctx context.Context) (*object.Task, error) {
		return object.NewFolder(w.client.Client, deep).MoveInto(ctx, []ref{vm.Self})
	}))
	if got := w.now(); len(got) > 1 {
		t.Errorf("a VM that moves within: %v", got)
	}
	must(t, run(t.Context(), object.NewFolder(w.client.Client, deep).Destroy))
	got = w.now()
	slices.Sort(got)
	w.expect("a folder that goes", got, "leave, Folder", "leave, VirtualMachine")
}

func TestOneFilterCarriesAllTasks(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	w := watch(t, sim)
	vm := object.NewVirtualMachine(w.client.Client, bare(t, sim, "a").Self)
	list, err := view.NewManager(w.client.Client).CreateListView(t.Context(), nil)
	must(t, err)
	w.mustFilter(listed("Task", []string{"info.state"}, list.Reference(), "view"))
	w.expect("at first", w.next(), []string{}...)
	for range 3 {
		started, err := vm.Reconfigure(t.Context(), types.VirtualMachineConfigSpec{Annotation: "x"})
		must(t, err)
		_, err = list.Add(t.Context(), []ref{started.Reference()})
		must(t, err)
		for {
			got := w.next()
			if len(got) != 1 || !strings.Contains(got[0], "Task, assign info.state=") {
				t.Fatalf("a task: %v", got)
			}
			if strings.HasSuffix(got[0], "=success") {
				break
			}
		}
		_, err = list.Remove(t.Context(), []ref{started.Reference()})
		must(t, err)
		w.expect("a task that is taken off", w.next(), "leave, Task")
	}
}

func TestGovmomisWaysOfWaitingWork(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	vm := mustCreate(t, sim, client, "a")
	collector := property.DefaultCollector(client.Client)
	started, err := vm.Reconfigure(t.Context(), types.VirtualMachineConfigSpec{Annotation: "x"})
	must(t, err)
	if info, err := task.WaitEx(t.Context(), started.Reference(), collector, nil); err != nil || info.State != types.TaskInfoStateSuccess {
		t.Errorf("task.WaitEx: %v, %v", info, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err = property.WaitForUpdates(ctx, collector, new(property.WaitFilter).Add(vm.Reference(), "VirtualMachine", []string{"config.annotation"}), func([]types.ObjectUpdate) bool {
		if n++; n == 1 {
			cancel()
		}
		return false
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("property.WaitForUpdates that is canceled: %v", err)
	}
	got := mo.VirtualMachine{ManagedEntity: mo.ManagedEntity{ExtensibleManagedObject: mo.ExtensibleManagedObject{Self: vm.Reference()}}}
	must(t, property.Wait(t.Context(), collector, vm.Reference(), nil, func(changes []types.PropertyChange) bool {
		mo.ApplyPropertyChange(&got, changes)
		return got.Config != nil && got.Config.Annotation == "x"
	}))
	must(t, property.WaitForUpdatesEx(t.Context(), collector, &property.WaitFilter{
		CreateFilter: types.CreateFilter{Spec: named([]string{"name"}, vm.Reference())},
		WaitOptions:  property.WaitOptions{Options: &types.WaitOptions{MaxWaitSeconds: types.NewInt32(1)}},
	}, func([]types.ObjectUpdate) bool { return false }))
	res, err := methods.CheckForUpdates(t.Context(), client, &types.CheckForUpdates{This: collector.Reference()})
	if err != nil || res.Returnval != nil {
		t.Errorf("a collector without filters: %v, %v", res, err)
	}
}

func TestFaultsAndCallsOfWaitsAreInjectedAndCounted(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	vm := bare(t, sim, "a")
	w := watch(t, sim)
	must(t, sim.SetFault(FaultRule{Method: "CreateFilter", Kind: "HostCommunication", Count: 1}))
	if _, err := w.filter(named([]string{"name"}, vm.Self), false); !fault.Is(err, &types.HostCommunication{}) {
		t.Errorf("CreateFilter: %v", err)
	}
	w.mustFilter(named([]string{"name"}, vm.Self))
	w.next()
	must(t, sim.SetFault(FaultRule{Method: "WaitForUpdatesEx", Kind: KindResponseLost, Count: 1}))
	sim.ResetCounters()
	sim.OnCall("WaitForUpdatesEx", func() { sim.change(vm, assign("name", "b")) })
	if _, err := w.poll(t.Context(), w.version, 0, 0); err == nil {
		t.Error("a lost answer was not lost")
	}
	w.expect("a lost answer", w.now(), "modify, VirtualMachine, assign name=b")
	if n := sim.Calls()["WaitForUpdatesEx"]; n != 2 {
		t.Errorf("%d calls were counted", n)
	}
}
