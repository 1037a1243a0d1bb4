// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/bench/proxy"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// sleeper notes how long it was to sleep, instead.
type sleeper struct {
	mu    sync.Mutex
	slept []time.Duration
	err   error
}

func (s *sleeper) sleep(_ context.Context, d time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slept = append(s.slept, d)
	return s.err
}

func start(t *testing.T, s *sleeper) (*vchsim.Sim, *proxy.Proxy) {
	t.Helper()
	sim, err := vchsim.Start(t.Context(), vchsim.Options{Dir: t.TempDir(), NoForeign: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	p, err := proxy.Start(t.Context(), proxy.Options{Target: sim.URL(), Trust: sim.CACert(), Sleep: s.sleep})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return sim, p
}

func login(t *testing.T, sim *vchsim.Sim, p *proxy.Proxy, password string) (*govmomi.Client, error) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.CABundle())
	transport := soap.NewClient(&url.URL{Scheme: "https", Host: p.Address(), Path: "/sdk"}, false)
	transport.DefaultTransport().TLSClientConfig.RootCAs = roots
	vim, err := vim25.NewClient(t.Context(), transport)
	if err != nil {
		return nil, err
	}
	client := &govmomi.Client{Client: vim, SessionManager: session.NewManager(vim)}
	return client, client.Login(t.Context(), url.UserPassword(sim.Username, password))
}

func TestItCountsWhatTheSimulatorCounts(t *testing.T) {
	t.Parallel()
	sim, p := start(t, &sleeper{})
	sim.ResetCounters()
	client, err := login(t, sim, p, sim.Password)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := login(t, sim, p, "wrong"); err == nil {
		t.Fatal("a wrong password logs in")
	}
	if _, err := find.NewFinder(client.Client).VirtualMachineList(t.Context(), "/DC0/vm/..."); err != nil {
		t.Fatal(err)
	}
	got := p.Take()
	if diff := cmp.Diff(sim.Calls(), got.Calls); diff != "" {
		t.Errorf("the proxy counts other calls than the simulator (-simulator +proxy):\n%s", diff)
	}
	if got.ResponseBytes != sim.BytesSent() || got.RequestBytes == 0 {
		t.Errorf("%d bytes came back and the simulator sent %d; %d went out", got.ResponseBytes, sim.BytesSent(), got.RequestBytes)
	}
	if got.Logins != 1 || got.Sessions != 1 || got.Peak != 1 || got.Logouts != 0 || got.Connections < 1 || got.Delays != 0 {
		t.Errorf("%+v", got)
	}
	if err := client.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := p.Take(); got.Total() != 1 || got.Logouts != 1 || got.Sessions != 0 || got.Peak != 1 {
		t.Errorf("after the logout: %+v", got)
	}
	if got := p.Take(); got.Total() != 0 || got.Peak != 0 {
		t.Errorf("what was taken is counted again: %+v", got)
	}
}

func TestEachRequestIsDelayedOnce(t *testing.T) {
	t.Parallel()
	s := &sleeper{}
	sim, p := start(t, s)
	client, err := login(t, sim, p, sim.Password)
	if err != nil {
		t.Fatal(err)
	}
	p.Take()
	p.SetDelay(20 * time.Millisecond)
	for range 3 {
		if _, err := client.SessionManager.UserSession(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	p.SetDelay(0)
	if _, err := client.SessionManager.UserSession(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := p.Take(); got.Total() != 4 || got.Delays != 3 {
		t.Errorf("%d calls, %d delays", got.Total(), got.Delays)
	}
	if diff := cmp.Diff([]time.Duration{20 * time.Millisecond, 20 * time.Millisecond, 20 * time.Millisecond}, s.slept); diff != "" {
		t.Error(diff)
	}
}

// Else the proxy's counts would not be the simulator's.
func TestARequestThatWasGivenUpWhileItWaitedIsNotCounted(t *testing.T) {
	t.Parallel()
	s := &sleeper{err: errors.New("the client is gone")}
	sim, p := start(t, s)
	client, err := login(t, sim, p, sim.Password)
	if err != nil {
		t.Fatal(err)
	}
	p.Take()
	sim.ResetCounters()
	p.SetDelay(time.Second)
	_, _ = client.SessionManager.UserSession(t.Context()) // whatever the client makes of an empty answer
	if got := p.Take(); got.Total() != 0 || len(sim.Calls()) != 0 {
		t.Errorf("%v passed, the simulator met %v", got.Calls, sim.Calls())
	}
}

func TestWithoutTrustItDoesNotStart(t *testing.T) {
	t.Parallel()
	if _, err := proxy.Start(t.Context(), proxy.Options{Target: "https://127.0.0.1:1/sdk"}); err == nil {
		t.Error("it starts")
	}
}
