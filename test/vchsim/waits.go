// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// maxWait limits how long WaitForUpdatesEx may take, in seconds, which vCenter
// reserves the right to. It ends waits whose client has gone.
const maxWait = 30

// waits are the property collectors that clients wait with.
type waits struct {
	mu         sync.Mutex
	collectors map[*simulator.PropertyCollector]*narrowed
}

// narrowed stands between the inventory and a property collector. vcsim lets a
// collector compute all its filters anew for each change of any object; with
// many clients waiting at a time that is nearly all that it does. As long as
// all filters name their objects, changes of other objects are of no interest.
type narrowed struct {
	*simulator.PropertyCollector

	mu      sync.Mutex
	all     bool
	objects map[ref]struct{}
}

func (n *narrowed) wants(r ref) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.objects[r]
	return ok || n.all
}

// PutObject passes on that an object entered the inventory.
func (n *narrowed) PutObject(ctx *simulator.Context, o mo.Reference) {
	if n.wants(o.Reference()) {
		n.PropertyCollector.PutObject(ctx, o)
	}
}

// UpdateObject passes on that an object changed.
func (n *narrowed) UpdateObject(ctx *simulator.Context, o mo.Reference, changes []types.PropertyChange) {
	if n.wants(o.Reference()) {
		n.PropertyCollector.UpdateObject(ctx, o, changes)
	}
}

// RemoveObject passes on that an object leaves the inventory.
func (n *narrowed) RemoveObject(ctx *simulator.Context, r ref) {
	if n.wants(r) {
		n.PropertyCollector.RemoveObject(ctx, r)
	}
}

// narrow notes which objects the collector's filters are about.
func (n *narrowed) narrow(session *simulator.Session) {
	all, objects := false, map[ref]struct{}{}
	for _, r := range n.Filter {
		filter, ok := session.Get(r).(*simulator.PropertyFilter)
		if !ok {
			continue
		}
		for _, o := range filter.Spec.ObjectSet {
			objects[o.Obj] = struct{}{}
			all = all || len(o.SelectSet) > 0
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all, n.objects = all, objects
}

// seen is told of each call to a property collector before it is executed.
func (w *waits) seen(ctx *simulator.Context, method *simulator.Method) {
	if ctx.Session == nil || method.This.Type != "PropertyCollector" {
		return
	}
	switch method.Name {
	case "WaitForUpdatesEx", "CreateFilter", "DestroyPropertyCollector":
	default:
		return
	}
	pc, ok := ctx.Session.Get(method.This).(*simulator.PropertyCollector)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.collectors[pc]
	switch req := method.Body.(type) {
	case *types.CreateFilter:
		if n != nil { // a wait may be under way
			n.mu.Lock()
			n.all = true
			n.mu.Unlock()
		}
	case *types.DestroyPropertyCollector:
		delete(w.collectors, pc)
	case *types.WaitForUpdatesEx:
		if req.Options == nil {
			req.Options = new(types.WaitOptions)
		}
		if req.Options.MaxWaitSeconds == nil || *req.Options.MaxWaitSeconds > maxWait {
			req.Options.MaxWaitSeconds = types.NewInt32(maxWait)
		}
		if n == nil {
			n = &narrowed{PropertyCollector: pc}
			w.collectors[pc] = n
		}
		n.narrow(ctx.Session)
		if req.Version != "" { // the first wait registers the collector itself
			ctx.Map.AddHandler(n)
		}
	}
}

// cancel ends all waits.
func (w *waits) cancel() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for pc := range w.collectors {
		pc.CancelWaitForUpdates(&types.CancelWaitForUpdates{This: pc.Self})
	}
}
