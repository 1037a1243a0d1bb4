// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"context"
	"errors"
	"path"
	"slices"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/inventory"
)

// removal is a disk on its way out, whose lock is held.
type removal struct {
	hold   *hold
	record *record
	// id tells this removal from all others.
	id string
	// names led to the disk and are deleted, or may be.
	names []*record
	// withdrawn says that the record may have been moved.
	withdrawn bool
}

// what names the disk in errors.
func (r *removal) what() string { return "image " + r.hold.key.String() }

// Remove implements image.Store.
func (s *Store) Remove(ctx context.Context, keys ...image.Key) (removed []image.Key, err error) {
	if err := s.usable(keys...); err != nil {
		return nil, err
	}
	// In one order, or two calls could wait for each other's locks.
	keys = slices.Clone(keys)
	slices.SortFunc(keys, compareKeys)
	keys = slices.Compact(keys)
	if len(keys) == 0 {
		return nil, nil
	}
	removals, failed := s.beginRemovals(ctx, keys)
	if len(removals) > 0 {
		failed = append(failed, s.withdraw(ctx, removals)...)
		var more []error
		removed, more = s.finish(ctx, removals)
		failed = append(failed, more...)
	}
	for _, r := range removals {
		failed = append(failed, r.hold.release(ctx))
	}
	return removed, s.joined("remove images", failed)
}

// joined makes one error of several. Users count more than what else is wrong.
func (s *Store) joined(what string, all []error) error {
	err := errors.Join(all...)
	if err == nil {
		return nil
	}
	kind := errdefs.KindOf(err)
	for _, one := range all {
		if errdefs.Is(one, errdefs.FailedPrecondition) {
			kind = errdefs.FailedPrecondition
		}
	}
	return errdefs.Wrap(kind, err, "image store %s: %s", s, what)
}

// beginRemovals takes the locks of those disks that can be removed.
func (s *Store) beginRemovals(ctx context.Context, keys []image.Key) (removals []*removal, failed []error) {
	all, err := s.inventory.VMs(ctx)
	if err != nil {
		return nil, []error{err}
	}
	for _, key := range keys {
		r, err := s.begin(ctx, key, all)
		if r != nil {
			removals = append(removals, r)
		}
		failed = append(failed, err)
	}
	return removals, failed
}

// begin takes the lock of a disk that is published and has no users. A removal
// that it returns has a lock, also with an error.
func (s *Store) begin(ctx context.Context, key image.Key, all []inventory.VM) (*removal, error) {
	r, err := s.published(ctx, key, "remove")
	if err != nil {
		return nil, err
	}
	if users := s.usersOf(all, func(u use) bool { return u.here && u.key == key || u.id == r.Upload }); len(users) > 0 {
		return nil, s.inUse("image "+key.String(), users)
	}
	h, err := s.acquire(ctx, key, claim{})
	if err != nil {
		return nil, s.fail(err, "remove image %s", key)
	}
	if r, err = s.published(ctx, key, "remove"); err != nil {
		h.unlock(ctx)
		return nil, err
	}
	return &removal{hold: h, record: r, id: newID()}, nil
}

// withdraw takes disks away from those that look for them: names first, so that no
// name leads to a disk that is not published. What went wrong is taken back.
func (s *Store) withdraw(ctx context.Context, removals []*removal) (failed []error) {
	for _, r := range removals {
		err := s.withdrawOne(ctx, r)
		if err == nil {
			r.withdrawn = true
			continue
		}
		failed = append(failed, s.fail(err, "withdraw %s", r.what()), s.restore(ctx, r))
	}
	return failed
}

func (s *Store) withdrawOne(ctx context.Context, r *removal) error {
	names, err := s.namesOf(ctx, r.hold.key)
	if err != nil {
		return err
	}
	if err := r.hold.check(ctx); err != nil {
		return err
	}
	r.names = names
	for _, n := range names {
		if err := s.files.Delete(ctx, s.layout.name(n.Name, n.Size)); err != nil {
			return err
		}
	}
	return s.files.Move(ctx, s.layout.record(r.hold.key), s.withdrawnPath(r))
}

func (s *Store) withdrawnPath(r *removal) string {
	return path.Join(s.layout.upload(r.hold.key, r.record.Upload), withdrawnFile(r.id))
}

// restore publishes a disk again, whatever became of ctx. Names that lead elsewhere
// by now stay there.
func (s *Store) restore(ctx context.Context, r *removal) error {
	tidy, cancel := detached(ctx)
	defer cancel()
	fail := func(err error) error { return s.fail(err, "publish %s again", r.what()) }
	err := s.files.Move(tidy, s.withdrawnPath(r), s.layout.record(r.hold.key))
	// It was not withdrawn, or somebody has published it already.
	if err != nil && !errdefs.Is(err, errdefs.NotFound) && !errdefs.Is(err, errdefs.AlreadyExists) {
		return fail(err)
	}
	now, err := s.find(tidy, r.hold.key)
	if err != nil {
		return fail(err)
	}
	if now.Upload != r.record.Upload {
		return nil
	}
	for _, n := range r.names {
		_, err := s.findName(tidy, n.Name, n.Size)
		if errdefs.Is(err, errdefs.NotFound) {
			err = s.writeName(tidy, *n)
		}
		if err != nil {
			return fail(err)
		}
	}
	return nil
}

// finish waits, looks again, and deletes what nobody has. The others are published again.
func (s *Store) finish(ctx context.Context, removals []*removal) (removed []image.Key, failed []error) {
	removals = slices.DeleteFunc(slices.Clone(removals), func(r *removal) bool { return !r.withdrawn })
	if len(removals) == 0 {
		return nil, nil
	}
	all, err := s.settle(ctx)
	if err != nil {
		failed = append(failed, s.fail(err, "look again before deleting"))
	}
	for _, r := range removals {
		if err != nil {
			failed = append(failed, s.restore(ctx, r))
			continue
		}
		if err := s.delete(ctx, r, all); err != nil {
			failed = append(failed, err)
			continue
		}
		removed = append(removed, r.hold.key)
	}
	return removed, failed
}

// settle waits until nobody can be about to use what was withdrawn, and looks at
// all VMs again.
func (s *Store) settle(ctx context.Context) ([]inventory.VM, error) {
	if err := s.wait(ctx, s.o.Settle, "wait before deleting"); err != nil {
		return nil, err
	}
	return s.inventory.VMs(ctx)
}

// delete deletes one disk that was withdrawn, or publishes it again.
func (s *Store) delete(ctx context.Context, r *removal, all []inventory.VM) error {
	key, id := r.hold.key, r.record.Upload
	back := func(err error) error { return errors.Join(err, s.restore(ctx, r)) }
	if users := s.usersOf(all, func(u use) bool { return u.id == id }); len(users) > 0 {
		return back(s.inUse(r.what(), users))
	}
	names, err := s.namesOf(ctx, key)
	if err != nil {
		return back(s.fail(err, "remove %s", r.what()))
	}
	for _, n := range names {
		if n.Upload == id {
			return back(errdefs.New(errdefs.Aborted, "image store %s: %s is not removed: meanwhile somebody wanted it under the name %s", s, r.what(), n.Name))
		}
	}
	if err := r.hold.check(ctx); err != nil {
		return back(s.fail(err, "remove %s", r.what()))
	}
	// From here on it cannot be published again; if it was already, this fails.
	err = s.files.Move(ctx, s.withdrawnPath(r), path.Join(s.layout.upload(key, id), doomedFile))
	if errdefs.Is(err, errdefs.NotFound) {
		return errdefs.New(errdefs.Aborted, "image store %s: %s is not removed: meanwhile somebody published it again", s, r.what())
	}
	if err != nil {
		return back(s.fail(err, "remove %s", r.what()))
	}
	return s.deletion(s.deleteUpload(ctx, key, id, false), r.what())
}

// deletion is the error of a deletion that was begun and cannot be taken back.
func (s *Store) deletion(err error, what string) error {
	if err == nil {
		return nil
	}
	return s.fail(err, "delete %s, which is not published any more; clean up later", what)
}
