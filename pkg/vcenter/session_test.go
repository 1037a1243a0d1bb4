// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"errors"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// step moves the fake clock when the keep-alive waits for it.
func step(t *testing.T, clock *clocktesting.FakeClock, d time.Duration) {
	t.Helper()
	eventually(t, "the keep-alive to wait", clock.HasWaiters)
	clock.Step(d)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("waited too long for %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

func TestASessionIsKeptAliveWhileInUseAndLoggedOutWhenIdle(t *testing.T) {
	s := startSim(t)
	clock := clocktesting.NewFakeClock(time.Now())
	var seen calls
	pool := newPool(t, Options{Middleware: seen.middleware, Clock: clock, KeepAlive: 10 * time.Minute})
	cfg := s.config()
	client := open(t, pool, cfg)

	for i := 1; i < idleFactor; i++ {
		step(t, clock, 10*time.Minute)
		eventually(t, "a sign of life", func() bool { return seen.count("CurrentTime") == i })
	}
	// Somebody needs it again: an hour more.
	if client != open(t, pool, cfg) {
		t.Error("the session did not live")
	}
	step(t, clock, 10*time.Minute)
	eventually(t, "a sign of life", func() bool { return seen.count("CurrentTime") == idleFactor })

	clock.Step(idleFactor * 10 * time.Minute)
	eventually(t, "the logout", func() bool { return seen.count("Logout") == 1 })
	eventually(t, "the end of the session", func() bool { return s.sessions(t) == 0 })
	if err := Convert(now(t.Context(), client), "ask for the time"); !errdefs.Is(err, errdefs.Unavailable) {
		t.Errorf("call on a closed session: %v, want Unavailable", err)
	}
	if err := now(t.Context(), open(t, pool, cfg)); err != nil {
		t.Errorf("after that: %v", err)
	}
}

func TestCloseLogsOut(t *testing.T) {
	s := startSim(t)
	pool := NewPool(Options{})
	cfg := s.config()
	client := open(t, pool, cfg)
	if n := s.sessions(t); n != 1 {
		t.Fatalf("%d sessions, want 1", n)
	}
	for range 2 {
		if err := pool.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.sessions(t); n != 0 {
		t.Errorf("%d sessions left", n)
	}
	if _, err := pool.Client(t.Context(), cfg); !errdefs.Is(err, errdefs.Unavailable) {
		t.Errorf("Client after Close: %v, want Unavailable", err)
	}
	if err := Convert(now(t.Context(), client), "ask for the time"); !errdefs.Is(err, errdefs.Unavailable) || !errors.Is(err, errEnded) {
		t.Errorf("call after Close: %v, want Unavailable", err)
	}
}

func TestCloseTakesALoginUnderWayWithIt(t *testing.T) {
	s := startSim(t)
	started, release := make(chan struct{}), make(chan struct{})
	seen := calls{answer: func(_ context.Context, method string) error {
		if method == "Login" {
			close(started)
			<-release
		}
		return nil
	}}
	pool := NewPool(Options{Middleware: seen.middleware})
	cfg := s.config()
	opened := make(chan error, 1)
	go func() {
		_, err := pool.Client(t.Context(), cfg)
		opened <- err
	}()
	<-started
	closed := make(chan error, 1)
	go func() { closed <- pool.Close(t.Context()) }()
	eventually(t, "the pool to close", func() bool {
		pool.mu.Lock()
		defer pool.mu.Unlock()
		return pool.closed
	})
	close(release)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := <-opened; err == nil {
		t.Error("Client succeeded on a closed pool")
	}
	if n := s.sessions(t); n != 0 {
		t.Errorf("%d sessions left", n)
	}
}
