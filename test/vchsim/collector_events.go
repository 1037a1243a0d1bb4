// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"slices"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	// maxRemoved limits how many removals are remembered until their tasks end.
	maxRemoved = 1000
	// listing is how long vcsim may take to list what it has put.
	listing = 50 * time.Millisecond
)

// collectorEvents hears of every object that vcsim adds, changes and removes.
type collectorEvents struct{ engine *collectors }

// Reference names the handler; it is in no registry.
func (*collectorEvents) Reference() ref { return ref{Type: "VchSim", Value: "collector events"} }

// PutObject is called when an object enters the inventory, or a folder of it.
func (h *collectorEvents) PutObject(_ *simulator.Context, o mo.Reference) {
	e := h.engine
	r, is, ok := placeOf(o)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, f := range e.watch[r] {
		f.back(r)
	}
	e.touch(r)
	if !ok {
		return
	}
	was, known := e.places[r]
	e.move(r, is)
	e.touch(append(was.all(), is.all()...)...)
	e.touchLater(is.all()...)
	if known && was.parent != is.parent { // vcsim's views do not hear of it
		for view := range e.views {
			e.touch(view)
		}
	}
}

// UpdateObject is called after each change of an object. Which of its properties
// changed is no matter: vcsim changes more than it says.
func (h *collectorEvents) UpdateObject(_ *simulator.Context, o mo.Reference, changes []types.PropertyChange) {
	e := h.engine
	r, is, ok := placeOf(o)
	task, isTask := o.(*mo.Task)
	isTask = isTask && hasEnded(task) && task.Info.Entity != nil
	// vcsim tells of a new VM's name last, after it was put, silently, where it is listed.
	named := slices.ContainsFunc(changes, func(c types.PropertyChange) bool { return c.Name == "name" })
	e.mu.Lock()
	defer e.mu.Unlock()
	e.touch(r)
	if was := e.places[r]; ok && (named || !was.equal(is)) {
		e.move(r, is)
		e.touch(append(was.all(), is.all()...)...)
	}
	if isTask {
		entity := *task.Info.Entity
		e.touch(entity)
		e.touch(e.removed[entity]...)
		delete(e.removed, entity)
	}
}

// RemoveObject is called before an object leaves the inventory, and before
// those that list it forget it.
func (h *collectorEvents) RemoveObject(_ *simulator.Context, r ref) {
	e := h.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gone(r)
	was, ok := e.places[r]
	if !ok {
		return
	}
	e.move(r, place{})
	delete(e.places, r)
	e.touch(was.all()...)
	if len(e.removed) >= maxRemoved {
		for _, containers := range e.removed {
			e.touch(containers...)
		}
		clear(e.removed)
	}
	e.removed[r] = was.all()
}

// touch has objects looked at again by the filters that watch them. The caller holds mu.
func (e *collectors) touch(refs ...ref) {
	for _, r := range refs {
		for _, f := range e.watch[r] {
			f.touch(r)
		}
	}
}

// touchLater touches objects a little later as well: vcsim lists some of what it has put
// only afterwards, and says nothing. The caller holds mu.
func (e *collectors) touchLater(refs ...ref) {
	idle := len(e.late) == 0
	for _, r := range refs {
		if len(e.watch[r]) > 0 {
			e.late[r] = struct{}{}
		}
	}
	if idle && len(e.late) > 0 {
		time.AfterFunc(listing, func() {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.touch(sorted(e.late)...)
			clear(e.late)
		})
	}
}

// gone tells the filters that an object is no more. The caller holds mu.
func (e *collectors) gone(r ref) {
	for _, f := range slices.Clone(e.watch[r]) {
		f.gone(r)
	}
}

// completed is called when a VM that was half made is so no longer.
func (e *collectors) completed(r ref) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.touch(r)
}

// place is where an entity is.
type place struct {
	parent, pool, host ref
	// others are objects that list it besides.
	others []ref
}

// branch is a property of an entity that lists others.
type branch struct {
	of   ref
	path string
}

func placeOf(o mo.Reference) (ref, place, bool) {
	r := o.Reference()
	entity, ok := o.(mo.Entity)
	if !ok {
		return r, place{}, false
	}
	var p place
	if parent := entity.Entity().Parent; parent != nil {
		p.parent = *parent
	}
	var vm *mo.VirtualMachine
	switch x := o.(type) {
	case *simulator.VirtualMachine:
		vm = &x.VirtualMachine
	case *mo.VirtualMachine:
		vm = x
	default:
		return r, p, true
	}
	if vm.ResourcePool != nil {
		p.pool = *vm.ResourcePool
	}
	if vm.Runtime.Host != nil {
		p.host = *vm.Runtime.Host
	}
	p.others = slices.Concat(vm.Datastore, vm.Network)
	return r, p, true
}

func (p place) equal(other place) bool {
	return p.parent == other.parent && p.pool == other.pool && p.host == other.host && slices.Equal(p.others, other.others)
}

func (p place) all() []ref {
	return append([]ref{p.parent, p.pool, p.host}, p.others...)
}

// branches returns the lists of which the engine keeps count itself: vcsim changes
// them without a word, and to read them takes time and the lock that creates hold.
func (p place) branches() []branch {
	var all []branch
	for _, b := range []branch{{p.parent, "childEntity"}, {p.pool, "vm"}, {p.host, "vm"}} {
		if b.counted() {
			all = append(all, b)
		}
	}
	return all
}

func (b branch) counted() bool {
	switch b.of.Type {
	case "Folder", "StoragePod":
		return b.path == "childEntity"
	case "ResourcePool", "VirtualApp", "HostSystem":
		return b.path == "vm"
	}
	return false
}

// move notes where an entity is, and has it enter and leave filters. The caller holds mu.
func (e *collectors) move(r ref, is place) {
	was := e.places[r].branches()
	e.places[r] = is
	now := is.branches()
	for _, b := range was {
		if !slices.Contains(now, b) {
			delete(e.children[b], r)
			if len(e.children[b]) == 0 {
				delete(e.children, b)
			}
			for _, f := range slices.Clone(e.watch[b.of]) {
				f.lost(b, r)
			}
		}
	}
	for _, b := range now {
		if !slices.Contains(was, b) {
			if e.children[b] == nil {
				e.children[b] = map[ref]struct{}{}
			}
			e.children[b][r] = struct{}{}
			for _, f := range slices.Clone(e.watch[b.of]) {
				f.found(b, r)
			}
		}
	}
}

// under reports whether an entity is in a container, directly if not deep. The caller holds mu.
func (e *collectors) under(r, container ref, deep bool) bool {
	p := e.places[r]
	for _, up := range []ref{p.parent, p.pool, p.host} {
		if up == container || (deep && up != ref{} && e.under(up, container, true)) {
			return true
		}
	}
	return false
}
