// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/types"
	"golang.org/x/sync/errgroup"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// listener keeps what a Watch told.
type listener struct {
	mu     sync.Mutex
	states map[types.ManagedObjectReference]any
	resets int
	synced chan struct{}
	told   chan struct{}
}

func newListener() *listener {
	return &listener{states: map[types.ManagedObjectReference]any{}, synced: make(chan struct{}, 100), told: make(chan struct{}, 10000)}
}

func (l *listener) tell(n News) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n.Reset {
		clear(l.states)
		l.resets++
	}
	for _, u := range n.Updates {
		for _, c := range u.ChangeSet {
			l.states[u.Obj] = c.Val
		}
		if u.Kind == types.ObjectUpdateKindLeave {
			delete(l.states, u.Obj)
		}
		l.told <- struct{}{}
	}
	if n.Synced {
		l.synced <- struct{}{}
	}
}

func (l *listener) state(vm types.ManagedObjectReference) any {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.states[vm]
}

// watching begins a watch of VMs' power and waits until it knows the present. It ends with the
// test, or by itself; then ended has why.
func (w *world) watching(t *testing.T, vms ...types.ManagedObjectReference) (l *listener, ended chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l, ended = newListener(), make(chan error, 1)
	var specs []types.PropertyFilterSpec
	for _, vm := range vms {
		specs = append(specs, power(vm)...)
	}
	go func() { ended <- w.Watch(ctx, specs, l.tell) }()
	t.Cleanup(cancel)
	select {
	case <-l.synced:
	case err := <-ended:
		t.Fatal(err)
	}
	return l, ended
}

func TestAWatchToldOfATasksEffectsWhenItsEndIsKnown(t *testing.T) {
	w := newWorld(t)
	vms := w.vms()
	l, _ := w.watching(t, vms...)
	var group errgroup.Group
	for _, vm := range vms {
		group.Go(func() error {
			_, err := w.Task(t.Context(), w.powerOff(t, vm))
			if got := l.state(vm); got != types.VirtualMachinePowerStatePoweredOff {
				t.Errorf("%s is known as %v when its task has ended", vm.Value, got)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// The order in which vCenter puts filters into an answer, and where it cuts one in two, is its own.
func TestWhoWaitsForATaskIsToldLast(t *testing.T) {
	task, vm := types.ManagedObjectReference{Type: "Task", Value: "t"}, types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm"}
	taskFilter, vmFilter := types.ManagedObjectReference{Value: "tasks"}, types.ManagedObjectReference{Value: "vms"}
	of := func(filter, obj types.ManagedObjectReference, name string, value any) types.PropertyFilterUpdate {
		return types.PropertyFilterUpdate{Filter: filter, ObjectSet: []types.ObjectUpdate{{Obj: obj, ChangeSet: []types.PropertyChange{{Name: name, Val: value}}}}}
	}
	end := of(taskFilter, task, "info.state", types.TaskInfoStateSuccess)
	effect := of(vmFilter, vm, "runtime.powerState", types.VirtualMachinePowerStatePoweredOff)
	for name, answers := range map[string][]types.UpdateSet{
		"in one answer": {{FilterSet: []types.PropertyFilterUpdate{end, effect}}},
		"in two parts": {
			{FilterSet: []types.PropertyFilterUpdate{end}, Truncated: types.NewBool(true)},
			{FilterSet: []types.PropertyFilterUpdate{effect}},
		},
	} {
		h := newHub(&Client{session: &session{pool: NewPool(Options{})}})
		waiter := newWatch(nil, nil)
		h.tasks[task] = &watchedTask{known: map[string]types.PropertyChange{}, waiting: map[*watch]struct{}{waiter: {}}}
		told := 0
		watcher := newWatch(nil, func(n News) {
			if told += len(n.Updates); len(n.Updates) > 0 && len(waiter.heard) > 0 {
				t.Errorf("%s: the end of the task was told before its effect", name)
			}
		})
		c := &collector{taskFilter: &taskFilter, filters: map[types.ManagedObjectReference]*watch{vmFilter: watcher}}
		for i := range answers {
			h.spread(c, &answers[i])
		}
		if told != 1 || len(waiter.heard) != 1 {
			t.Errorf("%s: %d effects and %d ends were told, want one of each", name, told, len(waiter.heard))
		}
	}
}

func TestAWatchEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := w.Watch(ctx, power(w.vms()[0]), func(n News) {
		if n.Synced {
			cancel()
		}
	})
	if !errdefs.Is(err, errdefs.Canceled) {
		t.Errorf("the watch ended with %v, want Canceled", err)
	}
}

func TestAWatchOfWhatIsNotThereSaysSo(t *testing.T) {
	w := newWorld(t)
	err := w.Watch(t.Context(), power(types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-none"}), newListener().tell)
	if !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("the watch ended with %v, want NotFound", err)
	}
}

func TestManyTasksShareCallsAndOneCollector(t *testing.T) {
	w := newWorld(t)
	vms := w.vms()
	if _, err := w.Task(t.Context(), w.rename(t, vms[0], "first")); err != nil {
		t.Fatal(err)
	}
	var tasks []types.ManagedObjectReference
	for i, vm := range vms {
		tasks = append(tasks, w.rename(t, vm, fmt.Sprintf("renamed-%d", i)))
	}
	w.seen.take()
	// The first addition is held until all others have come.
	arrived, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.seen.set(func(_ context.Context, method string) error {
		if method == "ModifyListView" {
			once.Do(func() { close(arrived); <-release })
		}
		return nil
	})
	var group errgroup.Group
	for i, ref := range tasks {
		if i == 1 {
			<-arrived
		}
		group.Go(func() error { _, err := w.Task(t.Context(), ref); return err })
	}
	eventually(t, "all tasks to be waited for", func() bool { return w.hub.taskCount() == len(tasks) })
	if got := w.session.pool.Stats()[0].Tasks; got != len(tasks) {
		t.Errorf("%d tasks are shown, want %d", got, len(tasks))
	}
	close(release)
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, method := range w.seen.take() {
		counts[method]++
	}
	delete(counts, "WaitForUpdatesEx")
	if diff := cmp.Diff(map[string]int{"ModifyListView": 2}, counts); diff != "" {
		t.Errorf("calls for %d tasks (-want +got):\n%s", len(tasks), diff)
	}
}

func TestAWatchGoesOnAfterItsSessionWasLost(t *testing.T) {
	w := newWorld(t)
	vms := w.vms()
	l, _ := w.watching(t, vms[0], vms[1])
	w.sim.ExpireSessions()
	// Unseen: the session is gone.
	w.powerOff(t, vms[0])
	<-l.synced
	eventually(t, "the power-off to be told", func() bool { return l.state(vms[0]) == types.VirtualMachinePowerStatePoweredOff })
	if got := l.state(vms[1]); got != types.VirtualMachinePowerStatePoweredOn {
		t.Errorf("the other VM is known as %v", got)
	}
	l.mu.Lock()
	if l.resets < 2 { // the first begins the watch
		t.Errorf("%d resets, want one for the lost session", l.resets)
	}
	l.mu.Unlock()
}

func TestALostAnswerOfTheLongPollLosesNoNews(t *testing.T) {
	w := newWorld(t)
	vms := w.vms()
	l, _ := w.watching(t, vms[0])
	lose := make(chan struct{}, 1)
	w.seen.setAfter(func(method string) error {
		if method != "WaitForUpdatesEx" {
			return nil
		}
		select {
		case lose <- struct{}{}:
			return &url.Error{Op: "Post", URL: "https://vc/sdk", Err: io.ErrUnexpectedEOF}
		default:
			return nil
		}
	})
	if _, err := w.Task(t.Context(), w.powerOff(t, vms[0])); err != nil {
		t.Fatal(err)
	}
	if len(lose) != 1 {
		t.Fatal("no answer was lost, so this test shows nothing")
	}
	if got := l.state(vms[0]); got != types.VirtualMachinePowerStatePoweredOff {
		t.Errorf("the VM is known as %v", got)
	}
	if made, removed := w.seen.count("CreatePropertyCollector"), w.seen.count("DestroyPropertyCollector"); made != removed+1 {
		t.Errorf("%d collectors were made and %d removed, want one left", made, removed)
	}
}

func TestAVCenterThatIsGoneEndsEveryWait(t *testing.T) {
	w := newWorldWith(t, Options{BreakerFailures: 1000}) // which would end them as well
	vms := w.vms()
	_, ended := w.watching(t, vms[0])
	ref := w.powerOff(t, vms[0])
	w.seen.setAfter(func(string) error {
		return &url.Error{Op: "Post", URL: "https://vc/sdk", Err: io.ErrUnexpectedEOF}
	})
	if _, err := w.Task(t.Context(), ref); !errdefs.Is(err, errdefs.Unavailable) {
		t.Errorf("the task: %v, want Unavailable", err)
	}
	w.sim.ExpireSessions() // what rests in vCenter ends
	if err := <-ended; !errdefs.Is(err, errdefs.Unavailable) {
		t.Errorf("the watch: %v, want Unavailable", err)
	}
	w.seen.setAfter(nil)
	w.watching(t, vms[0]) // and a new one may begin
}
