// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import "time"

// BreakerState says whether calls to a vCenter are let through.
type BreakerState string

// The states of a circuit breaker.
const (
	// BreakerClosed: calls go through.
	BreakerClosed BreakerState = "closed"
	// BreakerOpen: vCenter did not answer repeatedly; calls fail at once.
	BreakerOpen BreakerState = "open"
	// BreakerHalfOpen: one call is let through to see whether it answers again.
	BreakerHalfOpen BreakerState = "half-open"
)

// firstWait is how long a breaker is open at first; it doubles with each vain attempt.
const firstWait = 2 * time.Second

// outcome is what the end of a call says about whether vCenter lives.
type outcome int

const (
	// outcomeNone: the caller ended it.
	outcomeNone outcome = iota
	// outcomeAnswer: vCenter answered, whatever it said.
	outcomeAnswer
	// outcomeFailure: there was no answer, or none of vCenter's.
	outcomeFailure
)

// breaker lets calls fail at once when vCenter does not answer. It has neither
// clock nor lock.
//
// That of failsafe-go is not used: it takes the end of a call that began before it
// opened for that of its probe; and it has the system's clock, not that of Options.
type breaker struct {
	threshold int
	longest   time.Duration

	state BreakerState
	// since is when it was closed, or else since when vCenter does not answer.
	since, failing time.Time
	// until is when an open breaker lets a call through, wait how long it was open.
	until time.Time
	wait  time.Duration
	// failures counts those since the last answer, cause is the last one's.
	failures int
	cause    string
	// round tells calls that were let through in an earlier state.
	round   uint64
	probing bool
}

// pass is what a call is let through with.
type pass struct {
	round uint64
	probe bool
}

func newBreaker(threshold int, longest time.Duration, now time.Time) *breaker {
	return &breaker{threshold: threshold, longest: longest, state: BreakerClosed, since: now}
}

// refuses reports whether a call would be refused now.
func (b *breaker) refuses(now time.Time) bool {
	switch b.state {
	case BreakerOpen:
		return now.Before(b.until)
	case BreakerHalfOpen:
		return b.probing
	default:
		return false
	}
}

// admit lets a call through, or does not. A long poll is no probe, since its
// answer may take long: it goes along when probing is due.
func (b *breaker) admit(now time.Time, poll bool) (pass, bool) {
	if b.state == BreakerOpen && !now.Before(b.until) {
		b.turn(BreakerHalfOpen)
	}
	p := pass{round: b.round}
	switch {
	case b.state == BreakerOpen, b.state == BreakerHalfOpen && b.probing && !poll:
		return pass{}, false
	case b.state == BreakerHalfOpen && !poll:
		p.probe, b.probing = true, true
	}
	return p, true
}

// done takes note of the end of a call and reports whether the breaker opened by it.
func (b *breaker) done(p pass, o outcome, cause string, now time.Time) (opened bool) {
	if p.probe && p.round == b.round {
		b.probing = false
	}
	switch {
	case o == outcomeAnswer:
		// Also one that began long ago: it is vCenter's.
		b.failures, b.wait, b.cause = 0, 0, ""
		if b.state != BreakerClosed {
			b.turn(BreakerClosed)
			b.since = now
		}
	case o == outcomeFailure && p.round == b.round:
		if b.failures == 0 {
			b.failing = now
		}
		b.failures++
		b.cause = cause
		if b.state == BreakerHalfOpen || b.failures >= b.threshold {
			b.wait = min(max(2*b.wait, firstWait), b.longest)
			b.until = now.Add(b.wait)
			b.since = b.failing
			b.turn(BreakerOpen)
			return true
		}
	}
	return false
}

func (b *breaker) turn(state BreakerState) {
	b.state, b.probing = state, false
	b.round++
}
