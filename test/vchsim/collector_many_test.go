// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"context"
	"fmt"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// many puts VMs into a folder of their own that are in the inventory and nowhere else.
func many(tb testing.TB, sim *Sim, n int) (*simulator.Folder, []*simulator.VirtualMachine) {
	tb.Helper()
	r, err := sim.makeFolder("many")
	if err != nil {
		tb.Fatal(err)
	}
	folder, ok := sim.registry.Get(r).(*simulator.Folder)
	if !ok {
		tb.Fatal("no folder")
	}
	var vms []*simulator.VirtualMachine
	for i := range n {
		vms = append(vms, sim.put(folder, i))
	}
	return folder, vms
}

// put puts one such VM with as many keys as a container VM has.
func (s *Sim) put(folder *simulator.Folder, i int) *simulator.VirtualMachine {
	vm := new(simulator.VirtualMachine)
	vm.Self = ref{Type: "VirtualMachine", Value: fmt.Sprintf("vm-many-%05d", i)}
	vm.Name = fmt.Sprintf("many-%05d", i)
	vm.Config = &types.VirtualMachineConfigInfo{Name: vm.Name, Uuid: vm.Name}
	for k := range 50 {
		vm.Config.ExtraConfig = append(vm.Config.ExtraConfig, &types.OptionValue{Key: fmt.Sprintf("guestinfo.key%02d", k), Value: "value"})
	}
	ctx := s.newContext()
	ctx.WithLock(folder, func() {
		folder.ChildEntity = append(folder.ChildEntity, vm.Self)
		s.registry.PutEntity(folder, vm)
	})
	return vm
}

// benchWorld is a world of n VMs that three collectors watch.
type benchWorld struct {
	sim      *Sim
	folder   *simulator.Folder
	vms      []*simulator.VirtualMachine
	contexts []*simulator.Context
	versions []string
}

func newBenchWorld(b *testing.B, n int) *benchWorld {
	b.Helper()
	sim, err := Start(context.WithoutCancel(b.Context()), Options{NoForeign: true, Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(sim.Close)
	w := &benchWorld{sim: sim, versions: make([]string, 3)}
	w.folder, w.vms = many(b, sim, n)
	spec := listed("VirtualMachine", []string{
		"name", "runtime.powerState", `config.extraConfig["guestinfo.key07"]`, `config.extraConfig["guestinfo.key08"]`,
	}, w.folder.Self, "childEntity")
	for i := range w.versions {
		w.contexts = append(w.contexts, sim.newContext())
		w.contexts[i].Session.Key = fmt.Sprint("bench", i)
		if body := sim.collectors.create(w.contexts[i], &types.CreateFilter{Spec: spec}); body.Fault_ != nil {
			b.Fatal(body.Fault_.String)
		}
	}
	if got := w.read(b); got != 3*n {
		b.Fatalf("%d objects", got)
	}
	return w
}

// read reads what is new for all three and returns how many objects that was.
func (w *benchWorld) read(b *testing.B) int {
	b.Helper()
	n := 0
	for i, ctx := range w.contexts {
		for more := true; more; {
			set, fault := w.sim.collectors.wait(ctx, ref{}, waitOptions{version: w.versions[i], updates: maxUpdates})
			if fault != nil {
				b.Fatalf("%T", fault)
			}
			if set == nil {
				break
			}
			w.versions[i], more = set.Version, set.Truncated != nil && *set.Truncated
			for _, f := range set.FilterSet {
				n += len(f.ObjectSet)
			}
		}
	}
	return n
}

// One change of one VM costs the same however many are watched.
func BenchmarkOneChangeWatchedThrice(b *testing.B) {
	for _, n := range []int{100, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			w := newBenchWorld(b, n)
			i := 0
			for b.Loop() {
				i++
				w.sim.keys(w.vms[i%n], map[string]string{"guestinfo.key07": fmt.Sprint(i)})
				if got := w.read(b); got != 3 {
					b.Fatalf("%d objects", got)
				}
			}
		})
	}
}

// A VM that comes costs the same however many are there.
func BenchmarkOneCreationWatchedThrice(b *testing.B) {
	for _, n := range []int{100, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			w := newBenchWorld(b, n)
			i := n
			for b.Loop() {
				i++
				w.sim.put(w.folder, i)
				if got := w.read(b); got != 3 {
					b.Fatalf("%d objects", got)
				}
			}
		})
	}
}
