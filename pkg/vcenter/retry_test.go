// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// repeated is a call through all layers from the repetition down.
type repeated struct {
	*line
	answers  []error // of the attempts; nil when there are no more
	attempts []int   // what Attempt said
	pauses   []time.Duration
}

// run makes a call and lets time pass whenever it waits.
func (r *repeated) run(ctx context.Context, req, res soap.HasFault) error {
	r.Helper()
	r.attempts, r.pauses = nil, nil
	rt := r.repeat(r.guard(roundTripFunc(func(ctx context.Context, _, res soap.HasFault) error {
		if res.Fault() != nil {
			r.Error("an attempt finds the fault of the last one")
		}
		n := len(r.attempts)
		r.attempts = append(r.attempts, Attempt(ctx))
		if n < len(r.answers) {
			if body, ok := res.(*methods.CurrentTimeBody); ok && r.answers[n] != nil {
				body.Fault_ = &soap.Fault{}
			}
			return r.answers[n]
		}
		return nil
	})), 3, time.Minute)
	done := make(chan error, 1)
	go func() { done <- rt.RoundTrip(ctx, req, res) }()
	for {
		begin := r.clock.Now()
		var err error
		ended := false
		eventually(r.T, "the call to end or to wait", func() bool {
			select {
			case err = <-done:
				ended = true
			default:
			}
			return ended || r.clock.HasWaiters()
		})
		if ended {
			return err
		}
		for r.clock.HasWaiters() {
			r.clock.Step(10 * time.Millisecond)
		}
		r.pauses = append(r.pauses, r.clock.Since(begin))
	}
}

func (r *repeated) read() error {
	r.Helper()
	return r.run(r.Context(), &methods.CurrentTimeBody{}, &methods.CurrentTimeBody{})
}

func newRepeated(t *testing.T, answers ...error) *repeated {
	t.Helper()
	return &repeated{line: newLine(t, Options{BreakerFailures: 1000}), answers: answers}
}

func TestACallThatReadsIsRepeatedWhenVCenterCannotBeReached(t *testing.T) {
	t.Parallel()
	r := newRepeated(t, errUnreachable, errBusy)
	if err := r.read(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]int{1, 2, 3}, r.attempts); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
	for i, d := range r.pauses {
		whole := firstPause << i
		if d < whole/2 || d > whole+10*time.Millisecond {
			t.Errorf("pause %d was %s, want half of %s to all of it", i, d, whole)
		}
	}
	if s := r.stats(0); s.Retries != 2 || s.RetriesDenied != 0 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
	// It is not tried for ever, and the last error is the answer.
	r.answers = []error{errUnreachable, errUnreachable, errBusy, nil}
	if err := r.read(); !errors.Is(err, errBusy) {
		t.Errorf("got %v", err)
	}
}

func TestWhichErrorsARepetitionMayHelp(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err  error
		want int
	}{
		"unreachable":               {errUnreachable, 2},
		"503":                       {errBusy, 2},
		"429":                       {&url.Error{Err: &statusError{http.StatusTooManyRequests, "429", -1}}, 2},
		"an answer that is cut off": {decode(t, "<Envelope>"), 2},
		"a host that is gone":       {fault(&types.HostNotConnected{}), 2},
		"no answer in time":         {errTimeout, 1},
		"404":                       {&url.Error{Err: &statusError{http.StatusNotFound, "404", -1}}, 1},
		"no permission":             {fault(&types.NoPermission{}), 1},
		"wrong credentials":         {fault(&types.InvalidLogin{}), 1},
		"expired session":           {fault(&types.NotAuthenticated{}), 1},
		"a task in progress":        {fault(&types.TaskInProgress{}), 1},
		"untrusted certificate":     {errNotTrusted, 1},
		"somebody gives up":         {context.Canceled, 1},
	} {
		r := newRepeated(t, tc.err)
		err := r.read()
		if len(r.attempts) != tc.want || (tc.want == 1) != errors.Is(err, tc.err) {
			t.Errorf("%s: %d attempts and %v, want %d", name, len(r.attempts), err, tc.want)
		}
	}
}

func TestCallsThatChangeSomethingAreNeverRepeated(t *testing.T) {
	t.Parallel()
	for _, call := range []soap.HasFault{
		&methods.LoginBody{}, &methods.LogoutBody{}, &methods.CreateVM_TaskBody{}, &methods.PowerOnVM_TaskBody{}, &methods.ReconfigVM_TaskBody{},
		&methods.Destroy_TaskBody{}, &methods.MakeDirectoryBody{}, &methods.MoveDatastoreFile_TaskBody{}, &methods.ImportVAppBody{},
		&methods.StartProgramInGuestBody{}, &methods.CreatePropertyCollectorBody{}, &methods.DestroyPropertyFilterBody{},
		&methods.ContinueRetrievePropertiesExBody{}, &methods.WaitForUpdatesExBody{}, &methods.SearchDatastore_TaskBody{},
	} {
		for _, answer := range []error{errUnreachable, errBusy, fault(&types.HostNotConnected{})} {
			r := newRepeated(t, answer)
			if err := r.run(t.Context(), call, call); !errors.Is(err, answer) || len(r.attempts) != 1 {
				t.Errorf("%s with %v: %d attempts, %v", Method(call), answer, len(r.attempts), err)
			}
		}
	}
}

func TestARepetitionWaitsAsLongAsVCenterAsks(t *testing.T) {
	t.Parallel()
	asks := func(d time.Duration) error {
		return &url.Error{Err: &statusError{http.StatusServiceUnavailable, "503", d}}
	}
	r := newRepeated(t, asks(7*time.Second))
	if err := r.read(); err != nil || len(r.pauses) != 1 || r.pauses[0] < 7*time.Second || r.pauses[0] > 7*time.Second+10*time.Millisecond {
		t.Errorf("pauses %v, %v", r.pauses, err)
	}
	// Longer than the call may take: the error is the answer, at once.
	r = newRepeated(t, asks(2*time.Minute))
	if err := r.read(); err == nil || len(r.attempts) != 1 || len(r.pauses) != 0 {
		t.Errorf("%d attempts, pauses %v, %v", len(r.attempts), r.pauses, err)
	}
	// Longer than the caller has.
	r = newRepeated(t, asks(7*time.Second))
	r.clock.SetTime(time.Now())
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := r.run(ctx, &methods.CurrentTimeBody{}, &methods.CurrentTimeBody{}); err == nil || len(r.attempts) != 1 {
		t.Errorf("%d attempts, %v", len(r.attempts), err)
	}
}

func TestWhoGivesUpBetweenAttemptsIsAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	l := newLine(t, Options{})
	rt := l.repeat(roundTripFunc(func(context.Context, soap.HasFault, soap.HasFault) error { return errUnreachable }), 3, time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- rt.RoundTrip(ctx, &methods.CurrentTimeBody{}, &methods.CurrentTimeBody{}) }()
	eventually(t, "the pause", l.clock.HasWaiters)
	cancel()
	if err := <-done; !errors.Is(err, errUnreachable) {
		t.Errorf("got %v, want why it was not answered", err)
	}
	if l.clock.HasWaiters() {
		t.Error("its timer is left")
	}
}

func TestRepetitionsAreAFifthOfAllCalls(t *testing.T) {
	t.Parallel()
	r := newRepeated(t)
	sent := 0
	const calls = 200
	for range calls {
		r.answers = []error{errUnreachable, errUnreachable, errUnreachable}
		_ = r.read()
		sent += len(r.attempts)
	}
	if limit := calls + calls/5 + budgetBurst; sent > limit || sent < limit-2 {
		t.Errorf("%d requests for %d calls, want %d", sent, calls, limit)
	}
	if s := r.stats(0); s.Retries != uint64(sent-calls) || s.RetriesDenied == 0 {
		t.Errorf("%d retries, %d denied", s.Retries, s.RetriesDenied)
	}
}

func TestNothingIsRepeatedWhenTheBreakerOpens(t *testing.T) {
	t.Parallel()
	r := &repeated{line: newLine(t, Options{BreakerFailures: 2}), answers: []error{errUnreachable, errUnreachable, nil}}
	if err := r.read(); !errors.Is(err, errUnreachable) || len(r.attempts) != 2 {
		t.Errorf("%d attempts, %v; want that the second one opens the breaker", len(r.attempts), err)
	}
	if err := r.read(); !errdefs.Is(err, errdefs.Unavailable) || len(r.attempts) != 0 {
		t.Errorf("%d attempts, %v", len(r.attempts), err)
	}
}

func TestTheObserverSeesEachAttempt(t *testing.T) { // not parallel: vcsim has settings that its instances share
	s := startSim(t)
	var log []int
	failures := 1
	pool := newPool(t, Options{
		MaxAttempts: 2,
		Middleware: func(next soap.RoundTripper) soap.RoundTripper {
			return roundTripFunc(func(ctx context.Context, req, res soap.HasFault) error {
				err := next.RoundTrip(ctx, req, res)
				if Method(req) == "CurrentTime" && failures > 0 {
					failures--
					return errUnreachable // the answer is lost
				}
				return err
			})
		},
		Observer: func(ctx context.Context, method string, _ time.Duration, _ error) {
			if method == "CurrentTime" {
				log = append(log, Attempt(ctx))
			}
		},
	})
	client := open(t, pool, s.config())
	if err := now(t.Context(), client); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]int{1, 2}, log); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
	if got := statsOf(t, pool, s.config()); got.Retries != 1 {
		t.Errorf("%d retries, want 1", got.Retries)
	}
}
