// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// world is a session in a simulated vCenter with counted calls. Its property collectors are those of vchsim:
// vcsim's do not answer a filter that is made while a wait rests.
type world struct {
	*Client
	sim  *vchsim.Sim
	seen *calls
}

func newWorld(t *testing.T) *world { return newWorldWith(t, Options{}) }

func newWorldWith(t *testing.T, opts Options) *world {
	t.Helper()
	s, err := vchsim.Start(t.Context(), vchsim.Options{DockerContainers: 16, NoForeign: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	w := &world{sim: s, seen: &calls{}}
	opts.Middleware = w.seen.middleware
	w.Client = open(t, newPool(t, opts), Config{
		Endpoint: strings.TrimPrefix(s.URL(), "https://"), Username: vchsim.DefaultUsername, Password: vchsim.DefaultPassword, CABundle: s.CACert(),
	})
	w.seen.take()
	return w
}

// vms returns the VMs of the inventory that are powered on, but the appliance.
func (w *world) vms() []types.ManagedObjectReference {
	var refs []types.ManagedObjectReference
	for _, vm := range w.sim.VMs() {
		if vm.On && vm.Ref != w.sim.ApplianceRef() {
			refs = append(refs, vm.Ref)
		}
	}
	return refs
}

func (w *world) powerOff(t *testing.T, vm types.ManagedObjectReference) types.ManagedObjectReference {
	t.Helper()
	res, err := methods.PowerOffVM_Task(t.Context(), w.Vim(), &types.PowerOffVM_Task{This: vm})
	if err != nil {
		t.Fatal(err)
	}
	return res.Returnval
}

func (w *world) rename(t *testing.T, vm types.ManagedObjectReference, name string) types.ManagedObjectReference {
	t.Helper()
	res, err := methods.Rename_Task(t.Context(), w.Vim(), &types.Rename_Task{This: vm, NewName: name})
	if err != nil {
		t.Fatal(err)
	}
	return res.Returnval
}

func power(vm types.ManagedObjectReference) []types.PropertyFilterSpec {
	return []types.PropertyFilterSpec{{
		ObjectSet: []types.ObjectSpec{{Obj: vm}},
		PropSet:   []types.PropertySpec{{Type: vm.Type, PathSet: []string{"runtime.powerState"}}},
	}}
}

func TestATaskIsWaitedForWithFewCalls(t *testing.T) {
	w := newWorld(t)
	for i, vm := range w.vms()[:2] {
		ref := w.powerOff(t, vm)
		w.seen.take()
		info, err := w.Task(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		if info.State != types.TaskInfoStateSuccess || info.Task != ref || info.Entity == nil || *info.Entity != vm || info.DescriptionId == "" {
			t.Errorf("info: %+v", info)
		}
		got := w.seen.take()
		polls := len(slices.DeleteFunc(slices.Clone(got), func(m string) bool { return m != "WaitForUpdatesEx" }))
		others := slices.DeleteFunc(got, func(m string) bool { return m == "WaitForUpdatesEx" })
		want := []string{"CreatePropertyCollector", "CreateListView", "CreateFilter", "ModifyListView"}[3*i:]
		if diff := cmp.Diff(want, others); diff != "" || polls > 3 {
			t.Errorf("wait %d: %d polls and (-want +got):\n%s", i, polls, diff)
		}
	}
}

func TestATaskThatFailedTellsItsFault(t *testing.T) {
	w := newWorld(t)
	vm := w.vms()[0]
	if _, err := w.Task(t.Context(), w.powerOff(t, vm)); err != nil {
		t.Fatal(err)
	}
	ref := w.powerOff(t, vm)
	_, err := w.Task(t.Context(), ref)
	if !errdefs.Is(err, errdefs.FailedPrecondition) || !IsInvalidPowerState(err) || !strings.Contains(err.Error(), ref.Value) || !strings.Contains(err.Error(), "existingState poweredOff") {
		t.Errorf("got %v, want FailedPrecondition naming the task and the state", err)
	}
}

func TestATaskThatVCenterForgotIsAborted(t *testing.T) {
	w := newWorld(t)
	_, err := w.Task(t.Context(), types.ManagedObjectReference{Type: "Task", Value: "task-none"})
	if !errdefs.Is(err, errdefs.Aborted) || !strings.Contains(err.Error(), "task-none") {
		t.Errorf("got %v, want Aborted naming the task", err)
	}
	// The filter of the missing task must not disturb the next wait.
	if _, err := w.Task(t.Context(), w.powerOff(t, w.vms()[0])); err != nil {
		t.Errorf("the next wait: %v", err)
	}
}

// slow makes every task last a while. The simulator holds that in a global variable.
func slow(t *testing.T) {
	t.Helper()
	before := simulator.TaskDelay
	t.Cleanup(func() { simulator.TaskDelay = before })
	simulator.TaskDelay = simulator.DelayConfig{Delay: 2000, MethodDelay: map[string]int{"LockHandoff": 0}}
}

func TestADeadlineEndsTheWaitAndNotTheTask(t *testing.T) {
	w := newWorld(t)
	slow(t)
	ref := w.powerOff(t, w.vms()[0])

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := w.Task(ctx, ref)
	if !errdefs.Is(err, errdefs.DeadlineExceeded) || !strings.Contains(err.Error(), ref.Value) || !strings.Contains(err.Error(), "powerOff") {
		t.Errorf("got %v, want DeadlineExceeded naming the task", err)
	}
	if n := w.seen.count("CancelTask"); n != 0 {
		t.Error("the task was cancelled")
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Task(cancelled, ref); !errdefs.Is(err, errdefs.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
	if _, err := w.Task(t.Context(), ref); err != nil {
		t.Errorf("waiting again: %v", err)
	}
}

func TestUntilSeesThePresentAndWhatChanges(t *testing.T) {
	w := newWorld(t)
	vm := w.vms()[0]
	var states []any
	err := w.Until(t.Context(), power(vm), func(updates []types.ObjectUpdate) (bool, error) {
		for _, u := range updates {
			for _, c := range u.ChangeSet {
				states = append(states, c.Val)
			}
		}
		if len(states) == 1 {
			w.powerOff(t, vm)
		}
		return len(states) == 2, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]any{types.VirtualMachinePowerStatePoweredOn, types.VirtualMachinePowerStatePoweredOff}, states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}

	stop := errors.New("enough")
	err = w.Until(t.Context(), power(vm), func([]types.ObjectUpdate) (bool, error) { return false, stop })
	if !errors.Is(err, stop) || err.Error() != "enough" {
		t.Errorf("got %v, want the error of done as it is", err)
	}
}

// Filters of earlier waits on living objects are removed, so that they wake nobody.
func TestWaitsOneAfterTheOtherDoNotDisturbEachOther(t *testing.T) {
	w := newWorld(t)
	vms := w.vms()
	seeOne := func([]types.ObjectUpdate) (bool, error) { return true, nil }
	if err := w.Until(t.Context(), append(power(vms[0]), power(vms[1])...), seeOne); err != nil {
		t.Fatal(err)
	}
	// The watched VM goes away, and others change.
	if _, err := w.Task(t.Context(), w.powerOff(t, vms[0])); err != nil {
		t.Fatal(err)
	}
	if _, err := methods.UnregisterVM(t.Context(), w.Vim(), &types.UnregisterVM{This: vms[0]}); err != nil {
		t.Fatal(err)
	}
	err := w.Until(t.Context(), power(vms[1]), func(updates []types.ObjectUpdate) (bool, error) {
		for _, u := range updates {
			if u.Obj != vms[1] {
				t.Errorf("update of %s, want only %s", u.Obj, vms[1])
			}
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Task(t.Context(), w.rename(t, vms[1], "renamed")); err != nil {
		t.Fatal(err)
	}
	if n := w.seen.count("CreatePropertyCollector"); n != 1 {
		t.Errorf("%d collectors, want 1", n)
	}
	eventually(t, "the 3 filters of VMs to be removed", func() bool { return w.seen.count("DestroyPropertyFilter") == 3 })
}

func TestUntilOfAnAbsentObjectIsNotFound(t *testing.T) {
	w := newWorld(t)
	err := w.Until(t.Context(), power(types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-none"}), func([]types.ObjectUpdate) (bool, error) {
		t.Error("done was called")
		return true, nil
	})
	if !errdefs.Is(err, errdefs.NotFound) || !IsManagedObjectNotFound(err) {
		t.Errorf("got %v, want NotFound", err)
	}
}

func TestAWaitSurvivesTheRenewalOfItsSession(t *testing.T) {
	w := newWorld(t)
	vms := w.vms()
	if _, err := w.Task(t.Context(), w.powerOff(t, vms[0])); err != nil {
		t.Fatal(err)
	}
	ref := w.powerOff(t, vms[1])
	w.sim.ExpireSessions()
	if _, err := w.Task(t.Context(), ref); err != nil {
		t.Errorf("wait: %v", err)
	}
	if n := w.seen.count("Login"); n != 2 {
		t.Errorf("%d logins, want 2", n)
	}
	if n := w.seen.count("CreatePropertyCollector"); n != 2 {
		t.Errorf("%d collectors, want 2", n)
	}
}

func TestTruncatedAnswersArePutTogether(t *testing.T) {
	w := newWorld(t)
	// More objects than one answer holds: the simulator cuts at 100, as vCenter does.
	var refs []types.ManagedObjectReference
	vm := w.vms()[0]
	for i := range 130 {
		refs = append(refs, w.rename(t, vm, "name-"+string(rune('a'+i%26))+string(rune('a'+i/26))))
	}
	spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{{Type: "Task", PathSet: []string{"info.key"}}}}
	for _, ref := range refs {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: ref})
	}
	w.seen.take()
	first := 0
	err := w.Until(t.Context(), []types.PropertyFilterSpec{spec}, func(updates []types.ObjectUpdate) (bool, error) {
		first = len(updates)
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if first != len(refs) {
		t.Errorf("the first call had %d objects, want %d", first, len(refs))
	}
	if n := len(w.seen.take()); n < 4 {
		t.Errorf("%d calls: the answer was not cut, so this test shows nothing", n)
	}
}

func TestUnreadablePropertiesEndAWait(t *testing.T) {
	vm := types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-1"}
	filter := types.ManagedObjectReference{Type: "PropertyFilter", Value: "f"}
	set := func(f types.PropertyFilterUpdate) *types.UpdateSet {
		f.Filter = filter
		return &types.UpdateSet{FilterSet: []types.PropertyFilterUpdate{f}}
	}
	missing := func(fault types.BaseMethodFault) []types.MissingProperty {
		return []types.MissingProperty{{Path: "config", Fault: types.LocalizedMethodFault{Fault: fault}}}
	}
	for name, tc := range map[string]struct {
		set  *types.UpdateSet
		want errdefs.Kind
	}{
		"no permission": {set(types.PropertyFilterUpdate{ObjectSet: []types.ObjectUpdate{{Obj: vm, MissingSet: missing(&types.NoPermission{PrivilegeId: "System.Read"})}}}), errdefs.PermissionDenied},
		"absent object": {set(types.PropertyFilterUpdate{MissingSet: []types.MissingObject{{Obj: vm, Fault: types.LocalizedMethodFault{Fault: &types.ManagedObjectNotFound{Obj: vm}}}}}), errdefs.NotFound},
		"absent key":    {set(types.PropertyFilterUpdate{ObjectSet: []types.ObjectUpdate{{Obj: vm, MissingSet: missing(&types.InvalidProperty{Name: "x"})}}}), ""},
	} {
		watch := newWatch(nil, nil)
		watch.hear(news{PropertyFilterUpdate: tc.set.FilterSet[0]})
		err := watch.err
		if errdefs.KindOf(err) != tc.want {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

func TestAFaultOfThePollIsConverted(t *testing.T) {
	w := newWorld(t)
	w.seen.answer = func(_ context.Context, method string) error {
		if method == "WaitForUpdatesEx" {
			return soap.WrapVimFault(&types.HostNotConnected{})
		}
		return nil
	}
	_, err := w.Task(t.Context(), w.powerOff(t, w.vms()[0]))
	if !errdefs.Is(err, errdefs.Unavailable) {
		t.Errorf("got %v, want Unavailable", err)
	}
}
