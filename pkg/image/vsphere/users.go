// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/inventory"
)

// compareKeys is the order in which locks are taken.
func compareKeys(a, b image.Key) int {
	return cmp.Or(strings.Compare(a.Digest, b.Digest), cmp.Compare(a.Size, b.Size))
}

// use is a directory of a disk that a file of a VM is in.
type use struct {
	key image.Key
	id  string
	// here says that the file is in this store; another one may have the same disk.
	here bool
}

// uses tells in which directories of disks a file is, by its datastore path.
func (s *Store) uses(file string) []use {
	var p object.DatastorePath
	if !p.FromString(file) {
		return nil
	}
	var all []use
	elements := strings.Split(strings.Trim(p.Path, "/"), "/")
	for i, e := range elements {
		if key, id, ok := parseUpload(e); ok {
			all = append(all, use{key: key, id: id, here: p.Datastore == s.o.Host.ImageStore.Datastore && s.isDisks(elements[:i])})
		}
	}
	return all
}

// isDisks reports whether elements are the path of the directory of this store's
// disks. Where the first directory has an id, any name may be that.
func (s *Store) isDisks(elements []string) bool {
	own := strings.Split(s.layout.disks(), "/")
	if s.objects() && len(elements) > 0 { // of kinds that are not well known too: rather a user too many
		elements, own = elements[1:], own[1:]
	}
	return slices.Equal(elements, own)
}

// usersOf are the VMs of which a file is used so as match says, or may be.
func (s *Store) usersOf(all []inventory.VM, match func(use) bool) []image.User {
	var users []image.User
	for _, vm := range all {
		if vm.Unproven || slices.ContainsFunc(vm.Files, func(f string) bool { return slices.ContainsFunc(s.uses(f), match) }) {
			users = append(users, image.User{Name: vm.Name, VM: vm.Ref.Value, Unproven: vm.Unproven})
		}
	}
	slices.SortFunc(users, func(a, b image.User) int { return strings.Compare(a.VM, b.VM) })
	return users
}

// Users implements image.Store. It is a few calls, and one for each thousand VMs.
func (s *Store) Users(ctx context.Context, keys ...image.Key) (map[image.Key][]image.User, error) {
	if err := s.usable(keys...); err != nil {
		return nil, err
	}
	users := map[image.Key][]image.User{}
	if len(keys) == 0 {
		return users, nil
	}
	all, err := s.inventory.VMs(ctx)
	if err != nil {
		return nil, s.fail(err, "look for VMs that use images")
	}
	for _, key := range keys {
		if of := s.usersOf(all, func(u use) bool { return u.here && u.key == key }); len(of) > 0 {
			users[key] = of
		}
	}
	return users, nil
}

// inUse is the error of something that must stay.
func (s *Store) inUse(what string, users []image.User) error {
	names := inventory.People(len(users), func(i int) (name, vm string, unproven bool) {
		return users[i].Name, users[i].VM, users[i].Unproven
	})
	return errdefs.New(errdefs.FailedPrecondition, "image store %s: %s is used by %d VMs: %s; delete them first", s, what, len(users), names)
}
