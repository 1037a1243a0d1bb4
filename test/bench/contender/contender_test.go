// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package contender_test

import (
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/bench/contender"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func newWorld(t *testing.T) (*vchsim.Sim, contender.Site) {
	t.Helper()
	sim, err := vchsim.Start(t.Context(), vchsim.Options{OtherVMs: 20, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	spec, err := json.Marshal(sim.ProviderSpec())
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(sim.URL())
	if err != nil {
		t.Fatal(err)
	}
	key, err := containervm.NewHostKey()
	if err != nil {
		t.Fatal(err)
	}
	return sim, contender.Site{Host: u.Host, Username: sim.Username, Password: sim.Password, CABundle: sim.CACert(), Spec: spec, HostKey: key, UserData: []byte("x")}
}

// shape is what must not depend on who made a machine: its keys, but for the id and what the guest
// wrote, and how its disks are made.
func shape(vm vchsim.VM) map[string]int {
	keys := slices.Collect(maps.Keys(vm.ExtraCfg))
	for i, k := range keys {
		keys[i] = strings.ReplaceAll(k, vm.ID, "ID")
	}
	shape := map[string]int{"disks": len(vm.Disks), "keys: " + strings.Join(slices.Sorted(slices.Values(keys)), ","): len(keys)}
	if vm.Mark != nil {
		shape["mark of "+vm.Mark.Cluster+" "+vm.Mark.Role]++
	}
	return shape
}

func TestAllContendersMakeTheSameMachinesAndLeaveNothing(t *testing.T) {
	t.Parallel()
	sim, site := newWorld(t)
	files, sessions := sim.Files(), sim.Sessions()
	shapes := map[string]map[string]int{}
	for _, name := range []string{contender.UsualName, contender.OursName, contender.FloorName} {
		c, err := contender.Open(t.Context(), name, site)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		machine := "machine-of-" + name
		if err := c.Create(t.Context(), machine); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		vm, there := sim.Machine(machine)
		if !there || !vm.On || vm.Started != "true" {
			t.Errorf("%s made %+v; the guests say %v", name, vm, sim.GuestReports())
		}
		shapes[name] = shape(vm)
		if name != contender.FloorName {
			if err := c.Status(t.Context(), machine); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := c.Status(t.Context(), "nobody"); err == nil {
				t.Errorf("%s finds a machine that is not there", name)
			}
			if n, err := c.List(t.Context()); n != 1 || err != nil {
				t.Errorf("%s lists %d machines, %v", name, n, err)
			}
		}
		if err := c.Prepare(t.Context(), []string{machine}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := c.Delete(t.Context(), machine); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if vm, there := sim.Machine(machine); there {
			t.Errorf("%s left %+v", name, vm)
		}
		if diff := cmp.Diff(files, sim.Files()); diff != "" {
			t.Errorf("%s left, or took, files (-before +after):\n%s", name, diff)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if left := sim.Sessions() - sessions; left != 0 {
			t.Errorf("%s left %d sessions", name, left)
		}
	}
	for name, s := range shapes {
		if diff := cmp.Diff(shapes[contender.OursName], s); diff != "" {
			t.Errorf("%s makes other machines than ours (-ours +%s):\n%s", name, name, diff)
		}
	}
}

func TestTheUsualWayLogsInForEachCallAndReadsEachVM(t *testing.T) {
	t.Parallel()
	sim, site := newWorld(t)
	c, err := contender.Open(t.Context(), contender.UsualName, site)
	if err != nil {
		t.Fatal(err)
	}
	sim.ResetCounters()
	reads := func() int {
		if _, err := c.List(t.Context()); err != nil {
			t.Fatal(err)
		}
		calls := sim.Calls()
		sim.ResetCounters()
		if calls["Login"] != 1 || calls["Logout"] != 1 {
			t.Errorf("a list calls %v", calls)
		}
		return calls["RetrievePropertiesEx"]
	}
	before := reads()
	for _, name := range []string{"a", "b", "c"} {
		if _, err := sim.CreateForeignVM(name, "", nil); err != nil {
			t.Fatal(err)
		}
	}
	if more := reads() - before; more != 3 {
		t.Errorf("three more VMs are %d more reads", more)
	}
}

func TestAnUnknownContenderIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := contender.Open(t.Context(), "theirs", contender.Site{Spec: []byte("{}")}); err == nil {
		t.Error("it is opened")
	}
}
