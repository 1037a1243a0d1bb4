// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"context"
	"sync"
)

// locks is a lock for each machine: overlapping calls for one machine run one
// after the other, calls for different machines side by side.
type locks struct {
	mu   sync.Mutex
	held map[string]*machineLock
}

type machineLock struct {
	turn    chan struct{} // holds one token while the lock is free
	waiting int
}

func newLocks() *locks { return &locks{held: map[string]*machineLock{}} }

// lock waits for the machine's lock as long as ctx allows.
func (l *locks) lock(ctx context.Context, id string) (unlock func(), err error) {
	l.mu.Lock()
	m := l.held[id]
	if m == nil {
		m = &machineLock{turn: make(chan struct{}, 1)}
		m.turn <- struct{}{}
		l.held[id] = m
	}
	m.waiting++
	l.mu.Unlock()

	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if m.waiting--; m.waiting == 0 {
			delete(l.held, id)
		}
	}
	select {
	case <-m.turn:
		return func() { m.turn <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
