// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version"
)

const (
	defaultMaxConcurrent = 32
	defaultMinConcurrent = 2
	defaultMaxHeavy      = 16
	defaultFailures      = 5
	defaultMaxWait       = 30 * time.Second
	defaultMaxAttempts   = 3
	defaultRetryBudget   = 0.2
	defaultKeepAlive     = 10 * time.Minute
	defaultCallTimeout   = time.Minute
	// idleFactor times KeepAlive is how long a session that nobody uses stays logged in.
	idleFactor = 6
	// refusedFor is how long refused credentials are not tried again. vCenter locks
	// an account after five failures within three minutes.
	refusedFor = time.Minute
	// lingerFor is how long a session that is superseded stays without use.
	lingerFor = time.Minute
)

// Options of a Pool. The zero value of each field takes its default.
type Options struct {
	// UserAgent names the program in vCenter's session list. Default: name and version of this provider.
	UserAgent string
	// MaxConcurrent is how many calls per vCenter may be under way at once, long polls not counted. Default: 32.
	MaxConcurrent int
	// MinConcurrent is the least to which that limit is lowered when vCenter is
	// overloaded. More than MaxConcurrent means MaxConcurrent. Default: 2.
	MinConcurrent int
	// MaxHeavy is how many heavy operations may be under way at once per datastore; see Client.Heavy. Default: 16.
	MaxHeavy int
	// BreakerFailures is how many calls in a row must fail without an answer until
	// calls to that vCenter fail at once. Default: 5.
	BreakerFailures int
	// BreakerMaxWait is the longest time after which one call is let through again to
	// see whether vCenter answers; the first is 2 seconds, and it doubles. Default: 30 seconds.
	BreakerMaxWait time.Duration
	// MaxAttempts is how often a call is sent at most when vCenter cannot be reached
	// for a moment; only calls that change nothing are sent again. 1: never again. Default: 3.
	MaxAttempts int
	// RetryBudget is how many of the calls to a vCenter may be repetitions, as a
	// share of all: 0.2, the default, is a fifth. Ten may be saved up.
	RetryBudget float64
	// KeepAlive is the interval at which a quiet session is touched. It must be
	// well below vCenter's session time-out of 30 minutes. Default: 10 minutes.
	KeepAlive time.Duration
	// CallTimeout bounds each call, and a login as a whole. Default: 60 seconds.
	CallTimeout time.Duration
	// Observer, if set, is told of each request that was sent, after its end; Attempt
	// says whether it is a repetition. It is called from many goroutines and must not block.
	Observer func(ctx context.Context, method string, took time.Duration, err error)
	// Tracer, if set, makes a span of each request that was sent, but of those that rest in vCenter until something happens.
	Tracer trace.Tracer
	// Middleware, if set, wraps the transport of each session: a test may count,
	// delay or refuse requests there.
	Middleware func(soap.RoundTripper) soap.RoundTripper
	// Clock is that of keep-alive, refused credentials, limits and circuit breaker. Default: the real one.
	Clock clock.WithTicker
}

func (o Options) withDefaults() Options {
	if o.UserAgent == "" {
		o.UserAgent = version.Name + "/" + version.Version()
	}
	if o.MaxConcurrent <= 0 {
		o.MaxConcurrent = defaultMaxConcurrent
	}
	if o.MinConcurrent <= 0 {
		o.MinConcurrent = defaultMinConcurrent
	}
	if o.MaxHeavy <= 0 {
		o.MaxHeavy = defaultMaxHeavy
	}
	if o.BreakerFailures <= 0 {
		o.BreakerFailures = defaultFailures
	}
	if o.BreakerMaxWait <= 0 {
		o.BreakerMaxWait = defaultMaxWait
	}
	if o.MaxAttempts <= 0 {
		o.MaxAttempts = defaultMaxAttempts
	}
	if o.RetryBudget <= 0 {
		o.RetryBudget = defaultRetryBudget
	}
	if o.KeepAlive <= 0 {
		o.KeepAlive = defaultKeepAlive
	}
	if o.CallTimeout <= 0 {
		o.CallTimeout = defaultCallTimeout
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return o
}

// Pool shares sessions. It is safe for concurrent use. Close it at the end of the process.
type Pool struct {
	opts Options

	mu       sync.Mutex
	closed   bool
	sessions map[[sha256.Size]byte]*session
	// hosts are those that have a session, by URL.
	hosts map[string]*host
}

// NewPool returns a Pool without sessions. Nothing is sent before the first Client.
func NewPool(opts Options) *Pool {
	return &Pool{opts: opts.withDefaults(), sessions: map[[sha256.Size]byte]*session{}, hosts: map[string]*host{}}
}

// Client returns the client of cfg's session, logged in. It sends nothing if the
// session exists. Kinds: InvalidArgument for a Config that cannot be,
// Unauthenticated for missing or refused credentials, FailedPrecondition for a
// certificate that is not trusted (the text shows its thumbprint), Unavailable if
// vCenter cannot be reached, DeadlineExceeded if it does not answer.
func (p *Pool) Client(ctx context.Context, cfg Config) (*Client, error) {
	to, err := cfg.check()
	if err != nil {
		return nil, err
	}
	for {
		s, err := p.session(to)
		if err != nil {
			return nil, err
		}
		client, err := s.open(ctx)
		if errors.Is(err, errEnded) {
			p.forget(s) // it was logged out for idleness this very moment
			continue
		}
		return client, err
	}
}

// session finds or makes the session of a target.
func (p *Pool) session(to *target) (*session, error) {
	key := to.key()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errdefs.New(errdefs.Unavailable, "the sessions with vCenter are closed: the process ends")
	}
	if s, ok := p.sessions[key]; ok {
		return s, nil
	}
	for k, s := range p.sessions {
		if s.forgettable() {
			delete(p.sessions, k)
		}
	}
	at := to.url.String()
	h, ok := p.hosts[at]
	if !ok {
		h = newHost(to.host(), p.opts)
	}
	s, err := newSession(p, to, key, h)
	if err != nil {
		return nil, err
	}
	p.sessions[key], p.hosts[at] = s, h
	p.prune()
	return s, nil
}

func (p *Pool) forget(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sessions[s.key] == s {
		delete(p.sessions, s.key)
		p.prune()
	}
}

// prune forgets the vCenters that have no session any more.
func (p *Pool) prune() {
	used := map[*host]bool{}
	for _, s := range p.sessions {
		used[s.host] = true
	}
	maps.DeleteFunc(p.hosts, func(_ string, h *host) bool { return !used[h] })
}

// Close logs out all sessions, after which Client answers Unavailable. Logins
// under way are waited for. It ends with ctx at the latest and reports which
// sessions may be left in vCenter. Closing again does nothing.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	sessions := p.sessions
	p.closed, p.sessions, p.hosts = true, map[[sha256.Size]byte]*session{}, map[string]*host{}
	p.mu.Unlock()

	results := make(chan error, len(sessions))
	for _, s := range sessions {
		go func() { results <- s.end(ctx) }()
	}
	var errs []error
	for range sessions {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

// Client is one session with one vCenter, shared by all who asked for it. It is
// safe for concurrent use and needs no closing.
type Client struct {
	session *session
	vim     *vim25.Client
	hub     *hub
	// processes is nil until somebody asked for it.
	processes atomic.Pointer[types.ManagedObjectReference]
}

// Vim returns the client for use with govmomi. All that the package comment
// promises of calls holds for calls through it; govmomi's uploads and downloads,
// which are not SOAP, share its session, trust and connections only: see Do.
func (c *Client) Vim() *vim25.Client { return c.vim }

// Host returns vCenter's host name, with the port if it is not the usual one.
func (c *Client) Host() string { return c.session.to.host() }
