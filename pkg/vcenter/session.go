// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"golang.org/x/sync/singleflight"
	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// locale of vCenter's messages, whatever the user's setting is.
const locale = "en_US"

// errEnded says that a session was logged out by us.
var errEnded = errors.New("the session was closed")

// IsEnded reports that a call was not made since its session was logged out by us: another Client is needed.
func IsEnded(err error) bool { return errors.Is(err, errEnded) }

// session is one login in one vCenter, from the first to the logout.
type session struct {
	pool *Pool
	to   *target
	key  [sha256.Size]byte
	host *host
	soap *soap.Client
	jar  *cookies
	// inner is the chain without renewal.
	inner soap.RoundTripper

	flights singleflight.Group
	// turn holds one token: who has it logs in or out.
	turn chan struct{}
	// done is closed when the session ends.
	done chan struct{}

	mu sync.Mutex
	// client is nil until the first login.
	client *Client
	// logins counts the successful logins.
	logins int
	ended  bool
	// refused is what vCenter said of the credentials, valid until refusedUntil.
	refused      error
	refusedUntil time.Time
	// used is when somebody needed the session, called when a request was made. active
	// counts the requests under way. Long polls are neither use nor active: nobody may wait
	// for what they will say.
	used, called time.Time
	active       int
	// superseded says that another session has its place; see supersede.
	superseded bool
	retire     chan struct{} // closed then
	// outdated says that one with other credentials or trust has it.
	outdated bool
}

func newSession(p *Pool, to *target, key [sha256.Size]byte, h *host) (*session, error) {
	s := &session{
		pool: p, to: to, key: key, host: h,
		soap: soap.NewClient(to.url, to.Insecure),
		turn: make(chan struct{}, 1),
		done: make(chan struct{}), retire: make(chan struct{}),
		used: p.opts.Clock.Now(),
	}
	if err := configureTransport(s.soap.DefaultTransport(), to, p.opts.MaxConcurrent); err != nil {
		return nil, err
	}
	s.soap.Transport = &statuses{next: s.soap.DefaultTransport(), clock: p.opts.Clock}
	s.jar = &cookies{}
	s.jar.clear()
	s.soap.Jar = s.jar
	s.soap.UserAgent = p.opts.UserAgent
	s.soap.Namespace = "urn:" + vim25.Namespace
	// A redirect could carry the credentials elsewhere.
	s.soap.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

	rt := observe(understood(s.soap), p.opts.Clock, p.opts.Observer)
	if p.opts.Middleware != nil {
		rt = p.opts.Middleware(rt)
	}
	rt = traced(rt, to.host(), p.opts.Tracer)
	rt = bound(rt, to.host(), p.opts.CallTimeout)
	s.inner = h.repeat(h.guard(rt), p.opts.MaxAttempts, p.opts.CallTimeout)
	return s, nil
}

// open returns the session's client and logs in if nobody did yet.
func (s *session) open(ctx context.Context) (*Client, error) {
	client, logins, err := s.touch()
	if err != nil || client != nil {
		return client, err
	}
	if err := s.login(ctx, logins); err != nil {
		return nil, err
	}
	client, _, err = s.touch()
	return client, err
}

func (s *session) endedError() error {
	return errdefs.Wrap(errdefs.Unavailable, errEnded, "vCenter %s", s.to.host())
}

func (s *session) isEnded() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// touch notes that the session is needed.
func (s *session) touch() (*Client, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, 0, s.endedError()
	}
	s.used = s.pool.opts.Clock.Now()
	return s.client, s.logins, nil
}

// RoundTrip is the outermost layer: it renews the session when vCenter does not
// know it any more, and repeats the call once.
func (s *session) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	_, poll, _ := longPoll(req)
	logins, done, err := s.use(poll)
	if err != nil {
		return err
	}
	defer done()
	return s.blame(s.call(ctx, req, res, logins))
}

func (s *session) call(ctx context.Context, req, res soap.HasFault, logins int) error {
	s.mu.Lock()
	s.called = s.pool.opts.Clock.Now()
	s.mu.Unlock()
	err := s.inner.RoundTrip(ctx, req, res)
	if !unauthenticated(err, res) {
		return err
	}
	if err := s.login(ctx, logins); err != nil {
		return err
	}
	reset(res)
	err = s.inner.RoundTrip(ctx, req, res)
	if _, now, _ := s.touch(); now != logins && unauthenticated(err, res) {
		// The credentials are right; somebody ends sessions.
		return errdefs.New(errdefs.Unavailable, "vCenter %s has ended the session again, right after a login", s.to.host())
	}
	return err
}

// login logs in unless somebody did so since the caller saw the given number of
// logins. All who ask at the same time share one login, which goes on when a
// caller gives up.
func (s *session) login(ctx context.Context, seen int) error {
	flight := s.flights.DoChan(strconv.Itoa(seen), func() (any, error) {
		detached, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), s.pool.opts.CallTimeout, tooLate{})
		defer cancel()
		return nil, s.renew(detached, seen)
	})
	select {
	case <-ctx.Done():
		return Convert(ctx.Err(), "log in to vCenter %s", s.to.host())
	case result := <-flight:
		return result.Err
	}
}

// renew is the one login of all who wait.
func (s *session) renew(ctx context.Context, seen int) error {
	if err := s.take(ctx); err != nil {
		return Convert(err, "log in to vCenter %s", s.to.host())
	}
	defer s.leave()
	s.mu.Lock()
	client, logins, ended := s.client, s.logins, s.ended
	refused, until := s.refused, s.refusedUntil
	s.mu.Unlock()
	switch {
	case ended:
		return s.endedError()
	case logins != seen:
		return nil
	case refused != nil && s.pool.opts.Clock.Now().Before(until):
		return errdefs.Wrap(errdefs.Unauthenticated, refused, "the credentials are not tried again before %s, lest vCenter locks the account; a changed secret is tried at once",
			until.UTC().Format(time.TimeOnly+" MST"))
	}
	content, err := s.connect(ctx, client)
	if err == nil && client != nil && s.discard(ctx, client) {
		return nil // the session is alive; only that one call was refused
	}
	if err == nil {
		_, err = methods.Login(ctx, s.inner, &types.Login{
			This: *content.SessionManager, UserName: s.to.Username, Password: s.to.Password, Locale: locale,
		})
	}
	if err != nil {
		err = Convert(err, "log in to vCenter %s as %s", s.to.host(), s.to.Username)
	}
	if s.loggedIn(ctx, content, err) {
		s.pool.supersede(s)
	}
	return err
}

// connect learns what vCenter is, at the first login.
func (s *session) connect(ctx context.Context, client *Client) (types.ServiceContent, error) {
	if client != nil {
		return client.vim.ServiceContent, nil
	}
	err := s.host.call(ctx, "negotiate", false, func() (said sign, err error) {
		s.soap.Version, err = negotiate(ctx, s.soap)
		return signGood, err
	})
	if err != nil {
		return types.ServiceContent{}, err
	}
	content, err := methods.GetServiceContent(ctx, s.inner)
	if err == nil && content.SessionManager == nil {
		err = errdefs.New(errdefs.FailedPrecondition, "%s is no vCenter: it has no session manager", s.to.host())
	}
	return content, err
}

// discard prepares the renewal of a session: it answers true if vCenter still
// knows the session, and otherwise forgets its cookie, because a login with a
// live session's cookie is refused as if the password were wrong.
func (s *session) discard(ctx context.Context, client *Client) (alive bool) {
	vim := *client.vim
	vim.RoundTripper = s.inner
	var manager mo.SessionManager
	err := property.DefaultCollector(&vim).RetrieveOne(ctx, *vim.ServiceContent.SessionManager, []string{"currentSession"}, &manager)
	if err == nil && manager.CurrentSession != nil {
		return true
	}
	if err != nil {
		// Nobody knows: at least do not leave it behind.
		if _, err := methods.Logout(ctx, s.inner, &types.Logout{This: *vim.ServiceContent.SessionManager}); err != nil {
			klog.FromContext(ctx).V(1).Info("Could not log out a session before renewing it", "vcenter", s.to.host(), "reason", err.Error())
		}
	}
	s.jar.clear()
	return false
}

// loggedIn records how a login ended, and reports whether it was the first.
func (s *session) loggedIn(ctx context.Context, content types.ServiceContent, err error) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.pool.opts.Clock.Now()
	if err != nil {
		if hasFault(err, "InvalidLogin") {
			s.refused, s.refusedUntil = err, now.Add(refusedFor)
			s.giveWay()
		}
		return false
	}
	s.logins++
	s.refused, s.outdated, s.used, s.called = nil, false, now, now
	klog.FromContext(ctx).Info("Logged in to vCenter", "vcenter", s.to.host(), "user", s.to.Username,
		"version", content.About.Version, "apiVersion", s.soap.Version, "renewed", s.client != nil)
	if s.client != nil {
		return false
	}
	s.client = &Client{session: s, vim: &vim25.Client{Client: s.soap, ServiceContent: content, RoundTripper: s}}
	s.client.hub = newHub(s.client)
	go s.keepAlive(context.WithoutCancel(ctx))
	return true
}

// take waits for the turn to log in or out.
func (s *session) take(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *session) leave() { <-s.turn }

// keepAlive touches a quiet session, and ends it when nobody uses it any more.
func (s *session) keepAlive(ctx context.Context) {
	ticker := s.pool.opts.Clock.NewTicker(s.pool.opts.KeepAlive)
	defer ticker.Stop()
	retire, soon := s.retire, (<-chan time.Time)(nil)
	for {
		select {
		case <-s.done:
			return
		case <-retire:
			retire = nil
			often := s.pool.opts.Clock.NewTicker(lingerFor / 6)
			defer often.Stop()
			soon = often.C()
		case <-soon:
		case <-ticker.C():
		}
		if s.expire() {
			s.pool.forget(s)
			limited, cancel := context.WithTimeout(ctx, s.pool.opts.CallTimeout)
			err := s.end(limited)
			cancel()
			klog.FromContext(ctx).Info("Closed a session that nobody used", "vcenter", s.to.host(), "user", s.to.Username, "loggedOut", err == nil)
			return
		}
		if logins, quiet := s.quiet(); quiet {
			s.ping(ctx, logins)
		}
	}
}

// ping is a call that keeps the session alive; it renews it if need be.
func (s *session) ping(ctx context.Context, logins int) {
	var req, res methods.CurrentTimeBody
	req.Req = &types.CurrentTime{This: vim25.ServiceInstance}
	if err := s.call(ctx, &req, &res, logins); err != nil {
		klog.FromContext(ctx).V(1).Info("Could not keep a session alive", "vcenter", s.to.host(), "user", s.to.Username, "reason", err.Error())
	}
}

// forgettable reports that the session never came to be and nobody waits for it.
func (s *session) forgettable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client == nil && s.pool.opts.Clock.Since(s.used) > max(refusedFor, s.pool.opts.CallTimeout)
}

// end logs the session out for good; every later call on it fails.
func (s *session) end(ctx context.Context) error {
	s.mu.Lock()
	if !s.ended {
		s.ended = true
		close(s.done)
	}
	s.mu.Unlock()
	if err := s.take(ctx); err != nil { // a login may be under way
		return Convert(err, "log out of vCenter %s", s.to.host())
	}
	defer s.leave()
	defer s.soap.CloseIdleConnections()
	s.mu.Lock()
	client := s.client
	s.client = nil
	s.mu.Unlock()
	if client == nil {
		return nil
	}
	_, err := methods.Logout(ctx, s.inner, &types.Logout{This: *client.vim.ServiceContent.SessionManager})
	if hasFault(err, "NotAuthenticated") {
		return nil // vCenter had ended it before
	}
	return Convert(err, "log out of vCenter %s", s.to.host())
}

// cookies is a cookie jar that can be emptied while it is in use.
type cookies struct {
	mu  sync.RWMutex
	jar http.CookieJar
}

func (c *cookies) clear() {
	jar, _ := cookiejar.New(nil) // fails never without options
	c.mu.Lock()
	c.jar = jar
	c.mu.Unlock()
}

// SetCookies implements http.CookieJar.
func (c *cookies) SetCookies(u *url.URL, all []*http.Cookie) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	c.jar.SetCookies(u, all)
}

// Cookies implements http.CookieJar.
func (c *cookies) Cookies(u *url.URL) []*http.Cookie {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.jar.Cookies(u)
}
