// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// removal is a disk on its way out.
type removal struct {
	key  image.Key
	lock *lock
	disk *image.Disk // as it was, with its names; nil until it is withdrawn
}

// Remove implements image.Store.
func (s *Store) Remove(ctx context.Context, keys ...image.Key) (removed []image.Key, err error) {
	keys = slices.Clone(keys)
	// In one order, or two calls could wait for each other's locks.
	slices.SortFunc(keys, func(a, b image.Key) int { return strings.Compare(base(a), base(b)) })
	keys = slices.Compact(keys)
	users, err := s.Users(ctx, keys...)
	if err != nil {
		return nil, err
	}
	var removals []*removal
	var failed []error
	defer func() {
		for _, r := range removals {
			failed = append(failed, s.release(ctx, r.key, r.lock))
		}
		err = s.joined(failed)
	}()
	for _, key := range keys {
		if len(users[key]) > 0 {
			failed = append(failed, s.inUse("image "+key.String(), users[key]))
			continue
		}
		r, err := s.withdraw(ctx, key)
		if r != nil {
			removals = append(removals, r)
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	if !slices.ContainsFunc(removals, func(r *removal) bool { return r.disk != nil }) {
		return nil, nil // the error comes from above
	}
	users, err = s.settle(ctx, keys)
	if err != nil {
		failed = append(failed, err)
	}
	for _, r := range removals {
		if r.disk == nil {
			continue
		}
		if err != nil || len(users[r.key]) > 0 {
			failed = append(failed, s.publishAgain(ctx, r))
		}
		if len(users[r.key]) > 0 {
			failed = append(failed, s.inUse("image "+r.key.String(), users[r.key]))
		} else if err == nil {
			err := s.delete(ctx, r)
			if failed = append(failed, err); err == nil {
				removed = append(removed, r.key)
			}
		}
	}
	return removed, nil
}

// joined makes one error of several. Users count more than what else is wrong.
func (s *Store) joined(all []error) error {
	err := errors.Join(all...)
	for _, one := range all {
		if errdefs.Is(one, errdefs.FailedPrecondition) {
			return s.fail(errdefs.Wrap(errdefs.FailedPrecondition, err, ""), "remove images")
		}
	}
	if err == nil {
		return nil
	}
	return s.fail(err, "remove images")
}

// withdraw takes one disk away from those that look for it. A removal that it
// returns has a lock, also with an error.
func (s *Store) withdraw(ctx context.Context, key image.Key) (*removal, error) {
	if _, err := s.Find(ctx, key); err != nil {
		return nil, err
	}
	mine, err := s.acquire(ctx, key, func(image.Progress) {}, func() bool { return false })
	if err != nil {
		return nil, s.fail(err, "remove image %s", key)
	}
	r := &removal{key: key, lock: mine}
	err = s.step(ctx, StepWithdraw, func() error {
		if r.disk = s.place.disk(key); r.disk == nil {
			return s.absent(key)
		}
		s.place.withdraw(key)
		return nil
	})
	if err == nil || errdefs.Is(err, errdefs.NotFound) || r.disk == nil {
		return r, err
	}
	err = errors.Join(err, s.publishAgain(ctx, r)) // the answer was lost
	r.disk = nil
	return r, err
}

// settle waits until nobody can be about to use what is withdrawn, and looks again.
func (s *Store) settle(ctx context.Context, keys []image.Key) (map[image.Key][]image.User, error) {
	timer := s.place.opts.Clock.NewTimer(s.place.opts.Settle)
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-ctx.Done():
		return nil, s.ended(ctx, "wait before deleting")
	}
	return s.Users(ctx, keys...)
}

// publishAgain takes back a withdrawal, whatever became of the context. Names that
// lead elsewhere by now stay there.
func (s *Store) publishAgain(ctx context.Context, r *removal) error {
	return s.step(context.WithoutCancel(ctx), StepPublish, func() error {
		p := s.place
		if p.records[r.key].Path != "" || p.files[r.disk.Path] == nil {
			return nil
		}
		record := clone(*r.disk)
		record.Names = nil
		p.records[r.key] = *record
		for _, text := range r.disk.Names {
			if _, taken := p.names[name{text, r.key.Size}]; !taken {
				p.names[name{text, r.key.Size}] = r.key
			}
		}
		p.change()
		return nil
	})
}

// delete deletes a disk that is withdrawn. A VM that came after the look would be
// of somebody who used an answer that is no longer valid.
func (s *Store) delete(ctx context.Context, r *removal) error {
	return s.step(ctx, StepDelete, func() error {
		s.place.discard(r.disk.Path)
		return nil
	})
}

// Leftovers implements image.Store.
func (s *Store) Leftovers(ctx context.Context) ([]image.Leftover, error) {
	var leftovers []image.Leftover
	err := s.step(ctx, StepRead, func() error {
		leftovers = s.place.leftovers()
		return nil
	})
	if err != nil {
		return nil, s.fail(err, "look for leftovers")
	}
	return leftovers, nil
}

// leftovers returns what belongs to nothing. The place must be locked.
func (p *Place) leftovers() []image.Leftover {
	var all []image.Leftover
	for path, f := range p.files {
		if l := p.locks[f.key]; p.records[f.key].Path != path && (l == nil || p.stale(l)) {
			all = append(all, image.Leftover{Path: path, Reason: "disk that was not published, or withdrawn", ID: "disk " + path})
		}
	}
	for key, l := range p.locks {
		if p.stale(l) {
			all = append(all, image.Leftover{Path: p.lockPath(key), Reason: "lock of " + l.owner + ", which ended", ID: "lock " + base(key)})
		}
	}
	for n, key := range p.names {
		if p.records[key].Path == "" {
			all = append(all, image.Leftover{Path: p.namePath(n), Reason: "name that leads nowhere", ID: "name " + p.namePath(n)})
		}
	}
	slices.SortFunc(all, func(a, b image.Leftover) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// Clean implements image.Store.
func (s *Store) Clean(ctx context.Context, leftovers ...image.Leftover) error {
	now, err := s.Leftovers(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(leftovers, func(l image.Leftover) bool { return slices.Contains(now, l) }) {
		return nil
	}
	if _, err := s.settle(ctx, nil); err != nil {
		return err
	}
	var failed []error
	for _, l := range leftovers {
		failed = append(failed, s.step(ctx, StepDelete, func() error { return s.cleanOne(l) }))
	}
	return s.joined(failed)
}

// cleanOne deletes what is still a leftover. The place must be locked.
func (s *Store) cleanOne(l image.Leftover) error {
	p := s.place
	if !slices.Contains(p.leftovers(), l) {
		return nil
	}
	kind, id, _ := strings.Cut(l.ID, " ")
	switch kind {
	case "disk":
		if users := p.usersOf(func(v vm) bool { return v.path == id }); len(users) > 0 {
			return s.inUse(id, users)
		}
		delete(p.files, id)
	case "lock":
		for key := range p.locks {
			if base(key) == id {
				delete(p.locks, key)
				p.change()
			}
		}
	case "name":
		for n := range p.names {
			if p.namePath(n) == id {
				delete(p.names, n)
			}
		}
	}
	return nil
}
