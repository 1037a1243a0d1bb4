// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"slices"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// collectors are the filters and waits of all PropertyCollectors of all sessions.
// vcsim has its own, which compute every filter anew for every change of any object;
// here only its RetrievePropertiesEx is used, on objects that have changed.
//
// It is a managed object, as overrides is, to which calls are sent, and a handler of
// the inventory's changes. Events come in the goroutine and under the locks of whoever
// changes an object, so all they do is to note which objects are to be looked at, and
// to wake who waits. Objects are read by the goroutine of the call that waits, under
// the object's lock and never under mu: mu is the last lock that anybody takes.
type collectors struct {
	mo.ManagedEntity // gives vcsim's reflection the field Self

	sim *Sim

	mu       sync.Mutex
	sessions map[string]*collectorSession
	// watch holds the filters that want to hear of an object.
	watch map[ref][]*collectorFilter
	// places is where entities are, children the same from above: see members.
	places   map[ref]place
	children map[branch]map[ref]struct{}
	// views counts the nodes of each ContainerView that a filter goes through.
	views map[ref]int
	// removed holds the containers of entities whose removal is under way.
	removed map[ref][]ref
	// late are containers of what was put lately.
	late map[ref]struct{}
}

// collectorSession is what one session waits with.
type collectorSession struct {
	key, user  string
	collectors map[ref]*collector
	ended      chan struct{}
}

func (e *collectors) register(s *Sim) {
	e.sim = s
	e.sessions, e.watch = map[string]*collectorSession{}, map[ref][]*collectorFilter{}
	e.places, e.children = map[ref]place{}, map[branch]map[ref]struct{}{}
	e.views, e.removed, e.late = map[ref]int{}, map[ref][]ref{}, map[ref]struct{}{}
	e.Self = ref{Type: "VchSim", Value: "collectors"}
	s.registry.Put(e)
	s.registry.AddHandler(&collectorEvents{e})
}

// Lock and Unlock do nothing: vcsim would else lock this one object for each call.
func (*collectors) Lock() {}

// Unlock does nothing.
func (*collectors) Unlock() {}

// answers reports whether a call is answered here, and hears of sessions that end.
// What it is not meant for, vcsim refuses.
func (e *collectors) answers(ctx *simulator.Context, method *simulator.Method) bool {
	if ctx.Session == nil {
		return false
	}
	switch method.Name {
	case "Logout":
		e.end(ctx.Session.Key)
	case "TerminateSession":
		req, ok := method.Body.(*types.TerminateSession)
		if !ok {
			return false
		}
		for _, key := range req.SessionId {
			if key == ctx.Session.Key {
				return false // refused
			}
			e.end(key)
		}
	case "CreateFilter", "DestroyPropertyCollector", "WaitForUpdatesEx", "WaitForUpdates", "CheckForUpdates", "CancelWaitForUpdates":
		_, ok := ctx.Session.Get(method.This).(*simulator.PropertyCollector)
		return ok
	case "DestroyView":
		return ctx.Session.Get(method.This) != nil
	}
	return false
}

// end forgets all of a session that has ended or is about to, and ends its waits.
func (e *collectors) end(key string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.sessions[key]
	if s == nil {
		return
	}
	for _, c := range s.collectors {
		e.drop(c)
	}
	close(s.ended)
	delete(e.sessions, key)
}

// sweep ends the sessions that have expired.
func (e *collectors) sweep() {
	e.mu.Lock()
	var all []*collectorSession
	for _, s := range e.sessions {
		all = append(all, s)
	}
	e.mu.Unlock()
	for _, s := range all {
		if !e.active(s) {
			e.end(s.key)
		}
	}
}

// active reports whether the session is still logged in.
func (e *collectors) active(s *collectorSession) bool {
	body, ok := e.sim.registry.SessionManager().SessionIsActive(e.sim.newContext(), &types.SessionIsActive{
		SessionID: s.key, UserName: s.user,
	}).(*methods.SessionIsActiveBody)
	return ok && body.Res != nil && body.Res.Returnval
}

// of returns the state of a PropertyCollector, which begins with the first call. The caller holds mu.
func (e *collectors) of(session *simulator.Session, r ref) *collector {
	s := e.sessions[session.Key]
	if s == nil {
		s = &collectorSession{key: session.Key, user: session.UserName, collectors: map[ref]*collector{}, ended: make(chan struct{})}
		e.sessions[session.Key] = s
	}
	c := s.collectors[r]
	if c == nil {
		c = &collector{engine: e, session: s, wake: make(chan struct{}, 1)}
		s.collectors[r] = c
	}
	return c
}

// drop ends all filters of a collector. The caller holds mu.
func (e *collectors) drop(c *collector) {
	for _, f := range c.filters {
		f.close()
	}
	c.filters, c.last = nil, nil
}

// propertyFilter is what a session's registry holds of a filter.
type propertyFilter struct {
	mo.PropertyFilter

	filter *collectorFilter
}

// Lock does nothing: the engine has its own lock.
func (*propertyFilter) Lock() {}

// Unlock does nothing.
func (*propertyFilter) Unlock() {}

// DestroyPropertyFilter ends the filter. Nothing is reported of it.
func (p *propertyFilter) DestroyPropertyFilter(ctx *simulator.Context, req *types.DestroyPropertyFilter) soap.HasFault {
	e := p.filter.engine
	e.mu.Lock()
	c := p.filter.collector
	c.filters = slices.DeleteFunc(c.filters, func(f *collectorFilter) bool { return f == p.filter })
	p.filter.close()
	e.mu.Unlock()
	ctx.Session.Remove(ctx, req.This)
	return &methods.DestroyPropertyFilterBody{Res: new(types.DestroyPropertyFilterResponse)}
}

// CreateFilter makes a filter. What it selects is answered by the wait that rests, or the next.
// Paths are checked when objects are read: one that does not exist is in their MissingSet.
func (e *collectors) CreateFilter(ctx *simulator.Context, req *types.CreateFilter) soap.HasFault {
	e.sweep()
	return e.create(ctx, req)
}

func (e *collectors) create(ctx *simulator.Context, req *types.CreateFilter) *methods.CreateFilterBody {
	body := new(methods.CreateFilterBody)
	roots, fault := compile(req.Spec.ObjectSet)
	if fault != nil {
		body.Fault_ = simulator.Fault("", fault)
		return body
	}
	var missing []ref
	for _, root := range roots {
		if ctx.Session.Get(root.obj) != nil {
			continue
		}
		if report := req.Spec.ReportMissingObjectsInResults; report == nil || !*report {
			body.Fault_ = simulator.Fault("", &types.ManagedObjectNotFound{Obj: root.obj})
			return body
		}
		missing = append(missing, root.obj)
	}
	f := newFilter(e, req.Spec.PropSet, req.PartialUpdates)
	object := &propertyFilter{filter: f}
	object.Self.Type = "PropertyFilter"
	object.Spec, object.PartialUpdates = req.Spec, req.PartialUpdates
	f.self = ctx.Session.Put(object).Reference()
	e.mu.Lock()
	c := e.of(ctx.Session, req.This)
	f.collector = c
	c.filters = append(c.filters, f)
	f.start(roots, missing)
	c.notify()
	e.mu.Unlock()
	body.Res = &types.CreateFilterResponse{Returnval: f.self}
	return body
}

// DestroyPropertyCollector ends a collector, its filters and its wait.
func (e *collectors) DestroyPropertyCollector(ctx *simulator.Context, req *types.DestroyPropertyCollector) soap.HasFault {
	e.mu.Lock()
	c := e.of(ctx.Session, req.This)
	var filters []ref
	for _, f := range c.filters {
		filters = append(filters, f.self)
	}
	e.drop(c)
	c.cancel()
	delete(c.session.collectors, req.This)
	e.mu.Unlock()
	for _, r := range append(filters, req.This) {
		ctx.Session.Remove(ctx, r)
	}
	return &methods.DestroyPropertyCollectorBody{Res: new(types.DestroyPropertyCollectorResponse)}
}

// DestroyView lets vcsim destroy a view, of which it tells nobody.
func (e *collectors) DestroyView(ctx *simulator.Context, req *types.DestroyView) soap.HasFault {
	view, ok := ctx.Session.Get(req.This).(interface {
		mo.Reference
		DestroyView(ctx *simulator.Context, req *types.DestroyView) soap.HasFault
	})
	if !ok {
		return &methods.DestroyViewBody{Fault_: simulator.Fault("", &types.ManagedObjectNotFound{Obj: req.This})}
	}
	var res soap.HasFault
	ctx.WithLock(view, func() { res = view.DestroyView(ctx, req) })
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gone(req.This)
	return res
}
