// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containercache"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/vsphere"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// watched waits until the backend watches the VCH and answers from what it knows.
func (w site) watched(s spi.PluginSPI) containercache.Stats {
	w.Helper()
	b, ok := s.(*vsphere.Backend)
	if !ok {
		w.Fatalf("%T watches nothing", s)
	}
	deadline := time.After(time.Minute)
	for {
		if _, err := b.ListMachines(w.Context(), w.Spec(), w.Secret()); err != nil {
			w.Fatal(err)
		}
		for _, s := range b.CacheStats() {
			if s.Synced {
				return s
			}
		}
		select {
		case <-deadline:
			w.Fatalf("the VCH is not watched: %+v", b.CacheStats())
		case <-time.After(time.Millisecond):
		}
	}
}

// silent checks that a call costs vCenter nothing.
func (w site) silent(what string, call func() error) {
	w.Helper()
	w.Sim.ResetCounters()
	if err := call(); err != nil {
		w.Fatalf("%s: %v", what, err)
	}
	calls := w.Sim.Calls()
	delete(calls, "WaitForUpdatesEx") // rests in vCenter, whoever asks
	if len(calls) != 0 {
		w.Errorf("%s: calls %v, want none", what, calls)
	}
}

func TestStatusAndListOfAWatchedVCHCostNothing(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{OtherVMs: 100})
	b := w.Backend(vcenter.Options{})
	w.watched(b)
	var want string
	for i := range 20 {
		name := fmt.Sprintf("machine-%d", i)
		if _, err := b.CreateMachine(t.Context(), name, w.Spec(), w.Secret()); err != nil {
			t.Fatal(err)
		}
		_, addresses, err := b.InitializeMachine(t.Context(), name, "", w.Spec(), w.Secret())
		if err != nil {
			t.Fatal(err)
		}
		want += fmt.Sprint(addresses)
	}
	got := ""
	w.silent("status of 20 machines", func() error {
		for i := range 20 {
			_, addresses, err := b.GetMachineStatus(t.Context(), fmt.Sprintf("machine-%d", i), "", w.Spec(), w.Secret())
			if err != nil {
				return err
			}
			got += fmt.Sprint(addresses)
		}
		return nil
	})
	if got != want {
		t.Errorf("addresses %s, want %s", got, want)
	}
	var listed map[string]string
	w.silent("list", func() (err error) {
		listed, err = b.ListMachines(t.Context(), w.Spec(), w.Secret())
		return err
	})
	if len(listed) != 20 {
		t.Errorf("%d machines listed, want 20", len(listed))
	}
	// Another process, which watches and has made nothing, answers the same.
	other := w.Backend(vcenter.Options{})
	w.watched(other)
	for range 2 { // the first question of a process is answered by vCenter, the second by what it said
		for i := range 20 {
			name := fmt.Sprintf("machine-%d", i)
			_, mine, err := b.GetMachineStatus(t.Context(), name, "", w.Spec(), w.Secret())
			_, theirs, otherErr := other.GetMachineStatus(t.Context(), name, "", w.Spec(), w.Secret())
			if diff := cmp.Diff(mine, theirs); diff != "" || err != nil || otherErr != nil {
				t.Errorf("%v, %v, addresses (-mine +theirs):\n%s", err, otherErr, diff)
			}
		}
	}
	w.silent("status in the other process", func() error {
		_, _, err := other.GetMachineStatus(t.Context(), "machine-3", "", w.Spec(), w.Secret())
		return err
	})
}

func TestTenThousandMachinesCostNothingOnceTheyAreKnown(t *testing.T) {
	t.Parallel()
	const machines = 10000
	w := newSite(t, vchsim.Options{RunningMachines: machines, NoForeign: true})
	b := w.Backend(vcenter.Options{})
	w.watched(b)
	for i := 0; i < machines; i += 500 { // learns their addresses
		if _, _, err := b.GetMachineStatus(t.Context(), vchsim.RunningMachine(i), "", w.Spec(), w.Secret()); err != nil {
			t.Fatal(err)
		}
	}
	w.silent("list and status", func() error {
		listed, err := b.ListMachines(t.Context(), w.Spec(), w.Secret())
		if len(listed) != machines {
			t.Errorf("%d machines listed, want %d", len(listed), machines)
		}
		for i := 0; i < machines && err == nil; i += 500 {
			_, _, err = b.GetMachineStatus(t.Context(), vchsim.RunningMachine(i), "", w.Spec(), w.Secret())
		}
		return err
	})
	// One change is one update, whatever there is besides.
	before := b.CacheStats()[0].Updates
	vm, _ := w.Sim.Machine(vchsim.RunningMachine(7))
	if err := w.Sim.SetKeys(vm.Name, map[string]string{"guestinfo.note": "changed"}); err != nil {
		t.Fatal(err)
	}
	w.eventually("the change to be heard of", func() bool { return b.CacheStats()[0].Updates > before })
	if n := b.CacheStats()[0].Updates - before; n > 2 {
		t.Errorf("one change came as %d updates", n)
	}
}

func TestWhatIsNotThereIsAskedOfVCenter(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	b := w.Backend(vcenter.Options{})
	w.watched(b)
	w.Sim.ResetCounters()
	if _, _, err := b.GetMachineStatus(t.Context(), "nobody", "", w.Spec(), w.Secret()); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("got %v, want NotFound", err)
	}
	if w.Sim.Calls()["FindAllByUuid"] != 1 {
		t.Errorf("NotFound without asking vCenter: %v", w.Sim.Calls())
	}
}

func TestWhatADeletionDestroysIsReadRightBefore(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	b := w.Backend(vcenter.Options{})
	w.watched(b)
	for i, running := range []bool{true, false} {
		name := fmt.Sprintf("machine-%d", i)
		if _, err := b.CreateMachine(t.Context(), name, w.Spec(), w.Secret()); err != nil {
			t.Fatal(err)
		}
		if running {
			if _, _, err := b.InitializeMachine(t.Context(), name, "", w.Spec(), w.Secret()); err != nil {
				t.Fatal(err)
			}
		}
		read := 0
		stop := w.Sim.OnCall("ReconfigVM_Task", func() { read = w.Sim.Calls()["RetrievePropertiesEx"] })
		w.Sim.ResetCounters()
		if _, err := b.DeleteMachine(t.Context(), name, "", w.Spec(), w.Secret()); err != nil {
			t.Fatal(err)
		}
		stop()
		if read == 0 {
			t.Errorf("running %t: the disks were detached without a read: %v", running, w.Sim.Calls())
		}
		w.Sim.ResetCounters()
		if _, _, err := b.GetMachineStatus(t.Context(), name, "", w.Spec(), w.Secret()); !errdefs.Is(err, errdefs.NotFound) {
			t.Errorf("running %t: a deleted machine has the status %v", running, err)
		}
	}
}

func TestOthersChangesAreSeen(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	b, other := w.Backend(vcenter.Options{}), w.Backend(vcenter.Options{})
	w.watched(b)
	w.start("machine-1")
	if _, _, err := b.GetMachineStatus(t.Context(), "machine-1", "", w.Spec(), w.Secret()); err != nil {
		t.Fatal(err)
	}
	if _, err := other.ShutDownMachine(t.Context(), "machine-1", "", w.Spec(), w.Secret()); err != nil {
		t.Fatal(err)
	}
	w.eventually("the stop to be seen", func() bool {
		_, _, err := b.GetMachineStatus(t.Context(), "machine-1", "", w.Spec(), w.Secret())
		return errdefs.Is(err, errdefs.Uninitialized)
	})
	if _, err := other.DeleteMachine(t.Context(), "machine-1", "", w.Spec(), w.Secret()); err != nil {
		t.Fatal(err)
	}
	w.eventually("the removal to be seen", func() bool {
		_, _, err := b.GetMachineStatus(t.Context(), "machine-1", "", w.Spec(), w.Secret())
		return errdefs.Is(err, errdefs.NotFound)
	})
	w.eventually("the list to be empty", func() bool {
		listed, err := b.ListMachines(t.Context(), w.Spec(), w.Secret())
		return err == nil && len(listed) == 0
	})
}

func (w site) eventually(what string, ok func() bool) {
	w.Helper()
	deadline := time.After(time.Minute)
	for !ok() {
		select {
		case <-deadline:
			w.Fatalf("waited too long for %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestAMarkThatIsTakenAwayEndsAYes(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	b := w.Backend(vcenter.Options{})
	w.watched(b)
	w.start("machine-1")
	if _, _, err := b.GetMachineStatus(t.Context(), "machine-1", "", w.Spec(), w.Secret()); err != nil {
		t.Fatal(err)
	}
	vm, _ := w.Sim.Machine("machine-1")
	for _, key := range slices.Sorted(maps.Keys(vm.ExtraCfg)) {
		if strings.Contains(key, "mcm-vch-mark") {
			if err := w.Sim.SetKeys(vm.Name, map[string]string{key: `{"cluster":"other","role":"node","machine":"machine-1"}`}); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.eventually("the mark to be seen", func() bool {
		_, _, err := b.GetMachineStatus(t.Context(), "machine-1", "", w.Spec(), w.Secret())
		return errdefs.Is(err, errdefs.FailedPrecondition)
	})
	if _, err := b.DeleteMachine(t.Context(), "machine-1", "", w.Spec(), w.Secret()); !errdefs.Is(err, errdefs.FailedPrecondition) {
		t.Errorf("deleting what is not ours any more: %v", err)
	}
}

func TestAnUpgradeOfTheVCHIsSeenWithoutAsking(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	b := w.Backend(vcenter.Options{})
	w.watched(b)
	w.Sim.ApplianceSetUpdateInProgress(true)
	w.eventually("the upgrade to be seen", func() bool {
		_, err := b.CreateMachine(t.Context(), "machine-1", w.Spec(), w.Secret())
		return errdefs.Is(err, errdefs.Unavailable)
	})
	w.Sim.ApplianceSetUpdateInProgress(false)
	w.eventually("its end to be seen", func() bool {
		_, err := b.CreateMachine(t.Context(), "machine-2", w.Spec(), w.Secret())
		return err == nil
	})
}

func TestAWatchIsResumedAfterItsSessionWasLost(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	b := w.Backend(vcenter.Options{})
	w.start("machine-1")
	w.watched(b)
	w.Sim.ExpireSessions()
	w.start("machine-2")
	w.eventually("the watch to be resumed", func() bool {
		listed, err := b.ListMachines(t.Context(), w.Spec(), w.Secret())
		stats := b.CacheStats()
		return err == nil && len(listed) == 2 && stats[0].Synced && stats[0].Resyncs > 0 && stats[0].Machines >= 2
	})
}

func TestManyAtOnceStayWithinTheBudget(t *testing.T) {
	t.Parallel()
	const machines, atOnce = 64, 32
	// A vCenter that answers at once would be asked more often: what comes meanwhile is what calls share.
	w := newSite(t, vchsim.Options{Latency: 20 * time.Millisecond, NoForeign: true})
	b := w.Backend(vcenter.Options{})
	w.watched(b)
	if _, err := b.CreateMachine(t.Context(), "warm", w.Spec(), w.Secret()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.InitializeMachine(t.Context(), "warm", "", w.Spec(), w.Secret()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.DeleteMachine(t.Context(), "warm", "", w.Spec(), w.Secret()); err != nil {
		t.Fatal(err)
	}
	each := func(what string, budget float64, call func(name string) error) {
		w.Sim.ResetCounters()
		var group errgroup.Group
		group.SetLimit(atOnce)
		for i := range machines {
			group.Go(func() error { return call(fmt.Sprintf("machine-%d", i)) })
		}
		if err := group.Wait(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		average := float64(w.Sim.Requests()) / machines
		t.Logf("%s: %.2f calls for each machine: %v", what, average, w.Sim.Calls())
		if average > budget {
			t.Errorf("%s: %.2f calls for each machine, the budget is %.0f", what, average, budget)
		}
	}
	each("Create and Initialize", 6, func(name string) error {
		if _, err := b.CreateMachine(t.Context(), name, w.Spec(), w.Secret()); err != nil {
			return err
		}
		_, _, err := b.InitializeMachine(t.Context(), name, "", w.Spec(), w.Secret())
		return err
	})
	each("GetMachineStatus", 0, func(name string) error {
		_, _, err := b.GetMachineStatus(t.Context(), name, "", w.Spec(), w.Secret())
		return err
	})
	each("Delete", 7, func(name string) error {
		_, err := b.DeleteMachine(t.Context(), name, "", w.Spec(), w.Secret())
		return err
	})
	if w.Sim.Sessions() != 2 { // the test's own is one
		t.Errorf("%d sessions", w.Sim.Sessions()-1)
	}
}
