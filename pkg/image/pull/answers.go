// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// answers remembers what stores said of names, as long as that is valid. What is not
// there is not remembered. Concurrent questions share one.
type answers struct {
	clock clock.PassiveClock
	group singleflight.Group

	mu      sync.Mutex
	entries map[answerKey]answer
	// forgotten counts how often something was forgotten: an answer to a question
	// from before is not remembered.
	forgotten int
}

type answerKey struct {
	store, name string
	size        int64
}

type answer struct {
	disk  *image.Disk
	until time.Time
}

func newAnswers(c clock.PassiveClock) *answers {
	return &answers{clock: c, entries: map[answerKey]answer{}}
}

// get returns a disk from memory, or from ask.
func (a *answers) get(ctx context.Context, key answerKey, ask func() (*image.Disk, error)) (*image.Disk, error) {
	for {
		known, now, forgotten := a.remembered(key)
		if known != nil {
			return known, nil
		}
		ch := a.group.DoChan(key.flight(forgotten), func() (any, error) {
			// The question before may have been answered this very moment.
			if known, _, _ := a.remembered(key); known != nil {
				return asked{disk: known}, nil
			}
			disk, err := ask()
			if err == nil {
				a.put(key, disk, now, forgotten)
			}
			// This is the context of the one that asks for all.
			return asked{disk: disk, err: err, gaveUp: err != nil && ctx.Err() != nil}, nil
		})
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case res := <-ch:
			got, _ := res.Val.(asked)
			if got.gaveUp && ctx.Err() == nil {
				continue
			}
			if got.err != nil {
				return nil, got.err
			}
			return copyOf(got.disk), nil
		}
	}
}

// asked is what became of a question.
type asked struct {
	disk *image.Disk
	err  error
	// gaveUp says that the one who asked had no more time, which is nobody else's matter.
	gaveUp bool
}

// flight is a key for those that may share a question.
func (k answerKey) flight(forgotten int) string {
	return fmt.Sprintf("%d|%q|%q|%d", forgotten, k.store, k.name, k.size)
}

// put remembers an answer to a question of the time asked, unless something was
// forgotten since.
func (a *answers) put(key answerKey, disk *image.Disk, asked time.Time, forgotten int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.forgotten != forgotten {
		return
	}
	now := a.clock.Now()
	for k, e := range a.entries {
		if now.Sub(e.until) > keep {
			delete(a.entries, k)
		}
	}
	a.entries[key] = answer{disk: copyOf(disk), until: asked.Add(image.Validity)}
}

// remembered returns the disk of an answer that is still valid, or nil, and what put
// wants to know from before a question.
func (a *answers) remembered(key answerKey) (known *image.Disk, now time.Time, forgotten int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now = a.clock.Now()
	if e, ok := a.entries[key]; ok && now.Before(e.until) {
		known = copyOf(e.disk)
	}
	return known, now, a.forgotten
}

// last is the disk of the last answer, also when that is no longer valid.
func (a *answers) last(key answerKey) (image.Key, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e, ok := a.entries[key]
	if !ok {
		return image.Key{}, false
	}
	return e.disk.Key, true
}

// forget drops all answers that lead to a disk.
func (a *answers) forget(store string, key image.Key) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forgotten++
	maps.DeleteFunc(a.entries, func(k answerKey, e answer) bool { return k.store == store && e.disk.Key == key })
}

// copyOf returns a disk that shares nothing with d, since answers are the callers'.
func copyOf(d *image.Disk) *image.Disk {
	c := *d
	c.Names = slices.Clone(d.Names)
	c.Config.Entrypoint = slices.Clone(d.Config.Entrypoint)
	c.Config.Cmd = slices.Clone(d.Config.Cmd)
	c.Config.Env = slices.Clone(d.Config.Env)
	c.Config.Volumes = slices.Clone(d.Config.Volumes)
	return &c
}
