// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"context"
	"errors"
	"fmt"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// How a volume goes, so that no VM loses it:
//
//  1. No VM has it.
//  2. volumes/<name> is renamed to mcm-volumes/removed/<name>.<32 hex>: now no VM
//     can get it.
//  3. Still no VM has it; else it is renamed back.
//  4. It is deleted.
//  5. Its metadata go last, see drop.
//
// None of that needs room, so that room can be made.

// metadata is that of a volume, as it was at some time.
type metadata struct {
	dir, file node
}

// removal is a volume that is being removed.
type removal struct {
	name string
	// entry is its name among the removed ones.
	entry string
	// metadata is what it had, if described.
	metadata  metadata
	described bool
	// begun says that something may have been changed.
	begun bool
}

// Remove implements volume.Store.
func (s *Store) Remove(ctx context.Context, name string, except ...string) error {
	if err := s.usable(name); err != nil {
		return err
	}
	r := &removal{name: name, entry: unique(name)}
	return s.fail(s.remove(ctx, r, except), "remove volume %s", name)
}

func (s *Store) remove(ctx context.Context, r *removal, except []string) error {
	err := s.with(ctx, workTime, func(ctx context.Context, n *session) error {
		at, there, err := n.in(ctx, r.name, volumesDir)
		if err == nil && !there {
			err = s.absent(r.name)
		}
		if err == nil {
			err = s.held(ctx, r.name, except)
		}
		if err == nil {
			err = s.unpublish(ctx, n, r, at)
		}
		return err
	})
	if err == nil {
		err = s.held(ctx, r.name, except)
	}
	if err != nil {
		if r.begun {
			err = errors.Join(err, s.restore(ctx, r))
		}
		return err
	}
	err = s.with(ctx, deletionTime, func(ctx context.Context, n *session) error { return s.destroy(ctx, n, r) })
	if err != nil {
		return fmt.Errorf("it is no volume any more, and what is left of it is a leftover: %w", err)
	}
	return nil
}

// unpublish moves a volume to where no VM can get it.
func (s *Store) unpublish(ctx context.Context, n *session, r *removal, at node) (err error) {
	if r.metadata, r.described, err = n.metadataOf(ctx, r.name); err != nil {
		return err
	}
	volumes, err := n.ensure(ctx, volumesDir)
	if err != nil {
		return err
	}
	removed, err := n.ensure(ctx, privateDir, removedDir)
	if err != nil {
		return err
	}
	// Else it would look as if it had been given up long ago. If it may not be touched, so be it.
	if err := n.touch(ctx, at.handle); err != nil && !answered(err) {
		return err
	}
	r.begun = true
	err = n.rename(ctx, volumes, r.name, removed, r.entry)
	if is(err, statusNoEnt) {
		return s.absent(r.name)
	}
	return err
}

// restore makes a volume of what a removal moved away, if it did.
func (s *Store) restore(ctx context.Context, r *removal) error {
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
	defer cancel()
	err := s.with(tidy, tidyTime, func(ctx context.Context, n *session) error {
		volumes, err := n.ensure(ctx, volumesDir)
		if err != nil {
			return err
		}
		removed, there, err := n.dir(ctx, privateDir, removedDir)
		if err != nil || !there {
			return err
		}
		if _, there, err = n.find(ctx, removed, r.entry); err != nil || !there {
			return err
		}
		// A rename would replace an empty directory.
		if _, there, err = n.find(ctx, volumes, r.name); err != nil {
			return err
		}
		if there {
			return errdefs.New(errdefs.FailedPrecondition, "%s was made anew meanwhile", s.text(volumesDir, r.name))
		}
		return n.rename(ctx, removed, r.entry, volumes, r.name)
	})
	if err != nil {
		return fmt.Errorf("it is at %s now, from where Clean brings it back if a VM has it: %w", s.text(privateDir, removedDir, r.entry), err)
	}
	return nil
}

// destroy deletes what was moved away.
func (s *Store) destroy(ctx context.Context, n *session, r *removal) error {
	removed, err := n.ensure(ctx, privateDir, removedDir)
	if err != nil {
		return err
	}
	if err := n.removeTree(ctx, removed, r.entry); err != nil || !r.described {
		return err
	}
	return n.drop(ctx, r.name, r.metadata)
}

// metadataOf returns the metadata that there are for a name. The file may be missing.
func (n *session) metadataOf(ctx context.Context, name string) (metadata, bool, error) {
	dir, there, err := n.in(ctx, name, metadataDir)
	if err != nil || !there {
		return metadata{}, false, err
	}
	m := metadata{dir: dir}
	if dir.directory {
		m.file, _, err = n.find(ctx, dir.handle, volume.MetadataKey)
		if is(err, statusStale) {
			return metadata{}, false, nil
		}
	}
	return m, err == nil, err
}

// drop deletes the metadata of a name that has no volume, if they are those that are
// meant. They are moved out of the way first, and from there back if there is a volume then
// after all: it was made in that moment.
func (n *session) drop(ctx context.Context, name string, meant metadata) error {
	now, there, err := n.metadataOf(ctx, name)
	if err != nil || !there || !same(now.dir, meant.dir) && now.dir.id != meant.dir.id || !same(now.file, meant.file) {
		return err
	}
	if _, there, err := n.in(ctx, name, volumesDir); err != nil || there {
		return err
	}
	dropped, err := n.ensure(ctx, privateDir, droppedDir)
	if err != nil {
		return err
	}
	dir, err := n.ensure(ctx, metadataDir)
	if err != nil {
		return err
	}
	entry := unique(name)
	if err := n.rename(ctx, dir, name, dropped, entry); err != nil {
		return gone(err)
	}
	return n.endDropped(ctx, name, entry)
}

// endDropped deletes metadata that were moved out of the way, or brings them back to a
// volume that has none.
func (n *session) endDropped(ctx context.Context, name, entry string) error {
	dropped, there, err := n.dir(ctx, privateDir, droppedDir)
	if err != nil || !there {
		return err
	}
	_, there, err = n.in(ctx, name, volumesDir)
	if err != nil {
		return err
	}
	if there {
		if err := n.bringMetadata(ctx, name, dropped, entry); err != nil {
			return err
		}
	}
	return n.removeTree(ctx, dropped, entry)
}

// bringMetadata moves metadata to where those of a volume belong, unless there are some.
func (n *session) bringMetadata(ctx context.Context, name string, from handle, entry string) error {
	dir, err := n.ensure(ctx, metadataDir)
	if err != nil {
		return err
	}
	err = n.rename(ctx, from, entry, dir, name)
	if is(err, statusExist, statusNotEmpty, statusNoEnt) {
		return nil
	}
	return err
}
