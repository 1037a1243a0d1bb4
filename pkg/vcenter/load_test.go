// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// dead is the Config of a vCenter where nothing listens.
func dead(t *testing.T) Config {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return Config{Endpoint: "http://" + l.Addr().String(), Username: testUser, Password: planted}
}

func statsOf(t *testing.T, p *Pool, cfg Config) HostStats {
	t.Helper()
	for _, s := range p.Stats() {
		if strings.HasSuffix(cfg.Endpoint, s.Host) {
			return s
		}
	}
	t.Fatalf("no state of %s", cfg.Endpoint)
	return HostStats{}
}

func TestADeadVCenterIsNotAskedAndHoldsUpNoOther(t *testing.T) { // not parallel: vcsim has settings that its instances share
	s := startSim(t)
	clock := clocktesting.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	pool := newPool(t, Options{Clock: clock})
	living, gone := open(t, pool, s.config()), dead(t)

	for range defaultFailures {
		if _, err := pool.Client(t.Context(), gone); !errdefs.Is(err, errdefs.Unavailable) {
			t.Errorf("got %v, want Unavailable", err)
		}
	}
	if got := statsOf(t, pool, gone); got.Breaker != BreakerOpen || got.Sessions != 0 {
		t.Fatalf("%+v, want an open breaker", got)
	}
	var group sync.WaitGroup
	for range 50 { // more than there are turns
		group.Go(func() {
			if _, err := pool.Client(t.Context(), gone); err == nil || !strings.Contains(err.Error(), "does not answer since 03:04:05 UTC") {
				t.Errorf("the dead one: %v", err)
			}
			if err := now(t.Context(), living); err != nil {
				t.Errorf("the other: %v", err)
			}
		})
	}
	group.Wait()
	if got := statsOf(t, pool, gone); got.Failures != defaultFailures {
		t.Errorf("it was asked %d times, want %d", got.Failures, defaultFailures)
	}
	if got := statsOf(t, pool, s.config()); got.Breaker != BreakerClosed || got.Limit != defaultMaxConcurrent || got.Sessions != 1 || got.InFlight != 0 {
		t.Errorf("the other: %+v", got)
	}
}

// A vCenter that accepts and never answers takes all turns that there are with
// it, and none with another.
func TestAVCenterThatHangsTakesNoTurnOfAnother(t *testing.T) { // not parallel: vcsim has settings that its instances share
	s := startSim(t)
	var mu sync.Mutex
	sessions := 0
	hung := make(chan struct{}, 10)
	pool := newPool(t, Options{MaxConcurrent: 2, MinConcurrent: 1, Middleware: func(next soap.RoundTripper) soap.RoundTripper {
		mu.Lock()
		sessions++
		hangs := sessions == 1
		mu.Unlock()
		return roundTripFunc(func(ctx context.Context, req, res soap.HasFault) error {
			if hangs && Method(req) == "CurrentTime" {
				hung <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			}
			return next.RoundTrip(ctx, req, res)
		})
	}})
	first := open(t, pool, s.config())
	other := s.config()
	other.Endpoint = strings.Replace(other.Endpoint, "127.0.0.1", "localhost", 1) // another vCenter to us
	other.CABundle, other.Insecure = nil, true
	second := open(t, pool, other)

	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for range 5 {
		group.Go(func() { _ = now(ctx, first) })
	}
	<-hung
	<-hung
	eventually(t, "the others to wait", func() bool { return statsOf(t, pool, s.config()).Waiting == 3 })
	for range 10 {
		if err := now(t.Context(), second); err != nil {
			t.Error(err)
		}
	}
	cancel()
	group.Wait()
}

func TestSessionsOfOneVCenterShareItsLimit(t *testing.T) { // not parallel: vcsim has settings that its instances share
	s := startSim(t)
	enter, leave := make(chan struct{}), make(chan struct{})
	seen := calls{answer: func(_ context.Context, method string) error {
		if method == "CurrentTime" {
			enter <- struct{}{}
			<-leave
		}
		return nil
	}}
	pool := newPool(t, Options{MaxConcurrent: 2, Middleware: seen.middleware})
	one, two := s.config(), s.config()
	two.CABundle, two.Insecure = nil, true
	first, second := open(t, pool, one), open(t, pool, two)
	var group sync.WaitGroup
	for _, client := range []*Client{first, second, first, second} {
		group.Go(func() {
			if err := now(t.Context(), client); err != nil {
				t.Error(err)
			}
		})
	}
	<-enter
	<-enter
	eventually(t, "the others to wait", func() bool { return statsOf(t, pool, one).Waiting == 2 })
	if got := pool.Stats(); len(got) != 1 || got[0].Sessions != 2 || got[0].InFlight != 2 {
		t.Errorf("%+v, want one vCenter with two sessions", got)
	}
	go func() { <-enter; <-enter }()
	close(leave)
	group.Wait()
}

func TestALogoutGoesThroughAnOpenBreaker(t *testing.T) { // not parallel: vcsim has settings that its instances share
	s := startSim(t)
	broken := false
	seen := calls{answer: func(_ context.Context, method string) error {
		if broken && method == "PowerOnVM_Task" {
			return errUnreachable
		}
		return nil
	}}
	pool := NewPool(Options{Middleware: seen.middleware})
	cfg := s.config()
	client := open(t, pool, cfg)
	broken = true
	for range 2 * defaultFailures {
		_, err := methods.PowerOnVM_Task(t.Context(), client.Vim(), &types.PowerOnVM_Task{This: types.ManagedObjectReference{Type: "VirtualMachine", Value: "none"}})
		if !errdefs.Is(Convert(err, "power on"), errdefs.Unavailable) {
			t.Errorf("got %v", err)
		}
	}
	if n := seen.count("PowerOnVM_Task"); n != defaultFailures {
		t.Errorf("%d calls were sent, want %d", n, defaultFailures)
	}
	if _, err := do(t, client, http.MethodGet, "/files/a", nil); !errdefs.Is(err, errdefs.Unavailable) {
		t.Errorf("a request that is not SOAP: %v", err)
	}
	if err := pool.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := s.sessions(t); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
	if got := pool.Stats(); len(got) != 0 {
		t.Errorf("after Close: %+v", got)
	}
}

// A login that hangs counts although it has a time limit of its own.
func TestALoginWithoutAnAnswerCounts(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	cfg := Config{Endpoint: "http://" + l.Addr().String(), Username: testUser, Password: planted}
	pool := newPool(t, Options{CallTimeout: 20 * time.Millisecond, BreakerFailures: 2})
	for range 2 {
		if _, err := pool.Client(t.Context(), cfg); !errdefs.Is(err, errdefs.DeadlineExceeded) {
			t.Errorf("got %v, want DeadlineExceeded", err)
		}
	}
	if got := statsOf(t, pool, cfg); got.Breaker != BreakerOpen || got.Limit >= defaultMaxConcurrent {
		t.Errorf("%+v, want an open breaker and a lower limit", got)
	}
}

func TestAStatusIsAnErrorThatTellsHowLongToWait(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	status, header := 0, ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if header != "" {
			w.Header().Set("Retry-After", header)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	client := http.Client{Transport: &statuses{next: server.Client().Transport, clock: clocktesting.NewFakePassiveClock(at)}}
	for _, tc := range []struct {
		path   string
		status int
		header string
		want   *statusError
	}{
		{"/sdk", 503, "7", &statusError{503, "503 Service Unavailable", 7 * time.Second}},
		{"/sdk", 503, "Fri, 02 Jan 2026 03:04:15 GMT", &statusError{503, "503 Service Unavailable", 10 * time.Second}},
		{"/sdk", 503, "Fri, 02 Jan 2026 03:04:00 GMT", &statusError{503, "503 Service Unavailable", 0}},
		{"/sdk", 503, "soon", &statusError{503, "503 Service Unavailable", -1}},
		{"/sdk", 429, "", &statusError{429, "429 Too Many Requests", -1}},
		{"/sdk", 500, "7", nil}, // a fault
		{"/sdk", 200, "", nil},
		{"/folder/a", 503, "7", nil},
	} {
		status, header = tc.status, tc.header
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+tc.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err == nil {
			_ = res.Body.Close()
		}
		got, _ := errors.AsType[*statusError](err)
		if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(statusError{})); diff != "" {
			t.Errorf("%s %d %q (-want +got):\n%s", tc.path, tc.status, tc.header, diff)
		}
	}
}
