// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package kvstore

import (
	"bytes"
	"context"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

// attempts is how often an update begins before it gives up: each time another
// one had success.
const attempts = 30

// Update changes the newest values by a function, which may be called more than once, each
// time with the values of that moment, which it may change as it likes. What it leaves
// becomes the next generation, unless it is what was there. Its error ends the update and is
// returned with its kind.
//
// An update that is answered with success was done exactly once, on what was there right before.
// After an error nothing was changed, unless it is ErrUnknown. FailedPrecondition: the store
// is ReadOnly, damaged, or of another version than Options.Migrations lead to. Aborted: others
// were faster each time.
func (s *Store) Update(ctx context.Context, change func(values map[string][]byte) error) error {
	if err := s.mayWrite(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Limit)
	defer cancel()
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return s.fail(ctx.Err(), "wait for another update of")
	}
	for range attempts {
		if done, err := s.update(ctx, change); done || err != nil {
			return s.fail(err, "update")
		}
	}
	return errdefs.New(errdefs.Aborted, "update key/value store %s: others were faster %d times; try again", s, attempts)
}

// Put sets the value of a key, by Update.
func (s *Store) Put(ctx context.Context, key string, value []byte) error {
	return s.Update(ctx, func(values map[string][]byte) error {
		values[key] = value
		return nil
	})
}

// Delete deletes a key, by Update; NotFound if there is none.
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.Update(ctx, func(values map[string][]byte) error {
		if _, there := values[key]; !there {
			return errdefs.New(errdefs.NotFound, "it has no key %q", key)
		}
		delete(values, key)
		return nil
	})
}

func (s *Store) mayWrite() error {
	if s.o.ReadOnly {
		return errdefs.New(errdefs.FailedPrecondition, "key/value store %s belongs to a VCH and is only read: its port layer has it in memory and overwrites the file", s)
	}
	return nil
}

// update tries once. It is not done if somebody was faster.
func (s *Store) update(ctx context.Context, change func(map[string][]byte) error) (done bool, err error) {
	snap, seen, err := s.read(ctx)
	if err != nil {
		return false, err
	}
	if err := s.current(snap); err != nil {
		return false, err
	}
	before, err := Encode(snap.Values)
	if err != nil {
		return false, err
	}
	if err := change(snap.Values); err != nil {
		return false, err
	}
	after, err := Encode(snap.Values)
	if err != nil || bytes.Equal(before, after) {
		return err == nil, err
	}
	next := place{version: snap.Version}
	if snap.Exists {
		next.generation = snap.Generation + 1
	}
	return s.publish(ctx, seen, next, after)
}

// current refuses data of another version than the program writes.
func (s *Store) current(snap *Snapshot) error {
	if snap.Version < s.known() {
		return errdefs.New(errdefs.FailedPrecondition, "its data has version %d, and this program writes version %d; migrate it first", snap.Version, s.known())
	}
	o := migration.Outcome{Target: migration.KeyValue, From: snap.Version, Newer: snap.Version > s.known()}
	return o.Writable("it")
}
