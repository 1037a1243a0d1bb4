// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"sync"

	"github.com/vmware/govmomi/vim25/types"
)

// Heavy waits until one more heavy operation may begin on a datastore: one that
// keeps it busy, such as a copy, removal, import or upload of files. There are at
// most Options.MaxHeavy at once on each datastore of a vCenter, whichever session
// asks, so that one that is slow does not take all there is. Those who wait get
// their turn in the order in which they asked.
//
// Without an error, call release when the operation has ended; calling it again
// does nothing. Do not ask for a second one meanwhile: two who do so may wait for
// each other. Nothing is sent. Kinds: DeadlineExceeded or Canceled when ctx ends first.
func (c *Client) Heavy(ctx context.Context, datastore types.ManagedObjectReference) (release func(), err error) {
	h := c.session.host
	q := h.enter(datastore)
	if err := q.acquire(ctx); err != nil {
		h.leave(datastore, q)
		return nil, Convert(err, "wait for one of the %d operations at once on datastore %s of vCenter %s", h.heavy, datastore.Value, h.name)
	}
	var once sync.Once
	return func() {
		once.Do(func() {
			q.release()
			h.leave(datastore, q)
		})
	}, nil
}

// datastoreQueue is the queue of one datastore, for as long as somebody needs it.
type datastoreQueue struct {
	*queue
	users int
}

func (h *host) enter(ref types.ManagedObjectReference) *datastoreQueue {
	h.mu.Lock()
	defer h.mu.Unlock()
	q, ok := h.datastores[ref]
	if !ok {
		q = &datastoreQueue{queue: newQueue(h.heavy)}
		h.datastores[ref] = q
	}
	q.users++
	return q
}

func (h *host) leave(ref types.ManagedObjectReference, q *datastoreQueue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if q.users--; q.users == 0 {
		delete(h.datastores, ref)
	}
}
