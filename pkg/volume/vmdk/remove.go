// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import (
	"context"
	"errors"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// Remove implements volume.Store.
func (s *Store) Remove(ctx context.Context, name string, except ...string) error {
	if err := s.usable(ctx, name); err != nil {
		return err
	}
	if err := s.remove(ctx, newEntry(removing, name), except); err != nil {
		return s.fail(err, "remove volume %s", name)
	}
	return nil
}

func (s *Store) remove(ctx context.Context, e entry, except []string) error {
	is, err := s.exists(ctx, e.name)
	if err != nil {
		return err
	}
	now, err := s.see(ctx)
	if err != nil {
		return err
	}
	if users := now.ofVolume(e.name, except...); len(users) > 0 {
		return inUse(users)
	}
	if err := s.withdraw(ctx, e); err != nil { // or the answer was lost
		return errors.Join(s.explained(ctx, e, err), s.takeBack(ctx, e))
	}
	if now, err = s.see(ctx); err == nil {
		if users := now.ofEntry(e, except...); len(users) > 0 {
			err = inUse(users)
		}
	}
	if err != nil {
		return errors.Join(err, s.takeBack(ctx, e))
	}
	return s.destroy(ctx, e, is)
}

// exists says what is by a name; NotFound if nothing is.
func (s *Store) exists(ctx context.Context, name string) (contents, error) {
	err := s.absent(ctx, name)
	if errdefs.Is(err, errdefs.AlreadyExists) {
		return directory, nil
	}
	if err != nil {
		return nothing, err
	}
	v, err := s.look(ctx, name)
	switch {
	case err != nil:
		return nothing, err
	case v != nil && v.Damage == strayFile:
		return strayContent, nil
	}
	return directory, nil
}

// withdraw moves a volume out of its place.
func (s *Store) withdraw(ctx context.Context, e entry) error {
	if err := s.files.MakeDirectory(ctx, s.layout.entry(e), true); err != nil {
		return err
	}
	if err := s.sign(ctx, e); err != nil {
		return err
	}
	return s.files.Move(ctx, s.layout.volume(e.name), s.layout.held(e))
}

// destroy deletes a volume that was withdrawn and that nobody has. From the claim on
// it does not come back, with one exception: somebody has its disk of whom
// vCenter does not know.
func (s *Store) destroy(ctx context.Context, e entry, is contents) error {
	claimed, err := s.claim(ctx, e)
	if errdefs.Is(err, errdefs.NotFound) {
		return errdefs.New(errdefs.Aborted, "meanwhile somebody else cleaned up behind this removal")
	}
	if err != nil {
		return errors.Join(err, s.takeBack(ctx, e))
	}
	err = s.delete(ctx, claimed, is)
	if vcenter.IsFileLocked(err) {
		if _, _, unread := s.capacity(ctx, diskIn(s.layout.held(claimed), e.name)); unread == nil { // whole
			return errors.Join(s.explained(ctx, claimed, err), s.takeBack(ctx, claimed))
		}
	}
	if err != nil {
		return errdefs.Wrap(errdefs.KindOf(err), err, "it is withdrawn, and the deletion of %s was cut off; clean up later", s.files.Path(s.layout.entry(claimed)))
	}
	return nil
}

// explained says of a volume that is locked who has it.
func (s *Store) explained(ctx context.Context, e entry, err error) error {
	if !vcenter.IsFileLocked(err) {
		return err
	}
	if now, failed := s.see(ctx); failed == nil {
		if users := now.ofEntry(e); len(users) > 0 {
			return errors.Join(inUse(users), err)
		}
	}
	return errdefs.Wrap(errdefs.FailedPrecondition, err, "its disk is in use, by a VM or a host that this vCenter or this user does not see; detach it there first")
}
