// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"bytes"
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// now asks vCenter for the time, which needs a session.
func now(ctx context.Context, c *Client) error {
	_, err := methods.GetCurrentTime(ctx, c.Vim())
	return err
}

func open(t *testing.T, p *Pool, cfg Config) *Client {
	t.Helper()
	client, err := p.Client(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestFiftyCallersShareOneLogin(t *testing.T) {
	s := startSim(t)
	var seen calls
	pool := newPool(t, Options{Middleware: seen.middleware})

	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			client, err := pool.Client(t.Context(), s.config())
			if err == nil {
				err = now(t.Context(), client)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()

	if n := seen.count("Login"); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
	if n := s.sessions(t); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
}

func TestAWarmSessionCostsNothing(t *testing.T) {
	s := startSim(t)
	var seen calls
	pool := newPool(t, Options{Middleware: seen.middleware})
	open(t, pool, s.config())
	if diff := cmp.Diff([]string{"RetrieveServiceContent", "Login"}, seen.take()); diff != "" {
		t.Errorf("first login (-want +got):\n%s", diff)
	}
	open(t, pool, s.config())
	if log := seen.take(); len(log) != 0 {
		t.Errorf("calls for a warm session: %v", log)
	}
}

func TestALoginOutlivesTheCallerThatBeganIt(t *testing.T) {
	s := startSim(t)
	started, release := make(chan struct{}), make(chan struct{})
	seen := calls{answer: func(_ context.Context, method string) error {
		if method == "Login" {
			close(started)
			<-release
		}
		return nil
	}}
	pool := newPool(t, Options{Middleware: seen.middleware})
	cfg := s.config()

	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := pool.Client(ctx, cfg)
		first <- err
	}()
	<-started
	cancel()
	if err := <-first; !errdefs.Is(err, errdefs.Canceled) {
		t.Errorf("caller that gave up: %v, want Canceled", err)
	}
	close(release)
	open(t, pool, cfg)
	if n := seen.count("Login"); n != 1 {
		t.Errorf("%d logins, want the one that the first caller began", n)
	}
}

func TestAnExpiredSessionIsRenewedOnceForAll(t *testing.T) {
	s := startSim(t)
	var seen calls
	pool := newPool(t, Options{Middleware: seen.middleware})
	client := open(t, pool, s.config())
	s.expire(t)

	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if err := now(t.Context(), client); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := seen.count("Login"); n != 2 {
		t.Errorf("%d logins, want 2", n)
	}
	if n := s.sessions(t); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
}

// The property collector answers without a session, but with holes.
func TestAnExpiredSessionIsSeenInMissingProperties(t *testing.T) {
	s := startSim(t)
	pool := newPool(t, Options{})
	client := open(t, pool, s.config())
	s.expire(t)

	root := client.Vim().ServiceContent.RootFolder
	res, err := methods.RetrievePropertiesEx(t.Context(), client.Vim(), &types.RetrievePropertiesEx{
		This: client.Vim().ServiceContent.PropertyCollector,
		SpecSet: []types.PropertyFilterSpec{{
			ObjectSet: []types.ObjectSpec{{Obj: root}},
			PropSet:   []types.PropertySpec{{Type: root.Type, PathSet: []string{"name"}}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if o := res.Returnval.Objects[0]; len(o.PropSet) != 1 || len(o.MissingSet) != 0 {
		t.Errorf("got %+v, want the name", o)
	}
}

// A call may be refused although the session is fine; then nobody logs in again.
func TestALiveSessionIsNotReplaced(t *testing.T) {
	s := startSim(t)
	refuse := 1
	seen := calls{answer: func(_ context.Context, method string) error {
		if method == "CurrentTime" && refuse > 0 {
			refuse--
			return soap.WrapVimFault(&types.NotAuthenticated{})
		}
		return nil
	}}
	pool := newPool(t, Options{Middleware: seen.middleware})
	client := open(t, pool, s.config())
	seen.take()
	if err := now(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"CurrentTime", "RetrievePropertiesEx", "CurrentTime"}, seen.take()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}

	refuse = 2
	err := Convert(now(t.Context(), client), "ask for the time")
	if !errdefs.Is(err, errdefs.Unauthenticated) {
		t.Errorf("refused twice: %v, want Unauthenticated", err)
	}
	if n := s.sessions(t); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
}

func TestWhenNothingIsCertainTheOldSessionIsLoggedOut(t *testing.T) {
	s := startSim(t)
	refuse := false
	seen := calls{answer: func(_ context.Context, method string) error {
		if refuse && slices.Contains([]string{"CurrentTime", "RetrievePropertiesEx"}, method) {
			return soap.WrapVimFault(&types.NotAuthenticated{})
		}
		return nil
	}}
	pool := newPool(t, Options{Middleware: seen.middleware})
	client := open(t, pool, s.config())
	refuse = true
	if err := Convert(now(t.Context(), client), "ask for the time"); !errdefs.Is(err, errdefs.Unavailable) {
		t.Errorf("refused in spite of a login: %v, want Unavailable", err)
	}
	refuse = false
	if err := now(t.Context(), client); err != nil {
		t.Errorf("after that: %v", err)
	}
	if n := s.sessions(t); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
}

func TestAChangedSecretTakesEffectAtTheNextCall(t *testing.T) {
	s := startSim(t)
	pool := newPool(t, Options{})
	old := s.config()
	open(t, pool, old)

	s.setPassword("another-one")
	if client := open(t, pool, s.config()); client == open(t, pool, old) {
		t.Error("the new secret got the old session")
	}
	wrong := s.config()
	wrong.Password = "yet-another-one"
	if _, err := pool.Client(t.Context(), wrong); !errdefs.Is(err, errdefs.Unauthenticated) {
		t.Errorf("wrong password: %v, want Unauthenticated", err)
	}
}

func TestRefusedCredentialsAreNotTriedInAStorm(t *testing.T) {
	s := startSim(t)
	clock := clocktesting.NewFakeClock(time.Now())
	var seen calls
	pool := newPool(t, Options{Middleware: seen.middleware, Clock: clock})
	cfg := s.config()
	cfg.Password = planted + "-wrong"

	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			_, err := pool.Client(t.Context(), cfg)
			if !errdefs.Is(err, errdefs.Unauthenticated) || strings.Contains(err.Error(), planted) || !strings.Contains(err.Error(), testUser) {
				t.Errorf("got %v, want Unauthenticated naming the user and no password", err)
			}
		})
	}
	group.Wait()
	if n := seen.count("Login"); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
	// The password becomes right in vCenter instead of in the Secret.
	s.setPassword(cfg.Password)
	if _, err := pool.Client(t.Context(), cfg); !errdefs.Is(err, errdefs.Unauthenticated) {
		t.Errorf("within the minute: %v, want Unauthenticated", err)
	}
	clock.Step(refusedFor)
	open(t, pool, cfg)
}

func TestAServerThatNeverAnswersEndsInTime(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	cfg := Config{Endpoint: "http://" + listener.Addr().String(), Username: testUser, Password: planted}

	for name, tc := range map[string]struct {
		limit time.Duration
		ctx   func() (context.Context, context.CancelFunc)
	}{
		"by its own limit": {50 * time.Millisecond, func() (context.Context, context.CancelFunc) { return context.WithCancel(t.Context()) }},
		"by the caller's deadline": {time.Minute, func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), 50*time.Millisecond)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			pool := NewPool(Options{CallTimeout: tc.limit})
			ctx, cancel := tc.ctx()
			defer cancel()
			begin := time.Now()
			_, err := pool.Client(ctx, cfg)
			if !errdefs.Is(err, errdefs.DeadlineExceeded) {
				t.Errorf("got %v, want DeadlineExceeded", err)
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestACallThatIsNotAnsweredEndsInTime(t *testing.T) {
	s := startSim(t)
	hang := calls{answer: func(ctx context.Context, method string) error {
		if method != "CurrentTime" {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}}
	pool := newPool(t, Options{Middleware: hang.middleware, CallTimeout: 500 * time.Millisecond})
	client := open(t, pool, s.config())
	err := Convert(now(t.Context(), client), "ask for the time")
	if !errdefs.Is(err, errdefs.DeadlineExceeded) || !strings.Contains(err.Error(), "did not answer CurrentTime within 500ms") {
		t.Errorf("got %v, want DeadlineExceeded naming call and limit", err)
	}
}

func TestConcurrentCallsAreLimited(t *testing.T) {
	s := startSim(t)
	var mu sync.Mutex
	var under, most int
	enter, leave := make(chan struct{}), make(chan struct{})
	middleware := func(next soap.RoundTripper) soap.RoundTripper {
		return roundTripFunc(func(ctx context.Context, req, res soap.HasFault) error {
			if Method(req) == "CurrentTime" {
				mu.Lock()
				under++
				most = max(most, under)
				mu.Unlock()
				enter <- struct{}{}
				<-leave
				defer func() {
					mu.Lock()
					under--
					mu.Unlock()
				}()
			}
			return next.RoundTrip(ctx, req, res)
		})
	}
	pool := newPool(t, Options{MaxConcurrent: 3, Middleware: middleware})
	client := open(t, pool, s.config())
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			if err := now(t.Context(), client); err != nil {
				t.Error(err)
			}
		})
	}
	for range 3 {
		<-enter
	}
	select {
	case <-enter:
		t.Error("a fourth call went out")
	case <-time.After(50 * time.Millisecond):
	}
	go func() {
		for range 7 {
			<-enter
		}
	}()
	close(leave)
	group.Wait()
	if most > 3 {
		t.Errorf("%d calls at once, want at most 3", most)
	}
}

func TestTheObserverSeesWhatWasSent(t *testing.T) {
	s := startSim(t)
	var mu sync.Mutex
	got := map[string]int{}
	failed := 0
	pool := newPool(t, Options{
		Observer: func(_ context.Context, method string, took time.Duration, err error) {
			mu.Lock()
			defer mu.Unlock()
			got[method]++
			if err != nil {
				failed++
			}
			if took <= 0 {
				t.Errorf("%s took %s", method, took)
			}
		},
	})
	client := open(t, pool, s.config())
	_, err := methods.PowerOnVM_Task(t.Context(), client.Vim(), &types.PowerOnVM_Task{This: types.ManagedObjectReference{Type: "VirtualMachine", Value: "none"}})
	if !IsManagedObjectNotFound(err) {
		t.Fatalf("call on an object that does not exist: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(map[string]int{"RetrieveServiceContent": 1, "Login": 1, "PowerOnVM_Task": 1}, got); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
	if failed != 1 {
		t.Errorf("%d failures observed, want 1", failed)
	}
}

func TestThePasswordIsNeverShown(t *testing.T) {
	s := startSim(t)
	var out bytes.Buffer
	logger := textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&out), textlogger.Verbosity(10)))
	ctx := klog.NewContext(t.Context(), logger)
	cfg := s.config()
	logger.Info("the config", "config", cfg, "pointer", &cfg)

	fail := ""
	seen := calls{answer: func(_ context.Context, method string) error {
		if method == fail {
			return soap.WrapVimFault(&types.InvalidArgument{InvalidProperty: "x"})
		}
		return nil
	}}
	pool := NewPool(Options{Middleware: seen.middleware})
	for _, fail = range []string{"RetrieveServiceContent", "Login", "CurrentTime", "Logout", ""} {
		client, err := pool.Client(ctx, cfg)
		if err == nil {
			err = now(ctx, client)
		}
		if err != nil {
			logger.Error(err, "failed")
		}
	}
	wrong := cfg
	wrong.Password += "-wrong"
	_, err := pool.Client(ctx, wrong)
	logger.Error(err, "wrong password")
	wrong.Endpoint = "https://user:" + planted + "@vcenter"
	_, err = pool.Client(ctx, wrong)
	logger.Error(err, "credentials in the URL")
	if err := pool.Close(ctx); err != nil {
		logger.Error(err, "close")
	}
	if strings.Contains(out.String(), planted) {
		t.Errorf("the password is in the log:\n%s", out.String())
	}
	if !strings.Contains(out.String(), "Logged in to vCenter") {
		t.Errorf("the log misses the login:\n%s", out.String())
	}
}
