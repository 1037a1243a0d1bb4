// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// watcher is a client with a PropertyCollector of its own.
type watcher struct {
	t       *testing.T
	sim     *Sim
	client  *govmomi.Client
	self    ref
	version string
}

func watch(t *testing.T, sim *Sim) *watcher {
	t.Helper()
	client := login(t, sim)
	res, err := methods.CreatePropertyCollector(t.Context(), client, &types.CreatePropertyCollector{This: client.ServiceContent.PropertyCollector})
	must(t, err)
	return &watcher{t: t, sim: sim, client: client, self: res.Returnval}
}

func (w *watcher) filter(spec types.PropertyFilterSpec, partial bool) (ref, error) {
	res, err := methods.CreateFilter(w.t.Context(), w.client, &types.CreateFilter{This: w.self, Spec: spec, PartialUpdates: partial})
	if err != nil {
		return ref{}, err
	}
	return res.Returnval, nil
}

func (w *watcher) mustFilter(spec types.PropertyFilterSpec) ref {
	w.t.Helper()
	r, err := w.filter(spec, false)
	must(w.t, err)
	return r
}

// poll asks for what came after a version; seconds of -1 are none.
func (w *watcher) poll(ctx context.Context, version string, seconds, limit int32) (*types.UpdateSet, error) {
	options := &types.WaitOptions{MaxObjectUpdates: limit}
	if seconds >= 0 {
		options.MaxWaitSeconds = &seconds
	}
	res, err := methods.WaitForUpdatesEx(ctx, w.client, &types.WaitForUpdatesEx{This: w.self, Version: version, Options: options})
	if err != nil {
		return nil, err
	}
	return res.Returnval, nil
}

// next returns what is new, in words, and rests for it if need be.
func (w *watcher) next() []string {
	w.t.Helper()
	return w.after(10)
}

// now returns what is new, in words, and does not rest.
func (w *watcher) now() []string {
	w.t.Helper()
	return w.after(0)
}

func (w *watcher) after(seconds int32) []string {
	w.t.Helper()
	set, err := w.poll(w.t.Context(), w.version, seconds, 0)
	must(w.t, err)
	if set == nil {
		return nil
	}
	w.version = set.Version
	return words(set)
}

// words tells an UpdateSet.
func words(set *types.UpdateSet) []string {
	said := []string{}
	for _, f := range set.FilterSet {
		for _, o := range f.ObjectSet {
			parts := []string{string(o.Kind), o.Obj.Type}
			for _, c := range o.ChangeSet {
				part := string(c.Op) + " " + c.Name
				switch v := c.Val.(type) {
				case string, types.VirtualMachinePowerState, types.TaskInfoState:
					part += fmt.Sprintf("=%v", v)
				case types.OptionValue:
					part += fmt.Sprintf("=%v", v.Value)
				}
				parts = append(parts, part)
			}
			for _, m := range o.MissingSet {
				parts = append(parts, fmt.Sprintf("missing %s %T", m.Path, m.Fault.Fault))
			}
			said = append(said, strings.Join(parts, ", "))
		}
		for _, m := range f.MissingSet {
			said = append(said, fmt.Sprintf("no %s %T", m.Obj.Type, m.Fault.Fault))
		}
	}
	return said
}

func (w *watcher) expect(what string, got []string, want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("%s:\n%s", what, diff)
	}
}

// named selects properties of VMs.
func named(paths []string, vms ...ref) types.PropertyFilterSpec {
	spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{{Type: "VirtualMachine", PathSet: paths}}}
	for _, r := range vms {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: r})
	}
	return spec
}

// listed selects properties of what an object's property lists.
func listed(kind string, paths []string, in ref, path string) types.PropertyFilterSpec {
	return types.PropertyFilterSpec{
		PropSet: []types.PropertySpec{{Type: kind, PathSet: paths}},
		ObjectSet: []types.ObjectSpec{{Obj: in, Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{
			&types.TraversalSpec{Type: in.Type, Path: path},
		}}},
	}
}

// bare makes a VM that does nothing.
func bare(t *testing.T, sim *Sim, name string) *simulator.VirtualMachine {
	t.Helper()
	vm, err := sim.makeVM(sim.vch.folder, sim.vch.pool, types.VirtualMachineConfigSpec{
		Name: name, GuestId: "otherGuest64", Files: &types.VirtualMachineFileInfo{VmPathName: dsPath(name, name+".vmx")},
	})
	must(t, err)
	return vm
}

// change changes a VM under its lock.
func (s *Sim) change(vm *simulator.VirtualMachine, changes ...types.PropertyChange) {
	ctx := s.newContext()
	ctx.WithLock(vm, func() { ctx.Update(vm, changes) })
}

func (s *Sim) keys(vm *simulator.VirtualMachine, keys map[string]string) {
	ctx := s.newContext()
	ctx.WithLock(vm, func() { setExtraConfig(ctx, vm, keys) })
}

func assign(name string, v any) types.PropertyChange {
	return types.PropertyChange{Name: name, Val: v}
}

// waiting returns how many waits rest.
func (s *Sim) waiting() int {
	s.collectors.mu.Lock()
	defer s.collectors.mu.Unlock()
	n := 0
	for _, session := range s.collectors.sessions {
		for _, c := range session.collectors {
			if c.waiting != nil {
				n++
			}
		}
	}
	return n
}

func (s *Sim) watched() int {
	s.collectors.mu.Lock()
	defer s.collectors.mu.Unlock()
	return len(s.collectors.watch) + len(s.collectors.views)
}

func eventually(t *testing.T, reached func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !reached() {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to it")
		}
		runtime.Gosched()
	}
}
