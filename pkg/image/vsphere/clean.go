// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"context"
	"path"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// Clean implements image.Store. Before it deletes anything of a disk it takes its
// lock, which it gets from a dead process only after watching it.
func (s *Store) Clean(ctx context.Context, leftovers ...image.Leftover) error {
	if err := s.usable(); err != nil || len(leftovers) == 0 {
		return err
	}
	wanted := func(d debris) bool {
		return slices.ContainsFunc(leftovers, func(l image.Leftover) bool { return l.ID == d.ID })
	}
	all, err := s.search(ctx, nil)
	if err != nil {
		return s.fail(err, "look for leftovers")
	}
	all = slices.DeleteFunc(all, func(d debris) bool { return !wanted(d) })
	if len(all) == 0 {
		return nil
	}
	holds, failed := s.claimAll(ctx, all)
	failed = append(failed, s.cleanHeld(ctx, wanted, holds)...)
	for _, h := range holds {
		failed = append(failed, h.release(ctx))
	}
	return s.joined("clean up", failed)
}

// cleanHeld deletes what is wanted of the keys whose locks are held.
func (s *Store) cleanHeld(ctx context.Context, wanted func(debris) bool, holds map[image.Key]*hold) (failed []error) {
	// Whoever died meanwhile, or came to life, has changed what is to be done.
	all, err := s.search(ctx, holds)
	if err != nil {
		return []error{err}
	}
	all = slices.DeleteFunc(all, func(d debris) bool { return d.key != image.Key{} && holds[d.key] == nil })
	var uploads []upload
	for _, d := range all {
		if d.upload != nil && wanted(d) {
			uploads = append(uploads, *d.upload)
		}
	}
	for _, d := range all {
		leads := d.name != nil && d.name.record != nil && slices.ContainsFunc(uploads, func(u upload) bool { return u.id == d.name.record.Upload })
		if wanted(d) || leads {
			failed = append(failed, s.cleanSmall(ctx, d))
		}
	}
	return append(failed, s.cleanUploads(ctx, uploads, holds)...)
}

// claimAll takes the locks of all keys that the debris belongs to, of dead processes
// too. Keys that somebody is at are left out.
func (s *Store) claimAll(ctx context.Context, all []debris) (map[image.Key]*hold, []error) {
	var mu sync.Mutex
	holds := map[image.Key]*hold{}
	var failed []error
	var keys []image.Key
	for _, d := range all {
		if d.key != (image.Key{}) {
			keys = append(keys, d.key)
		}
	}
	slices.SortFunc(keys, compareKeys)
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, key := range slices.Compact(keys) {
		group.Go(func() error {
			h, err := s.acquire(ctx, key, claim{deadOnly: true})
			mu.Lock()
			defer mu.Unlock()
			if h != nil {
				holds[key] = h
			}
			if err != nil {
				failed = append(failed, s.fail(err, "clean up behind image %s", key))
			}
			return nil
		})
	}
	_ = group.Wait() // errors are in failed
	return holds, failed
}

// cleanSmall deletes what no VM can have: names, records, and VMs of imports.
func (s *Store) cleanSmall(ctx context.Context, d debris) error {
	switch {
	case d.holder != nil:
		if err := s.disks.DestroyHolder(ctx, d.holder.Ref, d.holder.Mark); err != nil {
			return s.fail(err, "clean up behind image %s", d.key)
		}
	case d.name != nil:
		return s.cleanName(ctx, d.name)
	case d.file != "":
		if err := s.files.Delete(ctx, d.file); err != nil {
			return s.fail(err, "delete the record of image %s, which cannot be read", d.key)
		}
	}
	return nil
}

// cleanName deletes the file of a name, unless it has changed.
func (s *Store) cleanName(ctx context.Context, n *nameOf) error {
	p := path.Join(s.layout.names(), n.file)
	r, err := s.readRecord(ctx, p, func(r *record) string { return ofName(r, n.file) })
	switch {
	case err == nil && (n.record == nil || n.record.Upload != r.Upload):
		return nil // it leads elsewhere by now
	case err != nil && !errdefs.Is(err, errdefs.NotFound):
		return s.fail(err, "look at a name before deleting it")
	}
	if err := s.files.Delete(ctx, p); err != nil {
		return s.fail(err, "delete a name that leads to no disk")
	}
	return nil
}

// cleanUploads waits, looks at vCenter, and deletes the directories that no VM has.
func (s *Store) cleanUploads(ctx context.Context, uploads []upload, holds map[image.Key]*hold) (failed []error) {
	if len(uploads) == 0 {
		return nil
	}
	all, err := s.settle(ctx)
	if err != nil {
		return []error{s.fail(err, "look again before deleting")}
	}
	for _, u := range uploads {
		dir := s.files.Path(s.layout.upload(u.key, u.id))
		if users := s.usersOf(all, func(of use) bool { return of.id == u.id }); len(users) > 0 {
			failed = append(failed, s.inUse(dir, users))
			continue
		}
		if err := s.cleanUpload(ctx, u, holds[u.key]); err != nil {
			failed = append(failed, s.fail(err, "clean up %s", dir))
		}
	}
	return failed
}

// cleanUpload deletes one directory, unless it is published by now.
func (s *Store) cleanUpload(ctx context.Context, u upload, h *hold) error {
	names, err := s.namesOf(ctx, u.key)
	if err != nil {
		return err
	}
	for _, n := range names {
		if n.Upload == u.id {
			return errdefs.New(errdefs.Aborted, "meanwhile the name %s leads there", n.Name)
		}
	}
	if err := h.check(ctx); err != nil {
		return err
	}
	dir := s.layout.upload(u.key, u.id)
	entries, err := s.files.List(ctx, dir, "*")
	if errdefs.Is(err, errdefs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var whole bool
	for _, e := range entries {
		switch {
		case isWithdrawn(e.Name):
			// From here on it cannot be published again; if it was already, this fails.
			err := s.files.Move(ctx, path.Join(dir, e.Name), path.Join(dir, doomedFile))
			if errdefs.Is(err, errdefs.NotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			whole = true
		case e.Name == doomedFile:
			whole = true
		}
	}
	if whole {
		return s.deleteUpload(ctx, u.key, u.id, false)
	}
	err = s.discard(ctx, u.key, u.id)
	if errdefs.Is(err, errdefs.AlreadyExists) {
		return nil
	}
	return err
}
