// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"sync"
	"testing"
	"time"

	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
)

// fakeClock is a clock that a test moves. It knows which timers have struck and not
// been looked after: whoever owns one does so when what was due is done.
type fakeClock struct {
	*clocktesting.FakeClock

	mu     sync.Mutex
	timers map[*fakeTimer]bool
}

func newFakeClock() *fakeClock {
	return &fakeClock{FakeClock: clocktesting.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), timers: map[*fakeTimer]bool{}}
}

// fakeTimer is a timer of a fakeClock.
type fakeTimer struct {
	clock.Timer
	of *fakeClock
	// due is when it strikes, struck that it did and nobody has looked after it since.
	due    time.Time
	struck bool
}

// NewTimer makes a timer that is watched until it is stopped.
func (c *fakeClock) NewTimer(d time.Duration) clock.Timer {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &fakeTimer{Timer: c.FakeClock.NewTimer(d), of: c, due: c.Now().Add(d)}
	c.timers[t] = true
	return t
}

// Stop says that nothing more is to be done.
func (t *fakeTimer) Stop() bool {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	delete(t.of.timers, t)
	return t.Timer.Stop()
}

// Reset says that what was due is done.
func (t *fakeTimer) Reset(d time.Duration) bool {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	t.due, t.struck = t.of.Now().Add(d), false
	return t.Timer.Reset(d)
}

// idle reports whether everything that was due is done.
func (c *fakeClock) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for t := range c.timers {
		if t.struck {
			return false
		}
	}
	return true
}

// advance lets time pass in parts, and waits after each for what was due.
func (c *fakeClock) advance(t *testing.T, d time.Duration) {
	t.Helper()
	for d > 0 {
		part := min(d, DefaultPoll)
		d -= part
		c.mu.Lock()
		for timer := range c.timers {
			timer.struck = timer.struck || !timer.due.After(c.Now().Add(part))
		}
		c.Step(part)
		c.mu.Unlock()
		poll(t, "what was due to be done", c.idle)
	}
}

// poll asks until the answer is yes.
func poll(t *testing.T, what string, ask func() bool) {
	t.Helper()
	limit, again := time.NewTimer(time.Minute), time.NewTicker(500*time.Microsecond)
	defer limit.Stop()
	defer again.Stop()
	for !ask() {
		select {
		case <-again.C:
		case <-limit.C:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
