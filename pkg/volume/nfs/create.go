// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"

	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// How a volume comes, so that it is never there without metadata:
//
//  1. mcm-volumes/new/<name>.<32 hex>/metadata/DockerMetaData is written.
//  2. That metadata directory is renamed to volumes_metadata/<name>, which fails if one is there: of a
//     creation that is under way or was cut off, or of a volume that is being removed.
//  3. MKDIR of volumes/<name> publishes. Of many one has success, whoever's
//     metadata is there, and it is complete.
//  4. If it was another one's, the file is renamed over it.
//
// Nobody deletes metadata while there is a volume: see drop. Between its two looks and
// a creation there is a moment in which both may be wrong; so both look again.

// attemptMetadata is what an attempt has.
const attemptMetadata = "metadata"

// places is how often the metadata of a volume that was published are put in place.
const places = 5

// attempt is a creation that is under way.
type attempt struct {
	name    string
	content []byte
	// entry is its name among the new ones.
	entry string
	// file is its metadata, wherever that is.
	file node
	// begun says that there may be something of it.
	begun bool
	// claimed says that the metadata is, or may be, where that of the volume belongs.
	claimed bool
	// volume is the directory that this made: the volume is published.
	volume handle
	// settled says that its metadata are known to be in place.
	settled bool
}

// unique is a name for something of a volume that nobody else has.
func unique(name string) string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	return name + "." + hex.EncodeToString(id)
}

// Create implements volume.Store.
func (s *Store) Create(ctx context.Context, r volume.Request) (*volume.Volume, error) {
	if err := s.usable(r.Name); err != nil {
		return nil, err
	}
	if r.Capacity != 0 {
		if err := volume.ValidateCapacity(r.Capacity); err != nil {
			return nil, err
		}
	}
	r.Metadata.Name, r.Metadata.Driver = r.Name, volume.PersonaDriver
	content, err := volume.EncodeMetadata(r.Metadata)
	if err != nil {
		return nil, err
	}
	if len(content) > volume.MaxMetadata {
		return nil, errdefs.New(errdefs.InvalidArgument, "metadata of volume %s has %d bytes, at most %d are allowed", r.Name, len(content), volume.MaxMetadata)
	}
	a := &attempt{name: r.Name, content: content, entry: unique(r.Name)}
	err = s.with(ctx, workTime, func(ctx context.Context, n *session) error { return s.create(ctx, n, a) })
	if a.volume != "" {
		if err != nil {
			err = s.later(ctx, a, err)
		}
		if !a.settled && !a.claimed {
			return nil, s.fail(err, "put the metadata of volume %s, which was created, in the place of those of another creation", r.Name)
		}
		return s.made(a)
	}
	if !a.begun {
		return nil, s.fail(err, "create volume %s", r.Name)
	}
	if undo := s.undo(ctx, a); undo != nil {
		klog.FromContext(ctx).V(1).Info("Could not take away what is left of a volume that was not made", "volume", a.name, "reason", undo.Error())
	}
	return nil, s.fail(err, "create volume %s", r.Name)
}

// later does what is left to do after a volume was made, on another connection. err is why.
func (s *Store) later(ctx context.Context, a *attempt, err error) error {
	klog.FromContext(ctx).V(1).Info("Could not tidy up after a volume was made", "volume", a.name, "reason", err.Error())
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
	defer cancel()
	again := s.with(tidy, tidyTime, a.finish)
	if again != nil {
		klog.FromContext(ctx).V(1).Info("What is left of a creation is a leftover", "volume", a.name, "reason", again.Error())
		return errors.Join(err, again)
	}
	return nil
}

func (s *Store) made(a *attempt) (*volume.Volume, error) {
	m, err := volume.DecodeMetadata(a.content)
	if err != nil {
		return nil, err
	}
	return &volume.Volume{
		Name: a.name, Store: s.label, Driver: volume.NFS, Location: s.text(volumesDir, a.name),
		Created: created(m, a.file.attributes), Metadata: m,
	}, nil
}

func (s *Store) create(ctx context.Context, n *session, a *attempt) error {
	volumes, err := n.ensure(ctx, volumesDir)
	if err != nil {
		return err
	}
	if _, there, err := n.find(ctx, volumes, a.name); err != nil || there {
		return s.taken(a.name, err)
	}
	metadata, err := n.ensure(ctx, metadataDir)
	if err != nil {
		return err
	}
	own, err := a.prepare(ctx, n)
	if err != nil {
		return err
	}
	a.claimed = true
	err = n.rename(ctx, own, attemptMetadata, metadata, a.name)
	if answered(err) {
		a.claimed = false
	}
	if err != nil && !is(err, statusExist, statusNotEmpty) {
		return err
	}
	at, err := n.mkdir(ctx, volumes, a.name)
	if is(err, statusExist) {
		// Whoever made it keeps the metadata that are there, ours or not.
		a.claimed = false
		return s.taken(a.name, nil)
	}
	if err != nil {
		return err
	}
	a.volume = at.handle
	return a.finish(ctx, n)
}

// finish is what is left to do when the volume is there.
func (a *attempt) finish(ctx context.Context, n *session) error {
	if !a.settled {
		if err := a.settle(ctx, n); err != nil {
			return err
		}
		a.settled = true
	}
	return a.dismiss(ctx, n)
}

// taken is the error of a name that is there.
func (s *Store) taken(name string, err error) error {
	if err != nil {
		return err
	}
	return errdefs.New(errdefs.AlreadyExists, "%s is there already", s.text(volumesDir, name))
}

// prepare writes the metadata where nobody looks.
func (a *attempt) prepare(ctx context.Context, n *session) (handle, error) {
	all, err := n.ensure(ctx, privateDir, newDir)
	if err != nil {
		return "", err
	}
	// Who removes a volume later may have no room for these.
	for _, later := range []string{removedDir, droppedDir} {
		if _, err := n.ensure(ctx, privateDir, later); err != nil {
			return "", err
		}
	}
	a.begun = true
	own, err := n.mkdir(ctx, all, a.entry)
	if err != nil {
		return "", err
	}
	return own.handle, a.write(ctx, n, own.handle)
}

func (a *attempt) write(ctx context.Context, n *session, own handle) error {
	dir, err := n.mkdir(ctx, own, attemptMetadata)
	if err != nil {
		return err
	}
	a.file, err = n.store(ctx, dir.handle, volume.MetadataKey, a.content)
	return err
}

// settle sees to it that a volume that this attempt published has this attempt's
// metadata, as long as it is there: what was there before may be another one's, or
// may just have been taken away.
func (a *attempt) settle(ctx context.Context, n *session) error {
	metadata, err := n.ensure(ctx, metadataDir)
	if err != nil {
		return err
	}
	for range places {
		mine, err := a.inPlace(ctx, n, metadata)
		if err != nil || mine {
			return err
		}
		if at, there, err := n.in(ctx, a.name, volumesDir); err != nil || !there || at.handle != a.volume {
			return err // it was removed, and what is there is not for us to change
		}
		if err := a.place(ctx, n, metadata); err != nil {
			return err
		}
	}
	return errors.New("its metadata are replaced again and again")
}

// inPlace says whether the volume has this attempt's metadata.
func (a *attempt) inPlace(ctx context.Context, n *session, metadata handle) (bool, error) {
	dir, there, err := n.find(ctx, metadata, a.name)
	if err != nil || !there {
		return false, err
	}
	f, there, err := n.find(ctx, dir.handle, volume.MetadataKey)
	if is(err, statusStale) {
		return false, nil
	}
	return there && same(f, a.file), err
}

// place puts this attempt's metadata in place, over whatever is there.
func (a *attempt) place(ctx context.Context, n *session, metadata handle) error {
	attempt, there, err := n.in(ctx, a.entry, privateDir, newDir)
	if err == nil && !there {
		err = errors.New("somebody took it for a leftover")
	}
	if err != nil {
		return err
	}
	own := attempt.handle
	dir, there, err := n.find(ctx, own, attemptMetadata)
	if err == nil && !there {
		err = a.write(ctx, n, own) // it was in place, and somebody took it away
		if err == nil {
			dir, err = n.lookup(ctx, own, attemptMetadata)
		}
	}
	if err != nil {
		return err
	}
	at, there, err := n.find(ctx, metadata, a.name)
	if err != nil {
		return err
	}
	if there {
		err = n.rename(ctx, dir.handle, volume.MetadataKey, at.handle, volume.MetadataKey)
		if err == nil {
			err = n.rmdir(ctx, own, attemptMetadata)
		}
	} else {
		err = n.rename(ctx, own, attemptMetadata, metadata, a.name)
	}
	if is(err, statusNoEnt, statusStale, statusExist, statusNotEmpty) {
		return nil // the other one is meant now
	}
	return err
}

// dismiss deletes what only the attempt needed.
func (a *attempt) dismiss(ctx context.Context, n *session) error {
	all, there, err := n.dir(ctx, privateDir, newDir)
	if err != nil || !there {
		return err
	}
	return n.removeTree(ctx, all, a.entry)
}

// undo takes away what is left of an attempt that failed. If it may have published, what
// is there stays.
func (s *Store) undo(ctx context.Context, a *attempt) error {
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
	defer cancel()
	return s.with(tidy, tidyTime, func(ctx context.Context, n *session) error {
		if a.claimed {
			mine, there, err := n.metadataOf(ctx, a.name)
			if err != nil {
				return err
			}
			if there && same(mine.file, a.file) {
				if err := n.drop(ctx, a.name, mine); err != nil {
					return err
				}
			}
		}
		return a.dismiss(ctx, n)
	})
}

// same tells that two looks found the same file. Handles of one file may differ, and
// numbers are used again; both together with the time are not.
func same(a, b node) bool {
	return a.handle == b.handle || a.id == b.id && a.size == b.size && a.modified.Equal(b.modified)
}
