// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"cmp"
	"context"
	"time"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const (
	// lookLimit is for the look at the other stores when the new volume is there: in that
	// time nobody can have used it, and be gone again, before it is taken back.
	lookLimit = 30 * time.Second
	// takeBackLimit is for taking back a volume although the caller's context has ended.
	takeBackLimit = time.Minute
)

// attempts is how often names are fought for, and how long it is waited between.
func attempts() wait.Backoff {
	return wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 6}
}

// Create makes a volume in the store with a label (empty: the default store). A
// volume of that name in any store is AlreadyExists, and the text says where it is.
// All stores must answer, or it cannot be known. Of those that make the same name
// in different stores at the same time one at most has success; when all take theirs back
// for the others' sake, again and again, it is Aborted. Anonymous volumes that have a UUID for
// a name are looked for in no other store.
func (s *Set) Create(ctx context.Context, label string, r Request) (*Volume, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	label = cmp.Or(label, DefaultStore)
	store, err := s.Store(label)
	if err != nil {
		return nil, err
	}
	if r.anonymous() {
		return store.Create(ctx, r)
	}
	var v *Volume
	err = s.repeat(ctx, r.Name, func() (done bool, err error) {
		if err := s.absent(r.Name, s.look(ctx, r.Name)); err != nil {
			return false, err
		}
		v, err = s.createOnly(ctx, label, store, r)
		return v != nil, err
	})
	return v, err
}

// Ensure returns the volume that is there, or makes it. One that is in another store than
// label, if that is not empty, is FailedPrecondition and the text says where; its capacity
// and metadata are not compared, and it may be damaged. created says that this call made it.
func (s *Set) Ensure(ctx context.Context, label string, r Request) (v *Volume, created bool, err error) {
	if err := r.validate(); err != nil {
		return nil, false, err
	}
	if r.anonymous() {
		return s.ensureAnonymous(ctx, label, r)
	}
	err = s.repeat(ctx, r.Name, func() (done bool, err error) {
		v, err = s.only(ctx, r.Name, s.look(ctx, r.Name))
		switch {
		case err == nil && label != "" && v.Store != label:
			return false, errdefs.New(errdefs.FailedPrecondition, "volume %s of VCH %s is not in volume store %s, it is in %s", r.Name, s.host, quoted(label), place(v))
		case err == nil:
			return true, nil
		case !errdefs.Is(err, errdefs.NotFound):
			return false, err
		}
		store, err := s.Store(label)
		if err != nil {
			return false, err
		}
		v, err = s.createOnly(ctx, cmp.Or(label, DefaultStore), store, r)
		if errdefs.Is(err, errdefs.AlreadyExists) {
			return false, nil // another one was faster, and the next look shows it
		}
		created = v != nil
		return created, err
	})
	if err != nil {
		return nil, false, err
	}
	return v, created, nil
}

func (s *Set) ensureAnonymous(ctx context.Context, label string, r Request) (v *Volume, created bool, err error) {
	store, err := s.Store(label)
	if err != nil {
		return nil, false, err
	}
	err = s.repeat(ctx, r.Name, func() (done bool, err error) {
		if v, err = store.Get(ctx, r.Name); !errdefs.Is(err, errdefs.NotFound) {
			return true, err
		}
		v, err = store.Create(ctx, r)
		if errdefs.Is(err, errdefs.AlreadyExists) {
			return false, nil
		}
		created = err == nil
		return true, err
	})
	if err != nil {
		return nil, false, err
	}
	return v, created, nil
}

// repeat does attempt until it is done or fails. When others are in its way each
// time, it is Aborted.
func (s *Set) repeat(ctx context.Context, name string, attempt func() (done bool, err error)) error {
	var failed error
	err := wait.ExponentialBackoffWithContext(ctx, attempts(), func(context.Context) (done bool, _ error) {
		done, failed = attempt()
		return done || failed != nil, nil
	})
	switch {
	case failed != nil:
		return failed
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errdefs.Wrap(errdefs.KindOf(ctx.Err()), ctx.Err(), "make volume %s in VCH %s", name, s.host)
	}
	return errdefs.New(errdefs.Aborted, "make volume %s in VCH %s: others make it and take it away at the same time; repeat", name, s.host)
}

// absent is the error of a name that is taken, or may be.
func (s *Set) absent(name string, l look) error {
	if found := l.sorted(); len(found) > 0 {
		return errdefs.New(errdefs.AlreadyExists, "volume %s exists in VCH %s: it is in %s", name, s.host, places(found))
	}
	return s.joined(l.failed, "volume %s is not made: it cannot be known whether VCH %s has one of that name", name, s.host)
}

// createOnly makes a volume that no store had at the last look, and looks again whether
// another store has it by now. Then it takes its own back, and returns nil without an
// error: all others may have done so too. Of two that make the same name one looks
// last, and does so when both are there, so it sees the other one.
func (s *Set) createOnly(ctx context.Context, label string, store Store, r Request) (*Volume, error) {
	v, err := store.Create(ctx, r)
	if err != nil {
		return nil, err
	}
	looking, done := context.WithTimeout(ctx, lookLimit)
	l := s.look(looking, r.Name, label)
	done()
	why := s.absent(r.Name, l)
	if why == nil {
		return v, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackLimit)
	defer cancel()
	if err := store.Remove(ctx, r.Name); err != nil && !errdefs.Is(err, errdefs.NotFound) {
		return nil, errdefs.Wrap(errdefs.KindOf(err), err, "%s; and the new one in %s cannot be taken back", why.Error(), place(v))
	}
	if len(l.found) > 0 {
		return nil, nil //nolint:nilnil // as the comment says
	}
	return nil, why
}

func (r Request) validate() error {
	if err := ValidateName(r.Name); err != nil {
		return err
	}
	if r.Capacity == 0 {
		return nil
	}
	return ValidateCapacity(r.Capacity)
}

// anonymous reports whether the name is one that nobody else can come to have.
func (r Request) anonymous() bool {
	return r.Metadata.Labels[LabelAnonymous] == "true" && uuid.Validate(r.Name) == nil
}
