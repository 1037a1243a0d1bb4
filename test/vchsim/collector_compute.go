// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/simulator/vpx"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// said is what a client was told of an object.
type said struct {
	values  map[string]types.AnyType
	missing map[string]types.LocalizedMethodFault
}

// look is an object that is to be looked at, and what was seen.
type look struct {
	obj    ref
	leaves bool // it is known not to be there
	later  bool // it is being made
	seen   *types.ObjectContent
}

// compute looks at no more objects than it has to, and reports at most limit of them. more
// is whether others wait to be looked at. The caller holds turn.
func (c *collector) compute(ctx *simulator.Context, limit int) (updates []types.PropertyFilterUpdate, more bool) {
	e := c.engine
	e.mu.Lock()
	filters := slices.Clone(c.filters)
	e.mu.Unlock()
	for _, f := range filters {
		f.readLists(ctx)
		u := types.PropertyFilterUpdate{Filter: f.self}
		for limit > len(u.ObjectSet) {
			looks := f.take(limit - len(u.ObjectSet))
			if len(looks) == 0 {
				break
			}
			f.read(ctx, looks)
			for _, l := range looks {
				if o, ok := f.report(ctx, l); ok {
					u.ObjectSet = append(u.ObjectSet, o)
				}
			}
		}
		e.mu.Lock()
		for _, r := range f.missing {
			u.MissingSet = append(u.MissingSet, types.MissingObject{
				Obj: r, Fault: types.LocalizedMethodFault{Fault: &types.ManagedObjectNotFound{Obj: r}},
			})
		}
		f.missing = nil
		more = more || len(f.queue) > 0
		e.mu.Unlock()
		if limit -= len(u.ObjectSet); len(u.ObjectSet)+len(u.MissingSet) > 0 {
			updates = append(updates, u)
		}
	}
	return updates, more
}

// take takes objects from the queue.
func (f *collectorFilter) take(limit int) []look {
	f.engine.mu.Lock()
	defer f.engine.mu.Unlock()
	n := min(limit, maxUpdates, len(f.queue))
	looks := make([]look, 0, n)
	for _, r := range f.queue[:n] {
		m := f.members[r]
		if m == nil {
			m = new(member) // it has left since
		}
		m.queued = false
		looks = append(looks, look{obj: r, leaves: m.gone || m.refs == 0})
	}
	if f.queue = f.queue[n:]; len(f.queue) == 0 {
		f.queue = nil
	}
	return looks
}

// read lets vcsim read the objects. Those that are being made come back when they are.
func (f *collectorFilter) read(ctx *simulator.Context, looks []look) {
	spec := types.PropertyFilterSpec{PropSet: f.props, ReportMissingObjectsInResults: types.NewBool(true)}
	for i, l := range looks {
		if l.leaves {
			continue
		}
		if looks[i].later = f.engine.sim.calls.making(l.obj); !looks[i].later {
			spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: l.obj})
		}
	}
	seen := f.engine.retrieve(ctx, spec)
	for i, l := range looks {
		looks[i].seen = seen[l.obj]
	}
}

// retrieve reads objects; those that are not there, or of no type in the spec, are left out.
func (e *collectors) retrieve(ctx *simulator.Context, spec types.PropertyFilterSpec) map[ref]*types.ObjectContent {
	pc, ok := e.sim.registry.Get(vpx.ServiceContent.PropertyCollector).(*simulator.PropertyCollector)
	if !ok || len(spec.ObjectSet) == 0 {
		return nil
	}
	body, ok := pc.RetrievePropertiesEx(ctx, &types.RetrievePropertiesEx{SpecSet: []types.PropertyFilterSpec{spec}}).(*methods.RetrievePropertiesExBody)
	if !ok || body.Res == nil || body.Res.Returnval == nil {
		return nil
	}
	seen := map[ref]*types.ObjectContent{}
	for i, o := range body.Res.Returnval.Objects {
		seen[o.Obj] = &body.Res.Returnval.Objects[i]
	}
	return seen
}

// report says what is new of an object, and notes that it was said.
func (f *collectorFilter) report(ctx *simulator.Context, l look) (types.ObjectUpdate, bool) {
	if l.later {
		return types.ObjectUpdate{}, false
	}
	m := f.leave(l)
	if m == nil {
		return types.ObjectUpdate{}, false
	}
	was := m.said
	if l.seen == nil {
		m.said = nil
		return types.ObjectUpdate{Obj: l.obj, Kind: types.ObjectUpdateKindLeave}, was != nil
	}
	u := types.ObjectUpdate{Obj: l.obj, Kind: types.ObjectUpdateKindModify}
	if was == nil {
		was, u.Kind = new(said), types.ObjectUpdateKindEnter
	}
	m.said = new(said)
	m.said.hear(l.seen)
	for _, p := range l.seen.PropSet {
		u.ChangeSet = append(u.ChangeSet, f.change(p, was, u.Kind)...)
	}
	for _, name := range slices.Sorted(maps.Keys(was.values)) {
		if !m.said.knows(name) {
			u.ChangeSet = append(u.ChangeSet, f.engine.vanished(ctx, l.obj, name))
		}
	}
	for _, p := range l.seen.MissingSet {
		if !reflect.DeepEqual(was.missing[p.Path], p.Fault) {
			u.MissingSet = append(u.MissingSet, p)
		}
	}
	return u, u.Kind == types.ObjectUpdateKindEnter || len(u.ChangeSet)+len(u.MissingSet) > 0
}

// leave returns what is known of an object, and forgets it if it was to leave and has.
func (f *collectorFilter) leave(l look) *member {
	f.engine.mu.Lock()
	defer f.engine.mu.Unlock()
	m := f.members[l.obj]
	if m != nil && l.leaves && m.refs == 0 {
		delete(f.members, l.obj)
		f.unwatchUnused(l.obj)
	}
	return m
}

func (s *said) hear(o *types.ObjectContent) {
	if len(o.PropSet) > 0 {
		s.values = make(map[string]types.AnyType, len(o.PropSet))
	}
	for _, p := range o.PropSet {
		s.values[p.Name] = p.Val
	}
	for _, p := range o.MissingSet {
		if s.missing == nil {
			s.missing = map[string]types.LocalizedMethodFault{}
		}
		s.missing[p.Path] = p.Fault
	}
}

func (s *said) knows(name string) bool {
	_, value := s.values[name]
	_, missing := s.missing[name]
	return value || missing
}

// change says how a value differs from what was said.
func (f *collectorFilter) change(p types.DynamicProperty, was *said, kind types.ObjectUpdateKind) []types.PropertyChange {
	old, known := was.values[p.Name]
	switch {
	case known && reflect.DeepEqual(old, p.Val):
		return nil
	case known && f.partial:
		return nested(p.Name, old, p.Val)
	}
	op := types.PropertyChangeOpAssign
	if !known && kind == types.ObjectUpdateKindModify && strings.HasSuffix(p.Name, "]") {
		op = types.PropertyChangeOpAdd
	}
	return []types.PropertyChange{{Name: p.Name, Op: op, Val: p.Val}}
}

// vanished says that a property has no value any more: an element of a list was removed,
// something optional is assigned nothing, and what is in something that has no value
// either was removed indirectly.
func (e *collectors) vanished(ctx *simulator.Context, r ref, name string) types.PropertyChange {
	c := types.PropertyChange{Name: name, Op: types.PropertyChangeOpAssign}
	if strings.HasSuffix(name, "]") {
		c.Op = types.PropertyChangeOpRemove
	}
	if in := enclosing(name); in != "" {
		seen := e.retrieve(ctx, types.PropertyFilterSpec{
			PropSet:                       []types.PropertySpec{{Type: r.Type, PathSet: []string{in}}},
			ObjectSet:                     []types.ObjectSpec{{Obj: r}},
			ReportMissingObjectsInResults: types.NewBool(true),
		})[r]
		if seen == nil || len(seen.PropSet) == 0 {
			c.Op = types.PropertyChangeOpIndirectRemove
		}
	}
	return c
}

// enclosing returns the path of what a path is in: a.b of a.b.c, a.b["k"] of a.b["k"].c,
// a.b of a.b["k"].
func enclosing(name string) string {
	open, end := strings.Index(name, "["), strings.LastIndex(name, "]")
	if end >= 0 && end == len(name)-1 {
		return name[:open]
	}
	return name[:max(0, end+1, strings.LastIndex(name, "."))]
}
