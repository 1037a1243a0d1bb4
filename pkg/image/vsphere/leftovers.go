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
	file   string // below the store's directory
	name   *nameOf
	holder *holder
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
	var holders []holder
	var err error
	if s.objects() {
		if holders, err = s.imports.holders(ctx); err != nil {
			return nil, err
		}
	}
	now, err := s.inventory.now(ctx)
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

// debris judges a snapshot: what belongs to no disk that is published, is old, and of
// a key that nobody is at. dead says what is old. What is of a key whose lock is held
// need not be old.
func (s *Store) debris(snap *snapshot, holders []holder, dead func(time.Time) bool, own map[image.Key]*hold) []debris {
	busy := func(key image.Key) bool {
		l := snap.locks[key]
		return snap.reserved[key] || l != nil && own[key] == nil && !dead(l.modified)
	}
	old := func(key image.Key, modified time.Time) bool { return own[key] != nil || dead(modified) }
	var all []debris
	add := func(p, reason string, d debris) {
		d.Leftover = image.Leftover{Path: p, Reason: reason, ID: p}
		all = append(all, d)
	}
	below := func(elements ...string) string {
		return s.files.Path(path.Join(append([]string{s.layout.root}, elements...)...))
	}
	for _, u := range snap.uploads {
		if r := snap.records[u.key]; (r == nil || r.Upload != u.id) && !busy(u.key) && old(u.key, u.modified) {
			add(below(disksDirectory, base(u.key)+"."+u.id), u.reason(), debris{key: u.key, upload: &u})
		}
	}
	for key, spoilt := range snap.unreadable {
		if spoilt && !busy(key) {
			file := path.Join(disksDirectory, base(key)+recordSuffix)
			add(below(file), "record that cannot be read", debris{key: key, file: file})
		}
	}
	for _, n := range snap.names {
		if d, reason := snap.nameDebris(n, busy); reason != "" && old(d.key, n.modified) {
			add(below(namesDirectory, n.file), reason, d)
		}
	}
	for key, l := range snap.locks {
		if busy(key) || own[key] != nil {
			continue
		}
		for _, generation := range l.generations {
			p := s.layout.lock(key, generation)
			add(s.files.Path(p), "lock of a process that ended", debris{key: key})
		}
	}
	for _, h := range holders {
		if key := h.mark.key(); !busy(key) {
			add(h.name, "VM of an import that was cut off", debris{key: key, holder: &h})
			all[len(all)-1].ID = h.ref.Value
		}
	}
	slices.SortFunc(all, func(a, b debris) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// reason says what an upload is that is not published.
func (u upload) reason() string {
	switch {
	case slices.Contains(u.files, pendingFile):
		return "upload that was cut off"
	case slices.Contains(u.files, withdrawnFile):
		return "disk that was withdrawn"
	default:
		return "disk whose deletion was cut off"
	}
}

// nameDebris says why the file of a name leads nowhere, if so.
func (snap *snapshot) nameDebris(n nameOf, busy func(image.Key) bool) (d debris, reason string) {
	d.name = &n
	if n.record == nil {
		if n.reserved {
			return d, ""
		}
		return d, "name that cannot be read"
	}
	d.key = n.record.Key
	if r := snap.records[d.key]; r != nil && r.Upload == n.record.Upload || busy(d.key) {
		return d, ""
	}
	return d, "name that leads to no disk"
}
