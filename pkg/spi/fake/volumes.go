// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// Volume is one volume of the one store, which is volume.DefaultStore. It is like a
// virtual disk: one VM at a time can have it.
type Volume struct {
	// Labels say whose it is, see pkg/volume.
	Labels map[string]string
	// Content is what is on it.
	Content string
}

// Volumes returns copies of all volumes by name.
func (f *Fake) Volumes() map[string]Volume {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := maps.Clone(f.volumes)
	for name, v := range all {
		all[name] = Volume{Labels: maps.Clone(v.Labels), Content: v.Content}
	}
	return all
}

// PutVolume makes a volume, or replaces one that is there.
func (f *Fake) PutVolume(name string, v Volume) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.volumes[name] = Volume{Labels: maps.Clone(v.Labels), Content: v.Content}
}

// want is a volume of a spec as one machine has it.
type want struct {
	*v1alpha1.Volume
	field, name string
}

func (m machine) wants(spec *v1alpha1.ProviderSpec) []want {
	var all []want
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		name := cmp.Or(v.NameFor(m.mark.Machine), volume.AnonymousName(m.id.BIOSUUID, v.MountPath))
		all = append(all, want{v, fmt.Sprintf("volumes[%d]", i), name})
	}
	return all
}

// labels are those of a volume that is made for the machine.
func (m machine) labels(w want) map[string]string {
	labels := map[string]string{volume.LabelCluster: m.mark.Cluster, volume.LabelMachine: m.mark.Machine}
	if w.Anonymous() && w.Policy() == v1alpha1.DeleteVolume {
		labels[volume.LabelAnonymous] = "true"
	}
	return labels
}

// made reports whether a volume was made for the machine.
func (m machine) made(v Volume) bool {
	return v.Labels[volume.LabelCluster] == m.mark.Cluster && v.Labels[volume.LabelMachine] == m.mark.Machine
}

// ensureVolumes makes the volumes of the machine that are not there, and refuses
// those that it cannot have.
func (f *Fake) ensureVolumes(ctx context.Context, m machine, wants []want) error {
	if len(wants) == 0 {
		return nil
	}
	for _, w := range wants {
		if store := cmp.Or(w.Store, volume.DefaultStore); store != volume.DefaultStore {
			return errdefs.New(errdefs.FailedPrecondition, "%s: there is no volume store %q, only %q", w.field, store, volume.DefaultStore)
		}
	}
	for _, w := range wants {
		err := f.step(ctx, StepVolume, func() error {
			v, ok := f.volumes[w.name]
			switch {
			case !ok:
				f.volumes[w.name] = Volume{Labels: m.labels(w)}
			case w.Anonymous() && !m.made(v):
				return errdefs.New(errdefs.FailedPrecondition, "%s: volume %s is there and was not made for machine %s", w.field, w.name, m.mark.Machine)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return f.step(ctx, StepVolumeUsers, func() error {
		for _, w := range wants {
			if holder := f.holder(w.name, m.id.BIOSUUID, false); holder != nil {
				return errdefs.New(errdefs.FailedPrecondition, "%s: volume %s is held by VM %s; one machine at a time can have it", w.field, w.name, holder.Name)
			}
		}
		return nil
	})
}

// holder returns a VM other than the one with a BIOS UUID that has a volume. The
// state is locked.
func (f *Fake) holder(name, except string, running bool) *VM {
	for _, vm := range f.vms {
		if vm.BIOSUUID != except && (vm.Running || !running) && slices.Contains(vm.Volumes, name) {
			return vm
		}
	}
	return nil
}

// detach takes the disks from a VM that is off.
func (f *Fake) detach(ctx context.Context, vm *VM) error {
	return f.step(ctx, StepDetach, func() error {
		vm.Volumes, vm.Detached = nil, true
		return nil
	})
}

// removeVolumes removes those of the volumes that were made for the machine and that
// nobody else has.
func (f *Fake) removeVolumes(ctx context.Context, m machine, names []string) error {
	for _, name := range names {
		err := f.step(ctx, StepRemoveVolume, func() error {
			if v, ok := f.volumes[name]; ok && m.made(v) && f.holder(name, m.id.BIOSUUID, false) == nil {
				delete(f.volumes, name)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// goWith returns the names of those volumes that go with their machine.
func goWith(wants []want) []string {
	var all []string
	for _, w := range wants {
		if w.Policy() == v1alpha1.DeleteVolume {
			all = append(all, w.name)
		}
	}
	return all
}
