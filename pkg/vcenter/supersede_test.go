// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// muchLater is a KeepAlive that plays no part.
const muchLater = 1000 * time.Hour

// passes lets time pass until ok, in steps in which nothing is missed.
func passes(t *testing.T, clock *clocktesting.FakeClock, what string, ok func() bool) {
	t.Helper()
	eventually(t, what, func() bool {
		clock.Step(lingerFor / 6)
		return ok()
	})
}

func TestAChangedSecretLogsTheOldSessionOut(t *testing.T) { // not parallel: vcsim has settings that its instances share
	const changed = "another-" + planted
	for name, change := range map[string]func(*sim, *Config){
		"another password": func(s *sim, c *Config) { s.setPassword(changed); c.Password = changed },
		"another trust":    func(_ *sim, c *Config) { c.CABundle, c.Insecure = nil, true },
	} {
		t.Run(name, func(t *testing.T) {
			s := startSim(t)
			clock := clocktesting.NewFakeClock(time.Now())
			var seen calls
			pool := newPool(t, Options{Middleware: seen.middleware, Clock: clock, KeepAlive: muchLater})
			cfg := s.config()
			old := open(t, pool, cfg)
			change(s, &cfg)
			fresh := open(t, pool, cfg)
			passes(t, clock, "the logout", func() bool { return seen.count("Logout") == 1 })
			eventually(t, "the end of the old session", func() bool { return s.sessions(t) == 1 })
			if err := now(t.Context(), fresh); err != nil {
				t.Errorf("the new session: %v", err)
			}
			if err := Convert(now(t.Context(), old), "ask for the time"); !errdefs.Is(err, errdefs.Unavailable) {
				t.Errorf("the old session: %v, want Unavailable", err)
			}
			if got := statsOf(t, pool, cfg).Sessions; got != 1 {
				t.Errorf("%d sessions are known", got)
			}
			if fresh.session.expire() {
				t.Error("the new session ended for want of use")
			}
		})
	}
}

// MCM leaves a machine alone for ten minutes after Unauthenticated or FailedPrecondition, and
// tries again at once, with the changed Secret, after Unavailable.
func TestACallThatBeganWithAnOldSecretIsToBeRepeated(t *testing.T) { // not parallel: vcsim has settings that its instances share
	const changed = "another-" + planted
	s := startSim(t)
	pool := newPool(t, Options{})
	cfg := s.config()
	old := open(t, pool, cfg)
	s.setPassword(changed)
	s.expire(t)
	refused := func(want errdefs.Kind) {
		t.Helper()
		for range 2 { // the second time, the credentials are not tried
			if err := Convert(now(t.Context(), old), "ask for the time"); !errdefs.Is(err, want) {
				t.Errorf("%v, want %s", err, want)
			}
		}
	}
	refused(errdefs.Unauthenticated) // and so it stays as long as nobody knows better
	cfg.Password = changed
	open(t, pool, cfg)
	refused(errdefs.Unavailable)
	for err, want := range map[error]errdefs.Kind{
		&tls.CertificateVerificationError{Err: errors.New("unknown authority")}:  errdefs.Unavailable,
		errdefs.New(errdefs.FailedPrecondition, "the thumbprint is another one"): errdefs.Unavailable,
		errdefs.New(errdefs.DeadlineExceeded, "vCenter did not answer"):          errdefs.DeadlineExceeded,
		soap.WrapVimFault(&types.NoPermission{}):                                 errdefs.PermissionDenied,
	} {
		if got := Convert(old.session.blame(err), "call"); !errdefs.Is(got, want) {
			t.Errorf("%v, want %s", got, want)
		}
	}
	// A Secret that never was right is another matter.
	cfg.Password = "never-" + planted
	if _, err := pool.Client(t.Context(), cfg); !errdefs.Is(err, errdefs.Unauthenticated) {
		t.Errorf("a wrong password: %v", err)
	}
}

func TestSessionsOfOtherUsersAndVCentersStay(t *testing.T) { // not parallel: vcsim has settings that its instances share
	s := startSim(t)
	clock := clocktesting.NewFakeClock(time.Now())
	pool := newPool(t, Options{Clock: clock, KeepAlive: muchLater})
	first := open(t, pool, s.config())
	elsewhere := s.config()
	elsewhere.Endpoint = strings.Replace(elsewhere.Endpoint, "127.0.0.1", "localhost", 1) // another vCenter to us
	elsewhere.CABundle, elsewhere.Insecure = nil, true
	open(t, pool, elsewhere)
	other := s.config()
	other.Username = "other@vsphere.local"
	s.manager().ValidLogin = func(*types.Login) bool { return true }
	second := open(t, pool, other)
	clock.Step(10 * lingerFor)
	for _, c := range []*Client{first, second} {
		if c.session.expire() {
			t.Errorf("the session of %s ended", c.session.to.Username)
		}
	}
}

// superseded returns a client whose session has given way, and a clock that moves only by hand.
func superseded(t *testing.T, s *sim, o Options) (*Client, *clocktesting.FakeClock) {
	t.Helper()
	clock := clocktesting.NewFakeClock(time.Now())
	o.Clock, o.KeepAlive = clock, muchLater
	pool := newPool(t, o)
	old := open(t, pool, s.config())
	cfg := s.config()
	cfg.CABundle, cfg.Insecure = nil, true
	open(t, pool, cfg)
	return old, clock
}

func TestASupersededSessionStaysWhileItIsUsed(t *testing.T) { // not parallel: vcsim has settings that its instances share
	s := startSim(t)
	begun, end := make(chan struct{}), make(chan struct{})
	seen := calls{answer: func(_ context.Context, method string) error {
		if method == "CurrentTime" {
			begun <- struct{}{}
			<-end
		}
		return nil
	}}
	old, clock := superseded(t, s, Options{Middleware: seen.middleware})
	clock.Step(lingerFor - time.Second)
	called := make(chan error, 1)
	go func() { called <- now(t.Context(), old) }()
	<-begun
	for range 60 {
		clock.Step(lingerFor)
		if old.session.expire() {
			t.Fatal("it ended with a call under way")
		}
	}
	end <- struct{}{}
	if err := <-called; err != nil {
		t.Error(err)
	}
	clock.Step(lingerFor - time.Second)
	if old.session.expire() {
		t.Error("it ended less than a minute after its last call")
	}
	passes(t, clock, "the logout", func() bool { return seen.count("Logout") == 1 })
}

func TestALongPollAloneDoesNotKeepASupersededSession(t *testing.T) { // not parallel: vcsim has settings that its instances share
	s := startSim(t)
	begun := make(chan struct{}, 1)
	seen := calls{answer: func(ctx context.Context, method string) error {
		if method == "WaitForUpdatesEx" {
			begun <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}}
	old, clock := superseded(t, s, Options{Middleware: seen.middleware})
	ctx, cancel := context.WithCancel(t.Context())
	polled := make(chan struct{})
	go func() {
		defer close(polled)
		_, _ = methods.WaitForUpdatesEx(ctx, old.Vim(), &types.WaitForUpdatesEx{This: old.Vim().ServiceContent.PropertyCollector})
	}()
	<-begun
	task := types.ManagedObjectReference{Type: "Task", Value: "task-1"}
	old.hub.mu.Lock()
	old.hub.tasks[task] = &watchedTask{waiting: map[*watch]struct{}{{}: {}}}
	old.hub.mu.Unlock()
	if clock.Step(10 * lingerFor); old.session.expire() {
		t.Error("it ended although somebody waits for a task")
	}
	old.hub.mu.Lock()
	delete(old.hub.tasks, task)
	old.hub.mu.Unlock()
	passes(t, clock, "the logout", func() bool { return seen.count("Logout") == 1 })
	cancel()
	<-polled
}

func TestReadingAFileIsUseOfItsSession(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "content") }))
	defer server.Close()
	clock := clocktesting.NewFakeClock(time.Now())
	pool := NewPool(Options{Clock: clock})
	to, err := Config{Endpoint: server.URL, Username: testUser, Password: planted}.check()
	if err != nil {
		t.Fatal(err)
	}
	s, err := pool.session(to)
	if err != nil {
		t.Fatal(err)
	}
	client := &Client{session: s}
	client.hub = newHub(client)
	s.mu.Lock()
	s.client = client
	s.giveWay()
	s.mu.Unlock()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/folder/a", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	clock.Step(10 * lingerFor)
	if s.expire() {
		t.Error("it ended while a file was read")
	}
	for range 2 { // closing again is allowed
		if err := res.Body.Close(); err != nil {
			t.Error(err)
		}
	}
	if clock.Step(lingerFor - time.Second); s.expire() {
		t.Error("it ended less than a minute after the file was read")
	}
	if clock.Step(time.Second); !s.expire() {
		t.Error("it does not end")
	}
}

func TestASessionWhoseCredentialsAreRefusedIsForgotten(t *testing.T) { // not parallel: vcsim has settings that its instances share
	s := startSim(t)
	clock := clocktesting.NewFakeClock(time.Now())
	var seen calls
	pool := newPool(t, Options{Middleware: seen.middleware, Clock: clock, KeepAlive: muchLater})
	cfg := s.config()
	client := open(t, pool, cfg)
	s.expire(t)
	s.setPassword("another-" + planted)
	if err := now(t.Context(), client); !errdefs.Is(err, errdefs.Unauthenticated) {
		t.Fatalf("with a password that is refused: %v", err)
	}
	clock.Step(lingerFor - time.Second)
	if _, err := pool.Client(t.Context(), cfg); err != nil { // who asks remembers the refusal as well
		t.Fatal(err)
	}
	logins := seen.count("Login")
	if err := now(t.Context(), client); !errdefs.Is(err, errdefs.Unauthenticated) || seen.count("Login") != logins {
		t.Errorf("again within the minute: %v, %d logins", err, seen.count("Login")-logins)
	}
	passes(t, clock, "the session to be forgotten", func() bool { return len(pool.Stats()) == 0 })
	if _, err := pool.Client(t.Context(), cfg); !errdefs.Is(err, errdefs.Unauthenticated) {
		t.Errorf("a new session with that password: %v", err)
	}
}
