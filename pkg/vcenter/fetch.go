// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"maps"
	"slices"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
)

// fetch makes sure that the news of the collector are fetched, by a goroutine that ends when
// nobody waits any more, or with the session.
func (h *hub) fetch(ctx context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fetching {
		return
	}
	h.fetching = true
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer cancel()
		go func() {
			select {
			case <-ctx.Done():
			case <-h.client.session.done:
				cancel()
			}
		}()
		h.run(ctx)
	}()
}

func (h *hub) run(ctx context.Context) {
	for {
		c, stale, wanted := h.wanted()
		switch {
		case !wanted:
			return
		case len(stale) > 0:
			h.removeFilters(ctx, stale)
			continue
		}
		var err error
		if c == nil {
			err = h.change(ctx, func(*collector) error { return nil })
		} else {
			h.rest(ctx)
			err = h.poll(ctx, c)
		}
		if err != nil && !h.recover(ctx, c, err) {
			return
		}
	}
}

// wanted returns what is to be done next; nothing, for good, if nobody waits.
func (h *hub) wanted() (c *collector, stale []types.ManagedObjectReference, wanted bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c = h.collector
	if c != nil && len(c.stale) > 0 {
		stale, c.stale = c.stale, nil
		return c, stale, true
	}
	wanted = len(h.watches) > 0 || h.waitedFor() > 0
	h.fetching = wanted
	return c, nil, wanted
}

// removeFilters removes filters of waits that are over. One that stays goes with its collector.
func (h *hub) removeFilters(ctx context.Context, filters []types.ManagedObjectReference) {
	for _, ref := range filters {
		if _, err := methods.DestroyPropertyFilter(ctx, h.client.Vim(), &types.DestroyPropertyFilter{This: ref}); err != nil {
			klog.FromContext(ctx).V(1).Info("Could not remove a property filter", "filter", ref.Value, "reason", err.Error())
		}
	}
}

// poll is one request, which rests in vCenter until something happens. It is no use of
// the session: see session.expire.
func (h *hub) poll(ctx context.Context, c *collector) error {
	res, err := methods.WaitForUpdatesEx(ctx, h.client.Vim(), &types.WaitForUpdatesEx{
		This: c.ref, Version: c.version, Options: &types.WaitOptions{MaxWaitSeconds: ptr.To(int32(maxPoll.Seconds()))},
	})
	if err != nil {
		return Convert(err, "wait for changes")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.collector != c {
		return nil // it was replaced meanwhile; what it says may be older than what its successor is asked
	}
	h.lost = 0
	set := res.Returnval
	if set == nil { // nothing happened
		set = &types.UpdateSet{Version: c.version}
	}
	c.version = set.Version
	h.spread(c, set)
	return nil
}

// spread hands an answer out: what happened first, and then who has to know that his task
// has ended.
func (h *hub) spread(c *collector, set *types.UpdateSet) {
	more := ptr.Deref(set.Truncated, false)
	for _, update := range set.FilterSet {
		p := news{update, more}
		w := c.filters[update.Filter]
		switch {
		case c.taskFilter != nil && update.Filter == *c.taskFilter:
			c.held = append(c.held, update)
		case w != nil:
			w.hear(p)
		case c.making > 0:
			c.early[update.Filter] = append(c.early[update.Filter], p)
		case !slices.Contains(c.stale, update.Filter):
			c.stale = append(c.stale, update.Filter) // the answer with its name got lost: it would talk forever
		}
	}
	c.more = more
	if more {
		return
	}
	now := h.now()
	for _, w := range c.filters {
		w.end(now)
	}
	held := c.held
	c.held = nil
	for _, update := range held {
		h.spreadTasks(update)
	}
}

func (h *hub) spreadTasks(update types.PropertyFilterUpdate) {
	for _, m := range update.MissingSet {
		h.gone(m.Obj, &taskFault{m.Fault})
	}
	for _, u := range update.ObjectSet {
		t := h.tasks[u.Obj]
		if t == nil {
			continue
		}
		if u.Kind == types.ObjectUpdateKindLeave {
			h.gone(u.Obj, &taskFault{types.LocalizedMethodFault{Fault: &types.ManagedObjectNotFound{Obj: u.Obj}}})
			continue
		}
		for _, change := range u.ChangeSet {
			t.known[change.Name] = change
		}
		err := unreadable(types.PropertyFilterUpdate{ObjectSet: []types.ObjectUpdate{u}})
		for w := range t.waiting {
			w.tell([]types.ObjectUpdate{u}, err)
		}
	}
}

// recover gives the collector up after a request for news failed, and waits a little. It
// answers false when it failed too often, or the session has ended: all who wait are
// told then.
func (h *hub) recover(ctx context.Context, c *collector, err error) bool {
	if c != nil {
		h.drop(ctx, c, err)
	}
	h.mu.Lock()
	h.lost++
	lost := h.lost
	h.mu.Unlock()
	if lost < maxLost && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-h.client.session.pool.opts.Clock.After(lostPause << lost):
			return true
		}
	}
	if h.client.session.isEnded() {
		err = h.client.session.endedError()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fetching, h.lost = false, 0
	for w := range h.watches {
		w.tell(nil, err)
	}
	clear(h.watches)
	for _, ref := range slices.Collect(maps.Keys(h.tasks)) {
		h.gone(ref, err)
	}
	return false
}
