// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	// maxWait limits how long a wait may rest, which vCenter reserves the right to. It
	// ends waits whose client has gone.
	maxWait = 30 * time.Second
	// maxUpdates limits the objects of one UpdateSet, as vCenter's default does.
	maxUpdates = 100
	// settle is how long a wait that was woken lets changes gather.
	settle = 2 * time.Millisecond
	// sessionCheck is how often a wait that rests looks whether its session has expired.
	sessionCheck = time.Second
)

// collector is the state of one PropertyCollector of one session. All but turn is
// guarded by the engine's mu.
type collector struct {
	engine  *collectors
	session *collectorSession
	filters []*collectorFilter
	// wake has room for one.
	wake chan struct{}
	// waiting is closed when another wait takes the place of the one that rests.
	waiting chan struct{}

	// turn is held while updates are computed, and not while a wait rests.
	turn sync.Mutex

	// version is that of last, the answer to a wait for what came after since. last is
	// forgotten when the client shows that it has it.
	version int
	since   string
	last    *types.UpdateSet
	// owes is whether an answer is due even if it is empty: to a client that does not
	// know a version yet, or was told that there is more.
	owes bool
}

// notify wakes the wait that rests, or the next. The caller holds mu.
func (c *collector) notify() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// cancel ends the wait that rests. The caller holds mu.
func (c *collector) cancel() {
	if c.waiting != nil {
		close(c.waiting)
		c.waiting = nil
	}
}

// waitOptions are those of one call.
type waitOptions struct {
	version string
	limit   time.Duration // 0 is not to rest
	updates int
}

// WaitForUpdatesEx answers what changed since the version, or rests until something
// does. With no version, all is new, and the answer comes at once even if it is empty,
// unless there is no filter.
//
// The version of the last answer acknowledges it. The version before it gets the same
// answer again, and any other, or one that this collector never gave, is an
// InvalidCollectorVersion.
func (e *collectors) WaitForUpdatesEx(ctx *simulator.Context, req *types.WaitForUpdatesEx) soap.HasFault {
	body := new(methods.WaitForUpdatesExBody)
	options := waitOptions{version: req.Version, limit: maxWait, updates: maxUpdates}
	if o := req.Options; o != nil {
		if n := o.MaxWaitSeconds; n != nil {
			if *n < 0 {
				body.Fault_ = simulator.Fault("", &types.InvalidArgument{InvalidProperty: "options.maxWaitSeconds"})
				return body
			}
			options.limit = min(maxWait, time.Duration(*n)*time.Second)
		}
		if o.MaxObjectUpdates < 0 {
			body.Fault_ = simulator.Fault("", &types.InvalidArgument{InvalidProperty: "options.maxObjectUpdates"})
			return body
		}
		if n := int(o.MaxObjectUpdates); n > 0 {
			options.updates = min(n, maxUpdates)
		}
	}
	set, fault := e.wait(ctx, req.This, options)
	if fault != nil {
		body.Fault_ = simulator.Fault("", fault)
		return body
	}
	body.Res = &types.WaitForUpdatesExResponse{Returnval: set}
	return body
}

// WaitForUpdates is the older one, which never gives a part and rests until something changes.
func (e *collectors) WaitForUpdates(ctx *simulator.Context, req *types.WaitForUpdates) soap.HasFault {
	body := new(methods.WaitForUpdatesBody)
	for {
		set, fault := e.wait(ctx, req.This, waitOptions{version: req.Version, limit: maxWait, updates: math.MaxInt})
		switch {
		case fault != nil:
			body.Fault_ = simulator.Fault("", fault)
			return body
		case set != nil:
			body.Res = &types.WaitForUpdatesResponse{Returnval: *set}
			return body
		}
	}
}

// CheckForUpdates is the older one, which does not rest.
func (e *collectors) CheckForUpdates(ctx *simulator.Context, req *types.CheckForUpdates) soap.HasFault {
	body := new(methods.CheckForUpdatesBody)
	set, fault := e.wait(ctx, req.This, waitOptions{version: req.Version, updates: math.MaxInt})
	if fault != nil {
		body.Fault_ = simulator.Fault("", fault)
		return body
	}
	body.Res = &types.CheckForUpdatesResponse{Returnval: set}
	return body
}

// CancelWaitForUpdates ends the wait that rests with RequestCanceled.
func (e *collectors) CancelWaitForUpdates(ctx *simulator.Context, req *types.CancelWaitForUpdates) soap.HasFault {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.of(ctx.Session, req.This).cancel()
	return &methods.CancelWaitForUpdatesBody{Res: new(types.CancelWaitForUpdatesResponse)}
}

// wait is all of them. A wait that comes while another rests ends that one.
func (e *collectors) wait(ctx *simulator.Context, this ref, options waitOptions) (*types.UpdateSet, types.BaseMethodFault) {
	canceled := make(chan struct{})
	e.mu.Lock()
	c := e.of(ctx.Session, this)
	c.cancel()
	c.waiting = canceled
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if c.waiting == canceled {
			c.waiting = nil
		}
	}()
	deadline := time.Now().Add(options.limit)
	for first := true; ; first = false {
		set, fault := c.next(ctx, canceled, options, first)
		if set != nil || fault != nil {
			return set, fault
		}
		more, fault := c.rest(canceled, deadline)
		if !more || fault != nil {
			return nil, fault
		}
	}
}

// rest returns when there may be something new, or with false at the deadline.
func (c *collector) rest(canceled chan struct{}, deadline time.Time) (bool, types.BaseMethodFault) {
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return false, nil
		}
		timer := time.NewTimer(min(left, sessionCheck))
		select {
		case <-c.wake:
			timer.Reset(min(settle, left))
			select {
			case <-timer.C:
			case <-canceled:
			}
			return true, nil
		case <-timer.C:
			if !c.engine.active(c.session) {
				c.engine.end(c.session.key)
			}
			continue
		case <-c.session.ended:
			timer.Stop()
			return false, new(types.NotAuthenticated)
		case <-canceled:
		case <-c.engine.sim.closed:
		}
		timer.Stop()
		return false, new(types.RequestCanceled)
	}
}

// next computes what is to be answered, nil if there is nothing. first is whether the
// call has just come.
func (c *collector) next(ctx *simulator.Context, canceled chan struct{}, options waitOptions, first bool) (*types.UpdateSet, types.BaseMethodFault) {
	c.turn.Lock()
	defer c.turn.Unlock()
	select {
	case <-canceled:
		// It may have been woken in the place of the one that came after it.
		c.engine.mu.Lock()
		defer c.engine.mu.Unlock()
		c.notify()
		return nil, new(types.RequestCanceled)
	case <-c.session.ended:
		return nil, new(types.NotAuthenticated)
	default:
	}
	if first {
		again, fault := c.resume(options.version)
		if again != nil || fault != nil {
			return again, fault
		}
	}
	filters, more := c.compute(ctx, options.updates)
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	if len(filters) == 0 && !c.owes {
		return nil, nil
	}
	c.owes = more
	c.version++
	c.since = options.version
	c.last = &types.UpdateSet{Version: strconv.Itoa(c.version), FilterSet: filters}
	if more {
		c.last.Truncated = types.NewBool(true)
	}
	return c.last, nil
}

// resume begins a wait for what came after a version. It returns the last answer if
// that is asked for again.
func (c *collector) resume(version string) (*types.UpdateSet, types.BaseMethodFault) {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	switch {
	case version == "":
		c.last, c.owes = nil, len(c.filters) > 0
		for _, f := range c.filters {
			f.restart()
		}
	case version == strconv.Itoa(c.version) && c.version > 0:
		c.last = nil
	case c.last != nil && version == c.since:
		return c.last, nil
	default:
		return nil, new(types.InvalidCollectorVersion)
	}
	return nil, nil
}
