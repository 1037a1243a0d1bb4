// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
)

// The data versions of container VMs at which VIC changed something
// (lib/migration/feature/feature.go:17-39), and the one that brought our format 2 of marks.
const (
	hiddenNameVersion  = 2
	nanosecondsVersion = 9
	todaysVersion      = 10

	// newestSeconds is more than any time in seconds, and less than any in nanoseconds.
	newestSeconds = 1_000_000_000_000

	visibleName = "guestinfo.vice./common/name"
	createTime  = "guestinfo.vice..createtime"
)

// DataVersions are the data versions of container VMs that Age knows: those at which
// something was different.
func DataVersions() []int { return []int{0, 1, 3, 5, 8, 9, 10} }

// OldKeys returns what an older version of VIC, and of this provider, would have stored where
// keys (as stored, "<nil>" for empty values) are of today: the whole map. Below 2 the
// name is visible to the guest and not hidden; below 9 the time of creation is in
// seconds; below 10 the mark is of format 1; 0 has no data version. Keys that are old
// already stay as they are.
func OldKeys(keys map[string]string, version int) map[string]string {
	old := maps.Clone(keys)
	if name, ok := keys[guestinfo.NameKey]; ok && version < hiddenNameVersion {
		old[visibleName] = name
		delete(old, guestinfo.NameKey)
	}
	if ns, err := strconv.ParseInt(keys[createTime], 10, 64); err == nil && ns >= newestSeconds && version < nanosecondsVersion {
		old[createTime] = strconv.FormatInt(ns/int64(time.Second), 10)
	}
	key := guestinfo.AnnotationKey(identity.MarkAnnotation)
	if mark, err := identity.DecodeMark(keys[key]); err == nil && version < todaysVersion {
		mark.Format, mark.Digest = 0, 0
		if encoded, err := mark.Encode(); err == nil { // what was decoded can be encoded
			old[key] = encoded
		}
	}
	old[guestinfo.PluginVersionKey] = strconv.Itoa(version)
	if version == 0 {
		delete(old, guestinfo.PluginVersionKey)
	}
	return old
}

// Age makes a container VM, by its display name, one of a data version: its ExtraConfig
// becomes OldKeys of what it was. The VM may run. NotFound: there is not exactly one VM
// of that name, or it is no container VM. InvalidArgument: the version is not among DataVersions.
func (s *Sim) Age(vm string, version int) error {
	if !slices.Contains(DataVersions(), version) {
		return errdefs.New(errdefs.InvalidArgument, "age VM %q: the data version must be one of %v, got %d", vm, DataVersions(), version)
	}
	return s.changeKeys(vm, func(keys map[string]string) (map[string]string, error) {
		if keys[commonID] == "" {
			return nil, errdefs.New(errdefs.NotFound, "age VM %q: it is no container VM", vm)
		}
		return OldKeys(keys, version), nil
	})
}

// SetKeys changes ExtraConfig of a VM, by its display name, as somebody else would who
// came first: keys are set as they are given, and those with the value "" vanish. The
// VM's changeVersion becomes another one. NotFound: there is not exactly one VM of that name.
func (s *Sim) SetKeys(vm string, keys map[string]string) error {
	return s.changeKeys(vm, func(all map[string]string) (map[string]string, error) {
		for key, value := range keys {
			all[key] = value
			if value == "" {
				delete(all, key)
			}
		}
		return all, nil
	})
}

// changeKeys gives a VM other keys; both maps are as stored.
func (s *Sim) changeKeys(name string, change func(map[string]string) (map[string]string, error)) error {
	named := slices.DeleteFunc(s.registry.All("VirtualMachine"), func(e mo.Entity) bool {
		known, ok := s.index.name(e.Reference())
		return !ok || known != name
	})
	if len(named) != 1 {
		return errdefs.New(errdefs.NotFound, "change keys of VM %q: %d VMs have that name", name, len(named))
	}
	vm, ok := named[0].(*simulator.VirtualMachine)
	if !ok {
		return errdefs.New(errdefs.NotFound, "change keys of VM %q: it is gone", name)
	}
	ctx := s.newContext()
	var err error
	ctx.WithLock(vm, func() {
		var keys map[string]string
		if keys, err = change(storedKeys(vm)); err == nil {
			replaceExtraConfig(ctx, vm, keys)
		}
	})
	return err
}

// storedKeys returns a VM's string options as they are stored. The caller holds the VM's lock.
func storedKeys(vm *simulator.VirtualMachine) map[string]string {
	keys := map[string]string{}
	for _, o := range vm.Config.ExtraConfig {
		if value, ok := o.GetOptionValue().Value.(string); ok {
			keys[o.GetOptionValue().Key] = value
		}
	}
	return keys
}

// replaceExtraConfig makes keys all string options that there are. The caller holds
// the VM's lock under ctx.
func replaceExtraConfig(ctx *simulator.Context, vm *simulator.VirtualMachine, keys map[string]string) {
	var changes []types.PropertyChange
	for key := range storedKeys(vm) {
		if _, stays := keys[key]; !stays {
			field := mo.Field{Path: "config.extraConfig", Key: key}
			changes = append(changes, types.PropertyChange{Name: field.String(), Op: types.PropertyChangeOpRemove})
		}
	}
	list := slices.DeleteFunc(slices.Clone(vm.Config.ExtraConfig), func(o types.BaseOptionValue) bool {
		_, text := o.GetOptionValue().Value.(string)
		_, stays := keys[o.GetOptionValue().Key]
		return text && !stays
	})
	ctx.Update(vm, append(changes, types.PropertyChange{Name: "config.extraConfig", Val: list}))
	setExtraConfig(ctx, vm, keys)
}
