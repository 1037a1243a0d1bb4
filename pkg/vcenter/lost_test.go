// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"io"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// lose cuts the connection of the next call of a method, before it is executed or instead of its answer; first is called before.
func (w *world) lose(method string, executed bool, first func()) {
	var once sync.Once
	cut := func(called string) (err error) {
		if called == method {
			once.Do(func() {
				if first != nil {
					first()
				}
				err = &url.Error{Op: "Post", URL: "https://vc/sdk", Err: io.ErrUnexpectedEOF}
			})
		}
		return err
	}
	if executed {
		w.seen.setAfter(cut)
	} else {
		w.seen.set(func(_ context.Context, called string) error { return cut(called) })
	}
}

// heard waits until the end of a task is known.
func (w *world) heard(t *testing.T, ref types.ManagedObjectReference) {
	t.Helper()
	eventually(t, "the end of the task to be told", func() bool {
		w.hub.mu.Lock()
		defer w.hub.mu.Unlock()
		task := w.hub.tasks[ref]
		return task != nil && task.known["info.state"].Val == types.TaskInfoStateSuccess
	})
}

func (w *world) ends(t *testing.T, ref types.ManagedObjectReference) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := w.Task(ctx, ref); err != nil {
		t.Errorf("%s: %v", ref.Value, err)
	}
}

// vCenter tells of a task once. Whoever waits for it again because an answer got lost must know what was told.
func TestATaskIsKnownToWhoWaitsAgainAfterALostAnswer(t *testing.T) {
	for name, executed := range map[string]bool{"the call got lost": false, "its answer got lost": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			vms := w.vms()
			w.ends(t, w.rename(t, vms[0], "first")) // makes view and filter
			ref := w.rename(t, vms[1], "second")
			w.lose("ModifyListView", executed, func() {
				if executed {
					w.heard(t, ref)
				}
			})
			if _, err := w.Task(t.Context(), ref); !errdefs.Is(err, errdefs.Unavailable) {
				t.Fatalf("got %v, want Unavailable", err)
			}
			w.ends(t, ref)
			w.ends(t, w.rename(t, vms[2], "third"))
		})
	}
}

func TestATaskIsKnownToWhoWaitsAgainAfterItsRemovalGotLost(t *testing.T) {
	for name, executed := range map[string]bool{"the call got lost": false, "its answer got lost": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			vms := w.vms()
			first := w.rename(t, vms[0], "first")
			w.ends(t, first)
			second := w.rename(t, vms[1], "second")
			w.lose("ModifyListView", executed, nil) // adds the second, removes the first
			if _, err := w.Task(t.Context(), second); !errdefs.Is(err, errdefs.Unavailable) {
				t.Fatalf("got %v, want Unavailable", err)
			}
			w.ends(t, first)
			w.ends(t, second)
			w.ends(t, w.rename(t, vms[2], "third"))
			w.hub.mu.Lock()
			defer w.hub.mu.Unlock()
			if n := len(w.hub.tasks); n != 1 {
				t.Errorf("%d tasks are remembered, want the last one", n)
			}
		})
	}
}

// The call is repeated, so there are two; the first one would send each change a second time for as long as the session lives.
func TestAFilterWhoseNameGotLostIsRemoved(t *testing.T) {
	w := newWorld(t)
	vms := w.vms()
	w.lose("CreateFilter", true, nil)
	l, _ := w.watching(t, vms[0])
	if n := w.seen.count("CreateFilter"); n != 2 {
		t.Fatalf("%d filters were made, want 2, of which one is lost", n)
	}
	w.ends(t, w.powerOff(t, vms[0])) // tasks and watch go on
	if got := l.state(vms[0]); got != types.VirtualMachinePowerStatePoweredOff {
		t.Errorf("the VM is known as %v", got)
	}
	eventually(t, "the filter to be removed", func() bool { return w.seen.count("DestroyPropertyFilter") == 1 })
	if made := w.seen.count("CreatePropertyCollector"); made != 1 {
		t.Errorf("%d collectors, want 1", made)
	}
}
