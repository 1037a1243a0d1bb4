// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const (
	// maxPoll is how long one request rests in vCenter. A wait is made of as many as it needs. It is also how old what
	// a Watch has told can be before vCenter confirms it.
	maxPoll = 30 * time.Second
	// maxLost is how often in a row the hub begins anew before all who wait are told.
	maxLost = 3
	// lostPause is how long the hub waits before it begins anew; it doubles with each attempt.
	lostPause = 50 * time.Millisecond
	// When crowd tasks or more are waited for, gather passes before a call that others will soon want as well.
	crowd, gather = 4, 10 * time.Millisecond
	// cleanUpTimeout bounds a request that removes something.
	cleanUpTimeout = 10 * time.Second
)

// hub waits for all tasks and properties of a session with one property collector and
// one request that rests in vCenter while anybody waits. All tasks stand in one list view
// with one filter; tasks that come at the same time go into it with one call.
//
// A collector that is lost, with its session or since an answer did not come, is replaced,
// and all filters with it: whoever waits then sees the present state once more. Only
// when that fails several times in a row those who wait are told.
type hub struct {
	client *Client
	// turn holds one token: who has it changes what the collector has.
	turn chan struct{}

	mu sync.Mutex
	// collector is nil until the first wait, and while it is lost.
	collector *collector
	// fetching says that a goroutine fetches its news.
	fetching bool
	lost     int
	watches  map[*watch]struct{}
	tasks    map[types.ManagedObjectReference]*watchedTask
}

// collector is a property collector in vCenter, and what it has.
type collector struct {
	ref     types.ManagedObjectReference
	version string
	// more says that the last answer goes on.
	more    bool
	filters map[types.ManagedObjectReference]*watch
	// making is how many filters are being made; early has what came for them before their
	// references did.
	making int
	early  map[types.ManagedObjectReference][]news
	// stale are filters that nobody needs any more.
	stale []types.ManagedObjectReference
	// view lists the tasks, taskFilter selects its tasks; nil before the first task.
	view, taskFilter *types.ManagedObjectReference
	// held is what was said of tasks in the first parts of an answer that goes on: who waits for a task must not
	// know of its end before those who listen know what it did.
	held []types.PropertyFilterUpdate
}

// news is what one answer says of one filter; more says that the next answer goes on with it.
type news struct {
	types.PropertyFilterUpdate
	more bool
}

// watchedTask is a task that somebody waits for, or did a moment ago.
type watchedTask struct {
	// joined is the collector whose view it is in; nil if it is to be added. asked is the one that was asked to take it:
	// if the answer got lost its view may have it, and will not tell again what it has told.
	joined, asked *collector
	// known is what was heard of it.
	known map[string]types.PropertyChange
	// waiting may be empty: the task goes from the view with the next that comes.
	waiting map[*watch]struct{}
}

func newHub(c *Client) *hub {
	return &hub{
		client: c, turn: make(chan struct{}, 1),
		watches: map[*watch]struct{}{}, tasks: map[types.ManagedObjectReference]*watchedTask{},
	}
}

// watch begins a wait for what its specs select, each of which selects something.
func (h *hub) watch(ctx context.Context, w *watch) error {
	for attempt := 1; ; attempt++ {
		var c *collector
		// The turn is for what concerns all; filters are made side by side.
		err := h.change(ctx, func(current *collector) error { c = current; return nil })
		if err != nil {
			return err
		}
		err = h.filters(ctx, c, w)
		if isLost(err) && attempt < maxLost {
			h.drop(ctx, c, err)
			continue
		}
		if err != nil {
			return err
		}
		if h.enter(c, w) {
			h.fetch(ctx)
			return nil
		}
	}
}

// enter adds a wait, unless its collector was lost meanwhile.
func (h *hub) enter(c *collector, w *watch) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.collector == c {
		h.watches[w] = struct{}{}
	}
	return h.collector == c
}

// task begins to wait for a task.
func (h *hub) task(ctx context.Context, ref types.ManagedObjectReference) (*watch, error) {
	w := newWatch(nil, nil)
	h.mu.Lock()
	t := h.tasks[ref]
	if t == nil {
		t = &watchedTask{known: map[string]types.PropertyChange{}, waiting: map[*watch]struct{}{}}
		h.tasks[ref] = t
	}
	t.waiting[w] = struct{}{}
	if len(t.known) > 0 {
		w.tell([]types.ObjectUpdate{{Kind: types.ObjectUpdateKindEnter, Obj: ref, ChangeSet: slices.Collect(maps.Values(t.known))}}, nil)
	}
	h.mu.Unlock()
	return w, h.change(ctx, func(c *collector) error {
		if !h.joined(ref, c) {
			h.rest(ctx)
		}
		return h.join(ctx, c)
	})
}

// joined reports whether a task is in the view of a collector, or over.
func (h *hub) joined(ref types.ManagedObjectReference, c *collector) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.tasks[ref]
	return t == nil || t.joined == c
}

// forget ends a wait.
func (h *hub) forget(w *watch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watches, w)
	for ref, t := range h.tasks {
		delete(t.waiting, w)
		if len(t.waiting) == 0 && t.joined == nil && t.asked == nil {
			delete(h.tasks, ref)
		}
	}
	if c := h.collector; c != nil {
		for ref, owner := range c.filters {
			if owner == w {
				delete(c.filters, ref)
				c.stale = append(c.stale, ref)
			}
		}
	}
}

// taskCount counts the tasks that somebody waits for.
func (h *hub) taskCount() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.waitedFor()
}

// waitedFor is taskCount for who has the lock.
func (h *hub) waitedFor() int {
	n := 0
	for _, t := range h.tasks {
		if len(t.waiting) > 0 {
			n++
		}
	}
	return n
}

// rest waits a moment for company if there are many who come and go.
func (h *hub) rest(ctx context.Context) {
	if h.taskCount() < crowd {
		return
	}
	select {
	case <-h.client.session.pool.opts.Clock.After(gather):
	case <-ctx.Done():
	}
}

func (h *hub) now() time.Time { return h.client.session.pool.opts.Clock.Now() }

// change changes the collector, which is made if there is none, and makes sure that its news
// are fetched. It is tried again on a new one if the collector turns out to be lost.
func (h *hub) change(ctx context.Context, do func(*collector) error) error {
	select {
	case h.turn <- struct{}{}:
	case <-ctx.Done():
		return Convert(ctx.Err(), "wait for the property collector")
	}
	defer func() { <-h.turn }()
	for attempt := 1; ; attempt++ {
		c, err := h.ensure(ctx)
		if err == nil {
			err = do(c)
		}
		switch {
		case err == nil:
			h.fetch(ctx)
			return nil
		case c != nil && isLost(err):
			h.drop(ctx, c, err)
		}
		if !isLost(err) || attempt == maxLost {
			return err
		}
	}
}

// ensure returns the collector, and makes one with all that is waited for if it is lost. The
// caller has the turn.
func (h *hub) ensure(ctx context.Context) (*collector, error) {
	h.mu.Lock()
	c, watches := h.collector, slices.Collect(maps.Keys(h.watches))
	h.mu.Unlock()
	if c != nil {
		return c, nil
	}
	vim := h.client.Vim()
	res, err := methods.CreatePropertyCollector(ctx, vim, &types.CreatePropertyCollector{This: vim.ServiceContent.PropertyCollector})
	if err != nil {
		return nil, Convert(err, "create a property collector")
	}
	c = &collector{ref: res.Returnval, filters: map[types.ManagedObjectReference]*watch{}, early: map[types.ManagedObjectReference][]news{}}
	for _, w := range watches {
		if err = h.filters(ctx, c, w); err != nil && IsManagedObjectNotFound(err) && !isLost(err) {
			w.tell(nil, err) // what it names is gone; the others are not its victims
			err = nil
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		err = h.join(ctx, c)
	}
	if err != nil {
		h.destroy(ctx, c, err)
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.collector = c
	return c, nil
}

// filters makes the filters of a wait.
func (h *hub) filters(ctx context.Context, c *collector, w *watch) error {
	var all []types.ManagedObjectReference
	w.restart()
	for _, spec := range w.specs {
		err := h.make(ctx, c, spec, func(ref types.ManagedObjectReference, early []news) {
			all = append(all, ref)
			c.filters[ref] = w
			w.begin(ref)
			for _, p := range early {
				w.hear(p)
			}
		})
		if err != nil {
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, ref := range all {
				delete(c.filters, ref)
			}
			c.stale = append(c.stale, all...)
			return Convert(err, "create a property filter")
		}
	}
	w.begun()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !c.more {
		w.end(h.now())
	}
	return nil
}

// join brings the view of tasks up to date, in one call for all that came meanwhile. The
// caller has the turn.
func (h *hub) join(ctx context.Context, c *collector) error {
	add, remove := h.due(c)
	if len(add) == 0 {
		return nil // what nobody waits for any more goes with the next that comes
	}
	if err := h.list(ctx, c); err != nil {
		return err
	}
	h.mu.Lock()
	for _, ref := range add {
		if t := h.tasks[ref]; t != nil {
			t.asked = c
		}
	}
	h.mu.Unlock()
	res, err := methods.ModifyListView(ctx, h.client.Vim(), &types.ModifyListView{This: *c.view, Add: add, Remove: remove})
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, ref := range remove {
		switch t := h.tasks[ref]; {
		case t == nil:
		case err == nil && len(t.waiting) == 0:
			delete(h.tasks, ref)
		default:
			t.joined = nil // whoever came for it now adds it again, after this
		}
	}
	if err != nil {
		return Convert(err, "add %d tasks to a view", len(add))
	}
	for _, ref := range add {
		if t := h.tasks[ref]; t != nil {
			t.joined = c
		}
	}
	for _, ref := range res.Returnval {
		h.gone(ref, &taskFault{types.LocalizedMethodFault{Fault: &types.ManagedObjectNotFound{Obj: ref}}})
	}
	return nil
}

// due returns the tasks that are to go into the view and those that are to leave it, and forgets those that nobody
// waits for and that no view of this collector can have.
func (h *hub) due(c *collector) (add, remove []types.ManagedObjectReference) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ref, t := range h.tasks {
		switch {
		case len(t.waiting) > 0 && t.joined != c:
			add = append(add, ref)
		case len(t.waiting) == 0 && t.asked == c:
			remove = append(remove, ref)
		case len(t.waiting) == 0:
			delete(h.tasks, ref)
		}
	}
	return add, remove
}

// list makes the view of tasks and its filter.
func (h *hub) list(ctx context.Context, c *collector) error {
	vim := h.client.Vim()
	if c.view == nil {
		if vim.ServiceContent.ViewManager == nil {
			return errdefs.New(errdefs.Unimplemented, "this vCenter has no views")
		}
		res, err := methods.CreateListView(ctx, vim, &types.CreateListView{This: *vim.ServiceContent.ViewManager})
		if err != nil {
			return Convert(err, "create a view of tasks")
		}
		h.mu.Lock()
		c.view = &res.Returnval
		h.mu.Unlock()
	}
	if c.taskFilter != nil {
		return nil
	}
	spec := types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{Obj: *c.view, Skip: ptr.To(true), SelectSet: []types.BaseSelectionSpec{
			&types.TraversalSpec{Type: "ListView", Path: "view"},
		}}},
		// Not info: its progress would wake us all the time.
		PropSet: []types.PropertySpec{{Type: "Task", PathSet: []string{
			"info.descriptionId", "info.entity", "info.entityName", "info.state", "info.error", "info.result",
		}}},
	}
	err := h.make(ctx, c, spec, func(ref types.ManagedObjectReference, early []news) {
		c.taskFilter = &ref
		for _, p := range early {
			h.spreadTasks(p.PropertyFilterUpdate)
		}
	})
	return Convert(err, "create a filter of tasks")
}

// make makes a filter; made is called with its reference and what came for it before that, under the lock.
func (h *hub) make(ctx context.Context, c *collector, spec types.PropertyFilterSpec, made func(ref types.ManagedObjectReference, early []news)) error {
	h.mu.Lock()
	c.making++
	h.mu.Unlock()
	res, err := methods.CreateFilter(ctx, h.client.Vim(), &types.CreateFilter{This: c.ref, Spec: spec})
	h.mu.Lock()
	defer h.mu.Unlock()
	c.making--
	if err == nil {
		made(res.Returnval, c.early[res.Returnval])
	}
	if c.making == 0 {
		clear(c.early)
	}
	return err
}

// gone tells those who wait for a task that vCenter does not know it.
func (h *hub) gone(ref types.ManagedObjectReference, err error) {
	if t := h.tasks[ref]; t != nil {
		for w := range t.waiting {
			w.tell(nil, err)
		}
		delete(h.tasks, ref)
	}
}

// drop gives a collector up; the next change makes another one.
func (h *hub) drop(ctx context.Context, c *collector, why error) {
	h.mu.Lock()
	if h.collector == c {
		h.collector = nil
	}
	h.mu.Unlock()
	h.destroy(ctx, c, why)
}

// destroy removes a collector and the view, unless they are gone with their session.
func (h *hub) destroy(ctx context.Context, c *collector, why error) {
	if isLost(why) || h.client.session.isEnded() {
		return
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	h.mu.Lock()
	view := c.view
	h.mu.Unlock()
	_, err := methods.DestroyPropertyCollector(limited, h.client.Vim(), &types.DestroyPropertyCollector{This: c.ref})
	if err == nil && view != nil {
		_, err = methods.DestroyView(limited, h.client.Vim(), &types.DestroyView{This: *view})
	}
	if err != nil {
		klog.FromContext(ctx).V(1).Info("Could not remove a property collector", "collector", c.ref.Value, "reason", err.Error())
	}
}

// isLost reports that a collector, filter or view is gone.
func isLost(err error) bool {
	gone, ok := faultOf(err).(*types.ManagedObjectNotFound)
	return ok && slices.Contains([]string{"PropertyCollector", "PropertyFilter", "ListView"}, gone.Obj.Type)
}

// isGone reports that ref itself is gone.
func isGone(err error, ref types.ManagedObjectReference) bool {
	gone, ok := faultOf(err).(*types.ManagedObjectNotFound)
	return ok && gone.Obj.Value == ref.Value
}
