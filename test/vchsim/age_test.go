// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration/plugins"
)

const markKey = "annotations|" + identity.MarkAnnotation

// todaysMark is a mark as it is made today.
func todaysMark() *identity.Mark {
	return &identity.Mark{
		Cluster: Cluster, Role: Role, Machine: "machine-1", Provider: "v1.2.3", Spec: "d1gest",
		Format: identity.MarkFormat, Digest: identity.DigestScheme,
	}
}

// todaysKeys are the keys of a machine as they are stored today.
func todaysKeys(t *testing.T, sim *Sim) map[string]string {
	t.Helper()
	keys, err := sim.containerKeys(container{vch: sim.vch, name: "machine-1", id: containerID("machine-1"), mark: todaysMark()})
	must(t, err)
	return keys
}

func TestOldKeysAreWhatAnOlderVersionStored(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	today := todaysKeys(t, sim)
	today[createTime] = "1654867607123456789"
	for _, version := range DataVersions() {
		before := maps.Clone(today)
		old := OldKeys(today, version)
		if !maps.Equal(before, today) {
			t.Fatalf("version %d: the argument was changed", version)
		}
		want := maps.Clone(today)
		if version < 2 {
			delete(want, "common/name")
			want["guestinfo.vice./common/name"] = "machine-1"
		}
		if version < 9 {
			want[createTime] = "1654867607"
		}
		if version < 10 {
			want[markKey] = `{"cluster":"` + Cluster + `","role":"` + Role + `","machine":"machine-1","provider":"v1.2.3","spec":"d1gest"}`
		}
		if want[guestinfo.PluginVersionKey] = fmt.Sprint(version); version == 0 {
			delete(want, guestinfo.PluginVersionKey)
		}
		if diff := cmp.Diff(want, old); diff != "" {
			t.Errorf("version %d (-want +got):\n%s", version, diff)
		}
		if diff := cmp.Diff(old, OldKeys(old, version)); diff != "" {
			t.Errorf("version %d, made old twice (-once +twice):\n%s", version, diff)
		}
	}
}

func TestOldKeysOfDocker(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ keys, want map[string]string }{
		"no keys":             {map[string]string{}, map[string]string{}},
		"no mark":             {map[string]string{"common/name": "web"}, map[string]string{"guestinfo.vice./common/name": "web"}},
		"an empty name":       {map[string]string{"common/name": "<nil>"}, map[string]string{"guestinfo.vice./common/name": "<nil>"}},
		"half a mark":         {map[string]string{markKey: `{"format":2}`}, map[string]string{markKey: `{"format":2}`}},
		"a time that is none": {map[string]string{createTime: "yesterday"}, map[string]string{createTime: "yesterday"}},
		"keys of others":      {map[string]string{"govcsim": "TRUE"}, map[string]string{"govcsim": "TRUE"}},
	} {
		if diff := cmp.Diff(tc.want, OldKeys(tc.keys, 0)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Whatever was old, migrated it reads as it was, but for the fraction of a second of
// its creation, what says which version it is, and the old name, which stays.
func TestOldKeysMigratedAreTheKeysOfToday(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	today := guestinfo.FromOptionValues(todaysKeys(t, sim))
	want, err := guestinfo.DecodeExecutor(today)
	must(t, err)
	want.CreateTime = want.CreateTime / int64(time.Second) * int64(time.Second)
	for _, version := range DataVersions() {
		old := guestinfo.FromOptionValues(OldKeys(guestinfo.OptionValues(today), version))
		migrated, err := plugins.Shipped().MigrateVM(old)
		must(t, err)
		got, err := guestinfo.DecodeExecutor(migrated.Keys)
		must(t, err)
		if stored := got.Version.PluginVersion; stored != max(version, 9) {
			t.Errorf("version %d became %d", version, stored)
		}
		got.Version.PluginVersion = want.Version.PluginVersion
		got.CreateTime = got.CreateTime / int64(time.Second) * int64(time.Second)
		if diff := cmp.Diff(markIn(t, want), markIn(t, got)); diff != "" {
			t.Errorf("version %d: mark (-want +got):\n%s", version, diff)
		}
		got.Annotations = want.Annotations // the order of JSON is no matter
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("version %d (-want +got):\n%s", version, diff)
		}
		_, visible := migrated.Keys[visibleName]
		if visible != (version < 2) {
			t.Errorf("version %d: the visible name is there: %v", version, visible)
		}
	}
}

func markIn(t *testing.T, config *guestinfo.ExecutorConfig) map[string]any {
	t.Helper()
	var mark map[string]any
	must(t, json.Unmarshal([]byte(config.Annotations[identity.MarkAnnotation]), &mark))
	return mark
}

func TestAgedVMsHaveTheOldKeysAndNoOthers(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{false, true} {
		sim := start(t, Options{NoForeign: true})
		client := login(t, sim)
		vm := mustCreate(t, sim, client, "machine-1")
		if on {
			must(t, run(t.Context(), vm.PowerOn))
			until(t, vm, isStarted, sim)
		}
		for _, version := range slices.Backward(DataVersions()) {
			before, _ := sim.Machine("machine-1")
			must(t, sim.Age(before.Name, version))
			after, _ := sim.Machine("machine-1")
			want := guestinfo.FromOptionValues(OldKeys(guestinfo.OptionValues(before.ExtraCfg), version))
			if diff := cmp.Diff(want, after.ExtraCfg); diff != "" {
				t.Errorf("version %d, running %v (-want +got):\n%s", version, on, diff)
			}
			if before.Version == after.Version {
				t.Errorf("version %d: changeVersion stayed %s", version, after.Version)
			}
			if after.On != on {
				t.Errorf("version %d: running: %v, was %v", version, after.On, on)
			}
			if diff := cmp.Diff(after.ExtraCfg, clientKeys(t, vm)); diff != "" {
				t.Errorf("version %d, as a client reads it (-want +got):\n%s", version, diff)
			}
		}
	}
}

// read returns the configuration of a VM as a client reads it.
func read(t *testing.T, vm *object.VirtualMachine) *types.VirtualMachineConfigInfo {
	t.Helper()
	var m mo.VirtualMachine
	must(t, vm.Properties(t.Context(), vm.Reference(), []string{"config"}, &m))
	return m.Config
}

// clientKeys are the text keys of a VM as a client reads them.
func clientKeys(t *testing.T, vm *object.VirtualMachine) map[string]string {
	t.Helper()
	keys := map[string]string{}
	for _, o := range read(t, vm).ExtraConfig {
		if text, ok := o.GetOptionValue().Value.(string); ok {
			keys[o.GetOptionValue().Key] = guestinfo.FromOptionValue(text)
		}
	}
	return keys
}

func TestAgeRefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	vm := mustCreate(t, sim, login(t, sim), "machine-1")
	name := read(t, vm).Name
	if err := sim.Age(name, 2); !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Errorf("a version that nothing happened at: %v", err)
	}
	if err := sim.Age("nobody", 0); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("a VM that is not there: %v", err)
	}
	if err := sim.Age(sim.VCHName, 0); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("the appliance: %v", err)
	}
}

func TestSetKeysIsAChangeBySomebodyElse(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	vm := mustCreate(t, sim, login(t, sim), "machine-1")
	before := read(t, vm)
	must(t, sim.SetKeys(before.Name, map[string]string{"k": "v", "common/name": "", "never/was": ""}))
	keys := clientKeys(t, vm)
	if _, there := keys["common/name"]; there || keys["k"] != "v" {
		t.Errorf("common/name is %q, k is %q", keys["common/name"], keys["k"])
	}
	if _, there := keys["never/was"]; there {
		t.Error("a key that was to vanish was made")
	}
	if v := read(t, vm).ChangeVersion; v == before.ChangeVersion {
		t.Errorf("changeVersion stayed %s", v)
	}
	task, err := vm.Reconfigure(t.Context(), types.VirtualMachineConfigSpec{ChangeVersion: before.ChangeVersion, NumCPUs: 4})
	must(t, err)
	if err := task.Wait(t.Context()); !sameFault(err, &types.ConcurrentAccess{}) {
		t.Errorf("a change from before: %v", err)
	}
}
