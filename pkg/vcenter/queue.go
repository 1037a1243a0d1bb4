// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"container/list"
	"context"
	"sync"
)

// queue hands out a number of slots that may change, in the order in which they
// were asked for. semaphore.Weighted does the same with a number that may not.
type queue struct {
	mu      sync.Mutex
	limit   int
	inUse   int
	waiting list.List // of *caller
}

// caller is one that waits in a queue.
type caller struct {
	done chan struct{} // closed when it waits no more
	err  error         // why it has no slot; set before done is closed
}

func newQueue(limit int) *queue { return &queue{limit: limit} }

// acquire waits for a slot. Without an error, release must be called.
func (q *queue) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	if q.inUse < q.limit && q.waiting.Len() == 0 {
		q.inUse++
		q.mu.Unlock()
		return nil
	}
	c := &caller{done: make(chan struct{})}
	place := q.waiting.PushBack(c)
	q.mu.Unlock()
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-c.done: // both at the same time: the slot goes to the next one
		if c.err == nil {
			q.inUse--
		}
	default:
		q.waiting.Remove(place)
	}
	q.admit()
	return ctx.Err()
}

func (q *queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inUse--
	q.admit()
}

// resize changes the number of slots. Who has one keeps it.
func (q *queue) resize(limit int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limit = limit
	q.admit()
}

// refuse sends all away who wait.
func (q *queue) refuse(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.waiting.Len() > 0 {
		q.next(err)
	}
}

// admit gives free slots to those who wait longest.
func (q *queue) admit() {
	for q.inUse < q.limit && q.waiting.Len() > 0 {
		q.inUse++
		q.next(nil)
	}
}

func (q *queue) next(err error) {
	c, ok := q.waiting.Remove(q.waiting.Front()).(*caller)
	if ok {
		c.err = err
		close(c.done)
	}
}

func (q *queue) load() (limit, inUse, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.limit, q.inUse, q.waiting.Len()
}
