// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/inventory"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// objectPattern is what the ids of top-level directories end with.
var objectPattern = regexp.MustCompile(`[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)

// territory tells which files are in the store.
type territory struct {
	datastore string
	// root are the elements of the store's directory, top what its first one may be called too.
	root []string
	top  func(string) bool
}

// territory asks, where top-level directories are objects, for the id of the store's.
func (s *Store) territory(ctx context.Context) (*territory, error) {
	t := &territory{datastore: s.datastore.Name, top: func(string) bool { return false }}
	if s.layout.root != "" {
		t.root = strings.Split(s.layout.root, "/")
	}
	if !s.namespaced() {
		return t, nil
	}
	id, err := s.files.Resolve(ctx, t.root[0])
	if err != nil && !errdefs.Is(err, errdefs.NotFound) {
		return nil, err
	}
	switch own := t.root[0]; {
	case err == nil && id != own:
		t.top = func(e string) bool { return e == id }
	case objectPattern.MatchString(own):
		// The store is known by its id; which name that has nobody tells.
		t.top = func(e string) bool { return !objectPattern.MatchString(e) }
	default:
		t.top = func(string) bool { return true }
	}
	return t, nil
}

// below returns the path of a file below the store's directory, in elements; nil if
// it is not there.
func (t *territory) below(file string) []string {
	var p object.DatastorePath
	if !p.FromString(file) || p.Datastore != t.datastore {
		return nil
	}
	elements := strings.Split(strings.Trim(p.Path, "/"), "/")
	n := len(t.root)
	if len(elements) <= n {
		return nil
	}
	for i, want := range t.root {
		if elements[i] != want && (i > 0 || !t.top(elements[i])) {
			return nil
		}
	}
	return elements[n:]
}

// hasVolume reports whether a file is in the place of a volume.
func (t *territory) hasVolume(file, name string) bool {
	p := t.below(file)
	return len(p) > 1 && p[0] == volumesDirectory && p[1] == name
}

// hasEntry reports whether a file is in the directory of an operation on a volume.
func (t *territory) hasEntry(file string, e entry) bool {
	p := t.below(file)
	return len(p) > 2 && p[0] == ownDirectory && p[1] == string(e.phase) && p[2] == e.name+"."+e.id
}

// sight is all VMs at one time.
type sight struct {
	territory *territory
	vms       []inventory.VM
}

// see reads all VMs.
func (s *Store) see(ctx context.Context) (*sight, error) {
	t, err := s.territory(ctx)
	if err != nil {
		return nil, err
	}
	vms, err := s.inventory.VMs(ctx)
	if err != nil {
		return nil, err
	}
	return &sight{t, vms}, nil
}

// users are the VMs with a file that match takes, and those of which nobody knows,
// except some.
func (s *sight) users(match func(file string) bool, except ...string) []volume.User {
	var users []volume.User
	for _, vm := range s.vms {
		if (vm.Unproven || slices.ContainsFunc(vm.Files, match)) && !slices.Contains(except, vm.Ref.Value) {
			users = append(users, volume.User{Name: vm.Name, VM: vm.Ref.Value, Unproven: vm.Unproven})
		}
	}
	slices.SortFunc(users, func(a, b volume.User) int { return strings.Compare(a.VM, b.VM) })
	return users
}

func (s *sight) ofVolume(name string, except ...string) []volume.User {
	return s.users(func(file string) bool { return s.territory.hasVolume(file, name) }, except...)
}

// inEntry are those that are known to have the volume in an entry.
func (s *sight) inEntry(e entry) []volume.User {
	users := s.users(func(file string) bool { return s.territory.hasEntry(file, e) })
	return slices.DeleteFunc(users, func(u volume.User) bool { return u.Unproven })
}

// ofEntry are those that know the volume by its old place, or have it in the new one.
func (s *sight) ofEntry(e entry, except ...string) []volume.User {
	return s.users(func(file string) bool { return s.territory.hasVolume(file, e.name) || s.territory.hasEntry(file, e) }, except...)
}

// Users implements volume.Store. It is a few calls, and one for each thousand VMs.
func (s *Store) Users(ctx context.Context, names ...string) (map[string][]volume.User, error) {
	if err := s.usable(ctx, names...); err != nil {
		return nil, err
	}
	users := map[string][]volume.User{}
	if len(names) == 0 {
		return users, nil
	}
	now, err := s.see(ctx)
	if err != nil {
		return nil, s.fail(err, "look for VMs that have volumes")
	}
	for _, name := range names {
		if of := now.ofVolume(name); len(of) > 0 {
			users[name] = of
		}
	}
	return users, nil
}

// inUse is the error of a volume that must stay.
func inUse(users []volume.User) error {
	names := inventory.People(len(users), func(i int) (name, vm string, unproven bool) {
		return users[i].Name, users[i].VM, users[i].Unproven
	})
	return errdefs.New(errdefs.FailedPrecondition, "it is used by %d VMs: %s; delete them or detach it first", len(users), names)
}
