// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"context"
	"errors"
	"path"
	"slices"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// snapshot is what there is below the store's directory.
type snapshot struct {
	records map[image.Key]*record
	// unreadable are keys whose record is spoilt and counts as absent, reserved those
	// whose record a later release wrote.
	unreadable, reserved map[image.Key]bool
	names                []nameOf
	uploads              []upload
	locks                map[image.Key]*lockState
}

// nameOf is a file of a name. record is nil if it holds none.
type nameOf struct {
	file     string
	modified time.Time
	record   *record
	// reserved says that the file is of a later release.
	reserved bool
}

// upload is the directory of one attempt.
type upload struct {
	key      image.Key
	id       string
	files    []string
	modified time.Time // when anything was changed last
}

// lockState is a lock with all its generations.
type lockState struct {
	generations []int
	modified    time.Time
}

// survey sorts what a listing of the store's directory has. Of names and records it
// tells only which files there are. What is not named as by this package is left out.
func survey(tree map[string][]datastore.Entry) (snap *snapshot, recorded []image.Key) {
	snap = &snapshot{
		records: map[image.Key]*record{}, unreadable: map[image.Key]bool{}, reserved: map[image.Key]bool{},
		locks: map[image.Key]*lockState{},
	}
	for _, e := range tree[disksDirectory] {
		if key, ok := parseRecord(e.Name); ok && !e.Dir {
			recorded = append(recorded, key)
		}
		if key, id, ok := parseUpload(e.Name); ok && e.Dir {
			u := upload{key: key, id: id, modified: e.Modified}
			for _, f := range tree[path.Join(disksDirectory, e.Name)] {
				u.files = append(u.files, f.Name)
				u.modified = later(u.modified, f.Modified)
			}
			snap.uploads = append(snap.uploads, u)
			// It may have been published since the listing.
			recorded = append(recorded, key)
		}
	}
	for _, e := range tree[namesDirectory] {
		if isName(e.Name) && !e.Dir {
			snap.names = append(snap.names, nameOf{file: e.Name, modified: e.Modified})
		}
	}
	for _, e := range tree[locksDirectory] {
		key, generation, ok := parseLock(e.Name)
		if !ok || !e.Dir {
			continue
		}
		l := snap.locks[key]
		if l == nil {
			l = &lockState{}
			snap.locks[key] = l
		}
		l.generations = append(l.generations, generation)
		l.modified = later(l.modified, e.Modified)
		for _, f := range tree[path.Join(locksDirectory, e.Name)] {
			l.modified = later(l.modified, f.Modified)
		}
		slices.Sort(l.generations)
	}
	slices.SortFunc(recorded, compareKeys)
	return snap, slices.Compact(recorded)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// snapshot reads all that there is: one search, and one request for each record and name.
func (s *Store) snapshot(ctx context.Context) (*snapshot, error) {
	tree, err := s.files.Tree(ctx, s.layout.root)
	if err != nil && !errdefs.Is(err, errdefs.NotFound) {
		return nil, err
	}
	snap, recorded := survey(tree)
	// Names before records: what a name leads to is published then, or was withdrawn.
	_, err = s.readAll(ctx, len(snap.names), func(ctx context.Context, i int) (*record, error) {
		n := &snap.names[i]
		r, err := s.readRecord(ctx, path.Join(s.layout.names(), n.file), func(r *record) string { return ofName(r, n.file) })
		n.record, n.reserved = r, errdefs.Is(err, errdefs.FailedPrecondition)
		return r, unless(n.reserved, err)
	})
	if err != nil {
		return nil, err
	}
	why := make([]error, len(recorded))
	records, err := s.readAll(ctx, len(recorded), func(ctx context.Context, i int) (r *record, err error) {
		r, why[i] = s.find(ctx, recorded[i])
		return r, unless(errdefs.Is(why[i], errdefs.FailedPrecondition), why[i])
	})
	if err != nil {
		return nil, err
	}
	for i, key := range recorded {
		if records[i] != nil {
			snap.records[key] = records[i]
		}
		_, snap.unreadable[key] = errors.AsType[*isIgnored](why[i])
		snap.reserved[key] = errdefs.Is(why[i], errdefs.FailedPrecondition)
	}
	return snap, nil
}

// unless returns no error if one was dealt with.
func unless(done bool, err error) error {
	if done {
		return nil
	}
	return err
}
