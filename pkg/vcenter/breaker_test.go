// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// dies lets calls fail until the breaker opens.
func (l *line) dies() {
	l.Helper()
	for range defaultFailures {
		_ = l.ends(errUnreachable)
	}
	if got := l.stats(0).Breaker; got != BreakerOpen {
		l.Fatalf("the breaker is %s after %d failures", got, defaultFailures)
	}
}

func TestTheLifeOfABreaker(t *testing.T) {
	t.Parallel()
	l := newLine(t, Options{})
	began := l.clock.Now()
	for i := range defaultFailures {
		if !l.sent(errUnreachable) {
			t.Fatalf("call %d was not sent", i)
		}
		l.clock.Step(time.Second)
	}
	if l.sent(nil) {
		t.Error("a call was sent although the breaker is open")
	}
	s := l.stats(0)
	want := HostStats{
		Host: "vc", Limit: 16, MinLimit: 2, MaxLimit: 32, Overloads: 1, Breaker: BreakerOpen,
		Since: began, Until: began.Add(4*time.Second + firstWait), Failures: 5, Cause: errUnreachable.Error(),
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	// Each vain attempt doubles the wait, up to the longest.
	var waits []time.Duration
	for range 6 {
		s = l.stats(0)
		l.clock.SetTime(s.Until)
		if !l.sent(errUnreachable) {
			t.Fatal("no call was let through when it was time")
		}
		if l.sent(nil) {
			t.Fatal("a second call was let through")
		}
		waits = append(waits, l.stats(0).Until.Sub(s.Until))
	}
	if diff := cmp.Diff([]time.Duration{4e9, 8e9, 16e9, 30e9, 30e9, 30e9}, waits); diff != "" {
		t.Errorf("waits (-want +got):\n%s", diff)
	}
	l.clock.SetTime(l.stats(0).Until)
	for range 2 {
		if !l.sent(nil) {
			t.Error("it does not close when vCenter answers")
		}
	}
	s = l.stats(0)
	if s.Breaker != BreakerClosed || s.Failures != 0 || !s.Since.Equal(l.clock.Now()) || s.Cause != "" {
		t.Errorf("state %+v, want closed", s)
	}
	// And it begins anew.
	l.dies()
	if s := l.stats(0); s.Until.Sub(s.Since) != firstWait {
		t.Errorf("the next time it waits %s", s.Until.Sub(s.Since))
	}
}

func TestARefusalSaysSinceWhenWhyAndUntilWhen(t *testing.T) {
	t.Parallel()
	l := newLine(t, Options{})
	l.dies()
	err := l.ends(nil)
	want := "vCenter vc does not answer since 03:04:05 UTC (5 times, the last: " + errUnreachable.Error() + "); it is tried again at 03:04:07 UTC"
	if !errdefs.Is(err, errdefs.Unavailable) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if errors.Is(err, errUnreachable) {
		t.Error("the cause of another call is in its chain")
	}
	if err := l.refused(); err == nil {
		t.Error("requests that are not SOAP are let through")
	}
}

// decode returns the error with which an answer is not understood.
func decode(t *testing.T, answer string) error {
	t.Helper()
	var envelope struct {
		XMLName xml.Name `xml:"Envelope"`
	}
	err := xml.NewDecoder(strings.NewReader(answer)).Decode(&envelope)
	if err == nil {
		t.Fatal("it is understood")
	}
	return err
}

func TestWhatOpensABreaker(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err  error
		want BreakerState
	}{
		"unreachable":           {errUnreachable, BreakerOpen},
		"503":                   {errBusy, BreakerOpen},
		"no answer in time":     {errTimeout, BreakerOpen},
		"no permission":         {fault(&types.NoPermission{}), BreakerClosed},
		"wrong credentials":     {fault(&types.InvalidLogin{}), BreakerClosed},
		"a host that is gone":   {fault(&types.HostNotConnected{}), BreakerClosed},
		"untrusted certificate": {errNotTrusted, BreakerClosed},
		"somebody gives up":     {context.Canceled, BreakerClosed},
		"no SOAP":               {decode(t, "<html><br></html>"), BreakerOpen},
		"cut off":               {decode(t, "<Envelope><Body>"), BreakerOpen},
	} {
		l := newLine(t, Options{})
		for range 20 {
			_ = l.ends(tc.err)
		}
		if got := l.stats(0).Breaker; got != tc.want {
			t.Errorf("%s (%v): %s, want %s", name, tc.err, got, tc.want)
		}
	}
}

func TestAnAnswerBetweenFailuresKeepsTheBreakerClosed(t *testing.T) {
	t.Parallel()
	l := newLine(t, Options{})
	for range 10 {
		for range defaultFailures - 1 {
			_ = l.ends(errUnreachable)
		}
		_ = l.ends(fault(&types.NoPermission{}))
	}
	if got := l.stats(0).Breaker; got != BreakerClosed {
		t.Errorf("the breaker is %s", got)
	}
}

func TestAProbeThatItsCallerEndsLetsTheNextOneThrough(t *testing.T) {
	t.Parallel()
	l := newLine(t, Options{})
	l.dies()
	l.clock.Step(firstWait)
	ctx, cancel := context.WithCancel(t.Context())
	probe := l.begins(ctx, false)
	if err := l.ends(nil); err == nil || !strings.Contains(err.Error(), "being tried again just now") {
		t.Errorf("beside the probe: %v", err)
	}
	cancel()
	_ = probe.ends(context.Canceled)
	if !l.sent(nil) || l.stats(0).Breaker != BreakerClosed {
		t.Error("nobody may try it any more")
	}
}

func TestCallsFromBeforeSayWhetherVCenterLivesNotThatItDied(t *testing.T) {
	t.Parallel()
	l := newLine(t, Options{})
	old, older := l.begins(t.Context(), false), l.begins(t.Context(), false)
	l.dies()
	until := l.stats(0).Until
	l.clock.Step(time.Second)
	_ = old.ends(errUnreachable)
	if got := l.stats(0); !got.Until.Equal(until) || got.Failures != defaultFailures {
		t.Errorf("a failure from before moved the time to %s", got.Until)
	}
	_ = older.ends(nil)
	if got := l.stats(0).Breaker; got != BreakerClosed {
		t.Errorf("an answer left the breaker %s", got)
	}
}

func TestWhoWaitsForATurnIsToldAtOnceThatVCenterDied(t *testing.T) {
	t.Parallel()
	l := newLine(t, Options{MaxConcurrent: defaultFailures})
	var calls []*held
	for range defaultFailures {
		calls = append(calls, l.begins(t.Context(), false))
	}
	stuck := l.begins(t.Context(), true)
	// One of those under way hangs; the others fail, as does one that comes after them.
	for _, c := range calls[1:] {
		_ = c.ends(errUnreachable)
	}
	_ = stuck.ends(errUnreachable)
	if got := l.stats(0); got.Breaker != BreakerOpen || got.Waiting != 0 {
		t.Fatalf("%+v", got)
	}
	_ = calls[0].ends(nil)

	// And those that wait in a queue that does not move.
	l = newLine(t, Options{MaxConcurrent: 2, MinConcurrent: 2, BreakerFailures: 1})
	hangs, fails := l.begins(t.Context(), false), l.begins(t.Context(), false)
	waits := l.begins(t.Context(), true)
	_ = fails.ends(errUnreachable)
	if err := <-waits.done; !errdefs.Is(err, errdefs.Unavailable) {
		t.Errorf("who waited got %v", err)
	}
	// The probe does not wait for slots that are held by calls without an answer.
	l.clock.Step(firstWait)
	more := l.begins(t.Context(), false)
	_, _ = more.ends(nil), hangs.ends(nil)
}

func TestLongPollsAndLogoutsWithAnOpenBreaker(t *testing.T) {
	t.Parallel()
	l := newLine(t, Options{})
	l.dies()
	var sent []string
	answer := error(errUnreachable)
	rt := l.guard(roundTripFunc(func(_ context.Context, req, _ soap.HasFault) error {
		sent = append(sent, Method(req))
		return answer
	}))
	poll := func() { _, _ = methods.WaitForUpdatesEx(t.Context(), rt, &types.WaitForUpdatesEx{}) }
	poll()
	_, _ = methods.Logout(t.Context(), rt, &types.Logout{})
	if diff := cmp.Diff([]string{"Logout"}, sent); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	// A long poll goes along when it is time, and keeps no call from probing.
	l.clock.Step(firstWait)
	answer = context.Canceled
	poll()
	if got := l.stats(0).Breaker; got != BreakerHalfOpen || len(sent) != 2 {
		t.Errorf("%s, sent %v", got, sent)
	}
	if !l.sent(nil) || l.stats(0).Breaker != BreakerClosed {
		t.Error("the probe was not let through")
	}
}
