// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

func TestAWaitTellsThePresentStateAndThenWhatChanges(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	vm, other := bare(t, sim, "a"), bare(t, sim, "b")
	w := watch(t, sim)
	w.mustFilter(named([]string{"name", "runtime.powerState", "config.annotation"}, vm.Self))
	w.expect("at first", w.next(), "enter, VirtualMachine, assign name=a, assign runtime.powerState=poweredOff")
	w.expect("without a change", w.now())
	sim.change(other, assign("name", "other"))
	w.expect("when another changes", w.now())
	sim.change(vm, assign("guest.hostName", "x"))
	w.expect("when another property changes", w.now())
	sim.change(vm, assign("config.annotation", "one"))
	sim.change(vm, assign("config.annotation", "two"), assign("name", "z"))
	w.expect("changes between two polls", w.now(), "modify, VirtualMachine, assign name=z, assign config.annotation=two")
	sim.change(vm, assign("name", "y"))
	sim.change(vm, assign("name", "z"))
	w.expect("there and back", w.now())
	sim.change(vm, assign("config.annotation", ""))
	w.expect("a value that goes", w.now(), "modify, VirtualMachine, assign config.annotation")
	must(t, run(t.Context(), object.NewVirtualMachine(w.client.Client, vm.Self).Destroy))
	w.expect("when it is destroyed", w.now(), "leave, VirtualMachine", "no VirtualMachine *types.ManagedObjectNotFound")
	w.expect("after it was destroyed", w.now())
	w.version = ""
	w.expect("anew", w.now(), "no VirtualMachine *types.ManagedObjectNotFound")
}

func TestKeysAreToldOneByOne(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	vm := bare(t, sim, "a")
	sim.keys(vm, map[string]string{"k": "1", "other": "1"})
	w := watch(t, sim)
	const k, l = `config.extraConfig["k"]`, `config.extraConfig["guestinfo.a/b"]`
	w.mustFilter(named([]string{k, l, k + ".value"}, vm.Self))
	w.expect("at first", w.now(), "enter, VirtualMachine, assign "+k+"=1, assign "+k+".value=1")
	sim.keys(vm, map[string]string{"other": "2"})
	w.expect("another key", w.now())
	sim.keys(vm, map[string]string{"k": "2"})
	w.expect("its key", w.now(), "modify, VirtualMachine, assign "+k+"=2, assign "+k+".value=2")
	sim.keys(vm, map[string]string{"guestinfo.a/b": "x"})
	w.expect("a new key", w.now(), "modify, VirtualMachine, add "+l+"=x")
	list := slices.DeleteFunc(slices.Clone(vm.Config.ExtraConfig), func(o types.BaseOptionValue) bool { return o.GetOptionValue().Key == "k" })
	sim.change(vm, assign("config.extraConfig", list))
	w.expect("a key less", w.now(), "modify, VirtualMachine, remove "+k+", indirectRemove "+k+".value")
	client := object.NewVirtualMachine(w.client.Client, vm.Self)
	must(t, run(t.Context(), func(ctx context.Context) (*object.Task, error) {
		return client.Reconfigure(ctx, types.VirtualMachineConfigSpec{ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: "guestinfo.a/b", Value: ""}}})
	}))
	w.expect("a key that a client removed", w.now(), "modify, VirtualMachine, remove "+l)
	sim.change(vm, assign("runtime.question", &types.VirtualMachineQuestionInfo{Id: "1", Text: "?"}))
	w.mustFilter(named([]string{"runtime.question.text"}, vm.Self))
	w.expect("a question", w.now(), "enter, VirtualMachine, assign runtime.question.text=?")
	sim.change(vm, assign("runtime.question", nil))
	w.expect("no question any more", w.now(), "modify, VirtualMachine, indirectRemove runtime.question.text")
}

func TestASelectedPathIsToldWholeUnlessPartsAreAskedFor(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	vm := bare(t, sim, "a")
	sim.keys(vm, map[string]string{"k": "1", "gone": "1"})
	whole, parts := watch(t, sim), watch(t, sim)
	spec := named([]string{"config"}, vm.Self)
	for w, partial := range map[*watcher]bool{whole: false, parts: true} {
		_, err := w.filter(spec, partial)
		must(t, err)
		w.expect("at first", w.now(), "enter, VirtualMachine, assign config")
	}
	list := slices.DeleteFunc(slices.Clone(vm.Config.ExtraConfig), func(o types.BaseOptionValue) bool { return o.GetOptionValue().Key == "gone" })
	sim.change(vm, assign("config.extraConfig", list), assign("config.annotation", "x"), assign("config.changeVersion", "7"))
	sim.keys(vm, map[string]string{"k": "2", "new": "1"})
	sim.change(vm, assign("config.changeVersion", "8"))
	whole.expect("whole", whole.now(), "modify, VirtualMachine, assign config")
	parts.expect("in parts", parts.now(), `modify, VirtualMachine, assign config.changeVersion=8, assign config.annotation=x, `+
		`remove config.extraConfig["gone"], assign config.extraConfig["k"]=2, add config.extraConfig["new"]=1`)
}

func TestAnAnswerThatWasLostCanBeAskedForAgain(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	vm := bare(t, sim, "a")
	w := watch(t, sim)
	w.mustFilter(named([]string{"name"}, vm.Self))
	first, err := w.poll(t.Context(), "", 0, 0)
	must(t, err)
	sim.change(vm, assign("name", "b"))
	second, err := w.poll(t.Context(), first.Version, 0, 0)
	must(t, err)
	sim.change(vm, assign("name", "c"))
	again, err := w.poll(t.Context(), first.Version, 0, 0)
	must(t, err)
	if diff := cmp.Diff(second, again); diff != "" {
		t.Errorf("the second time: %s", diff)
	}
	third, err := w.poll(t.Context(), second.Version, 0, 0)
	must(t, err)
	w.expect("after it", words(third), "modify, VirtualMachine, assign name=c")
	if nothing, err := w.poll(t.Context(), third.Version, 0, 0); err != nil || nothing != nil {
		t.Errorf("without a change: %v, %v", nothing, err)
	}
	for _, version := range []string{first.Version, second.Version, "77", "x"} {
		if _, err := w.poll(t.Context(), version, 0, 0); !sameFault(err, new(types.InvalidCollectorVersion)) {
			t.Errorf("version %q: %v", version, err)
		}
	}
	anew, err := w.poll(t.Context(), "", 0, 0)
	must(t, err)
	w.expect("anew", words(anew), "enter, VirtualMachine, assign name=c")
	for _, o := range []types.WaitOptions{{MaxWaitSeconds: types.NewInt32(-1)}, {MaxObjectUpdates: -1}} {
		_, err := methods.WaitForUpdatesEx(t.Context(), w.client, &types.WaitForUpdatesEx{This: w.self, Options: &o})
		if !sameFault(err, new(types.InvalidArgument)) {
			t.Errorf("options %v: %v", o, err)
		}
	}
}

func TestAnswersComeInPages(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	folder, vms := many(t, sim, 120)
	w := watch(t, sim)
	w.mustFilter(listed("VirtualMachine", []string{"name"}, folder.Self, "childEntity"))
	pages := func(limit int32) (sizes []int, entered map[ref]int) {
		entered = map[ref]int{}
		version := ""
		for {
			set, err := w.poll(t.Context(), version, 10, limit)
			must(t, err)
			n := 0
			for _, f := range set.FilterSet {
				for _, o := range f.ObjectSet {
					n++
					entered[o.Obj]++
				}
			}
			sizes, version = append(sizes, n), set.Version
			if set.Truncated == nil || !*set.Truncated {
				return sizes, entered
			}
		}
	}
	for limit, want := range map[int32][]int{0: {100, 20}, 1000: {100, 20}, 60: {60, 60}, 50: {50, 50, 20}} {
		sizes, entered := pages(limit)
		if !slices.Equal(sizes, want) || len(entered) != len(vms) {
			t.Errorf("at most %d: pages of %v, %d VMs", limit, sizes, len(entered))
		}
	}
}

func TestAWaitRestsUntilSomethingChanges(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	vm := bare(t, sim, "a")
	w := watch(t, sim)
	rest := func(during func()) ([]string, error) {
		t.Helper()
		type answer struct {
			set *types.UpdateSet
			err error
		}
		answers := make(chan answer)
		before := sim.waiting()
		go func() {
			set, err := w.poll(t.Context(), w.version, -1, 0)
			answers <- answer{set, err}
		}()
		eventually(t, func() bool { return sim.waiting() > before })
		during()
		a := <-answers
		if a.err != nil {
			return nil, a.err
		}
		w.version = a.set.Version
		return words(a.set), nil
	}
	var f ref
	got, err := rest(func() { f = w.mustFilter(named([]string{"name"}, vm.Self)) })
	must(t, err)
	w.expect("a new filter", got, "enter, VirtualMachine, assign name=a")
	got, err = rest(func() { sim.change(vm, assign("name", "b")) })
	must(t, err)
	w.expect("a change", got, "modify, VirtualMachine, assign name=b")
	got, err = rest(func() {
		_, err := methods.DestroyPropertyFilter(t.Context(), w.client, &types.DestroyPropertyFilter{This: f})
		must(t, err)
		sim.change(vm, assign("name", "c"))
		w.mustFilter(named([]string{"runtime.powerState"}, vm.Self))
	})
	must(t, err)
	w.expect("another filter", got, "enter, VirtualMachine, assign runtime.powerState=poweredOff")
	for what, during := range map[string]func(){
		"canceled": func() {
			_, err := methods.CancelWaitForUpdates(t.Context(), w.client, &types.CancelWaitForUpdates{This: w.self})
			must(t, err)
		},
		"a second wait": func() { w.expect("the second wait", w.now()) },
	} {
		if _, err := rest(during); !sameFault(err, new(types.RequestCanceled)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if set, err := w.poll(t.Context(), w.version, 1, 0); err != nil || set != nil {
		t.Errorf("after a second: %v, %v", set, err)
	}
	if _, err := rest(func() {
		_, err := methods.DestroyPropertyCollector(t.Context(), w.client, &types.DestroyPropertyCollector{This: w.self})
		must(t, err)
	}); !sameFault(err, new(types.RequestCanceled)) {
		t.Errorf("a collector that is destroyed: %v", err)
	}
	if _, err := w.poll(t.Context(), "", 0, 0); !sameFault(err, new(types.ManagedObjectNotFound)) {
		t.Errorf("a collector that was destroyed: %v", err)
	}
	if n := sim.watched(); n != 0 {
		t.Errorf("%d objects are watched by nobody", n)
	}
}

func TestWaitsEndWithTheirSession(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	vm := bare(t, sim, "a")
	for what, end := range map[string]func(*watcher){
		"logout": func(w *watcher) { must(t, w.client.Logout(t.Context())) },
		"killed": func(*watcher) { sim.ExpireSessions() },
		"killed by another": func(w *watcher) {
			session, err := w.client.SessionManager.UserSession(t.Context())
			must(t, err)
			must(t, login(t, sim).SessionManager.TerminateSession(t.Context(), []string{session.Key}))
		},
		"expired": func(w *watcher) {
			session, err := w.client.SessionManager.UserSession(t.Context())
			must(t, err)
			// As vcsim does it by itself, without a word.
			sim.registry.SessionManager().TerminateSession(sim.newContext(), &types.TerminateSession{SessionId: []string{session.Key}})
		},
	} {
		w := watch(t, sim)
		w.mustFilter(named([]string{"name"}, vm.Self))
		w.next()
		done := make(chan error)
		go func() {
			_, err := w.poll(t.Context(), w.version, -1, 0)
			done <- err
		}()
		eventually(t, func() bool { return sim.waiting() > 0 })
		end(w)
		if err := <-done; !sameFault(err, new(types.NotAuthenticated)) {
			t.Errorf("%s: the wait that rested: %v", what, err)
		}
		if _, err := w.poll(t.Context(), w.version, 0, 0); !sameFault(err, new(types.NotAuthenticated)) {
			t.Errorf("%s: the next: %v", what, err)
		}
		eventually(t, func() bool { return sim.watched() == 0 })
	}
}

func TestWhatCannotBeReadIsMissing(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	vm := bare(t, sim, "a")
	w := watch(t, sim)
	nobody := ref{Type: "VirtualMachine", Value: "vm-none"}
	if _, err := w.filter(named([]string{"name"}, vm.Self, nobody), false); !sameFault(err, new(types.ManagedObjectNotFound)) {
		t.Errorf("an object that is not there: %v", err)
	}
	spec := named([]string{"name", "nonsense"}, vm.Self, nobody)
	spec.ReportMissingObjectsInResults = types.NewBool(true)
	w.mustFilter(spec)
	w.expect("at first", w.now(),
		"enter, VirtualMachine, assign name=a, missing nonsense *types.InvalidProperty", "no VirtualMachine *types.ManagedObjectNotFound")
	sim.change(vm, assign("name", "b"))
	w.expect("later", w.now(), "modify, VirtualMachine, assign name=b")
	undefined := listed("VirtualMachine", []string{"name"}, sim.vch.folder, "childEntity")
	undefined.ObjectSet[0].SelectSet = []types.BaseSelectionSpec{&types.SelectionSpec{Name: "nobody"}}
	if _, err := w.filter(undefined, false); !sameFault(err, new(types.InvalidArgument)) {
		t.Errorf("a name that is not defined: %v", err)
	}
}
