// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// Remove implements volume.Store.
func (s *Store) Remove(ctx context.Context, name string, except ...string) error {
	if err := volume.ValidateName(name); err != nil {
		return err
	}
	if err := s.remove(ctx, name, except); err != nil {
		return s.fail(err, "remove volume %s", name)
	}
	return nil
}

func (s *Store) remove(ctx context.Context, name string, except []string) error {
	p := s.place
	err := s.step(ctx, StepRead, func() error {
		if p.volumes[name] == nil {
			return s.absent(name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	free := func() error { return inUse(p.usersOf(name, except...)) }
	if err := s.step(ctx, StepUsers, free); err != nil {
		return err
	}
	id := ""
	err = s.step(ctx, StepWithdraw, func() error {
		e := p.volumes[name]
		if e == nil {
			return s.absent(name)
		}
		delete(p.volumes, name)
		e.removed = true
		id = p.putAside(e)
		return nil
	})
	if err == nil {
		err = s.step(ctx, StepUsers, free)
	}
	if err != nil {
		if id == "" {
			return err
		}
		return errors.Join(err, s.putBack(ctx, id))
	}
	return s.step(ctx, StepDelete, func() error { delete(p.aside, id); return nil })
}

// putBack makes a volume again of what was withdrawn, whatever became of the context.
func (s *Store) putBack(ctx context.Context, id string) error {
	return s.step(context.WithoutCancel(ctx), StepPublish, func() error { return s.place.putBack(id) })
}

func (p *place) putBack(id string) error {
	e := p.aside[id]
	switch {
	case e == nil:
		return nil
	case p.volumes[e.name] != nil:
		return errdefs.New(errdefs.Aborted, "another volume %s was made meanwhile; the former one is %s", e.name, p.asidePath(id))
	}
	delete(p.aside, id)
	e.removed = false
	p.volumes[e.name] = e
	return nil
}

// inUse is the error of a volume that must stay; nil without users.
func inUse(users []volume.User) error {
	if len(users) == 0 {
		return nil
	}
	names := make([]string, 0, len(users))
	for _, u := range users {
		text := u.Name + " (" + u.VM + ")"
		if u.Unproven {
			text += ", of which it cannot be told"
		}
		names = append(names, text)
	}
	return errdefs.New(errdefs.FailedPrecondition, "it is used by %s", strings.Join(names, "; "))
}

// Leftovers implements volume.Cleaner.
func (s *Store) Leftovers(ctx context.Context) ([]volume.Leftover, error) {
	var leftovers []volume.Leftover
	err := s.step(ctx, StepRead, func() error {
		leftovers = s.place.leftovers()
		return nil
	})
	if err != nil {
		return nil, s.fail(err, "look for leftovers")
	}
	return leftovers, nil
}

// Clean implements volume.Cleaner.
func (s *Store) Clean(ctx context.Context, leftovers ...volume.Leftover) error {
	var failed []error
	for _, l := range leftovers {
		err := s.step(ctx, StepDelete, func() error { return s.place.clean(l) })
		if err != nil {
			failed = append(failed, s.fail(err, "clean %s", l.Path))
		}
	}
	return errors.Join(failed...)
}

func (p *place) clean(l volume.Leftover) error {
	if !slices.Contains(p.leftovers(), l) {
		return nil
	}
	e := p.aside[l.ID]
	if e.removed && p.volumes[e.name] == nil && len(p.usersOf(e.name)) > 0 {
		return p.putBack(l.ID)
	}
	delete(p.aside, l.ID)
	return nil
}
