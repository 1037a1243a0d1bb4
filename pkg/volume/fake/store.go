// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// Steps of the calls.
const (
	StepRead     = "read"     // of one volume, all, or leftovers
	StepUsers    = "users"    // which VMs have volumes
	StepPrepare  = "prepare"  // of a new volume
	StepFill     = "fill"     // with disk and metadata
	StepPublish  = "publish"  // or publish again
	StepWithdraw = "withdraw" // from those that look
	StepDelete   = "delete"   // of a volume, or a leftover
)

// Interceptor stands around each step. It decides whether do, the step itself, is
// carried out, and what the step's answer is. It may run in many goroutines at the
// same time, and must not call the Store.
type Interceptor func(ctx context.Context, step string, do func() error) error

// Store is the place as one process has it. It implements volume.Store and volume.Cleaner.
type Store struct {
	place *place

	mu        sync.Mutex
	intercept Interceptor
}

var (
	_ volume.Store   = (*Store)(nil)
	_ volume.Cleaner = (*Store)(nil)
)

// Intercept puts i around all steps that begin from now on; nil takes it away.
func (s *Store) Intercept(i Interceptor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intercept = i
}

// String implements volume.Store.
func (s *Store) String() string {
	return fmt.Sprintf("%s of VCH %s (%s)", s.place.label, s.place.host, s.place.root())
}

// Driver implements volume.Store.
func (s *Store) Driver() volume.Driver { return s.place.driver }

// step carries out one step, through the interceptor and with the place locked.
func (s *Store) step(ctx context.Context, step string, do func() error) error {
	if err := ctx.Err(); err != nil {
		return errdefs.Wrap(errdefs.KindOf(err), err, "%s", step)
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

// fail says which store an error is about, and what was tried. It keeps the kind.
func (s *Store) fail(err error, format string, args ...any) error {
	return errdefs.Wrap(errdefs.KindOf(err), err, "volume store %s: %s", s, fmt.Sprintf(format, args...))
}

func (s *Store) absent(name string) error {
	return errdefs.New(errdefs.NotFound, "there is no volume %s", name)
}

// Create implements volume.Store.
func (s *Store) Create(ctx context.Context, r volume.Request) (*volume.Volume, error) {
	r.Capacity = cmp.Or(r.Capacity, volume.DefaultCapacity)
	r.Metadata.Name, r.Metadata.Driver = r.Name, volume.PersonaDriver
	metadata, err := volume.EncodeMetadata(r.Metadata)
	err = cmp.Or(volume.ValidateName(r.Name), volume.ValidateCapacity(r.Capacity), err)
	if err != nil {
		return nil, err
	}
	v, err := s.create(ctx, r, metadata)
	if err != nil {
		return nil, s.fail(err, "make volume %s", r.Name)
	}
	return v, nil
}

func (s *Store) create(ctx context.Context, r volume.Request, metadata []byte) (v *volume.Volume, err error) {
	p := s.place
	taken := func() error {
		if e := p.volumes[r.Name]; e != nil {
			return errdefs.New(errdefs.AlreadyExists, "it exists, in %s", p.location(r.Name))
		}
		return nil
	}
	if err := s.step(ctx, StepRead, taken); err != nil {
		return nil, err
	}
	e, id := &entry{name: r.Name}, ""
	defer func() {
		if err != nil && id != "" {
			// What is published is not aside any more.
			_ = s.step(context.WithoutCancel(ctx), StepDelete, func() error { delete(p.aside, id); return nil })
		}
	}()
	err = s.step(ctx, StepPrepare, func() error {
		if p.full {
			return errdefs.New(errdefs.ResourceExhausted, "there is no room")
		}
		id = p.putAside(e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = s.step(ctx, StepFill, func() error {
		e.capacity, e.metadata, e.created = r.Capacity, metadata, p.now
		if at, err := time.Parse(time.RFC3339, r.Metadata.Labels[volume.LabelCreated]); err == nil {
			e.created = at
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = s.step(ctx, StepPublish, func() error {
		if err := taken(); err != nil {
			return err
		}
		if p.aside[id] != e {
			return errdefs.New(errdefs.Aborted, "somebody cleaned it away")
		}
		delete(p.aside, id)
		p.volumes[r.Name] = e
		v = p.volume(r.Name)
		return nil
	})
	return v, err
}

// Get implements volume.Store.
func (s *Store) Get(ctx context.Context, name string) (v *volume.Volume, err error) {
	if err := volume.ValidateName(name); err != nil {
		return nil, err
	}
	err = s.step(ctx, StepRead, func() error {
		if v = s.place.volume(name); v == nil {
			return s.absent(name)
		}
		return nil
	})
	if err != nil {
		return nil, s.fail(err, "look for volume %s", name)
	}
	return v, nil
}

// List implements volume.Store.
func (s *Store) List(ctx context.Context) ([]volume.Volume, error) {
	var all []volume.Volume
	err := s.step(ctx, StepRead, func() error {
		for _, name := range slices.Sorted(maps.Keys(s.place.volumes)) {
			all = append(all, *s.place.volume(name))
		}
		return nil
	})
	if err != nil {
		return nil, s.fail(err, "list volumes")
	}
	return all, nil
}

// Users implements volume.Store.
func (s *Store) Users(ctx context.Context, names ...string) (map[string][]volume.User, error) {
	users := map[string][]volume.User{}
	for _, name := range names {
		if err := volume.ValidateName(name); err != nil {
			return nil, err
		}
	}
	err := s.step(ctx, StepUsers, func() error {
		for _, name := range names {
			if of := s.place.usersOf(name); len(of) > 0 {
				users[name] = of
			}
		}
		return nil
	})
	if err != nil {
		return nil, s.fail(err, "look for VMs that have volumes")
	}
	return users, nil
}

// Join implements volume.Store.
func (s *Store) Join(v *volume.Volume, m volume.Mount) (*volume.Joint, error) {
	if v.Damage != "" {
		return nil, s.fail(errdefs.New(errdefs.FailedPrecondition, "it is damaged: %s", v.Damage), "join volume %s", v.Name)
	}
	joint := &volume.Joint{Volume: v.Name, Disk: v.Disk, Discard: m.ReadOnly, Spec: guestinfo.MountSpec{Path: m.Path, CopyMode: guestinfo.CopyNew}}
	if m.NoCopy {
		joint.Spec.CopyMode = guestinfo.CopyNever
	}
	if s.place.driver == volume.VMDK {
		joint.Spec.Source = url.URL{Scheme: "label", Path: volume.Label(v.Name)}
		joint.Spec.Mode = "rw"
		if m.ReadOnly {
			joint.Spec.Mode = "ro"
		}
		return joint, nil
	}
	if m.ReadOnly {
		return nil, s.fail(errdefs.New(errdefs.InvalidArgument, "read only at %s cannot be promised on NFS", m.Path), "join volume %s", v.Name)
	}
	host, path, _ := strings.Cut(strings.TrimPrefix(s.place.location(v.Name), "nfs://"), "/")
	joint.Spec.Source = url.URL{Scheme: "nfs", Host: host, Path: "/" + path}
	joint.Spec.Mode = "vers=3,rsize=131072,wsize=131072,hard,proto=tcp,timeo=600,sec=sys,mountvers=3,mountproto=tcp,nolock,addr=" + host
	return joint, nil
}
