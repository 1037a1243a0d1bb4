// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// claim gives an entry new digits, under which only the caller knows it. NotFound if
// there is no such entry any more.
func (s *Store) claim(ctx context.Context, e entry) (entry, error) {
	claimed := newEntry(e.phase, e.name)
	return claimed, s.files.Move(ctx, s.layout.entry(e), s.layout.entry(claimed))
}

// contents is what an entry has of its volume.
type contents int

const (
	nothing contents = iota
	strayContent
	directory
)

// holds says what an entry has of its volume.
func (s *Store) holds(ctx context.Context, e entry) (contents, error) {
	all, err := s.files.List(ctx, s.layout.entry(e), "*")
	switch i := slices.IndexFunc(all, named(e.name)); {
	case err != nil || i < 0:
		return nothing, err
	case all[i].Dir:
		return directory, nil
	default:
		return strayContent, nil
	}
}

// takeBack brings a volume that was withdrawn, or was to be, to its place again,
// whatever became of ctx. If somebody else has the entry by now, that is his.
func (s *Store) takeBack(ctx context.Context, e entry) error {
	tidy, cancel := detached(ctx)
	defer cancel()
	claimed, err := s.claim(tidy, e)
	if errdefs.Is(err, errdefs.NotFound) {
		return nil
	}
	if err == nil {
		e = claimed
		err = s.putBack(tidy, e)
	}
	if err != nil {
		return errdefs.Wrap(errdefs.KindOf(err), err, "take the removal back; until that is cleaned up, the volume is at %s", s.files.Path(s.layout.entry(e)))
	}
	return nil
}

// putBack moves a volume from a claimed entry, if it is there, to its place.
func (s *Store) putBack(ctx context.Context, e entry) error {
	holds, err := s.holds(ctx, e)
	if err == nil && holds != nothing {
		err = s.files.Move(ctx, s.layout.held(e), s.layout.volume(e.name))
	}
	if err != nil {
		return err
	}
	s.dismiss(ctx, e)
	return nil
}

// dismiss deletes an entry whose volume went to its place. If that fails it is a
// leftover.
func (s *Store) dismiss(ctx context.Context, e entry) {
	tidy, cancel := detached(ctx)
	defer cancel()
	if err := s.files.Delete(tidy, s.layout.entry(e)); err != nil {
		s.stays(ctx, e, err)
	}
}

func (s *Store) stays(ctx context.Context, e entry, err error) {
	klog.FromContext(ctx).Info("What is left of an operation on a volume stays for now", "path", s.files.Path(s.layout.entry(e)), "reason", err.Error())
}

// delete deletes a claimed entry, with the disk that may be in the volume's directory.
func (s *Store) delete(ctx context.Context, e entry, holds contents) error {
	if holds == directory {
		if err := s.deleteDisks(ctx, e); err != nil {
			return err
		}
	}
	return s.files.Delete(ctx, s.layout.entry(e))
}

// deleteDisks deletes the disk. What is half made is no disk to vCenter where disks
// are made of files, and where they are objects there may be others that somebody put there.
func (s *Store) deleteDisks(ctx context.Context, e entry) error {
	all := []string{diskIn(s.layout.held(e), e.name)}
	switch {
	case s.disks.Imports():
		tree, err := s.files.Tree(ctx, s.layout.entry(e))
		if err != nil {
			return err
		}
		for dir, files := range tree {
			for _, f := range files {
				p := path.Join(s.layout.entry(e), dir, f.Name)
				if strings.HasSuffix(p, diskSuffix) && !strings.HasSuffix(p, flatSuffix) && !f.Dir && p != all[0] {
					all = append(all, p)
				}
			}
		}
	case e.phase == making:
		return nil
	}
	for _, disk := range all {
		if err := s.deleteDisk(ctx, disk); err != nil {
			return err
		}
	}
	return nil
}

// deleteDisk deletes a disk, unless nobody can read it: then it is nothing but files.
func (s *Store) deleteDisk(ctx context.Context, disk string) error {
	err := s.files.DeleteDisk(ctx, disk)
	if !vcenter.IsTaskFault(err) || errdefs.Is(err, errdefs.Aborted) {
		return err
	}
	_, damage, unread := s.capacity(ctx, disk)
	switch {
	case unread != nil:
		return errdefs.Wrap(errdefs.KindOf(unread), errors.Join(unread, err), "look why %s cannot be deleted", s.files.Path(disk))
	case damage != "":
		return nil
	}
	return err
}
