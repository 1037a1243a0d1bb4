// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"context"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/inventory"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/virtualdisk"
)

// What stores do unless they are told otherwise.
const (
	DefaultSettle = 2 * time.Minute
	DefaultBeat   = 10 * time.Second
	DefaultStale  = time.Minute
	DefaultPoll   = 5 * time.Second
)

const (
	// tidyTime is how long clearing away may take after a call has ended.
	tidyTime = time.Minute
	// diskKind tells VMs that hold disks of images from others.
	diskKind = "image"
	// parallel is how many small files are read at once.
	parallel = 8
)

// Options of a Store. Client and Host are required.
type Options struct {
	// Client is a session with the VCH's vCenter.
	Client *vcenter.Client
	// Host is the VCH.
	Host *vch.Config
	// Owner is what others are told of who makes a disk, such as a host name. It
	// need not be unique.
	Owner string
	// Clock is what the store waits by. Default: the real one.
	Clock clock.WithTicker
	// Settle is the wait between withdrawing and deleting. It must be longer than
	// image.Validity. Default: DefaultSettle.
	Settle time.Duration
	// Beat is how often the holder of a lock shows that it is alive. Default: DefaultBeat.
	Beat time.Duration
	// Stale is for how long a holder must have shown nothing to be taken for dead.
	// It must be the same everywhere, and some beats long. Default: DefaultStale.
	Stale time.Duration
	// Poll is how often those look that wait. Default: DefaultPoll.
	Poll time.Duration
}

// Store implements image.Store. It keeps nothing, and costs nothing to make.
type Store struct {
	o         Options
	files     files
	inventory vms
	disks     disks
	layout    layout
	datastore vch.Datastore
	name      string
	// unusable is why nothing can be done, if so.
	unusable error
}

var _ image.Store = (*Store)(nil)

// files are what a store needs of the datastore; see datastore.Files.
type files interface {
	contents
	directories
	DeleteDisk(ctx context.Context, p string) error
}

// contents are those of files.
type contents interface {
	Path(p string) string
	Read(ctx context.Context, p string, limit int64) ([]byte, error)
	Size(ctx context.Context, p string) (int64, error)
	Write(ctx context.Context, p string, r io.ReaderAt, size int64, progress func(done int64)) error
}

// directories are what files are in.
type directories interface {
	List(ctx context.Context, dir, pattern string) ([]datastore.Entry, error)
	Tree(ctx context.Context, dir string) (map[string][]datastore.Entry, error)
	MakeDirectory(ctx context.Context, dir string, parents bool) error
	Resolve(ctx context.Context, p string) (string, error)
	Delete(ctx context.Context, p string) error
	Move(ctx context.Context, from, to string) error
}

// vms are the inventory in vCenter; see inventory.Reader.
type vms interface {
	VMs(ctx context.Context, keys ...string) ([]inventory.VM, error)
	Now(ctx context.Context) (time.Time, error)
}

// disks makes those of the datastore; see virtualdisk.Maker.
type disks interface {
	Make(ctx context.Context, to string, c virtualdisk.Content, mark virtualdisk.Mark, progress func(done, total int64)) error
	Holders(ctx context.Context) ([]virtualdisk.Holder, error)
	DestroyHolder(ctx context.Context, ref types.ManagedObjectReference, mark virtualdisk.Mark) error
}

// New returns the image store of a VCH. Nothing is sent. That a datastore is missing
// or inaccessible is said by each method.
func New(o Options) *Store {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{{&o.Settle, DefaultSettle}, {&o.Beat, DefaultBeat}, {&o.Stale, DefaultStale}, {&o.Poll, DefaultPoll}} {
		if *d.value <= 0 {
			*d.value = d.fallback
		}
	}
	at := o.Host.ImageStore
	ds, known := o.Host.Datastores[at.Datastore]
	fs := datastore.New(datastore.Options{
		Client: o.Client, Datacenter: o.Host.Datacenter, DatacenterPath: o.Host.DatacenterPath,
		Datastore: ds.Ref, Name: at.Datastore, Type: ds.Type,
	})
	s := &Store{
		o: o, files: fs, datastore: ds,
		inventory: inventory.New(inventory.Options{Client: o.Client, Datacenter: o.Host.Datacenter, Datastores: []types.ManagedObjectReference{ds.Ref}}),
		disks:     virtualdisk.New(virtualdisk.Options{Client: o.Client, Host: o.Host, Files: fs, Datastore: ds, Kind: diskKind, Clock: o.Clock}),
		layout:    layout{root: path.Join(path.Clean("/" + at.Path)[1:], storeDirectory)},
	}
	s.name = fmt.Sprintf("%s of %s%s", fs.Path(s.layout.root), o.Client.Vim().URL().Host, o.Host.DatacenterPath)
	switch {
	case !known:
		s.unusable = errdefs.New(errdefs.FailedPrecondition, "image store %s: datastore %q of VCH %s is not in its datacenter; correct the VCH's image store", s, at.Datastore, o.Host.Name)
	case !ds.Accessible:
		s.unusable = errdefs.New(errdefs.Unavailable, "image store %s: datastore %q is inaccessible: no host reaches it", s, at.Datastore)
	}
	return s
}

// String implements image.Store.
func (s *Store) String() string { return s.name }

// fail says which store and what an error is about. It keeps the kind.
func (s *Store) fail(err error, format string, args ...any) error {
	return errdefs.Wrap(errdefs.KindOf(err), err, "image store %s: %s", s, fmt.Sprintf(format, args...))
}

// usable reports why nothing can be done with the keys.
func (s *Store) usable(keys ...image.Key) error {
	for _, key := range keys {
		if err := key.Validate(); err != nil {
			return err
		}
	}
	return s.unusable
}

// ended reports that ctx is over.
func (s *Store) ended(ctx context.Context, what string) error {
	if ctx.Err() == nil {
		return nil
	}
	return errdefs.Wrap(errdefs.KindOf(ctx.Err()), ctx.Err(), "%s", what)
}

// wait waits, or until ctx ends.
func (s *Store) wait(ctx context.Context, d time.Duration, what string) error {
	timer := s.o.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return s.ended(ctx, what)
	case <-ctx.Done():
		return s.ended(ctx, what)
	}
}

// detached is a context for clearing away, whatever became of the call's.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
}

// Imports reports whether disks of a datastore are imported, which takes privileges
// of its own, and not uploaded.
func Imports(on vch.Datastore) bool { return datastore.Objects(on.Type) }

func (s *Store) objects() bool { return Imports(s.datastore) }

func (s *Store) namespaced() bool { return datastore.Namespaced(s.datastore.Type) }
