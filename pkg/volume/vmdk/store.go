// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/inventory"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/virtualdisk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

const (
	// tidyTime is how long clearing away may take after a call has ended.
	tidyTime = time.Minute
	// parallel is how many volumes are read at once.
	parallel = 8
	// kind is that of the marks of imports.
	kind = "volume"
)

// Options of a Store. All but Owner and Clock are required.
type Options struct {
	// Client is a session with the VCH's vCenter, Host the VCH.
	Client *vcenter.Client
	Host   *vch.Config
	// Label is the store's, Location where the VCH's configuration says that it is.
	Label    string
	Location url.URL
	// Owner is what others are told of who is at a volume, such as a host name.
	Owner string
	// Clock is the real one by default.
	Clock clock.WithTicker
}

// Store implements volume.Store and volume.Cleaner. It keeps nothing, and costs
// nothing to make.
type Store struct {
	o         Options
	files     files
	inventory machines
	disks     disks
	layout    layout
	datastore vch.Datastore
	// place is where it is, for people.
	place string
	// unusable is why nothing can be done, if so.
	unusable error
}

var (
	_ volume.Store   = (*Store)(nil)
	_ volume.Cleaner = (*Store)(nil)
)

// files are what a store needs of the datastore; see datastore.Files.
type files interface {
	virtualdisk.Files
	directories
	Read(ctx context.Context, p string, limit int64) ([]byte, error)
}

// directories are what files are in.
type directories interface {
	List(ctx context.Context, dir, pattern string) ([]datastore.Entry, error)
	Tree(ctx context.Context, dir string) (map[string][]datastore.Entry, error)
	MakeDirectory(ctx context.Context, dir string, parents bool) error
	Delete(ctx context.Context, p string) error
	Move(ctx context.Context, from, to string) error
}

// machines is what a store asks of the inventory; see inventory.Reader.
type machines interface {
	VMs(ctx context.Context, keys ...string) ([]inventory.VM, error)
	Now(ctx context.Context) (time.Time, error)
}

// disks makes disks; see virtualdisk.Maker.
type disks interface {
	Imports() bool
	Make(ctx context.Context, to string, c virtualdisk.Content, mark virtualdisk.Mark, progress func(done, total int64)) error
	Holders(ctx context.Context) ([]virtualdisk.Holder, error)
	DestroyHolder(ctx context.Context, ref types.ManagedObjectReference, mark virtualdisk.Mark) error
}

// New returns the volume store at a location. Nothing is sent. That nothing can be done there is
// said by each method.
func New(o Options) *Store {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	s := &Store{o: o, place: o.Location.Redacted()}
	at, err := vch.VolumeStorePath(o.Location)
	if err != nil {
		s.unusable = s.fail(err, "use it")
		return s
	}
	s.place = at.String()
	ds, known := o.Host.Datastores[at.Datastore]
	switch {
	case !known:
		s.unusable = errdefs.New(errdefs.FailedPrecondition, "%s: datastore %q is not in the VCH's datacenter %s; correct the VCH's volume stores", s, at.Datastore, o.Host.DatacenterPath)
	case !ds.Accessible:
		s.unusable = errdefs.New(errdefs.Unavailable, "%s: datastore %q is inaccessible: no host reaches it", s, at.Datastore)
	case at.Path == "" && datastore.Namespaced(ds.Type):
		s.unusable = errdefs.New(errdefs.FailedPrecondition, "%s: on a datastore of type %s a volume store needs a directory; correct the VCH's volume stores", s, ds.Type)
	}
	s.datastore, s.layout = ds, layout{root: at.Path}
	s.use(datastore.New(datastore.Options{
		Client: o.Client, Datacenter: o.Host.Datacenter, DatacenterPath: o.Host.DatacenterPath,
		Datastore: ds.Ref, Name: at.Datastore, Type: ds.Type,
	}))
	s.inventory = inventory.New(inventory.Options{
		Client: o.Client, Datacenter: o.Host.Datacenter, Datastores: []types.ManagedObjectReference{ds.Ref},
	})
	return s
}

// use makes the store work on files.
func (s *Store) use(f files) {
	s.files = f
	s.disks = virtualdisk.New(virtualdisk.Options{
		Client: s.o.Client, Host: s.o.Host, Files: f, Datastore: s.datastore, Kind: kind, Clock: s.o.Clock,
	})
}

// String implements volume.Store.
func (s *Store) String() string {
	return fmt.Sprintf("volume store %q (%s of VCH %s)", s.o.Label, s.place, s.o.Host.Name)
}

// Driver implements volume.Store.
func (s *Store) Driver() volume.Driver { return volume.VMDK }

// fail says which store and what an error is about. It keeps the kind.
func (s *Store) fail(err error, format string, args ...any) error {
	return errdefs.Wrap(errdefs.KindOf(err), err, "%s: %s", s, fmt.Sprintf(format, args...))
}

// usable reports why nothing can be done with volumes of these names.
func (s *Store) usable(ctx context.Context, names ...string) error {
	if err := s.named(names...); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return s.fail(err, "nothing is done")
	}
	return s.unusable
}

// named reports what is wrong with the names of volumes.
func (s *Store) named(names ...string) error {
	for _, name := range names {
		if err := volume.ValidateName(name); err != nil {
			return s.fail(err, "volume %.40q", name)
		}
	}
	return nil
}

// namespaced reports whether the top-level directory has an id beside its name.
func (s *Store) namespaced() bool { return datastore.Namespaced(s.datastore.Type) }

// detached is a context for clearing away, whatever became of the call's.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
}
