// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import (
	"context"
	"path"
	"regexp"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// What is wrong with a volume. VIC lists a store by reading the metadata directory of each entry,
// and gives up at the first that has none (VIC, lib/portlayer/storage/volume/vsphere/store.go:172-207);
// its persona gives up at the first without its key (VIC, lib/apiservers/engine/backends/volume.go:106-109).
const (
	hidesStore = "; a VCH that restarts shows none of the volumes of this store until it is gone"
	breaksList = "; docker volume ls fails for all volumes of the VCH until it is gone"

	strayFile    = "it is a file, not the directory of a volume" + hidesStore
	badName      = "its name is not one that a volume can have"
	noDirectory  = "it has no directory " + metadataDirectory + hidesStore
	noMetadata   = "it has no " + volume.MetadataKey + breaksList
	longMetadata = "its " + volume.MetadataKey + " is too large"
	badMetadata  = "its " + volume.MetadataKey + " cannot be read" + breaksList
	noDisk       = "it has no disk: no container VM can start with it"
	badDisk      = "the descriptor of its disk cannot be read: no container VM can start with it"
)

const (
	// maxDescriptor is more than any descriptor of a disk has.
	maxDescriptor = 64 << 10
	sectorSize    = 512
	// readAttempts is how often a volume is read that changes meanwhile.
	readAttempts = 3
)

// newVolume returns a volume of which only the place is known.
func (s *Store) newVolume(name string) *volume.Volume {
	return &volume.Volume{
		Name: name, Store: s.o.Label, Driver: volume.VMDK,
		Location: s.files.Path(diskIn(s.layout.volume(name), name)),
	}
}

// Get implements volume.Store. A good volume is two requests.
func (s *Store) Get(ctx context.Context, name string) (*volume.Volume, error) {
	if err := s.usable(ctx, name); err != nil {
		return nil, err
	}
	v, err := s.get(ctx, name)
	if err != nil {
		return nil, s.fail(err, "read volume %s", name)
	}
	if err := s.locate(ctx, v); err != nil {
		return nil, s.fail(err, "read volume %s", name)
	}
	return v, nil
}

// locate adds the paths that devices must have, for which the first element of the
// store's directory may be looked up.
func (s *Store) locate(ctx context.Context, volumes ...*volume.Volume) error {
	if !s.namespaced() || len(volumes) == 0 {
		return nil
	}
	root, err := s.files.Resolve(ctx, s.layout.root)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		if v.Disk != "" {
			v.Disk = s.files.Path(diskIn(layout{root: root}.volume(v.Name), v.Name))
		}
	}
	return nil
}

// get reads a volume, without the path for devices.
func (s *Store) get(ctx context.Context, name string) (*volume.Volume, error) {
	for range readAttempts {
		v, err := s.read(ctx, s.layout.volume(name), name)
		if !errdefs.Is(err, errdefs.NotFound) {
			return v, err
		}
		v, err = s.look(ctx, name)
		if err != nil || v != nil {
			return v, err
		}
	}
	return nil, errdefs.New(errdefs.Aborted, "it changes all the time")
}

// read reads a volume in a directory. NotFound if a file of it is missing, or all.
func (s *Store) read(ctx context.Context, dir, name string) (*volume.Volume, error) {
	v := s.newVolume(name)
	if err := s.readMetadata(ctx, v, dir); err != nil {
		return nil, err
	}
	capacity, damage, err := s.capacity(ctx, diskIn(dir, name))
	if err != nil {
		return nil, err
	}
	v.Capacity = capacity
	v.Disk = v.Location
	s.hurt(v, damage)
	return v, nil
}

// hurt notes damage; of several, the first is the worst.
func (s *Store) hurt(v *volume.Volume, damage string) {
	if damage != "" && v.Damage == "" {
		v.Damage = damage
	}
	if v.Damage != "" {
		v.Capacity = 0
	}
}

func (s *Store) readMetadata(ctx context.Context, v *volume.Volume, dir string) error {
	text, err := s.files.Read(ctx, metadataIn(dir), volume.MaxMetadata)
	if errdefs.Is(err, errdefs.FailedPrecondition) {
		s.hurt(v, longMetadata)
		return nil
	}
	if err != nil {
		return err
	}
	m, err := volume.DecodeMetadata(text)
	if err != nil {
		s.hurt(v, badMetadata)
		return nil //nolint:nilerr // it is the volume's damage
	}
	v.Metadata = m
	if t, err := time.Parse(time.RFC3339, m.Labels[volume.LabelCreated]); err == nil {
		v.Created = t
	}
	return nil
}

var extentPattern = regexp.MustCompile(`(?m)^[ \t]*(?:RW|RDONLY|NOACCESS)[ \t]+([0-9]{1,15})[ \t]`)

// capacity reads the descriptor of a disk, where it is the sum of the extents.
func (s *Store) capacity(ctx context.Context, disk string) (bytes int64, damage string, err error) {
	text, err := s.files.Read(ctx, disk, maxDescriptor)
	if errdefs.Is(err, errdefs.FailedPrecondition) {
		return 0, badDisk, nil
	}
	if err != nil {
		return 0, "", err
	}
	for _, found := range extentPattern.FindAllSubmatch(text, -1) {
		sectors, err := strconv.ParseInt(string(found[1]), 10, 64)
		if err != nil || sectors > (1<<62)/sectorSize-bytes/sectorSize {
			return 0, badDisk, nil //nolint:nilerr // it is the volume's damage
		}
		bytes += sectors * sectorSize
	}
	if bytes == 0 {
		return 0, badDisk, nil
	}
	return bytes, "", nil
}

// look says what is there in place of a good volume: NotFound if nothing is. The answer is nil
// if it seems to be good.
func (s *Store) look(ctx context.Context, name string) (*volume.Volume, error) {
	entries, err := s.files.List(ctx, s.layout.volumes(), name)
	if err != nil && !errdefs.Is(err, errdefs.NotFound) {
		return nil, err
	}
	i := slices.IndexFunc(entries, named(name))
	if i < 0 {
		return nil, errdefs.New(errdefs.NotFound, "%s is not there", s.files.Path(s.layout.volume(name)))
	}
	var tree map[string][]datastore.Entry
	if entries[i].Dir {
		if tree, err = s.files.Tree(ctx, s.layout.volume(name)); errdefs.Is(err, errdefs.NotFound) {
			return nil, nil //nolint:nilnil // it was removed right now: look again
		} else if err != nil {
			return nil, err
		}
	}
	found := found{Entry: entries[i], tree: tree}
	if found.whole() {
		return nil, nil //nolint:nilnil // it was published right now: read again
	}
	return s.damaged(ctx, found)
}

// named matches the entry with a name.
func named(name string) func(datastore.Entry) bool {
	return func(e datastore.Entry) bool { return e.Name == name }
}

// found is what is in the place of a volume.
type found struct {
	datastore.Entry
	// tree has what is in it, dir the path in tree.
	tree map[string][]datastore.Entry
	dir  string
}

func (f found) has(p string, dir bool) bool {
	in := path.Join(f.dir, path.Dir(p))
	if in == "." {
		in = ""
	}
	return slices.ContainsFunc(f.tree[in], func(e datastore.Entry) bool { return e.Name == path.Base(p) && e.Dir == dir })
}

func (f found) hasDirectory() bool { return f.has(metadataDirectory, true) }
func (f found) hasMetadata() bool  { return f.has(metadataIn(""), false) }
func (f found) hasDisk() bool      { return f.has(diskIn("", f.Name), false) }
func (f found) whole() bool        { return f.Dir && f.hasMetadata() && f.hasDisk() }

// damaged returns what is known of something that is not whole.
func (s *Store) damaged(ctx context.Context, f found) (*volume.Volume, error) {
	v := s.newVolume(f.Name)
	dir := s.layout.volume(f.Name)
	if v.Disk = v.Location; !f.hasDisk() {
		v.Disk, v.Location = "", s.files.Path(dir)
	}
	switch {
	case !f.Dir:
		s.hurt(v, strayFile)
		return v, nil
	case !f.hasDirectory():
		s.hurt(v, noDirectory)
	case !f.hasMetadata():
		s.hurt(v, noMetadata)
	default:
		if err := s.readMetadata(ctx, v, dir); err != nil {
			return nil, err
		}
	}
	if !f.hasDisk() {
		s.hurt(v, noDisk)
	}
	return v, nil
}

// List implements volume.Store: one search, and two requests for each volume.
func (s *Store) List(ctx context.Context) ([]volume.Volume, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	tree, err := s.files.Tree(ctx, s.layout.volumes())
	if errdefs.Is(err, errdefs.NotFound) {
		return []volume.Volume{}, nil
	}
	if err != nil {
		return nil, s.fail(err, "list the volumes")
	}
	entries := tree[""]
	all := make([]*volume.Volume, len(entries))
	group, each := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, e := range entries {
		group.Go(func() error {
			v, err := s.listed(each, found{Entry: e, tree: tree, dir: e.Name})
			if err != nil && !errdefs.Is(err, errdefs.NotFound) { // removed meanwhile
				return s.fail(err, "read volume %s", e.Name)
			}
			all[i] = v
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return s.complete(ctx, slices.DeleteFunc(all, func(v *volume.Volume) bool { return v == nil }))
}

// listed reads a volume that was found in a search.
func (s *Store) listed(ctx context.Context, f found) (*volume.Volume, error) {
	if volume.ValidateName(f.Name) != nil {
		return s.unnamed(f), nil //nolint:nilerr // it is the volume's damage
	}
	if !f.whole() {
		v, err := s.damaged(ctx, f)
		if !errdefs.Is(err, errdefs.NotFound) {
			return v, err
		}
	}
	return s.get(ctx, f.Name)
}

// unnamed is something in the place of volumes that has the name of none, so that no
// method takes it.
func (s *Store) unnamed(f found) *volume.Volume {
	v := s.newVolume(f.Name)
	v.Location = s.files.Path(s.layout.volume(f.Name))
	s.hurt(v, badName+hidesStoreIf(!f.Dir || !f.hasDirectory())+": delete it by hand")
	return v
}

func hidesStoreIf(hides bool) string {
	if hides {
		return hidesStore
	}
	return ""
}

// complete adds the paths for devices.
func (s *Store) complete(ctx context.Context, all []*volume.Volume) ([]volume.Volume, error) {
	list := make([]volume.Volume, 0, len(all))
	if len(all) == 0 {
		return list, nil
	}
	if err := s.locate(ctx, all...); err != nil {
		return nil, s.fail(err, "list the volumes")
	}
	for _, v := range all {
		list = append(list, *v)
	}
	return list, nil
}
