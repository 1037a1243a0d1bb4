// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// What calls may end with.
var (
	errUnreachable = &url.Error{Op: "Post", URL: "https://vc/sdk", Err: &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}}
	errBusy        = &url.Error{Op: "Post", URL: "https://vc/sdk", Err: &statusError{http.StatusServiceUnavailable, "503 Service Unavailable", -1}}
	errTimeout     = errdefs.Wrap(errdefs.DeadlineExceeded, context.DeadlineExceeded, "vCenter vc did not answer")
	errNotTrusted  = &url.Error{Op: "Post", URL: "https://vc/sdk", Err: errdefs.New(errdefs.FailedPrecondition, "another thumbprint")}
)

func fault(f types.BaseMethodFault) error { return soap.WrapVimFault(f) }

// line is the way to a vCenter that does not exist: a test says how calls end.
type line struct {
	*testing.T
	*host
	clock *clocktesting.FakeClock
}

func newLine(t *testing.T, o Options) *line {
	t.Helper()
	clock := clocktesting.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	o.Clock = clock
	return &line{t, newHost("vc", o.withDefaults()), clock}
}

// ends makes a call that ends with err and returns what its caller gets.
func (l *line) ends(err error) error {
	l.Helper()
	return l.call(l.Context(), "CurrentTime", false, func() (sign, error) { return signGood, err })
}

// sent makes a call and reports whether it was sent.
func (l *line) sent(err error) bool {
	l.Helper()
	sent := false
	_ = l.call(l.Context(), "CurrentTime", false, func() (sign, error) { sent = true; return signGood, err })
	return sent
}

// held is a call under way.
type held struct {
	finish chan error // ends it
	done   chan error // what its caller gets
}

// begins makes a call that is under way when it returns, or waits if wait is set.
func (l *line) begins(ctx context.Context, wait bool) *held {
	l.Helper()
	h := &held{make(chan error, 1), make(chan error, 1)}
	started := make(chan struct{})
	_, _, before := l.slots.load()
	go func() {
		h.done <- l.call(ctx, "PowerOnVM_Task", false, func() (sign, error) {
			close(started)
			return signGood, <-h.finish
		})
	}()
	if wait {
		eventually(l.T, "a call to wait", func() bool { _, _, n := l.slots.load(); return n == before+1 })
		return h
	}
	<-started
	return h
}

func (h *held) ends(err error) error {
	h.finish <- err
	return <-h.done
}

func TestSignsOfOverloadLowerTheLimit(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err   error
		times int
		want  int
	}{
		"503":                               {errBusy, 1, 16},
		"429":                               {&url.Error{Err: &statusError{code: http.StatusTooManyRequests}}, 1, 16},
		"504":                               {&url.Error{Err: &statusError{code: http.StatusGatewayTimeout}}, 1, 16},
		"one 502":                           {&url.Error{Err: &statusError{code: http.StatusBadGateway}}, 1, 32},
		"a burst of 502":                    {&url.Error{Err: &statusError{code: http.StatusBadGateway}}, 5, 16},
		"no answer in time":                 {errTimeout, 1, 16},
		"a connection that times out":       {&url.Error{Err: &net.OpError{Op: "dial", Err: syscall.ETIMEDOUT}}, 1, 16},
		"fault Timedout":                    {fault(&types.Timedout{}), 1, 16},
		"too many clones":                   {fault(&types.TooManyConcurrentNativeClones{}), 1, 16},
		"one task in progress":              {fault(&types.TaskInProgress{}), 1, 32},
		"a storm of tasks in progress":      {fault(&types.TaskInProgress{}), 5, 16},
		"one connection refused":            {errUnreachable, 1, 32},
		"a burst of them":                   {errUnreachable, 5, 16},
		"twice as long a storm":             {fault(&types.TaskInProgress{}), 10, 8},
		"no permission, however often":      {fault(&types.NoPermission{}), 50, 32},
		"wrong credentials, however often":  {fault(&types.InvalidLogin{}), 50, 32},
		"an untrusted certificate":          {errNotTrusted, 50, 32},
		"a caller that gives up":            {context.Canceled, 50, 32},
		"down to the floor and not further": {fault(&types.Timedout{}), 50, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLine(t, Options{BreakerFailures: 1000})
			for range tc.times {
				if err := l.ends(tc.err); !errors.Is(err, tc.err) {
					t.Fatalf("the caller got %v", err)
				}
			}
			if got := l.stats(0); got.Limit != tc.want {
				t.Errorf("the limit is %d, want %d", got.Limit, tc.want)
			}
		})
	}
}

func TestALeastLimitAboveTheGreatestIsTheGreatest(t *testing.T) {
	t.Parallel()
	if got := newLine(t, Options{MaxConcurrent: 3, MinConcurrent: 7}).stats(0); got.MinLimit != 3 || got.MaxLimit != 3 || got.Limit != 3 {
		t.Errorf("limits of 3 and at least 7: %+v", got)
	}
}

func TestAFewTasksInProgressAmongAnswersAreNoStorm(t *testing.T) {
	t.Parallel()
	l := newLine(t, Options{})
	for i := range 200 {
		var err error
		if i%8 == 0 {
			err = fault(&types.TaskInProgress{})
		}
		_ = l.ends(err)
	}
	if got := l.stats(0).Limit; got != 32 {
		t.Errorf("the limit is %d", got)
	}
}

func TestCallsUnderWayTogetherLowerTheLimitOnce(t *testing.T) {
	t.Parallel()
	l := newLine(t, Options{BreakerFailures: 1000})
	calls := make([]*held, 32)
	for i := range calls {
		calls[i] = l.begins(t.Context(), false)
	}
	for _, c := range calls {
		_ = c.ends(errBusy)
	}
	if got := l.stats(0); got.Limit != 16 || got.Overloads != 1 {
		t.Errorf("limit %d, %d overloads; want 16, once", got.Limit, got.Overloads)
	}
}

func TestTheLimitRisesByOneEachSecondInWhichCallsAreAnswered(t *testing.T) {
	t.Parallel()
	l := newLine(t, Options{MaxConcurrent: 5})
	_ = l.ends(errBusy)
	var got []int
	for range 5 {
		for range 10 {
			_ = l.ends(nil)
		}
		got = append(got, l.stats(0).Limit)
		l.clock.Step(recoverEvery)
	}
	if diff := cmp.Diff([]int{2, 3, 4, 5, 5}, got); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
}

func TestALowerLimitHoldsNewCallsBackInTheirOrder(t *testing.T) {
	t.Parallel()
	l := newLine(t, Options{MaxConcurrent: 4, BreakerFailures: 1000})
	a, b, c := l.begins(t.Context(), false), l.begins(t.Context(), false), l.begins(t.Context(), false)
	_ = a.ends(errBusy) // two are under way, and two is the limit
	first := l.begins(t.Context(), true)
	ctx, cancel := context.WithCancel(t.Context())
	second := l.begins(ctx, true)
	third := l.begins(t.Context(), true)
	if got := l.stats(0); got.InFlight != 2 || got.Waiting != 3 || got.Limit != 2 {
		t.Fatalf("%d under way, %d wait, the limit is %d", got.InFlight, got.Waiting, got.Limit)
	}
	cancel()
	if err := <-second.done; !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that gave up got %v", err)
	}
	third.finish <- nil // would end at once, if it had overtaken
	_ = b.ends(nil)
	if err := first.ends(nil); err != nil {
		t.Error(err)
	}
	if err := <-third.done; err != nil {
		t.Error(err)
	}
	_ = c.ends(nil)
	if got := l.stats(0); got.InFlight != 0 || got.Waiting != 0 {
		t.Errorf("%d under way, %d wait", got.InFlight, got.Waiting)
	}
}

func TestACallWhoseContextHasEndedTakesNoTurn(t *testing.T) {
	t.Parallel()
	l := newLine(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := l.call(ctx, "CurrentTime", false, func() (sign, error) { t.Error("it was sent"); return signGood, nil })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// The slot that comes in the moment in which its caller gives up goes to the next one.
func TestNoSlotIsLostWhoeverGivesUp(t *testing.T) {
	t.Parallel()
	q := newQueue(1)
	for range 500 {
		if err := q.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan error, 1)
		go func() {
			err := q.acquire(ctx)
			if err == nil {
				q.release()
			}
			results <- err
		}()
		go cancel()
		q.release()
		<-results
	}
	if _, inUse, waiting := q.load(); inUse != 0 || waiting != 0 {
		t.Errorf("%d in use, %d wait", inUse, waiting)
	}
}

func TestCallsThatBecomeSlowWhileManyAreUnderWayLowerTheLimit(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		others int
		took   time.Duration
		lower  bool
	}{
		"slow among many":               {16, 2 * time.Second, true},
		"slow alone is not our doing":   {0, 2 * time.Second, false},
		"a little slower is not slow":   {16, 150 * time.Millisecond, false},
		"slow with many, long polls":    {16, 0, false},
		"three times as slow among few": {3, time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLine(t, Options{})
			takes := func(d time.Duration) {
				t.Helper()
				poll := d == 0
				if poll {
					d = time.Minute
				}
				err := l.call(t.Context(), "CurrentTime", poll, func() (sign, error) { l.clock.Step(d); return signGood, nil })
				if err != nil {
					t.Fatal(err)
				}
			}
			for range 100 {
				takes(20 * time.Millisecond)
			}
			var others []*held
			for range tc.others {
				others = append(others, l.begins(t.Context(), false))
			}
			for i := 0; i < 8 && l.stats(0).Limit == 32; i++ {
				takes(tc.took)
			}
			if got := l.stats(0).Limit; (got < 32) != tc.lower {
				t.Errorf("the limit is %d, lower: want %v", got, tc.lower)
			}
			for _, o := range others {
				_ = o.ends(nil)
			}
		})
	}
}

func TestAVCenterThatStaysSlowIsNotStrangledForEver(t *testing.T) {
	t.Parallel()
	a := newAdaptive(2, 32)
	for range 100 {
		a.slow("CurrentTime", 10*time.Millisecond)
	}
	n := 0
	for a.slow("CurrentTime", time.Second) || n < 8 {
		if n++; n > 200 {
			t.Fatal("what is usual never follows")
		}
	}
}

func TestFaultsOfTasksAreSignsToo(t *testing.T) {
	t.Parallel()
	update := func(obj string, val any) *types.UpdateSet {
		return &types.UpdateSet{FilterSet: []types.PropertyFilterUpdate{{ObjectSet: []types.ObjectUpdate{{
			Obj: types.ManagedObjectReference{Type: obj, Value: "1"}, ChangeSet: []types.PropertyChange{{Name: "info.error", Val: val}},
		}}}}}
	}
	for name, tc := range map[string]struct {
		set  *types.UpdateSet
		want int
	}{
		"too many":           {update("Task", types.LocalizedMethodFault{Fault: &types.TooManyConcurrentNativeClones{}}), 16},
		"by reference":       {update("Task", &types.LocalizedMethodFault{Fault: &types.Timedout{}}), 16},
		"something else":     {update("Task", types.LocalizedMethodFault{Fault: &types.NoDiskSpace{}}), 32},
		"of another object":  {update("VirtualMachine", types.LocalizedMethodFault{Fault: &types.Timedout{}}), 32},
		"an error's absence": {update("Task", nil), 32},
		"nothing happened":   {nil, 32},
	} {
		l := newLine(t, Options{})
		rt := l.guard(roundTripFunc(func(_ context.Context, _, res soap.HasFault) error {
			body, ok := res.(*methods.WaitForUpdatesExBody)
			if !ok {
				return fmt.Errorf("got %T", res)
			}
			body.Res = &types.WaitForUpdatesExResponse{Returnval: tc.set}
			return nil
		}))
		if _, err := methods.WaitForUpdatesEx(t.Context(), rt, &types.WaitForUpdatesEx{}); err != nil {
			t.Fatal(err)
		}
		if got := l.stats(0).Limit; got != tc.want {
			t.Errorf("%s: the limit is %d, want %d", name, got, tc.want)
		}
	}
}

func TestLongPollsTakeNoTurn(t *testing.T) {
	t.Parallel()
	l := newLine(t, Options{MaxConcurrent: 1})
	under := l.begins(t.Context(), false)
	rt := l.guard(roundTripFunc(func(context.Context, soap.HasFault, soap.HasFault) error {
		if got := l.stats(0); got.LongPolls != 1 || got.InFlight != 1 {
			t.Errorf("%d long polls, %d others", got.LongPolls, got.InFlight)
		}
		return nil
	}))
	if _, err := methods.WaitForUpdatesEx(t.Context(), rt, &types.WaitForUpdatesEx{Options: &types.WaitOptions{MaxWaitSeconds: ptr.To[int32](60)}}); err != nil {
		t.Error(err)
	}
	_ = under.ends(nil)
	if got := l.stats(0); got.LongPolls != 0 {
		t.Errorf("%d long polls are left", got.LongPolls)
	}
}
