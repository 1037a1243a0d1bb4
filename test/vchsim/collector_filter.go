// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"cmp"
	"slices"

	"github.com/vmware/govmomi/vim25/types"
)

// collectorFilter is one PropertyFilter: which objects it selects now, what was last
// said of each, and which are to be looked at. All is guarded by the engine's mu.
type collectorFilter struct {
	engine    *collectors
	collector *collector
	self      ref
	props     []types.PropertySpec
	partial   bool
	closed    bool

	roots   []root
	members map[ref]*member
	nodes   map[ref][]*node
	// queue holds the members to be looked at, in the order in which they changed;
	// stale the nodes whose lists are to be read.
	queue   []ref
	stale   []*node
	missing []ref // named objects that are gone and not reported yet
}

// root is one ObjectSpec.
type root struct {
	obj  ref
	skip bool
	next *selection
}

// selection is a SelectSet.
type selection struct{ steps []*step }

// step is a TraversalSpec.
type step struct {
	kind, path string
	skip       bool
	next       *selection // nil if it ends here
}

// member is an object that the filter selects.
type member struct {
	refs   int // how many ways lead to it
	queued bool
	gone   bool
	// said is what was last reported of it, nil if nothing was.
	said *said
}

// node is an object that leads to others.
type node struct {
	obj   ref
	sel   *selection
	refs  int
	stale bool
	gone  bool
	// lists are the objects of each step, as last read; nil for those that the engine counts.
	lists [][]ref
}

func newFilter(e *collectors, props []types.PropertySpec, partial bool) *collectorFilter {
	return &collectorFilter{
		engine: e, props: props, partial: partial,
		members: map[ref]*member{}, nodes: map[ref][]*node{},
	}
}

// compile resolves the names of TraversalSpecs, which hold in all of the ObjectSet.
func compile(set []types.ObjectSpec) ([]root, types.BaseMethodFault) {
	named := map[string]*step{}
	steps := map[*types.TraversalSpec]*step{}
	var name func([]types.BaseSelectionSpec)
	name = func(set []types.BaseSelectionSpec) {
		for _, s := range set {
			t, ok := s.(*types.TraversalSpec)
			if !ok {
				continue
			}
			steps[t] = &step{kind: t.Type, path: t.Path, skip: t.Skip != nil && *t.Skip}
			if t.Name != "" {
				named[t.Name] = steps[t]
			}
			name(t.SelectSet)
		}
	}
	for _, o := range set {
		name(o.SelectSet)
	}
	var undefined types.BaseMethodFault
	var link func([]types.BaseSelectionSpec) *selection
	link = func(set []types.BaseSelectionSpec) *selection {
		if len(set) == 0 {
			return nil
		}
		sel := new(selection)
		for _, s := range set {
			if t, ok := s.(*types.TraversalSpec); ok {
				steps[t].next = link(t.SelectSet)
				sel.steps = append(sel.steps, steps[t])
				continue
			}
			next := named[s.GetSelectionSpec().Name]
			if next == nil {
				undefined = &types.InvalidArgument{InvalidProperty: "undefined TraversalSpec name"}
				continue
			}
			sel.steps = append(sel.steps, next)
		}
		return sel
	}
	var roots []root
	for _, o := range set {
		roots = append(roots, root{obj: o.Obj, skip: o.Skip != nil && *o.Skip, next: link(o.SelectSet)})
	}
	return roots, undefined
}

func (f *collectorFilter) start(roots []root, missing []ref) {
	f.roots = roots
	for _, r := range roots {
		if !r.skip || r.next == nil { // as vcsim has it
			f.addMember(r.obj)
		}
		if r.next != nil {
			f.addNode(r.obj, r.next)
		}
	}
	for _, r := range missing {
		f.gone(r)
	}
}

// restart forgets what was said, and looks at everything again.
func (f *collectorFilter) restart() {
	f.missing = nil
	for _, root := range f.roots {
		if f.isGone(root.obj) && !slices.Contains(f.missing, root.obj) {
			f.missing = append(f.missing, root.obj)
		}
	}
	for _, nodes := range f.nodes {
		for _, n := range nodes {
			f.reread(n)
		}
	}
	for _, r := range sorted(f.members) {
		f.members[r].said = nil
		f.enqueue(r, f.members[r])
	}
}

func (f *collectorFilter) close() {
	f.closed = true
	for r := range f.members {
		f.unwatch(r)
	}
	for r, nodes := range f.nodes {
		f.unwatch(r)
		for range nodes {
			f.count(r, -1)
		}
	}
	f.members, f.nodes, f.queue, f.stale, f.missing = nil, nil, nil, nil, nil
}

func (f *collectorFilter) named(r ref) bool {
	return slices.ContainsFunc(f.roots, func(root root) bool { return root.obj == r })
}

func (f *collectorFilter) watch(r ref) {
	if all := f.engine.watch[r]; !slices.Contains(all, f) {
		f.engine.watch[r] = append(all, f)
	}
}

func (f *collectorFilter) unwatch(r ref) {
	rest := slices.DeleteFunc(f.engine.watch[r], func(other *collectorFilter) bool { return other == f })
	if len(rest) == 0 {
		delete(f.engine.watch, r)
		return
	}
	f.engine.watch[r] = rest
}

func (f *collectorFilter) unwatchUnused(r ref) {
	if f.members[r] == nil && len(f.nodes[r]) == 0 {
		f.unwatch(r)
	}
}

// count counts the nodes of views.
func (f *collectorFilter) count(r ref, n int) {
	if r.Type != "ContainerView" {
		return
	}
	if f.engine.views[r] += n; f.engine.views[r] == 0 {
		delete(f.engine.views, r)
	}
}

func (f *collectorFilter) enqueue(r ref, m *member) {
	if !m.queued {
		m.queued = true
		f.queue = append(f.queue, r)
	}
	f.collector.notify()
}

// touch has an object looked at again.
func (f *collectorFilter) touch(r ref) {
	if m := f.members[r]; m != nil {
		f.enqueue(r, m)
	}
	for _, n := range f.nodes[r] {
		f.reread(n)
	}
}

func (f *collectorFilter) reread(n *node) {
	if !n.stale && slices.ContainsFunc(n.sel.steps, func(s *step) bool { return !branch{n.obj, s.path}.counted() }) {
		n.stale = true
		f.stale = append(f.stale, n)
		f.collector.notify()
	}
}

// gone notes that an object is no more. What listed it may say so later, or never.
func (f *collectorFilter) gone(r ref) {
	news := false
	if m := f.members[r]; m != nil && !m.gone {
		m.gone, news = true, true
		f.enqueue(r, m)
	}
	for _, n := range f.nodes[r] {
		news = news || !n.gone
		n.gone = true
		f.reread(n)
	}
	if news && f.named(r) {
		f.missing = append(f.missing, r)
		f.collector.notify()
	}
}

// isGone reports whether gone was told of an object.
func (f *collectorFilter) isGone(r ref) bool {
	if m := f.members[r]; m != nil {
		return m.gone
	}
	return slices.ContainsFunc(f.nodes[r], func(n *node) bool { return n.gone })
}

// back notes that an object is there, again perhaps.
func (f *collectorFilter) back(r ref) {
	if m := f.members[r]; m != nil {
		m.gone = false
	}
	for _, n := range f.nodes[r] {
		n.gone = false
	}
}

// found and lost are told of lists that the engine counts.
func (f *collectorFilter) found(b branch, r ref) {
	for _, n := range slices.Clone(f.nodes[b.of]) {
		for _, s := range n.sel.steps {
			if s.path == b.path && isKind(b.of.Type, s.kind) {
				f.add(s, r)
			}
		}
	}
}

func (f *collectorFilter) lost(b branch, r ref) {
	for _, n := range slices.Clone(f.nodes[b.of]) {
		for _, s := range n.sel.steps {
			if s.path == b.path && isKind(b.of.Type, s.kind) {
				f.remove(s, r)
			}
		}
	}
}

func (f *collectorFilter) add(s *step, r ref) {
	if !s.skip {
		f.addMember(r)
	}
	if s.next != nil {
		f.addNode(r, s.next)
	}
}

func (f *collectorFilter) remove(s *step, r ref) {
	if !s.skip {
		f.removeMember(r)
	}
	if s.next != nil {
		f.removeNode(r, s.next)
	}
}

func (f *collectorFilter) addMember(r ref) {
	m := f.members[r]
	if m == nil {
		m = new(member)
		f.members[r] = m
		f.watch(r)
	}
	if m.refs++; m.refs == 1 {
		f.enqueue(r, m)
	}
}

func (f *collectorFilter) removeMember(r ref) {
	m := f.members[r]
	if m == nil {
		return
	}
	if m.refs--; m.refs == 0 {
		f.enqueue(r, m)
	}
}

func (f *collectorFilter) addNode(r ref, sel *selection) {
	for _, n := range f.nodes[r] {
		if n.sel == sel {
			n.refs++
			return
		}
	}
	n := &node{obj: r, sel: sel, refs: 1, lists: make([][]ref, len(sel.steps))}
	f.nodes[r] = append(f.nodes[r], n)
	f.watch(r)
	f.count(r, 1)
	f.reread(n)
	for _, s := range sel.steps {
		if b := (branch{r, s.path}); b.counted() && isKind(r.Type, s.kind) {
			for _, child := range sorted(f.engine.children[b]) {
				f.add(s, child)
			}
		}
	}
}

func (f *collectorFilter) removeNode(r ref, sel *selection) {
	i := slices.IndexFunc(f.nodes[r], func(n *node) bool { return n.sel == sel })
	if i < 0 {
		return
	}
	n := f.nodes[r][i]
	if n.refs--; n.refs > 0 {
		return
	}
	f.nodes[r] = slices.Delete(f.nodes[r], i, i+1)
	if len(f.nodes[r]) == 0 {
		delete(f.nodes, r)
	}
	f.count(r, -1)
	for i, s := range sel.steps {
		children := n.lists[i]
		if b := (branch{r, s.path}); b.counted() && isKind(r.Type, s.kind) {
			children = sorted(f.engine.children[b])
		}
		for _, child := range children {
			f.remove(s, child)
		}
	}
	f.unwatchUnused(r)
}

// relist applies what was read of a node's list: only what is new and what is no
// longer in it is looked at.
func (f *collectorFilter) relist(n *node, i int, now []ref) {
	was := n.lists[i]
	from := 0
	for from < len(was) && from < len(now) && was[from] == now[from] {
		from++
	}
	end := 0
	for end < len(was)-from && end < len(now)-from && was[len(was)-1-end] == now[len(now)-1-end] {
		end++
	}
	n.lists[i] = now
	in, out := map[ref]struct{}{}, map[ref]struct{}{}
	for _, r := range was[from : len(was)-end] {
		out[r] = struct{}{}
	}
	for _, r := range now[from : len(now)-end] {
		if _, ok := out[r]; ok {
			delete(out, r)
			continue
		}
		in[r] = struct{}{}
	}
	for _, r := range now[from : len(now)-end] {
		if _, ok := in[r]; ok {
			f.add(n.sel.steps[i], r)
		}
	}
	for _, r := range sorted(out) {
		f.remove(n.sel.steps[i], r)
	}
}

// sorted returns the keys in the order of their making, as far as they tell it.
func sorted[V any](set map[ref]V) []ref {
	all := make([]ref, 0, len(set))
	for r := range set {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b ref) int {
		return cmp.Or(cmp.Compare(len(a.Value), len(b.Value)), cmp.Compare(a.Value, b.Value), cmp.Compare(a.Type, b.Type))
	})
	return all
}

// isKind reports whether a type of managed object is, or inherits, another.
func isKind(have, want string) bool {
	switch want {
	case have, "ManagedObject":
		return true
	case "ManagedEntity", "ExtensibleManagedObject":
		return slices.Contains([]string{
			"Folder", "StoragePod", "Datacenter", "ComputeResource", "ClusterComputeResource", "HostSystem", "ResourcePool", "VirtualApp",
			"VirtualMachine", "Datastore", "Network", "OpaqueNetwork", "DistributedVirtualPortgroup", "DistributedVirtualSwitch", "VmwareDistributedVirtualSwitch",
		}, have)
	case "View", "ManagedObjectView":
		return have == "ListView" || have == "ContainerView" || have == "InventoryView"
	case "ComputeResource":
		return have == "ClusterComputeResource"
	case "ResourcePool":
		return have == "VirtualApp"
	case "Folder":
		return have == "StoragePod"
	case "Network":
		return have == "DistributedVirtualPortgroup" || have == "OpaqueNetwork"
	case "DistributedVirtualSwitch":
		return have == "VmwareDistributedVirtualSwitch"
	}
	return false
}
