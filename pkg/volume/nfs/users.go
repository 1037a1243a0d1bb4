// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"context"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/inventory"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// Users implements volume.Store: all VMs of the datacenter are asked whether they
// have volumes, and those that have one of such a name where it is from.
func (s *Store) Users(ctx context.Context, names ...string) (map[string][]volume.User, error) {
	if err := s.usable(names...); err != nil {
		return nil, err
	}
	users := map[string][]volume.User{}
	if len(names) == 0 {
		return users, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, s.fail(err, "look for VMs that have %s", strings.Join(names, ", "))
	}
	found, err := s.mounted(ctx, names)
	if err != nil {
		return nil, s.fail(err, "look for VMs that have %s", strings.Join(names, ", "))
	}
	for name, of := range found {
		slices.SortFunc(of, func(a, b volume.User) int { return strings.Compare(a.VM, b.VM) })
		users[name] = of
	}
	return users, nil
}

func (s *Store) mounted(ctx context.Context, names []string) (map[string][]volume.User, error) {
	var vms []inventory.VM
	if err := s.step("read all VMs", func() (err error) {
		vms, err = s.machines.VMs(ctx, guestinfo.MountsKey)
		return err
	}); err != nil {
		return nil, err
	}
	candidates := map[types.ManagedObjectReference]inventory.VM{}
	hidden := map[types.ManagedObjectReference]inventory.VM{}
	for _, vm := range vms {
		has := guestinfo.Names(vm.Keys[guestinfo.MountsKey])
		switch {
		case slices.ContainsFunc(names, func(name string) bool { return slices.Contains(has, name) }):
			candidates[vm.Ref] = vm
		case vm.Unproven && vm.Keys[guestinfo.MountsKey] == "":
			hidden[vm.Ref] = vm
		}
	}
	found := map[string][]volume.User{}
	if err := s.sources(ctx, candidates, names, found); err != nil {
		return nil, err
	}
	return found, s.hidden(ctx, hidden, names, found)
}

// sources adds the VMs whose volumes of these names are ours.
func (s *Store) sources(ctx context.Context, vms map[types.ManagedObjectReference]inventory.VM, names []string, found map[string][]volume.User) error {
	if len(vms) == 0 {
		return nil
	}
	keys, err := sourceKeys(names)
	if err != nil {
		return err
	}
	var values map[types.ManagedObjectReference]map[string]string
	if err := s.step("read the sources of volumes", func() (err error) {
		values, err = s.machines.Keys(ctx, slices.Collect(maps.Keys(vms)), keys...)
		return err
	}); err != nil {
		return err
	}
	for ref, of := range values {
		config, err := guestinfo.DecodeExecutor(of)
		if err != nil {
			return err
		}
		vm := vms[ref]
		for _, name := range names {
			if ours, sure := s.ours(config.Mounts[name].Source, name); ours {
				found[name] = append(found[name], volume.User{Name: vm.Name, VM: ref.Value, Unproven: !sure})
			}
		}
	}
	return nil
}

// sourceKeys are those that say where volumes of these names are from.
func sourceKeys(names []string) ([]string, error) {
	mounts := map[string]guestinfo.MountSpec{}
	for _, name := range names {
		mounts[name] = guestinfo.MountSpec{}
	}
	all, err := guestinfo.EncodeExecutor(&guestinfo.ExecutorConfig{Mounts: mounts})
	if err != nil {
		return nil, err
	}
	keys := []string{guestinfo.MountsKey}
	for key := range all {
		if strings.HasPrefix(key, guestinfo.MountsKey+"|") && slices.Contains([]string{"Scheme", "Host", "Path"}, path.Base(key)) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, nil
}

// ours tells whether a source is the volume of that name here. The same path on a host of another
// name may well be the same: that cannot be proven.
func (s *Store) ours(source url.URL, name string) (ours, sure bool) {
	if source.Scheme != "nfs" || path.Clean("/"+source.Path) != path.Join(s.place.export, volumesDir, name) {
		return false, false
	}
	return true, hostName(source.Hostname()) == hostName(s.place.name)
}

func hostName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// hidden adds VMs of which vCenter cannot tell whether they have volumes, all of them
// if it cannot for one: it says no more.
func (s *Store) hidden(ctx context.Context, vms map[types.ManagedObjectReference]inventory.VM, names []string, found map[string][]volume.User) error {
	if len(vms) == 0 {
		return nil
	}
	err := s.step("read what VMs are hidden", func() error {
		_, err := s.machines.Keys(ctx, slices.Collect(maps.Keys(vms)), guestinfo.MountsKey)
		return err
	})
	if err == nil || ctx.Err() != nil || !errdefs.Is(err, errdefs.Unavailable) {
		return err
	}
	for ref, vm := range vms {
		for _, name := range names {
			found[name] = append(found[name], volume.User{Name: vm.Name, VM: ref.Value, Unproven: true})
		}
	}
	return nil
}

// held is the error of a volume with users other than those of except; nil without.
func (s *Store) held(ctx context.Context, name string, except []string) error {
	users, err := s.mounted(ctx, []string{name})
	if err != nil {
		return err
	}
	var others []string
	for _, u := range users[name] {
		if !slices.Contains(except, u.VM) {
			text := u.Name + " (" + u.VM + ")"
			if u.Unproven {
				text += ", of which it cannot be proven"
			}
			others = append(others, text)
		}
	}
	if len(others) == 0 {
		return nil
	}
	slices.Sort(others)
	return errdefs.New(errdefs.FailedPrecondition, "VMs have it: %s", strings.Join(others, "; "))
}
