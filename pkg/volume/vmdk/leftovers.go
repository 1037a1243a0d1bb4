// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import (
	"cmp"
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/virtualdisk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// deadAge is how old something must be to be called a leftover. An operation on a
// volume takes seconds, and clocks of hosts differ a little from vCenter's.
const deadAge = 5 * time.Minute

// debris is a leftover with what it is.
type debris struct {
	volume.Leftover
	entry  entry
	holder *virtualdisk.Holder // or this
}

// Leftovers implements volume.Cleaner: some calls, whatever there is.
func (s *Store) Leftovers(ctx context.Context) ([]volume.Leftover, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	all, err := s.search(ctx)
	if err != nil {
		return nil, s.fail(err, "look for leftovers")
	}
	leftovers := make([]volume.Leftover, 0, len(all))
	for _, d := range all {
		leftovers = append(leftovers, d.Leftover)
	}
	return leftovers, nil
}

// search looks for all leftovers. VMs of imports come first: whoever makes one has an
// entry before.
func (s *Store) search(ctx context.Context) ([]debris, error) {
	var holders []virtualdisk.Holder
	if s.disks.Imports() {
		var err error
		if holders, err = s.disks.Holders(ctx); err != nil {
			return nil, err
		}
	}
	now, err := s.inventory.Now(ctx)
	if err != nil {
		return nil, err
	}
	tree, err := s.files.Tree(ctx, s.layout.own())
	if err != nil && !errdefs.Is(err, errdefs.NotFound) {
		return nil, err
	}
	all, alive := s.debris(tree, now.Add(-deadAge))
	own := s.files.Path(path.Join(s.layout.own(), string(making))) + "/"
	for _, h := range holders {
		if strings.HasPrefix(h.To, own) && !alive[h.Attempt] {
			all = append(all, debris{
				Leftover: volume.Leftover{Store: s.o.Label, Path: h.Name, Reason: "VM of the import of volume " + h.Subject + " that was cut off", ID: h.Ref.Value}, holder: &h,
			})
		}
	}
	slices.SortFunc(all, func(a, b debris) int { return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.ID, b.ID)) })
	return all, nil
}

// debris are the entries that nothing has touched since a time; alive has the ids of the others.
func (s *Store) debris(tree map[string][]datastore.Entry, since time.Time) (all []debris, alive map[string]bool) {
	alive = map[string]bool{}
	for _, p := range []phase{making, removing} {
		for _, dir := range tree[string(p)] {
			e, ok := parseEntry(p, dir.Name)
			if !ok || !dir.Dir {
				continue // somebody else's
			}
			if touched(tree, dir, e).After(since) {
				alive[e.id] = true
				continue
			}
			at := s.files.Path(s.layout.entry(e))
			all = append(all, debris{Leftover: volume.Leftover{Store: s.o.Label, Path: at, Reason: reason(tree, e), ID: at}, entry: e})
		}
	}
	return all, alive
}

// touched is when something was last done with an entry. A volume that is removed is as
// it was, or a VM writes to it.
func touched(tree map[string][]datastore.Entry, dir datastore.Entry, e entry) time.Time {
	latest := dir.Modified
	top := path.Join(string(e.phase), dir.Name)
	for at, files := range tree {
		if at != top && (e.phase == removing || !strings.HasPrefix(at, top+"/")) {
			continue
		}
		for _, f := range files {
			if f.Modified.After(latest) && (e.phase == making || f.Name != e.name) {
				latest = f.Modified
			}
		}
	}
	return latest
}

func reason(tree map[string][]datastore.Entry, e entry) string {
	holds := slices.ContainsFunc(tree[path.Join(string(e.phase), e.name+"."+e.id)], named(e.name))
	switch {
	case e.phase == making && holds:
		return "volume " + e.name + ", whose making was cut off"
	case e.phase == making:
		return "directory in which volume " + e.name + " was made"
	case holds:
		return "volume " + e.name + ", whose removal was cut off"
	default:
		return "directory for the removal of volume " + e.name
	}
}

// Clean implements volume.Cleaner.
func (s *Store) Clean(ctx context.Context, leftovers ...volume.Leftover) error {
	if err := s.usable(ctx); err != nil || len(leftovers) == 0 {
		return err
	}
	all, err := s.search(ctx)
	if err != nil {
		return s.fail(err, "look for leftovers")
	}
	all = slices.DeleteFunc(all, func(d debris) bool {
		return !slices.ContainsFunc(leftovers, func(l volume.Leftover) bool { return l.ID == d.ID && l.Store == d.Store })
	})
	if len(all) == 0 {
		return nil
	}
	now, err := s.see(ctx)
	if err != nil {
		return s.fail(err, "look for VMs that have what is left")
	}
	var failed []error
	for _, d := range all {
		if err := s.clean(ctx, d, now); err != nil {
			failed = append(failed, s.fail(err, "clean up %s", d.Path))
		}
	}
	return joined(failed)
}

// joined is all errors as one, of the kind of the first.
func joined(failed []error) error {
	if len(failed) < 2 {
		return errors.Join(failed...)
	}
	return errdefs.Wrap(errdefs.KindOf(failed[0]), errors.Join(failed...), "%d leftovers", len(failed))
}

// clean deletes one leftover, or brings the volume back that a VM has: nobody could
// join it since it was withdrawn, so that the VMs may be those of a moment ago.
func (s *Store) clean(ctx context.Context, d debris, now *sight) error {
	if d.holder != nil {
		return s.disks.DestroyHolder(ctx, d.holder.Ref, d.holder.Mark)
	}
	if users := now.inEntry(d.entry); len(users) > 0 {
		return inUse(users)
	}
	claimed, err := s.claim(ctx, d.entry)
	if errdefs.Is(err, errdefs.NotFound) {
		return nil // somebody else is at it
	}
	if err != nil {
		return err
	}
	holds, err := s.holds(ctx, claimed)
	if err != nil {
		return err
	}
	if holds != nothing && d.entry.phase == removing && len(now.ofVolume(d.entry.name)) > 0 {
		err := s.putBack(ctx, claimed)
		if !errdefs.Is(err, errdefs.AlreadyExists) {
			return err
		}
		// The VMs have the new one.
	}
	return s.delete(ctx, claimed, holds)
}
