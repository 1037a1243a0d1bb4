// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// Steps of the calls.
const (
	StepRead     = "read"     // of records and names
	StepLook     = "look"     // whether files are there
	StepUsers    = "users"    // which VMs there are
	StepLock     = "lock"     // tried once for each time that a lock changes
	StepPrepare  = "prepare"  // of an upload
	StepUpload   = "upload"   // all of a disk
	StepPublish  = "publish"  // or publish again
	StepName     = "name"     // making a name lead somewhere
	StepWithdraw = "withdraw" // names and record
	StepDelete   = "delete"   // of a disk, or a leftover
	StepUnlock   = "unlock"
)

// Interceptor stands around each step. It decides whether do, the step itself, is
// carried out, and what the step's answer is. It may run in many goroutines at the
// same time, and must not call the Store.
type Interceptor func(ctx context.Context, step string, do func() error) error

// Store is a Place as one process has it. It implements image.Store.
type Store struct {
	place *Place
	owner string

	mu        sync.Mutex
	intercept Interceptor
}

var _ image.Store = (*Store)(nil)

// Intercept puts i around all steps that begin from now on; nil takes it away.
func (s *Store) Intercept(i Interceptor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intercept = i
}

// String implements image.Store.
func (s *Store) String() string { return s.place.opts.Name }

// step carries out one step, through the interceptor and with the place locked.
func (s *Store) step(ctx context.Context, step string, do func() error) error {
	if err := s.ended(ctx, step); err != nil {
		return err
	}
	s.mu.Lock()
	intercept := s.intercept
	s.mu.Unlock()
	locked := func() error {
		s.place.mu.Lock()
		defer s.place.mu.Unlock()
		return do()
	}
	if intercept == nil {
		return locked()
	}
	return intercept(ctx, step, locked)
}

func (s *Store) ended(ctx context.Context, what string) error {
	if ctx.Err() == nil {
		return nil
	}
	return errdefs.Wrap(errdefs.KindOf(ctx.Err()), ctx.Err(), "image store %s: %s", s, what)
}

// fail says which store and disk an error is about. It keeps the kind.
func (s *Store) fail(err error, format string, args ...any) error {
	return errdefs.Wrap(errdefs.KindOf(err), err, "image store %s: %s", s, fmt.Sprintf(format, args...))
}

func (s *Store) absent(key image.Key) error {
	return errdefs.New(errdefs.NotFound, "image store %s has no disk of image %s", s, key)
}

// Lookup implements image.Store.
func (s *Store) Lookup(ctx context.Context, text string, size int64) (*image.Disk, error) {
	if err := image.ValidateSize(size); err != nil {
		return nil, err
	}
	var disk *image.Disk
	err := s.step(ctx, StepRead, func() error {
		if key, ok := s.place.names[name{text, size}]; ok {
			disk = s.place.disk(key)
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, s.fail(err, "look up %s", text)
	case disk == nil:
		return nil, errdefs.New(errdefs.NotFound, "image store %s has no disk of %s with %d MiB", s, text, size/image.SizeUnit)
	}
	disk.Names = []string{text}
	return disk, nil
}

// Find implements image.Store.
func (s *Store) Find(ctx context.Context, key image.Key) (*image.Disk, error) {
	if err := key.Validate(); err != nil {
		return nil, err
	}
	var disk *image.Disk
	err := s.step(ctx, StepRead, func() error {
		disk = s.place.disk(key)
		return nil
	})
	switch {
	case err != nil:
		return nil, s.fail(err, "find image %s", key)
	case disk == nil:
		return nil, s.absent(key)
	}
	return disk, nil
}

// Verify implements image.Store.
func (s *Store) Verify(ctx context.Context, key image.Key) (*image.Disk, error) {
	disk, err := s.Find(ctx, key)
	if err != nil {
		return nil, err
	}
	lost := false
	err = s.step(ctx, StepLook, func() error {
		lost = s.place.files[disk.Path] == nil
		return nil
	})
	if err == nil && !lost {
		return disk, nil
	}
	if err == nil {
		err = s.step(ctx, StepWithdraw, func() error {
			if s.place.records[key].Path == disk.Path { // nobody made it anew
				s.place.withdraw(key)
			}
			return nil
		})
	}
	if err != nil {
		return nil, s.fail(err, "verify image %s", key)
	}
	return nil, errdefs.New(errdefs.NotFound, "image store %s: the files of image %s were deleted: %s", s, key, disk.Path)
}

// withdraw takes record and names away. The place must be locked.
func (p *Place) withdraw(key image.Key) {
	for n, k := range p.names {
		if k == key {
			delete(p.names, n)
		}
	}
	delete(p.records, key)
	p.change()
}

// List implements image.Store.
func (s *Store) List(ctx context.Context) ([]image.Disk, error) {
	var disks []image.Disk
	err := s.step(ctx, StepRead, func() error {
		for key := range s.place.records {
			disks = append(disks, *s.place.disk(key))
		}
		return nil
	})
	if err != nil {
		return nil, s.fail(err, "list")
	}
	first := func(d image.Disk) string { return append(d.Names, "")[0] }
	slices.SortFunc(disks, func(a, b image.Disk) int {
		return cmp.Or(strings.Compare(first(a), first(b)), strings.Compare(a.Digest, b.Digest), cmp.Compare(a.Size, b.Size))
	})
	return disks, nil
}

// Users implements image.Store.
func (s *Store) Users(ctx context.Context, keys ...image.Key) (map[image.Key][]image.User, error) {
	for _, key := range keys {
		if err := key.Validate(); err != nil {
			return nil, err
		}
	}
	users := map[image.Key][]image.User{}
	err := s.step(ctx, StepUsers, func() error {
		for _, key := range keys {
			if of := s.place.usersOf(func(v vm) bool { return v.key == key }); len(of) > 0 {
				users[key] = of
			}
		}
		return nil
	})
	if err != nil {
		return nil, s.fail(err, "look for VMs that use images")
	}
	return users, nil
}

// inUse is the error of a disk that must stay.
func (s *Store) inUse(what string, users []image.User) error {
	var names []string
	for _, u := range users {
		text := u.Name
		if u.Unproven {
			text += " (whose disks cannot be told)"
		}
		names = append(names, text)
	}
	return errdefs.New(errdefs.FailedPrecondition, "image store %s: %s is used by %s", s, what, strings.Join(names, ", "))
}
