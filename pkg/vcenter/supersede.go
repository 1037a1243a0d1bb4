// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"crypto/tls"
	"errors"
	"io"
	"sync"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// supersede has the older sessions of the same user with the same vCenter give way to
// one that has logged in just now: a Secret was changed. Calls that began with the old
// Secret still end with it.
func (p *Pool) supersede(by *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sessions {
		if s != by && s.host == by.host && s.to.Username == by.to.Username {
			s.mu.Lock()
			s.outdated = true
			s.giveWay()
			s.mu.Unlock()
		}
	}
}

// blame says of an error of a session that another one has superseded that it comes of
// that: credentials that are refused and a certificate that is not trusted are nothing that
// somebody has to mend then, and whoever repeats the call does so with the changed Secret.
func (s *session) blame(err error) error {
	s.mu.Lock()
	outdated := s.outdated
	s.mu.Unlock()
	if !outdated || !mistrust(err) {
		return err
	}
	err = Convert(err, "call vCenter %s", s.to.host())
	return errdefs.Wrap(errdefs.Unavailable, err, "the secret was changed after this call began, and what it said before is no longer right")
}

// mistrust says whether one of the two sides does not trust the other.
func mistrust(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	// Faults have no kind yet, a thumbprint that is wrong has this one.
	return hasFault(err, "InvalidLogin") || errdefs.Is(err, errdefs.FailedPrecondition)
}

// giveWay has the session end as soon as nobody used it for lingerFor. One that is not
// logged in has nothing to end. The caller has the lock.
func (s *session) giveWay() {
	if s.client != nil && !s.superseded {
		s.superseded = true
		close(s.retire)
	}
}

// use notes that a request begins; done that it has ended.
func (s *session) use(poll bool) (logins int, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return 0, nil, s.endedError()
	case poll:
		return s.logins, func() {}, nil
	}
	s.active++
	s.used = s.pool.opts.Clock.Now()
	return s.logins, sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.active--
		s.used = s.pool.opts.Clock.Now()
	}), nil
}

// expire ends the session if nobody used it for long enough, and reports whether it
// did. What comes later is told that it has ended; it is not logged out yet. To wait for
// a task is use, to wait for anything else is not: that may never end.
func (s *session) expire() bool {
	s.mu.Lock()
	client := s.client
	s.mu.Unlock()
	if client != nil && client.hub.taskCount() > 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	limit := idleFactor * s.pool.opts.KeepAlive
	if s.superseded {
		limit = min(limit, lingerFor)
	}
	if s.active > 0 || s.pool.opts.Clock.Since(s.used) < limit {
		return false
	}
	if !s.ended {
		s.ended = true
		close(s.done)
	}
	return true
}

// quiet reports that no request was made for so long that vCenter may end the session.
// A session that is superseded is left to its users.
func (s *session) quiet() (logins int, quiet bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logins, !s.superseded && s.pool.opts.Clock.Since(s.called) >= s.pool.opts.KeepAlive/2
}

// content is the content of an answer, whose reading is use of the session.
type content struct {
	io.ReadCloser
	done func()
}

// Close ends the use.
func (c *content) Close() error {
	defer c.done()
	return c.ReadCloser.Close()
}
