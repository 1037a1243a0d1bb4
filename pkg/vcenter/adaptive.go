// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import "time"

// sign is what the end of a call says about vCenter's load.
type sign int

const (
	// signNone: the call was ended by its caller, or says nothing.
	signNone sign = iota
	// signGood: it was answered.
	signGood
	// signWeak: a sign of overload if it comes often.
	signWeak
	// signStrong: vCenter says so itself, or was too late.
	signStrong
)

const (
	// stormAt is the weight of weak signs that counts as a strong one: each weighs
	// one, each good answer takes goodWeight back. So more than a sixth of weak ones
	// among many answers is a storm, and five in a row are.
	stormAt    = 5.0
	goodWeight = 0.2
	// recoverEvery is how long a limit stays before it rises by one.
	recoverEvery = time.Second
	// An answer is slow if its method takes slowFactor of what is usual and slowSlack more.
	slowFactor = 4
	slowSlack  = 250 * time.Millisecond
	// Weights of one answer in what a method took lately, and in what is usual.
	recentWeight  = 1.0 / 8
	usualWeight   = 1.0 / 256
	quickerWeight = 1.0 / 16
)

// adaptive is the limit of calls under way with one vCenter: halved at a sign of
// overload, once for all calls that were under way then, and raised by one each
// second in which calls are answered. It has neither clock nor lock.
//
// That of failsafe-go is not used: it knows durations and dropped calls only, while
// vCenter tells overload by faults, of tasks too; and it has the system's clock, not
// that of Options.
type adaptive struct {
	floor, ceiling, limit int

	// begun counts calls; those up to lowered were under way when the limit was lowered.
	begun, lowered uint64
	changed        time.Time
	weight         float64
	methods        map[string]*pace
	overloads      uint64
}

// pace is how long a method takes, in seconds.
type pace struct{ recent, usual float64 }

func newAdaptive(floor, ceiling int) *adaptive {
	return &adaptive{floor: min(floor, ceiling), ceiling: ceiling, limit: ceiling, methods: map[string]*pace{}}
}

// begin numbers a call.
func (a *adaptive) begin() uint64 {
	a.begun++
	return a.begun
}

// end takes note of the end of a call.
func (a *adaptive) end(call uint64, s sign, now time.Time) {
	switch s {
	case signNone:
	case signStrong:
		a.lower(call, now)
	case signWeak:
		a.weight++
		if a.weight >= stormAt {
			a.lower(call, now)
		}
	case signGood:
		a.weight = max(0, a.weight-goodWeight)
		if a.limit < a.ceiling && now.Sub(a.changed) >= recoverEvery {
			a.limit++
			a.changed = now
		}
	}
}

func (a *adaptive) lower(call uint64, now time.Time) {
	if call <= a.lowered {
		return // it was under way when the limit was lowered already
	}
	a.limit = max(a.floor, a.limit/2)
	a.lowered, a.changed, a.weight = a.begun, now, 0
	a.overloads++
}

// slow takes note of how long an answer took, and reports whether the method has
// become slow. What is usual follows slowly, so that a vCenter that stays slow is
// not strangled for ever.
func (a *adaptive) slow(method string, took time.Duration) bool {
	s := took.Seconds()
	p, ok := a.methods[method]
	if !ok {
		a.methods[method] = &pace{s, s}
		return false
	}
	p.recent += (s - p.recent) * recentWeight
	weight := usualWeight
	if s < p.usual {
		weight = quickerWeight
	}
	p.usual += (s - p.usual) * weight
	return p.recent > slowFactor*p.usual+slowSlack.Seconds()
}
