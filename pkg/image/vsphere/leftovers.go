// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/virtualdisk"
)

// deadAge, in units of Options.Stale, is how old something must be to be called a
// leftover. It allows for clocks of hosts that differ a little from vCenter's.
const deadAge = 5

// debris is a leftover with what it is.
type debris struct {
	image.Leftover
	key image.Key
	// One of these is set; none if it is a lock.
	upload *upload
	file   string // a record
	name   *nameOf
	holder *virtualdisk.Holder
}

// Leftovers implements image.Store.
func (s *Store) Leftovers(ctx context.Context) ([]image.Leftover, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	all, err := s.search(ctx, nil)
	if err != nil {
		return nil, s.fail(err, "look for leftovers")
	}
	leftovers := []image.Leftover{}
	for _, d := range all {
		leftovers = append(leftovers, d.Leftover)
	}
	return leftovers, nil
}

// search looks for all leftovers; own are keys whose locks are held. VMs of imports
// come first: whoever makes one has a lock before.
func (s *Store) search(ctx context.Context, own map[image.Key]*hold) ([]debris, error) {
	var holders []virtualdisk.Holder
	var err error
	if s.objects() {
		if holders, err = s.disks.Holders(ctx); err != nil {
			return nil, err
		}
	}
	now, err := s.inventory.Now(ctx)
	if err != nil {
		return nil, err
	}
	snap, err := s.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	dead := func(modified time.Time) bool { return now.Sub(modified) >= deadAge*s.o.Stale }
	return s.debris(snap, holders, dead, own), nil
}

// judge tells what of a snapshot is debris.
type judge struct {
	s    *Store
	snap *snapshot
	// dead says what is old.
	dead func(time.Time) bool
	// own are keys whose locks are held: what is of them need not be old.
	own map[image.Key]*hold
	all []debris
}

// debris is what belongs to no disk that is published, is old, and of a key that
// nobody is at.
func (s *Store) debris(snap *snapshot, holders []virtualdisk.Holder, dead func(time.Time) bool, own map[image.Key]*hold) []debris {
	j := &judge{s: s, snap: snap, dead: dead, own: own}
	j.disks()
	j.names()
	j.locks()
	for _, h := range holders {
		if key, ok := keyOf(h.Mark); ok && !j.busy(key) {
			j.all = append(j.all, debris{
				Leftover: image.Leftover{Path: h.Name, Reason: "VM of an import that was cut off", ID: h.Ref.Value}, key: key, holder: &h,
			})
		}
	}
	slices.SortFunc(j.all, func(a, b debris) int { return strings.Compare(a.Path, b.Path) })
	return j.all
}

// busy reports that somebody is at a key, or that it is of a later release.
func (j *judge) busy(key image.Key) bool {
	l := j.snap.locks[key]
	return j.snap.reserved[key] || l != nil && j.own[key] == nil && !j.dead(l.modified)
}

func (j *judge) old(key image.Key, modified time.Time) bool {
	return j.own[key] != nil || j.dead(modified)
}

// add notes what is at a path on the datastore.
func (j *judge) add(p, reason string, d debris) {
	p = j.s.files.Path(p)
	d.Leftover = image.Leftover{Path: p, Reason: reason, ID: p}
	j.all = append(j.all, d)
}

func (j *judge) disks() {
	for _, u := range j.snap.uploads {
		if r := j.snap.records[u.key]; (r == nil || r.Upload != u.id) && !j.busy(u.key) && j.old(u.key, u.modified) {
			j.add(j.s.layout.upload(u.key, u.id), u.reason(), debris{key: u.key, upload: &u})
		}
	}
	for key, spoilt := range j.snap.unreadable {
		if spoilt && !j.busy(key) {
			file := j.s.layout.record(key)
			j.add(file, "record that cannot be read", debris{key: key, file: file})
		}
	}
}

func (j *judge) names() {
	for _, n := range j.snap.names {
		d := debris{name: &n}
		reason := "name that cannot be read"
		if n.record != nil {
			d.key, reason = n.record.Key, "name that leads to no disk"
			if r := j.snap.records[d.key]; r != nil && r.Upload == n.record.Upload || j.busy(d.key) {
				continue
			}
		}
		if !n.reserved && j.old(d.key, n.modified) {
			j.add(path.Join(j.s.layout.names(), n.file), reason, d)
		}
	}
}

func (j *judge) locks() {
	for key, l := range j.snap.locks {
		if j.busy(key) || j.own[key] != nil {
			continue
		}
		for _, generation := range l.generations {
			j.add(j.s.layout.lock(key, generation), "lock of a process that ended", debris{key: key})
		}
	}
}

// reason says what an upload is that is not published.
func (u upload) reason() string {
	switch {
	case slices.Contains(u.files, pendingFile):
		return "upload that was cut off"
	case slices.ContainsFunc(u.files, isWithdrawn):
		return "disk that was withdrawn"
	default:
		return "disk whose deletion was cut off"
	}
}
