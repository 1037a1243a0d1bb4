// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"path"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/virtualdisk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// owner is who is at an entry, for people. The time that counts is the file's own.
type owner struct {
	Owner string    `json:"owner,omitempty"`
	Begun time.Time `json:"begun"`
}

// draft is a volume that is being made.
type draft struct {
	entry
	capacity int64
	metadata []byte
	volume   *volume.Volume
	// offered says that it may have been published.
	offered bool
}

// Create implements volume.Store.
func (s *Store) Create(ctx context.Context, r volume.Request) (*volume.Volume, error) {
	d, err := s.draft(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := s.absent(ctx, r.Name); err != nil {
		return nil, s.fail(err, "make volume %s", r.Name)
	}
	err = s.make(ctx, d)
	if err == nil {
		s.dismiss(ctx, d.entry)
		return d.volume, nil
	}
	if published := s.giveUp(ctx, d); published {
		return d.volume, nil // the answer to its publication was lost
	}
	return nil, s.fail(err, "make volume %s", r.Name)
}

// draft reads a request.
func (s *Store) draft(ctx context.Context, r volume.Request) (*draft, error) {
	if r.Capacity == 0 {
		r.Capacity = volume.DefaultCapacity
	}
	if err := volume.ValidateCapacity(r.Capacity); err != nil {
		return nil, s.fail(err, "make volume %.40q", r.Name)
	}
	if err := s.usable(ctx, r.Name); err != nil {
		return nil, err
	}
	m := r.Metadata
	m.Name, m.Driver = r.Name, volume.PersonaDriver
	text, err := volume.EncodeMetadata(m)
	if err != nil {
		return nil, s.fail(err, "make volume %s", r.Name)
	}
	if len(text) > volume.MaxMetadata {
		return nil, errdefs.New(errdefs.InvalidArgument, "%s: make volume %s: its metadata has %d bytes, at most %d are read again", s, r.Name, len(text), volume.MaxMetadata)
	}
	return &draft{entry: newEntry(making, r.Name), capacity: r.Capacity, metadata: text}, nil
}

func taken(name string) error {
	return errdefs.New(errdefs.AlreadyExists, "volume %s is there already", name)
}

// absent saves the work if the volume is there. It need not notice a damaged one.
func (s *Store) absent(ctx context.Context, name string) error {
	switch _, err := s.files.Read(ctx, metadataIn(s.layout.volume(name)), volume.MaxMetadata); {
	case err == nil, errdefs.Is(err, errdefs.FailedPrecondition):
		return taken(name)
	case !errdefs.Is(err, errdefs.NotFound):
		return err
	}
	return nil
}

// make makes a volume in its entry and publishes it.
func (s *Store) make(ctx context.Context, d *draft) error {
	// The place that it is to have; VIC makes it when it starts.
	if err := s.files.MakeDirectory(ctx, s.layout.volumes(), true); err != nil {
		return err
	}
	dir := s.layout.held(d.entry)
	if err := s.files.MakeDirectory(ctx, path.Dir(metadataIn(dir)), true); err != nil {
		return err
	}
	if err := s.sign(ctx, d.entry); err != nil {
		return err
	}
	if err := s.write(ctx, metadataIn(dir), d.metadata); err != nil {
		return err
	}
	content, err := makeContent(ctx, d.name, d.capacity, s.o.Clock.Now())
	if err != nil {
		return err
	}
	mark := virtualdisk.Mark{Subject: d.name, Attempt: d.id, Owner: s.o.Owner}
	if err := s.disks.Make(ctx, diskIn(dir, d.name), content, mark, nil); err != nil {
		return err
	}
	if err := s.check(ctx, d); err != nil {
		return err
	}
	d.offered = true
	err = s.files.Move(ctx, dir, s.layout.volume(d.name))
	if errdefs.Is(err, errdefs.AlreadyExists) {
		return taken(d.name)
	}
	return err
}

// sign notes who is at an entry, and when that began.
func (s *Store) sign(ctx context.Context, e entry) error {
	text, err := json.Marshal(owner{Owner: s.o.Owner, Begun: s.o.Clock.Now().UTC()})
	if err != nil {
		return errdefs.Wrap(errdefs.Internal, err, "encode the owner of %s", s.layout.entry(e))
	}
	return s.write(ctx, path.Join(s.layout.entry(e), ownerFile), text)
}

func (s *Store) write(ctx context.Context, p string, content []byte) error {
	return s.files.Write(ctx, p, bytes.NewReader(content), int64(len(content)), nil)
}

// check reads a volume back before it is published: whoever took its maker for dead
// has deleted some of it, perhaps.
func (s *Store) check(ctx context.Context, d *draft) error {
	dir := s.layout.held(d.entry)
	v, err := s.read(ctx, dir, d.name)
	var metadata []byte
	if err == nil {
		if err = s.locate(ctx, v); err == nil {
			metadata, err = volume.EncodeMetadata(v.Metadata)
		}
	}
	switch {
	case errdefs.Is(err, errdefs.NotFound):
		return errdefs.Wrap(errdefs.Aborted, err, "it was deleted while it was made")
	case err != nil:
		return err
	case v.Damage != "" || v.Capacity != d.capacity || !bytes.Equal(metadata, d.metadata):
		return errdefs.New(errdefs.Unavailable, "%s is not what was written: the disk has %d bytes, it should have %d; the metadata has %d, it should have %d; %s",
			s.files.Path(dir), v.Capacity, d.capacity, len(metadata), len(d.metadata), cmp.Or(v.Damage, "all can be read"))
	}
	d.volume = v
	return nil
}

// giveUp takes away what was made, unless it is published: whether it is, is certain
// from the claim on, also when the answer to the publication was lost.
func (s *Store) giveUp(ctx context.Context, d *draft) (published bool) {
	tidy, cancel := detached(ctx)
	defer cancel()
	claimed, err := s.claim(tidy, d.entry)
	if errdefs.Is(err, errdefs.NotFound) {
		return false // nothing was made, or somebody has cleaned up already
	}
	holds := directory // or less
	if err == nil && d.offered {
		holds, err = s.holds(tidy, claimed)
		published = err == nil && holds == nothing
	}
	if err == nil {
		err = s.delete(tidy, claimed, holds)
	}
	if err != nil {
		s.stays(ctx, d.entry, err)
	}
	return published
}
