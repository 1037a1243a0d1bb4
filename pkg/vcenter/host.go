// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// host is what all sessions with one vCenter share: limits and the circuit
// breaker. Nothing is shared between vCenters, so a dead one holds up no other.
type host struct {
	name  string
	clock clock.WithTicker
	// slots are for the calls under way, long polls excepted.
	slots *queue
	heavy int

	mu         sync.Mutex
	limit      *adaptive
	breaker    *breaker
	budget     *budget
	retries    uint64
	denied     uint64
	polls      int
	datastores map[types.ManagedObjectReference]*datastoreQueue
}

func newHost(name string, o Options) *host {
	return &host{
		name: name, clock: o.Clock, slots: newQueue(o.MaxConcurrent), heavy: o.MaxHeavy,
		limit: newAdaptive(o.MinConcurrent, o.MaxConcurrent), breaker: newBreaker(o.BreakerFailures, o.BreakerMaxWait, o.Clock.Now()),
		budget: newBudget(o.RetryBudget), datastores: map[types.ManagedObjectReference]*datastoreQueue{},
	}
}

// guard is the layer of limit and breaker. Long polls take no slot: they rest in
// vCenter and would starve the others; nor does it count how long they take. A
// logout always goes through, since nobody will come back to do it later.
func (h *host) guard(next soap.RoundTripper) soap.RoundTripper {
	return roundTripFunc(func(ctx context.Context, req, res soap.HasFault) error {
		method := Method(req)
		if method == "Logout" {
			return next.RoundTrip(ctx, req, res)
		}
		_, poll, _ := longPoll(req)
		return h.call(ctx, method, poll, func() (sign, error) {
			err := next.RoundTrip(ctx, req, res)
			return taskSign(res), err
		})
	})
}

// call sends something as soon as it may be sent. send answers what else its
// answer says of vCenter's load.
func (h *host) call(ctx context.Context, method string, poll bool, send func() (sign, error)) error {
	p, err := h.admit(ctx, poll)
	if err != nil {
		return err
	}
	if !poll && !p.probe { // the probe does not wait for slots that are held by calls without an answer
		if err := h.slots.acquire(ctx); err != nil {
			return err
		}
		defer h.slots.release()
		// vCenter may have died, or come back, meanwhile.
		if p, err = h.admit(ctx, poll); err != nil {
			return err
		}
	}
	call, begin, busy := h.begin(poll)
	said, err := send()
	v := judge(ctx, err)
	if v.sign == signGood {
		v.sign = said
	}
	h.end(ctx, &ended{pass: p, call: call, method: method, poll: poll, busy: busy, took: h.clock.Since(begin), err: err}, v)
	return err
}

// admit asks the breaker.
func (h *host) admit(ctx context.Context, poll bool) (pass, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.breaker.state
	p, ok := h.breaker.admit(h.clock.Now(), poll)
	if !ok {
		return pass{}, h.refusal()
	}
	if before != h.breaker.state {
		klog.FromContext(ctx).V(1).Info("Trying a vCenter again that did not answer", "vcenter", h.name, "since", h.breaker.since)
	}
	return p, nil
}

// refused answers why a request would be refused now, or nil.
func (h *host) refused() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.breaker.refuses(h.clock.Now()) {
		return h.refusal()
	}
	return nil
}

// refusal is the error of calls that the breaker does not let through. The cause
// is in its text only: it is that of another call.
func (h *host) refusal() error {
	b := h.breaker
	again := "it is being tried again just now"
	if b.state == BreakerOpen {
		again = "it is tried again at " + clockTime(b.until)
	}
	return errdefs.New(errdefs.Unavailable, "vCenter %s does not answer since %s (%d times, the last: %s); %s",
		h.name, clockTime(b.since), b.failures, b.cause, again)
}

func clockTime(t time.Time) string { return t.UTC().Format(time.TimeOnly + " MST") }

// begin takes note of a call that is sent. busy says that half of the slots or
// more are taken, so that its duration may be of our making.
func (h *host) begin(poll bool) (call uint64, begin time.Time, busy bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if poll {
		h.polls++
	}
	limit, inUse, _ := h.slots.load()
	return h.limit.begin(), h.clock.Now(), inUse > h.limit.floor && 2*inUse >= limit
}

// ended is a call that was sent and has ended.
type ended struct {
	pass   pass
	call   uint64
	method string
	poll   bool
	busy   bool
	took   time.Duration
	err    error
}

// end takes note of the end of a call.
func (h *host) end(ctx context.Context, e *ended, v verdict) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.clock.Now()
	if e.poll {
		h.polls--
	} else if v.outcome == outcomeAnswer && h.limit.slow(e.method, e.took) && e.busy && v.sign == signGood {
		v.sign = signWeak
	}
	before := h.limit.limit
	h.limit.end(e.call, v.sign, now)
	if after := h.limit.limit; after != before {
		h.slots.resize(after)
		if after < before {
			klog.FromContext(ctx).V(1).Info("Lowered the limit of calls to a vCenter that is overloaded", "vcenter", h.name, "from", before, "to", after, "method", e.method)
		}
	}
	cause := ""
	if e.err != nil {
		cause = e.err.Error()
	}
	was := h.breaker.state
	if h.breaker.done(e.pass, v.outcome, cause, now) {
		h.slots.refuse(h.refusal())
		klog.FromContext(ctx).Info("A vCenter does not answer; calls to it fail at once", "vcenter", h.name,
			"since", h.breaker.since, "until", h.breaker.until, "failures", h.breaker.failures, "reason", cause)
	} else if was != BreakerClosed && h.breaker.state == BreakerClosed {
		klog.FromContext(ctx).Info("A vCenter answers again", "vcenter", h.name)
	}
}
