// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"net/url"
	"sync"
	"testing"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	testUser = "user@vsphere.local"
	// planted is a password that must never be seen anywhere.
	planted = "pl4nted-S3cret"
)

// sim is a simulated vCenter with TLS and one valid login.
type sim struct {
	*simulator.Server
	model *simulator.Model

	mu       sync.Mutex
	password string
}

func startSim(t *testing.T) *sim {
	t.Helper()
	s := &sim{model: simulator.VPX(), password: planted}
	t.Cleanup(s.model.Remove)
	if err := s.model.Create(); err != nil {
		t.Fatal(err)
	}
	s.model.Service.TLS = new(tls.Config)
	s.model.Service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword(testUser, planted)}
	s.manager().ValidLogin = func(req *types.Login) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return req.UserName == testUser && req.Password == s.password
	}
	s.Server = s.model.Service.NewServer()
	t.Cleanup(s.Close)
	return s
}

func (s *sim) manager() *simulator.SessionManager { return s.model.Map().SessionManager() }

// setPassword makes another password the valid one.
func (s *sim) setPassword(password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.password = password
}

// config is what a user would write to reach the simulator.
func (s *sim) config() Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Config{
		Endpoint: s.URL.Host, Username: testUser, Password: s.password,
		CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}),
	}
}

// admin calls f with a client of its own and the keys of all other sessions.
func (s *sim) admin(t *testing.T, f func(client *Client, others []string)) {
	t.Helper()
	pool := NewPool(Options{})
	defer func() {
		if err := pool.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	client, err := pool.Client(t.Context(), s.config())
	if err != nil {
		t.Fatal(err)
	}
	var m mo.SessionManager
	err = property.DefaultCollector(client.Vim()).RetrieveOne(t.Context(), *client.Vim().ServiceContent.SessionManager, []string{"sessionList", "currentSession"}, &m)
	if err != nil {
		t.Fatal(err)
	}
	var others []string
	for _, session := range m.SessionList {
		if session.Key != m.CurrentSession.Key {
			others = append(others, session.Key)
		}
	}
	f(client, others)
}

// sessions returns how many sessions there are.
func (s *sim) sessions(t *testing.T) int {
	t.Helper()
	var n int
	s.admin(t, func(_ *Client, others []string) { n = len(others) })
	return n
}

// expire ends all sessions, as vCenter does with old ones.
func (s *sim) expire(t *testing.T) {
	t.Helper()
	s.admin(t, func(client *Client, others []string) {
		_, err := methods.TerminateSession(t.Context(), client.Vim(), &types.TerminateSession{
			This: *client.Vim().ServiceContent.SessionManager, SessionId: others,
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// newPool returns a Pool that is closed at the end of the test.
func newPool(t *testing.T, opts Options) *Pool {
	t.Helper()
	pool := NewPool(opts)
	t.Cleanup(func() {
		if err := pool.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Logf("close: %v", err)
		}
	})
	return pool
}

// calls counts calls by method, and may answer some of them itself.
type calls struct {
	mu     sync.Mutex
	counts map[string]int
	log    []string
	// answer, if set, is asked before a call goes on: an error is the answer.
	answer func(ctx context.Context, method string) error
	// after, if set, is asked when a call has been answered: its error takes the answer's place.
	after func(method string) error
}

func (c *calls) set(answer func(context.Context, string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = answer
}

func (c *calls) setAfter(after func(string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.after = after
}

func (c *calls) middleware(next soap.RoundTripper) soap.RoundTripper {
	return roundTripFunc(func(ctx context.Context, req, res soap.HasFault) error {
		c.mu.Lock()
		if c.counts == nil {
			c.counts = map[string]int{}
		}
		c.counts[Method(req)]++
		c.log = append(c.log, Method(req))
		answer := c.answer
		c.mu.Unlock()
		if answer != nil {
			if err := answer(ctx, Method(req)); err != nil {
				return err
			}
		}
		err := next.RoundTrip(ctx, req, res)
		c.mu.Lock()
		after := c.after
		c.mu.Unlock()
		if after != nil {
			if err := after(Method(req)); err != nil {
				reset(res)
				return err
			}
		}
		return err
	})
}

func (c *calls) count(method string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[method]
}

// take returns the calls since the last take.
func (c *calls) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	log := c.log
	c.log = nil
	return log
}
