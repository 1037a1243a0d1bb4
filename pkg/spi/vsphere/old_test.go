// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// old is the machine that the tests of this file are about.
const old = "machine-old"

// vm returns the VM of the machine as it is stored.
func (w site) vm() vchsim.VM {
	w.Helper()
	vm, ok := w.Sim.Machine(old)
	if !ok {
		w.Fatalf("machine %s has not exactly one VM", old)
	}
	return vm
}

// setKeys changes keys of the machine's VM behind the backend's back.
func (w site) setKeys(keys map[string]string) {
	w.Helper()
	if err := w.Sim.SetKeys(w.vm().Name, keys); err != nil {
		w.Fatal(err)
	}
}

// step is what one call of the machine's life came to: what it cost, without polls, of which a
// wait takes one or two, and how it ended.
type step struct {
	What   string
	Result string
	Calls  map[string]int
}

// life leads the machine through all that it may meet. change is called when its VM was
// created, and when it runs. Steps change no key but those of the process's state.
func (w site) life(created, running func()) (steps []step) {
	w.Helper()
	s, spec, secret := w.SPI(), w.Spec(), w.Secret()
	call := func(what string, f func() (string, error)) {
		w.Helper()
		before := lasting(w.vm().ExtraCfg)
		w.TakeCalls()
		result, err := f()
		if err != nil {
			result = string(errdefs.KindOf(err))
		}
		_, calls := w.TakeCalls()
		delete(calls, "WaitForUpdatesEx")
		steps = append(steps, step{what, result, calls})
		if vm, there := w.Sim.Machine(old); there {
			if diff := cmp.Diff(before, lasting(vm.ExtraCfg)); diff != "" {
				w.Errorf("%s changed keys (-before +after):\n%s", what, diff)
			}
		}
	}
	status := func() {
		w.Helper()
		call("GetMachineStatus", func() (string, error) {
			id, addresses, err := s.GetMachineStatus(w.Context(), old, "", spec, secret)
			return fmt.Sprint(id, len(addresses)), err
		})
		call("ListMachines", func() (string, error) {
			got, err := s.ListMachines(w.Context(), spec, secret)
			return fmt.Sprint(got), err
		})
	}
	create := func() (string, error) { return s.CreateMachine(w.Context(), old, spec, secret) }
	initialize := func() (string, error) {
		id, addresses, err := s.InitializeMachine(w.Context(), old, "", spec, secret)
		return fmt.Sprint(id, len(addresses)), err
	}
	if _, err := create(); err != nil {
		w.Fatal(err)
	}
	created()
	status()
	call("CreateMachine", create)
	call("InitializeMachine", initialize)
	running()
	status()
	call("CreateMachine of one that runs", create)
	call("InitializeMachine of one that runs", initialize)
	call("ShutDownMachine", func() (string, error) { return s.ShutDownMachine(w.Context(), old, "", spec, secret) })
	status()
	call("InitializeMachine of one that was shut down", initialize)
	call("DeleteMachine", func() (string, error) { return s.DeleteMachine(w.Context(), old, "", spec, secret) })
	if left := append(w.Leftovers(), fmt.Sprint(w.Machines())); len(left) != 1 || left[0] != "[]" {
		w.Errorf("left: %v", left)
	}
	return steps
}

// lasting are the keys that neither guest nor backend may change: all but those that the
// guest can write, of which createtime is none of its business.
func lasting(keys map[string]string) map[string]string {
	keys = maps.Clone(keys)
	maps.DeleteFunc(keys, func(key, _ string) bool {
		return strings.HasPrefix(key, "guestinfo.vice..") && key != "guestinfo.vice..createtime"
	})
	return keys
}

// ages returns what happens to the stored data of the machine, by name.
func (w site) ages() map[string]func() {
	w.Helper()
	out := map[string]func(){}
	for _, version := range vchsim.DataVersions() {
		out[fmt.Sprint("version ", version)] = func() {
			w.Helper()
			if err := w.Sim.Age(w.vm().Name, version); err != nil {
				w.Fatal(err)
			}
		}
	}
	for _, version := range []string{"ten", "-1"} {
		out["garbage "+version] = func() { w.setKeys(map[string]string{guestinfo.PluginVersionKey: version}) }
	}
	return out
}

func TestMachinesOfEveryDataVersionLiveAsThoseOfToday(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{false, true} {
		t.Run(fmt.Sprintf("running %v", on), func(t *testing.T) {
			t.Parallel()
			w := newSite(t, vchsim.Options{})
			nothing := func() {}
			w.life(nothing, nothing) // what is asked once in a session
			today := w.life(nothing, nothing)
			foreigners := w.Foreigners()
			for name, age := range w.ages() {
				created, running := age, nothing
				if on {
					created, running = nothing, age
				}
				if on && name != "version 0" && name != "version 9" && name != "garbage ten" {
					continue // each life takes seconds under the race detector
				}
				if diff := cmp.Diff(today, w.life(created, running)); diff != "" {
					t.Errorf("%s: its life (-today +old):\n%s", name, diff)
				}
			}
			if diff := cmp.Diff(foreigners, w.Foreigners()); diff != "" {
				t.Errorf("foreign VMs (-before +after):\n%s", diff)
			}
		})
	}
}

// What an older version made is still known to be of another spec.
func TestAnOldMachineOfAnotherSpecIsStillInTheWay(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{NoForeign: true})
	w.start(old)
	if err := w.Sim.Age(w.vm().Name, 0); err != nil {
		t.Fatal(err)
	}
	spec := w.Spec()
	spec.CPUs = ptr.To(*spec.CPUs + 1)
	if _, err := w.SPI().CreateMachine(t.Context(), old, spec, w.Secret()); !errdefs.Is(err, errdefs.AlreadyExists) {
		t.Errorf("it was made from another spec: %v, want AlreadyExists", err)
	}
}

func TestOldAndNewMachinesAreListedTogether(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{DockerContainers: 3})
	want := map[string]string{}
	for _, version := range append(vchsim.DataVersions(), -1) {
		name := fmt.Sprintf("machine-%d", version)
		want[w.start(name)] = name
		if vm, _ := w.Sim.Machine(name); version >= 0 {
			if err := w.Sim.Age(vm.Name, version); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, vm := range w.Sim.VMs() { // docker's containers are old, too
		if strings.HasPrefix(vm.Name, "docker-") && vm.Folder == w.Sim.VCHName {
			if err := w.Sim.Age(vm.Name, 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := w.SPI().ListMachines(t.Context(), w.Spec(), w.Secret())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("machines (-want +got):\n%s", diff)
	}
}

// newer returns keys as a provider, or a VIC, that is newer than this one might store them.
func (w site) newer() map[string]map[string]string {
	w.Helper()
	key := guestinfo.AnnotationKey(identity.MarkAnnotation)
	mark := *w.vm().Mark
	mark.Format = identity.MarkFormat + 1
	encoded, err := mark.Encode()
	if err != nil {
		w.Fatal(err)
	}
	return map[string]map[string]string{
		"the mark":      {key: encoded[:len(encoded)-1] + `,"future":{"x":1}}`},
		"VIC's version": {guestinfo.PluginVersionKey: "11"},
		"both":          {key: encoded, guestinfo.PluginVersionKey: "12"},
	}
}

func TestAMachineOfANewerVersionIsReadAndNotTouched(t *testing.T) {
	t.Parallel()
	for what, on := range map[string]bool{"the mark": true, "VIC's version": false, "both": true} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newSite(t, vchsim.Options{NoForeign: true})
			s, spec, secret := w.SPI(), w.Spec(), w.Secret()
			id, err := s.CreateMachine(t.Context(), old, spec, secret)
			if err == nil && on {
				_, _, err = s.InitializeMachine(t.Context(), old, "", spec, secret)
			}
			if err != nil {
				t.Fatal(err)
			}
			w.setKeys(w.newer()[what])
			before := w.vm()
			found, _, err := s.GetMachineStatus(t.Context(), old, "", spec, secret)
			if want := map[bool]errdefs.Kind{false: errdefs.Uninitialized}[on]; errdefs.KindOf(err) != want || found != id {
				t.Errorf("status: %s, %v; want %s, %q", found, err, id, want)
			}
			if all, err := s.ListMachines(t.Context(), spec, secret); err != nil || all[id] != old {
				t.Errorf("list: %v, %v", all, err)
			}
			for call, f := range map[string]func() error{
				"CreateMachine":     func() error { _, err := s.CreateMachine(t.Context(), old, spec, secret); return err },
				"InitializeMachine": func() error { _, _, err := s.InitializeMachine(t.Context(), old, "", spec, secret); return err },
				"ShutDownMachine":   func() error { _, err := s.ShutDownMachine(t.Context(), old, "", spec, secret); return err },
				"DeleteMachine":     func() error { _, err := s.DeleteMachine(t.Context(), old, "", spec, secret); return err },
			} {
				err := f()
				if !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), "use a newer version") || !strings.Contains(err.Error(), before.Name) {
					t.Errorf("%s: %v, want FailedPrecondition that names the VM and says to use a newer version", call, err)
				}
			}
			if diff := cmp.Diff(before, w.vm()); diff != "" {
				t.Errorf("its VM (-before +after):\n%s", diff)
			}
			if n := len(w.Machines()); n != 1 {
				t.Errorf("%d VMs, want the one", n)
			}
		})
	}
}

func TestANewerVersionOfTheVCHsDataChangesNothing(t *testing.T) {
	t.Parallel()
	nothing := func() {}
	today := newSite(t, vchsim.Options{NoForeign: true}).life(nothing, nothing)
	for _, version := range []int{0, 11} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			w := newSite(t, vchsim.Options{NoForeign: true, VCHDataVersion: &version})
			if diff := cmp.Diff(today, w.life(nothing, nothing)); diff != "" {
				t.Errorf("a machine's life (-today +version %d):\n%s", version, diff)
			}
		})
	}
}
