// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/inventory"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// The directories of an export. The first two are VIC's
// (lib/portlayer/storage/volume/nfs/store.go:35-48), the last has what is unfinished.
const (
	volumesDir  = "volumes"
	metadataDir = "volumes_metadata"
	privateDir  = "mcm-volumes"
	newDir      = "new"
	removedDir  = "removed"
	droppedDir  = "metadata"

	directoryMode = 0o755
	fileMode      = 0o644
)

// Options of a Store. All but Dial are required.
type Options struct {
	// Client is a session with the VCH's vCenter, Host the VCH.
	Client *vcenter.Client
	Host   *vch.Config
	// Label is the store's, Location where the VCH's configuration says that it is:
	// nfs://host/path, with uid and gid in the query, or nothing for 1000; port and
	// mountport in the query are for servers without a port mapper.
	Label    string
	Location url.URL
	// Dial connects to the server. By default that is from a privileged port if this
	// process may have one.
	Dial DialFunc
}

// machines is what a store asks of the inventory; see inventory.Reader.
type machines interface {
	VMs(ctx context.Context, keys ...string) ([]inventory.VM, error)
	Keys(ctx context.Context, vms []types.ManagedObjectReference, keys ...string) (map[types.ManagedObjectReference]map[string]string, error)
}

// Store implements volume.Store and volume.Cleaner. It keeps nothing, and costs
// nothing to make.
type Store struct {
	label, vch string
	place      place
	// where is the location, for people.
	where           string
	dial, dialPlain DialFunc
	machines        machines
	step            stepFunc
	// unusable is why nothing can be done, if so.
	unusable error
}

var (
	_ volume.Store   = (*Store)(nil)
	_ volume.Cleaner = (*Store)(nil)
)

// New returns the volume store at a location. Nothing is sent. That nothing can be done there is
// said by each method.
func New(o Options) *Store {
	s := &Store{
		label: o.Label, vch: o.Host.Name, where: (&url.URL{Scheme: o.Location.Scheme, Host: o.Location.Host, Path: o.Location.Path}).String(),
		dial: o.Dial, dialPlain: o.Dial, step: justDo,
		machines: inventory.New(inventory.Options{Client: o.Client, Datacenter: o.Host.Datacenter}),
	}
	if o.Dial == nil {
		s.dial, s.dialPlain = dialPrivileged, dialPlain
	}
	at, err := parsePlace(o.Location)
	if err != nil {
		s.unusable = s.fail(err, "use it")
		return s
	}
	s.place = at
	s.where = s.text()
	return s
}

// String implements volume.Store.
func (s *Store) String() string {
	return fmt.Sprintf("volume store %s (%s) of VCH %s", s.label, s.where, s.vch)
}

// Driver implements volume.Store.
func (s *Store) Driver() volume.Driver { return volume.NFS }

// text is where something is, for people.
func (s *Store) text(elements ...string) string {
	u := s.place.url(elements...)
	return u.String()
}

// usable is what is asked before anything is done.
func (s *Store) usable(names ...string) error {
	if s.unusable != nil {
		return s.unusable
	}
	for _, name := range names {
		if err := volume.ValidateName(name); err != nil {
			return err
		}
	}
	return nil
}

// Get implements volume.Store.
func (s *Store) Get(ctx context.Context, name string) (*volume.Volume, error) {
	if err := s.usable(name); err != nil {
		return nil, err
	}
	var v *volume.Volume
	err := s.with(ctx, workTime, func(ctx context.Context, n *session) error {
		dir, there, err := n.dir(ctx, volumesDir)
		if err != nil {
			return err
		}
		if there {
			v, err = s.look(ctx, n, dir, entry{name: name})
		}
		if err == nil && v == nil {
			err = s.absent(name)
		}
		return err
	})
	if err != nil {
		return nil, s.fail(err, "get volume %s", name)
	}
	return v, nil
}

func (s *Store) absent(name string) error {
	return errdefs.New(errdefs.NotFound, "there is no %s", s.text(volumesDir, name))
}

// List implements volume.Store.
func (s *Store) List(ctx context.Context) ([]volume.Volume, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	volumes := []volume.Volume{}
	err := s.with(ctx, workTime, func(ctx context.Context, n *session) error {
		dir, there, err := n.dir(ctx, volumesDir)
		if err != nil || !there {
			return err
		}
		entries, err := n.list(ctx, dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			v, err := s.look(ctx, n, dir, e)
			if err != nil {
				return err
			}
			if v != nil {
				volumes = append(volumes, *v)
			}
		}
		return nil
	})
	if err != nil {
		return nil, s.fail(err, "list volumes")
	}
	slices.SortFunc(volumes, func(a, b volume.Volume) int { return strings.Compare(a.Name, b.Name) })
	return volumes, nil
}

// looks is how often a volume is looked at that seems damaged.
const looks = 3

// look returns an entry of the directory of volumes as a volume; nil if it is not there
// (any more). What comes or goes at the moment seems damaged, so it looks again.
func (s *Store) look(ctx context.Context, n *session, volumes handle, e entry) (*volume.Volume, error) {
	var v *volume.Volume
	for range looks {
		if !e.known {
			at, there, err := n.find(ctx, volumes, e.name)
			if err != nil || !there {
				return nil, err
			}
			e.attributes = at.attributes
		}
		var err error
		if v, err = s.inspect(ctx, n, e.name, e.attributes); err != nil || v.Damage == "" {
			return v, err
		}
		e.known = false
	}
	return v, nil
}

// inspect tells what is at an entry of the directory of volumes.
func (s *Store) inspect(ctx context.Context, n *session, name string, at attributes) (*volume.Volume, error) {
	v := &volume.Volume{Name: name, Store: s.label, Driver: volume.NFS, Location: s.text(volumesDir, name)}
	if err := volume.ValidateName(name); err != nil {
		v.Damage = fmt.Sprintf("%q is not the name of a volume, and VIC takes it for one", name)
		return v, nil //nolint:nilerr // said otherwise
	}
	file := path.Join(metadataDir, name, volume.MetadataKey)
	f, there, err := n.in(ctx, name, metadataDir)
	if err == nil && there {
		f, there, err = n.find(ctx, f.handle, volume.MetadataKey)
	}
	var content []byte
	if err == nil && there && !f.directory {
		content, err = n.contents(ctx, f.handle, volume.MaxMetadata+1)
	}
	switch {
	case err != nil && !is(err, statusStale, statusNoEnt, statusNotDir):
		return nil, err
	case err != nil || !there || f.directory:
		v.Damage = fmt.Sprintf("it has no metadata (%s), without which VIC lists no volume of the store", file)
		return v, nil //nolint:nilerr // said otherwise
	}
	if v.Metadata, err = volume.DecodeMetadata(content); err != nil || len(content) > volume.MaxMetadata {
		v.Metadata = volume.Metadata{}
		v.Damage = fmt.Sprintf("its metadata (%s) cannot be read, for which VIC lists no volume of the store", file)
		return v, nil //nolint:nilerr // said otherwise
	}
	if !at.directory {
		v.Damage = "it is no directory, so no guest can mount it"
	}
	v.Created = created(v.Metadata, f.attributes)
	return v, nil
}

// created is when a volume was made, as it says itself, or as its metadata is old.
func created(m volume.Metadata, file attributes) time.Time {
	if at, err := time.Parse(time.RFC3339, m.Labels[volume.LabelCreated]); err == nil {
		return at.UTC()
	}
	return file.modified.UTC()
}

// Join implements volume.Store. A guest mounts what Spec says, after it has put the
// address in the place of the host (VIC, lib/tether/ops_linux.go:945-985).
func (s *Store) Join(v *volume.Volume, m volume.Mount) (*volume.Joint, error) {
	if s.unusable != nil {
		return nil, s.unusable
	}
	if err := volume.ValidateName(v.Name); err != nil {
		return nil, err
	}
	switch {
	case v.Driver != volume.NFS || v.Store != s.label:
		return nil, errdefs.New(errdefs.InvalidArgument, "%s: join volume %s: it is of store %s (%s)", s, v.Name, v.Store, v.Driver)
	case v.Damage != "":
		return nil, errdefs.New(errdefs.FailedPrecondition, "%s: join volume %s: %s; repair or remove it", s, v.Name, v.Damage)
	case !path.IsAbs(m.Path) || path.Clean(m.Path) != m.Path:
		return nil, errdefs.New(errdefs.InvalidArgument, "%s: join volume %s: mount path %q is not absolute and clean", s, v.Name, m.Path)
	case m.ReadOnly:
		return nil, errdefs.New(errdefs.InvalidArgument, "%s: join volume %s at %s: ro cannot be had on NFS, since guests of VIC mount it for writing whatever is asked; use rw, or a volume on a datastore", s, v.Name, m.Path)
	}
	mode := guestinfo.CopyNew
	if m.NoCopy {
		mode = guestinfo.CopyNever
	}
	return &volume.Joint{Volume: v.Name, Spec: guestinfo.MountSpec{
		Source: s.place.url(volumesDir, v.Name), Path: m.Path, Mode: s.place.options(), CopyMode: mode,
	}}, nil
}
