// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// News is what a Watch tells.
type News struct {
	// Reset says that all that was told before is void, since the session or its collector was
	// lost: the present state follows, and nothing else is there.
	Reset bool
	// Updates are what changed, or a part of the present state.
	Updates []types.ObjectUpdate
	// Synced says that the present state has been told whole, up to At.
	Synced bool
	// At is when vCenter said so.
	At time.Time
}

// watch is one wait, for what specs select or for a task.
type watch struct {
	specs []types.PropertyFilterSpec
	// listen, if set, hears what comes at once, one after the other, before any task of the same
	// answer is reported. It is called under the hub's lock.
	listen func(News)

	mu sync.Mutex
	// silent are filters that have said nothing yet; complete is false while more are made. Nothing is
	// handed over before all have: the first updates are the whole present state.
	silent   map[types.ManagedObjectReference]struct{}
	complete bool
	// heard is what came; more that an answer goes on.
	heard []types.ObjectUpdate
	more  bool
	// err ends the wait.
	err error
	// wake holds one token while there is something new.
	wake chan struct{}
}

func newWatch(specs []types.PropertyFilterSpec, listen func(News)) *watch {
	return &watch{
		specs: specs, listen: listen,
		silent: map[types.ManagedObjectReference]struct{}{}, complete: len(specs) == 0, wake: make(chan struct{}, 1),
	}
}

// restart forgets the filters: others are made, in another collector perhaps.
func (w *watch) restart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.silent)
	w.complete, w.more = false, false
	if w.listen != nil {
		w.listen(News{Reset: true})
	}
}

// begin notes a new filter, begun that there are no more of them.
func (w *watch) begin(filter types.ManagedObjectReference) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent[filter] = struct{}{}
}

func (w *watch) begun() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.complete = true
	w.ring()
}

// hear takes what an answer says of one of the filters.
func (w *watch) hear(p news) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.silent, p.Filter)
	w.more = p.more
	if err := unreadable(p.PropertyFilterUpdate); err != nil && w.err == nil {
		w.err = err
	}
	if w.listen != nil {
		w.listen(News{Updates: p.ObjectSet})
	} else {
		w.heard = append(w.heard, p.ObjectSet...)
	}
	w.ring()
}

// end notes that an answer is whole: nothing else has changed until now.
func (w *watch) end(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.more = false
	if w.listen != nil && w.complete && len(w.silent) == 0 && w.err == nil {
		w.listen(News{Synced: true, At: now})
	}
	w.ring()
}

// tell hands over updates of a task, or the error that ends the wait.
func (w *watch) tell(updates []types.ObjectUpdate, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = append(w.heard, updates...)
	if w.err == nil {
		w.err = err
	}
	w.ring()
}

func (w *watch) ring() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// next waits for updates. What was heard comes before the error that ended the wait, unless
// it is but a part.
func (w *watch) next(ctx context.Context) ([]types.ObjectUpdate, error) {
	for {
		w.mu.Lock()
		heard, err := w.heard, w.err
		whole := w.complete && len(w.silent) == 0 && !w.more
		if len(heard) > 0 && whole {
			w.heard = nil
		}
		w.mu.Unlock()
		switch {
		case len(heard) > 0 && whole:
			return heard, nil
		case err != nil:
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, Convert(ctx.Err(), "wait for changes")
		case <-w.wake:
		}
	}
}

// unreadable is why a filter cannot say what it was asked: an object is gone, or a
// property may not be read. A property that is not there is no error.
func unreadable(update types.PropertyFilterUpdate) error {
	for _, m := range update.MissingSet {
		return Convert(&taskFault{m.Fault}, "read %s", m.Obj.Value)
	}
	for _, u := range update.ObjectSet {
		for _, m := range u.MissingSet {
			if isFault(m.Fault.Fault, "SecurityError") {
				return Convert(&taskFault{m.Fault}, "read %s of %s", m.Path, u.Obj.Value)
			}
		}
	}
	return nil
}
