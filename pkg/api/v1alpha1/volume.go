// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"cmp"
	"strings"

	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// PlaceholderMachine stands for the machine's name in the name of a volume.
const PlaceholderMachine = "{machine}"

// NameFor returns the name of the volume that the machine gets; "" for an anonymous
// one, whose name depends on the machine's BIOS UUID.
func (v *Volume) NameFor(machine string) string {
	return strings.ReplaceAll(v.Name, PlaceholderMachine, machine)
}

// Anonymous reports whether the volume has no name of its own.
func (v *Volume) Anonymous() bool { return v.Name == "" }

// Policy is retainPolicy, or the default.
func (v *Volume) Policy() RetainPolicy {
	if v.Anonymous() {
		return cmp.Or(v.RetainPolicy, DeleteVolume)
	}
	return cmp.Or(v.RetainPolicy, RetainVolume)
}

// CapacityBytes is capacity, rounded up to whole MiB; 0 if it is not given: the
// volume then has volume.DefaultCapacity, or on NFS none.
func (v *Volume) CapacityBytes() int64 {
	if v.Capacity == nil {
		return 0
	}
	bytes := v.Capacity.Value()
	units := bytes / volume.CapacityUnit
	if bytes%volume.CapacityUnit > 0 && units < volume.MaxCapacity/volume.CapacityUnit {
		units++
	}
	return units * volume.CapacityUnit
}

// Mount returns how the machine is to have the volume.
func (v *Volume) Mount() volume.Mount {
	return volume.Mount{Path: v.MountPath, ReadOnly: v.Mode == VolumeReadOnly, NoCopy: ptr.Deref(v.NoCopy, false)}
}
