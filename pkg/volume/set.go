// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Set is all volume stores of a VCH. Names are unique in it: VIC's port layer keeps
// volumes by their bare name, and of two with the same one it loses one by chance (VIC,
// lib/portlayer/storage/volume/cache/cache.go:123-131,206-222). It is safe for
// concurrent use, keeps nothing, and costs nothing to make. It asks all stores at the
// same time; where some of them fail, the error is of the kind that waiting helps least.
type Set struct {
	host   string
	stores map[string]Store
}

// NewSet returns the stores of the VCH host by label. A VCH may have none.
func NewSet(host string, stores map[string]Store) *Set {
	return &Set{host: host, stores: maps.Clone(stores)}
}

// Labels returns the labels of the stores, sorted.
func (s *Set) Labels() []string { return slices.Sorted(maps.Keys(s.stores)) }

// Store returns the store with a label, DefaultStore if it is empty. One that the
// VCH does not have is FailedPrecondition; the text says which it has, and of the default
// store what its absence means: anonymous volumes and those without a store are refused.
func (s *Set) Store(label string) (Store, error) {
	label = cmp.Or(label, DefaultStore)
	if store, ok := s.stores[label]; ok {
		return store, nil
	}
	text := fmt.Sprintf("no volume store named %s exists in VCH %s, which has %s", quoted(label), s.host, s.list())
	if label == DefaultStore {
		text += "; anonymous volumes and volumes without a store are refused until one is labelled " + DefaultStore
	}
	return nil, errdefs.New(errdefs.FailedPrecondition, "%s (vic-machine configure --volume-store)", text)
}

// list names the stores, for people.
func (s *Set) list() string {
	if len(s.stores) == 0 {
		return "no volume store at all"
	}
	return strings.Join(s.Labels(), ", ")
}

// Get returns a volume, whichever store has it. Two with that name are
// FailedPrecondition, and the text says where both are. A store that does not answer
// is passed over if another one has the volume; else its error is the answer, since NotFound must be true.
func (s *Set) Get(ctx context.Context, name string) (*Volume, error) {
	if err := ValidateName(name); err != nil {
		return nil, err
	}
	return s.only(ctx, name, s.look(ctx, name))
}

// List returns the volumes of all stores, sorted by name and store; two of one name
// are both there, and are Damaged. With an error of some stores it has those of the others.
func (s *Set) List(ctx context.Context) ([]Volume, error) {
	parts, failed := ask(ctx, s.stores, func(ctx context.Context, store Store) ([]Volume, error) { return store.List(ctx) })
	byName := map[string][]*Volume{}
	var all []Volume
	for _, label := range slices.Sorted(maps.Keys(parts)) {
		all = append(all, parts[label]...)
	}
	slices.SortStableFunc(all, func(a, b Volume) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Store, b.Store))
	})
	for i := range all {
		byName[all[i].Name] = append(byName[all[i].Name], &all[i])
	}
	for name, same := range byName {
		if len(same) == 1 {
			continue
		}
		damage := fmt.Sprintf("the name %s is there %d times, and VIC would lose all but one by chance: %s; rename or remove all but one", name, len(same), places(same))
		for _, v := range same {
			v.Damage = strings.TrimPrefix(v.Damage+"; "+damage, "; ")
		}
	}
	return all, s.joined(failed, "list the volumes of VCH %s", s.host)
}

// Users returns who has the volumes, of whichever store, by name.
func (s *Set) Users(ctx context.Context, names ...string) (map[string][]User, error) {
	for _, name := range names {
		if err := ValidateName(name); err != nil {
			return nil, err
		}
	}
	users := map[string][]User{}
	if len(names) == 0 {
		return users, nil
	}
	parts, failed := ask(ctx, s.stores, func(ctx context.Context, store Store) (map[string][]User, error) { return store.Users(ctx, names...) })
	if err := s.joined(failed, "look for VMs that have volumes of VCH %s", s.host); err != nil {
		return nil, err
	}
	for _, label := range slices.Sorted(maps.Keys(parts)) {
		for name, of := range parts[label] {
			users[name] = append(users[name], of...)
		}
	}
	for name, of := range users {
		slices.SortStableFunc(of, func(a, b User) int { return strings.Compare(a.VM, b.VM) })
		users[name] = slices.CompactFunc(of, func(a, b User) bool { return a.VM == b.VM })
	}
	return users, nil
}

// Remove deletes a volume: see Store.Remove. Where two have the name, label says
// which one is meant; otherwise it may be empty, and if it is not, must be right (FailedPrecondition).
// Without a label all stores must answer, or it cannot be known that there is only one;
// but of names that are UUIDs there is.
func (s *Set) Remove(ctx context.Context, label, name string, except ...string) error {
	if err := ValidateName(name); err != nil {
		return err
	}
	if label != "" {
		if _, err := s.Store(label); err != nil {
			return err
		}
	}
	l := s.look(ctx, name)
	if label != "" {
		return s.removeFrom(ctx, l, label, name, except)
	}
	v, err := s.only(ctx, name, l)
	if err != nil {
		return err
	}
	if len(l.failed) > 0 && uuid.Validate(name) != nil {
		return s.joined(l.failed, "volume %s is in %s, but it cannot be known whether another store of VCH %s has one of that name; say which store is meant, or repeat", name, place(v), s.host)
	}
	return s.stores[v.Store].Remove(ctx, name, except...)
}

// removeFrom deletes the volume in the store that is meant.
func (s *Set) removeFrom(ctx context.Context, l look, label, name string, except []string) error {
	_, there := l.found[label]
	if _, unknown := l.failed[label]; there || unknown || len(l.found) == 0 {
		return s.stores[label].Remove(ctx, name, except...)
	}
	return errdefs.New(errdefs.FailedPrecondition, "volume %s of VCH %s is not in volume store %s, it is in %s", name, s.host, label, places(l.sorted()))
}

// Join is Store.Join of the volume's store.
func (s *Set) Join(v *Volume, m Mount) (*Joint, error) {
	store, ok := s.stores[v.Store]
	if !ok {
		return nil, errdefs.New(errdefs.FailedPrecondition, "join volume %s: VCH %s has no volume store %s any more, it has %s", v.Name, s.host, quoted(v.Store), s.list())
	}
	return store.Join(v, m)
}

// Leftovers returns those of all stores, sorted by store and path. With an error of
// some stores it has those of the others.
func (s *Set) Leftovers(ctx context.Context) ([]Leftover, error) {
	parts, failed := ask(ctx, s.stores, func(ctx context.Context, store Store) ([]Leftover, error) {
		cleaner, ok := store.(Cleaner)
		if !ok {
			return nil, nil
		}
		return cleaner.Leftovers(ctx)
	})
	var all []Leftover
	for _, part := range parts {
		all = append(all, part...)
	}
	slices.SortFunc(all, func(a, b Leftover) int {
		return cmp.Or(strings.Compare(a.Store, b.Store), strings.Compare(a.Path, b.Path), strings.Compare(a.ID, b.ID))
	})
	return all, s.joined(failed, "look for leftovers in the volume stores of VCH %s", s.host)
}

// Clean deletes leftovers in the stores that they are of.
func (s *Set) Clean(ctx context.Context, leftovers ...Leftover) error {
	meant, failed := map[string]Store{}, map[string]error{}
	of := map[string][]Leftover{}
	for _, l := range leftovers {
		store, ok := s.stores[l.Store]
		_, cleans := store.(Cleaner)
		switch {
		case !ok:
			failed[l.Store] = errdefs.New(errdefs.FailedPrecondition, "VCH %s has no volume store %s any more, it has %s", s.host, quoted(l.Store), s.list())
		case !cleans:
			failed[l.Store] = errdefs.New(errdefs.FailedPrecondition, "volume store %s has no leftovers", l.Store)
		default:
			meant[l.Store] = store
			of[l.Store] = append(of[l.Store], l)
		}
	}
	_, wrong := askEach(ctx, meant, func(ctx context.Context, label string, store Store) (struct{}, error) {
		cleaner, _ := store.(Cleaner)
		return struct{}{}, cleaner.Clean(ctx, of[label]...)
	})
	maps.Copy(failed, wrong)
	return s.joined(failed, "clean the volume stores of VCH %s", s.host)
}

// only returns the one volume that a look found.
func (s *Set) only(ctx context.Context, name string, l look) (*Volume, error) {
	found := l.sorted()
	switch {
	case len(found) > 1:
		return nil, s.twice(name, found)
	case len(found) == 1:
		for _, label := range slices.Sorted(maps.Keys(l.failed)) {
			klog.FromContext(ctx).V(1).Info("A volume store does not answer, another one has the volume", "volume", name, "store", label, "in", found[0].Store, "reason", l.failed[label].Error())
		}
		return found[0], nil
	case len(l.failed) > 0:
		return nil, s.joined(l.failed, "look for volume %s in VCH %s", name, s.host)
	}
	return nil, errdefs.New(errdefs.NotFound, "VCH %s has no volume %s; looked in: %s", s.host, name, s.list())
}

func (s *Set) twice(name string, found []*Volume) error {
	return errdefs.New(errdefs.FailedPrecondition, "the name %s is there %d times in VCH %s, which VIC cannot tell apart: %s; remove all but one, naming its store", name, len(found), s.host, places(found))
}
