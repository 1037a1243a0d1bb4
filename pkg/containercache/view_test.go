// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containercache

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

const uuid = "564d1234-5678-9abc-def0-123456789abc"

var appliance = types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-appliance"}

// told is a view that hears what a test tells it.
type told struct {
	*View
	testing.TB
	clock *clocktesting.FakeClock
}

func newTold(t testing.TB) told {
	t.Helper()
	clk := clocktesting.NewFakeClock(time.Unix(1654867608, 0))
	v := newView(nil, &vch.Config{Name: "vch-1", UUID: uuid, Appliance: appliance}, clk)
	v.tell(vcenter.News{Reset: true})
	v.tell(vcenter.News{Updates: []types.ObjectUpdate{{Kind: types.ObjectUpdateKindEnter, Obj: appliance}}})
	return told{v, t, clk}
}

func (w told) sync() { w.tell(vcenter.News{Synced: true, At: w.clock.Now()}) }

func ref(machine string) types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-of-" + machine}
}

func (w told) who(machine string) (identity.Identity, identity.Mark) {
	w.Helper()
	mark := identity.Mark{Cluster: "c", Role: "node", Machine: machine}
	id, err := identity.New(uuid, mark.Cluster, mark.Machine)
	if err != nil {
		w.Fatal(err)
	}
	return id, mark
}

// enters is the update with which vCenter tells of a machine's VM.
func (w told) enters(machine string) types.ObjectUpdate {
	w.Helper()
	id, mark := w.who(machine)
	encoded, err := mark.Encode()
	if err != nil {
		w.Fatal(err)
	}
	option := func(value string) types.OptionValue { return types.OptionValue{Value: value} }
	return types.ObjectUpdate{Kind: types.ObjectUpdateKindEnter, Obj: ref(machine), ChangeSet: []types.PropertyChange{
		{Name: "name", Val: machine},
		{Name: "config.uuid", Val: id.BIOSUUID},
		{Name: "config.changeVersion", Val: "1"},
		{Name: "runtime.powerState", Val: types.VirtualMachinePowerStatePoweredOff},
		{Name: markProperty(), Val: option(encoded)},
		{Name: vch.KeyProperty(guestinfo.CommonIDKey), Val: option(id.ContainerID)},
	}}
}

func (w told) update(machine string, changes ...types.PropertyChange) {
	w.tell(vcenter.News{Updates: []types.ObjectUpdate{{Kind: types.ObjectUpdateKindModify, Obj: ref(machine), ChangeSet: changes}}})
}

func (w told) knows(machine string) (VM, bool) {
	w.Helper()
	id, mark := w.who(machine)
	return w.Find(id, mark)
}

func TestAViewAnswersOnceItKnowsAll(t *testing.T) {
	w := newTold(t)
	w.tell(vcenter.News{Updates: []types.ObjectUpdate{w.enters("m")}})
	if _, ok := w.knows("m"); ok {
		t.Error("it answers before it knows all")
	}
	w.sync()
	if vm, ok := w.knows("m"); !ok || vm.Name != "m" || vm.Ref != ref("m") || vm.Facts != nil {
		t.Errorf("%+v, %t", vm, ok)
	}
	if all, ok := w.Machines(); !ok || len(all) != 1 {
		t.Errorf("machines %+v, %t", all, ok)
	}
	if _, ok := w.knows("other"); ok {
		t.Error("it knows what nobody told it")
	}
}

func TestAViewThatWasNotHeardOfAnswersNothing(t *testing.T) {
	w := newTold(t)
	w.tell(vcenter.News{Updates: []types.ObjectUpdate{w.enters("m")}})
	w.sync()
	w.clock.Step(MaxAge + time.Second)
	_, found := w.knows("m")
	_, listed := w.Machines()
	_, seen := w.Seen(ref("m"))
	if found || listed || seen {
		t.Errorf("it answers after %s: %t %t %t", MaxAge, found, listed, seen)
	}
	w.sync() // vCenter says that nothing changed
	if _, ok := w.knows("m"); !ok {
		t.Error("it does not answer although vCenter confirmed it")
	}
	w.tell(vcenter.News{Reset: true})
	if _, ok := w.knows("m"); ok {
		t.Error("it answers although the session was lost")
	}
}

func TestAViewWithoutTheApplianceAnswersNothing(t *testing.T) {
	w := newTold(t)
	w.tell(vcenter.News{Updates: []types.ObjectUpdate{w.enters("m")}})
	w.sync()
	w.tell(vcenter.News{Updates: []types.ObjectUpdate{{Kind: types.ObjectUpdateKindLeave, Obj: appliance}}})
	if _, ok := w.knows("m"); ok {
		t.Error("it answers although the VCH is gone")
	}
}

func TestOnlyProvenVMsAreKnown(t *testing.T) {
	for name, change := range map[string]types.PropertyChange{
		"another's UUID":         {Name: "config.uuid", Val: "564d0000-0000-0000-0000-000000000000"},
		"no mark":                {Name: markProperty()},
		"half a mark":            {Name: markProperty(), Val: types.OptionValue{Value: `{"cluster":"c"}`}},
		"another machine's mark": {Name: markProperty(), Val: types.OptionValue{Value: `{"cluster":"c","role":"node","machine":"x"}`}},
		"another role":           {Name: markProperty(), Val: types.OptionValue{Value: `{"cluster":"c","role":"x","machine":"m"}`}},
		"another container":      {Name: vch.KeyProperty(guestinfo.CommonIDKey), Val: types.OptionValue{Value: "x"}},
	} {
		w := newTold(t)
		w.tell(vcenter.News{Updates: []types.ObjectUpdate{w.enters("m")}})
		w.sync()
		before := w.enters("m").ChangeSet
		w.update("m", change)
		if vm, ok := w.knows("m"); ok {
			t.Errorf("%s: known as %+v", name, vm)
		}
		for _, c := range before {
			w.update("m", c)
		}
		if _, ok := w.knows("m"); !ok {
			t.Errorf("%s, and back again: not known", name)
		}
	}
}

func TestOfTwoVMsOfOneMachineNoneIsKnown(t *testing.T) {
	w := newTold(t)
	twin := w.enters("m")
	twin.Obj.Value = "vm-twin"
	w.tell(vcenter.News{Updates: []types.ObjectUpdate{w.enters("m"), twin}})
	w.sync()
	if _, ok := w.knows("m"); ok {
		t.Error("one of two is known")
	}
	if all, _ := w.Machines(); len(all) != 2 {
		t.Errorf("%d VMs listed, want both", len(all))
	}
	w.tell(vcenter.News{Updates: []types.ObjectUpdate{{Kind: types.ObjectUpdateKindLeave, Obj: twin.Obj}}})
	if vm, ok := w.knows("m"); !ok || vm.Ref != ref("m") {
		t.Errorf("without the twin: %+v, %t", vm, ok)
	}
}

func TestFactsHoldForTheStateThatTheyWereLearnedIn(t *testing.T) {
	seen := Seen{ChangeVersion: "1", Power: types.VirtualMachinePowerStatePoweredOff}
	for name, change := range map[string]types.PropertyChange{
		"changed":     {Name: "config.changeVersion", Val: "2"},
		"powered on":  {Name: "runtime.powerState", Val: types.VirtualMachinePowerStatePoweredOn},
		"new address": {Name: "guest.ipAddress", Val: "192.0.2.7"},
	} {
		w := newTold(t)
		w.tell(vcenter.News{Updates: []types.ObjectUpdate{w.enters("m")}})
		w.sync()
		w.Learn(ref("m"), seen, Facts{Keys: map[string]string{"a": "1"}})
		if vm, _ := w.knows("m"); vm.Facts == nil || vm.Facts.Keys["a"] != "1" {
			t.Fatalf("facts %+v", vm.Facts)
		}
		w.update("m", change)
		if vm, ok := w.knows("m"); !ok || vm.Facts != nil {
			t.Errorf("%s: facts %+v, %t, want the VM without", name, vm.Facts, ok)
		}
	}
	w := newTold(t)
	w.tell(vcenter.News{Updates: []types.ObjectUpdate{w.enters("m")}})
	w.sync()
	w.Learn(ref("m"), Seen{ChangeVersion: "2", Power: types.VirtualMachinePowerStatePoweredOff}, Facts{})
	if vm, _ := w.knows("m"); vm.Facts != nil {
		t.Error("facts of a state that vCenter has not told of yet")
	}
	w.update("m", types.PropertyChange{Name: "config.changeVersion", Val: "2"})
	if vm, _ := w.knows("m"); vm.Facts == nil {
		t.Error("no facts although the state has come")
	}
	w.Unlearn(ref("m"))
	if vm, _ := w.knows("m"); vm.Facts != nil {
		t.Error("facts after somebody was about to change the VM")
	}
}

func TestAVMThatWasRemovedStaysForgotten(t *testing.T) {
	w := newTold(t)
	w.tell(vcenter.News{Updates: []types.ObjectUpdate{w.enters("m")}})
	w.sync()
	w.Forget(ref("m"))
	w.update("m", types.PropertyChange{Name: "name", Val: "late news"})
	if _, ok := w.knows("m"); ok {
		t.Error("it is known again")
	}
	if all, _ := w.Machines(); len(all) != 0 {
		t.Errorf("listed: %+v", all)
	}
}

func TestWhoWaitsForChangesIsWoken(t *testing.T) {
	w := newTold(t)
	w.tell(vcenter.News{Updates: []types.ObjectUpdate{w.enters("m"), w.enters("n")}})
	w.sync()
	changes, done := w.Changes(ref("m"))
	w.update("n", types.PropertyChange{Name: "name", Val: "x"})
	if len(changes) != 0 {
		t.Error("woken by another VM's change")
	}
	w.update("m", types.PropertyChange{Name: "name", Val: "x"})
	w.update("m", types.PropertyChange{Name: "name", Val: "y"})
	if len(changes) != 1 {
		t.Errorf("%d wakes, want one for both changes", len(changes))
	}
	done()
	if len(w.waiting) != 0 {
		t.Error("something is left of one who does not wait any more")
	}
}

func TestAWatchThatFailsIsBegunAgainAfterAPause(t *testing.T) {
	w := newTold(t)
	ctx := context.Background()
	begin := func() bool { c, _ := w.begin(ctx, w.clock.Now()); return c != nil }
	if !begin() || begin() {
		t.Fatal("a watch is not begun once")
	}
	var pauses []time.Duration
	for range 10 {
		w.end(w.clock.Now())
		var pause time.Duration
		for !begin() {
			w.clock.Step(time.Second)
			pause += time.Second
		}
		pauses = append(pauses, pause/time.Second)
	}
	if diff := cmp.Diff([]time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300}, pauses); diff != "" {
		t.Errorf("pauses in seconds (-want +got):\n%s", diff)
	}
	w.tell(vcenter.News{Updates: []types.ObjectUpdate{{Kind: types.ObjectUpdateKindEnter, Obj: appliance}}})
	w.sync()
	w.end(w.clock.Now())
	w.clock.Step(time.Second)
	if !begin() {
		t.Error("one that had succeeded waits for more than a second")
	}
}

func TestAVCHThatNobodyAsksForIsNotWatchedForever(t *testing.T) {
	w := newTold(t)
	ctx, _ := w.begin(t.Context(), w.clock.Now())
	for range 59 {
		w.clock.Step(time.Minute)
		w.sync()
	}
	if ctx.Err() != nil {
		t.Fatal("the watch ended too early")
	}
	w.clock.Step(time.Minute)
	w.sync()
	if ctx.Err() == nil {
		t.Error("the watch goes on after an hour")
	}
	if !w.end(w.clock.Now()) {
		t.Error("it did not end for idleness")
	}
}

func TestViewsOfSessionsThatEndedDoNotStay(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Unix(1654867608, 0))
	c := New(clk)
	of := func(name string) *View { return newView(nil, &vch.Config{Name: name}, clk) }
	failed, watched, fresh := of("failed"), of("watched"), of("fresh")
	for _, v := range []*View{failed, watched} {
		v.begin(t.Context(), clk.Now())
	}
	failed.end(clk.Now())
	clk.Step(idleFor)
	fresh.begin(t.Context(), clk.Now())
	fresh.end(clk.Now())
	for _, v := range []*View{failed, watched, fresh} {
		c.views[viewKey{appliance: types.ManagedObjectReference{Value: v.host.Name}}] = v
	}
	c.prune(clk.Now())
	for _, v := range []*View{watched, fresh} {
		if c.views[viewKey{appliance: types.ManagedObjectReference{Value: v.host.Name}}] != v {
			t.Errorf("%s was removed", v.host.Name)
		}
	}
	if len(c.views) != 2 {
		t.Errorf("%d views, want 2", len(c.views))
	}
}

// The cost of one change does not depend on how many VMs there are.
func BenchmarkAChangeAmongVMs(b *testing.B) {
	for _, vms := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint(vms), func(b *testing.B) {
			w := newTold(b)
			for i := range vms {
				w.tell(vcenter.News{Updates: []types.ObjectUpdate{w.enters(fmt.Sprintf("machine-%d", i))}})
			}
			w.sync()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				w.View.tell(vcenter.News{Updates: []types.ObjectUpdate{{Kind: types.ObjectUpdateKindModify, Obj: ref("machine-7"), ChangeSet: []types.PropertyChange{
					{Name: "config.changeVersion", Val: fmt.Sprint(i)},
				}}}})
			}
		})
	}
}

func TestTenThousandMachinesTakeLittleMemory(t *testing.T) {
	const machines, most = 10000, 48 << 20
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	w := newTold(t)
	for i := range machines {
		name := fmt.Sprintf("shoot--project--cluster-worker-z1-5d9c7-%05d", i)
		w.tell(vcenter.News{Updates: []types.ObjectUpdate{w.enters(name)}})
		id, _ := w.who(name)
		w.Learn(ref(name), Seen{ChangeVersion: "1", Power: types.VirtualMachinePowerStatePoweredOff}, Facts{Keys: map[string]string{
			guestinfo.CommonIDKey: id.ContainerID, guestinfo.NetworksKey: "bridge", guestinfo.StartedKey(id.ContainerID): "true", guestinfo.AssignedIPKey("bridge"): "wAACAQ==", guestinfo.AssignedMaskKey("bridge"): "////AA==",
		}})
	}
	w.sync()
	took := heap() - before
	t.Logf("%d machines take %.1f MiB", machines, float64(took)/(1<<20))
	if took > most {
		t.Errorf("%d machines take %d MiB, want at most %d", machines, took>>20, most>>20)
	}
	if all, ok := w.Machines(); !ok || len(all) != machines {
		t.Errorf("%d machines, %t", len(all), ok)
	}
}
