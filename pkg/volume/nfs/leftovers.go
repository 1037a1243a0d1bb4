// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"context"
	"errors"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// deadAge is how old something must be, by the server's own clock, to be called a
// leftover: far older than an operation without a sign of life can get.
const deadAge = 15 * time.Minute

// entryPattern is what unique makes.
var entryPattern = regexp.MustCompile(`^(.+)\.[0-9a-f]{32}$`)

// debris is a leftover with what it is.
type debris struct {
	// kind is newDir, removedDir, droppedDir or metadataDir; entry is the name there.
	kind, entry string
	// name is that of the volume.
	name     string
	modified time.Time
}

func (d debris) id() string { return d.kind + "/" + d.entry }

func (d debris) reason() string {
	switch d.kind {
	case newDir:
		return "volume that was not made to the end"
	case removedDir:
		return "volume that was not removed to the end"
	default:
		return "metadata without a volume"
	}
}

// path is where it is on the export.
func (d debris) path() string {
	if d.kind == metadataDir {
		return path.Join(metadataDir, d.entry)
	}
	return path.Join(privateDir, d.kind, d.entry)
}

// Leftovers implements volume.Cleaner.
func (s *Store) Leftovers(ctx context.Context) ([]volume.Leftover, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	leftovers := []volume.Leftover{}
	err := s.with(ctx, workTime, func(ctx context.Context, n *session) error {
		all, err := n.debris(ctx)
		for _, d := range all {
			leftovers = append(leftovers, volume.Leftover{Store: s.label, Path: s.text(d.path()), Reason: d.reason(), ID: d.id()})
		}
		return err
	})
	if err != nil {
		return nil, s.fail(err, "look for leftovers")
	}
	slices.SortFunc(leftovers, func(a, b volume.Leftover) int { return strings.Compare(a.Path, b.Path) })
	return leftovers, nil
}

// debris returns what is left of operations that ended long ago.
func (n *session) debris(ctx context.Context) ([]debris, error) {
	orphans, err := n.orphans(ctx)
	if err != nil {
		return nil, err
	}
	var all []debris
	removed := map[string]bool{}
	for _, kind := range []string{newDir, removedDir, droppedDir} {
		entries, err := n.entries(ctx, privateDir, kind)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if parts := entryPattern.FindStringSubmatch(e.name); parts != nil {
				all = append(all, debris{kind: kind, entry: e.name, name: parts[1], modified: e.modified})
				removed[parts[1]] = removed[parts[1]] || kind == removedDir
			}
		}
	}
	for _, d := range orphans {
		if !removed[d.name] { // it goes with that
			all = append(all, d)
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	now, err := n.now(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(d debris) bool { return now.Sub(d.modified) < deadAge }), nil
}

// orphans are metadata for which there is no volume.
func (n *session) orphans(ctx context.Context) ([]debris, error) {
	entries, err := n.entries(ctx, metadataDir)
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	volumes, err := n.entries(ctx, volumesDir)
	if err != nil {
		return nil, err
	}
	has := map[string]bool{}
	for _, v := range volumes {
		has[v.name] = true
	}
	var all []debris
	for _, e := range entries {
		if has[e.name] || volume.ValidateName(e.name) != nil {
			continue
		}
		// What was listed first may have got a volume, or gone, since.
		_, there, err := n.in(ctx, e.name, volumesDir)
		if err != nil {
			return nil, err
		}
		at, still, err := n.in(ctx, e.name, metadataDir)
		if err != nil {
			return nil, err
		}
		if !there && still {
			all = append(all, debris{kind: metadataDir, entry: e.name, name: e.name, modified: at.modified})
		}
	}
	return all, nil
}

// entries lists a directory that may be absent, with the times of all.
func (n *session) entries(ctx context.Context, names ...string) ([]entry, error) {
	dir, there, err := n.dir(ctx, names...)
	if err != nil || !there {
		return nil, err
	}
	all, err := n.list(ctx, dir)
	if err != nil {
		return nil, err
	}
	var known []entry
	for _, e := range all {
		if !e.known {
			at, there, err := n.find(ctx, dir, e.name)
			if err != nil {
				return nil, err
			}
			if !there {
				continue
			}
			e.attributes = at.attributes
		}
		known = append(known, e)
	}
	return known, nil
}

// now is the server's time, by which it has the times of files: that of a directory of ours,
// which it sets for us. So no two clocks are compared, and no room is needed.
func (n *session) now(ctx context.Context) (time.Time, error) {
	dir, err := n.ensure(ctx, privateDir)
	if err != nil {
		return time.Time{}, err
	}
	if err := n.touch(ctx, dir); err != nil {
		return time.Time{}, err
	}
	at, err := n.getattr(ctx, dir)
	return at.modified, err
}

// Clean implements volume.Cleaner.
func (s *Store) Clean(ctx context.Context, leftovers ...volume.Leftover) error {
	if err := s.usable(); err != nil {
		return err
	}
	var meant []string
	for _, l := range leftovers {
		if l.Store == s.label {
			meant = append(meant, l.ID)
		}
	}
	if len(meant) == 0 {
		return nil
	}
	var all []debris
	err := s.with(ctx, workTime, func(ctx context.Context, n *session) (err error) {
		all, err = n.debris(ctx)
		return err
	})
	if err != nil {
		return s.fail(err, "look for leftovers")
	}
	var errs []error
	for _, d := range all {
		if slices.Contains(meant, d.id()) {
			errs = append(errs, s.fail(s.clean(ctx, d), "clean %s of volume %s", s.text(d.path()), d.name))
		}
	}
	return errors.Join(errs...)
}

func (s *Store) clean(ctx context.Context, d debris) error {
	used := false
	if d.kind == removedDir {
		err := s.held(ctx, d.name, nil)
		if used = errdefs.Is(err, errdefs.FailedPrecondition); err != nil && !used {
			return err
		}
	}
	return s.with(ctx, deletionTime, func(ctx context.Context, n *session) error {
		switch d.kind {
		case newDir:
			dir, there, err := n.dir(ctx, privateDir, newDir)
			if err != nil || !there {
				return err
			}
			return n.removeTree(ctx, dir, d.entry)
		case droppedDir:
			return n.endDropped(ctx, d.name, d.entry)
		case removedDir:
			return s.cleanRemoved(ctx, n, d, used)
		default:
			return n.cleanMetadata(ctx, d.name)
		}
	})
}

// cleanMetadata deletes metadata without a volume, if they are old: those that a creation has
// just brought are not.
func (n *session) cleanMetadata(ctx context.Context, name string) error {
	m, there, err := n.metadataOf(ctx, name)
	if err != nil || !there {
		return err
	}
	now, err := n.now(ctx)
	if err != nil || now.Sub(m.dir.modified) < deadAge {
		return err
	}
	return n.drop(ctx, name, m)
}

// cleanRemoved ends a removal. A volume that somebody has comes back, unless there is
// another one of its name: then it is that one that VMs have.
func (s *Store) cleanRemoved(ctx context.Context, n *session, d debris, used bool) error {
	removed, there, err := n.dir(ctx, privateDir, removedDir)
	if err != nil || !there {
		return err
	}
	own, there, err := n.find(ctx, removed, d.entry)
	if err != nil || !there {
		return err
	}
	_, there, err = n.in(ctx, d.name, volumesDir)
	if err != nil {
		return err
	}
	if used && !there {
		return s.bringBack(ctx, n, d, removed)
	}
	// From now on this is under way, for others.
	if err := n.touch(ctx, own.handle); err != nil && !answered(err) {
		return err
	}
	if err := n.removeTree(ctx, removed, d.entry); err != nil || there {
		return err
	}
	return n.cleanMetadata(ctx, d.name)
}

// bringBack publishes a volume whose removal was cut off, with metadata: those that it
// had, or, if they are gone, some that say no more than its name.
func (s *Store) bringBack(ctx context.Context, n *session, d debris, removed handle) error {
	volumes, err := n.ensure(ctx, volumesDir)
	if err != nil {
		return err
	}
	if _, there, err := n.metadataOf(ctx, d.name); err != nil {
		return err
	} else if !there {
		content, err := volume.EncodeMetadata(volume.Metadata{Name: d.name, Driver: volume.PersonaDriver})
		if err != nil {
			return err
		}
		a := &attempt{name: d.name, content: content, entry: unique(d.name)}
		own, err := a.prepare(ctx, n)
		if err != nil {
			return err
		}
		if err := n.bringMetadata(ctx, d.name, own, attemptMetadata); err != nil {
			return err
		}
		if err := a.dismiss(ctx, n); err != nil {
			return err
		}
	}
	err = n.rename(ctx, removed, d.entry, volumes, d.name)
	if is(err, statusNoEnt) {
		if _, there, failed := n.find(ctx, removed, d.entry); failed == nil && !there {
			return nil // somebody else who cleans was faster
		}
	}
	return err
}
