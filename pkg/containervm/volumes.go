// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"encoding/json"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// DeleteVolumesAnnotation keeps, as a JSON list, the names of the volumes that go when
// the machine goes. The guest cannot see it, and it does not depend on a class that may have changed since.
const DeleteVolumesAnnotation = "mcm-vch-delete-volumes"

// VolumeName returns the name of a volume of the machine that has an identity.
func VolumeName(v *v1alpha1.Volume, machine string, id identity.Identity) string {
	if v.Anonymous() {
		return volume.AnonymousName(id.BIOSUUID, v.MountPath)
	}
	return v.NameFor(machine)
}

// checkVolumes refuses what no container VM can have: as VIC does, one volume twice
// (lib/portlayer/storage/volume/vsphere/join.go:32-34), and more disks than its bus has places for.
func checkVolumes(r Request) error {
	disks := 0
	seen := map[string]bool{}
	for i, j := range r.Volumes {
		// vSphere's keys, under which mounts stand, do not tell upper from lower case.
		name := strings.ToLower(j.Volume)
		if seen[name] {
			return errdefs.New(errdefs.InvalidArgument, "volumes[%d].name: machine %s has volume %s twice", i, r.Machine, j.Volume)
		}
		seen[name] = true
		if j.Disk != "" {
			disks++
		}
	}
	if disks > volume.MaxDisks {
		return errdefs.New(errdefs.InvalidArgument, "volumes: %d of them are virtual disks, a container VM can have %d; those on NFS do not count", disks, volume.MaxDisks)
	}
	return nil
}

// mountsOf returns what the guest is told of the volumes.
func mountsOf(joints []volume.Joint) map[string]guestinfo.MountSpec {
	if len(joints) == 0 {
		return nil
	}
	out := make(map[string]guestinfo.MountSpec, len(joints))
	for _, j := range joints {
		out[j.Volume] = j.Spec
	}
	return out
}

// volumeDisks are the disks of volumes, as VIC attaches them (lib/portlayer/storage/volume/vsphere/join.go:44-65):
// vSphere finds the place on the bus, and the capacity is the disk's. Independent
// disks are in no snapshot, so that no snapshot of a machine takes a volume back in time.
func volumeDisks(joints []volume.Joint) []types.BaseVirtualDevice {
	var out []types.BaseVirtualDevice
	key := int32(volumeKey)
	for _, j := range joints {
		if j.Disk == "" {
			continue
		}
		mode := types.VirtualDiskModeIndependent_persistent
		if j.Discard {
			mode = types.VirtualDiskModeIndependent_nonpersistent
		}
		out = append(out, &types.VirtualDisk{VirtualDevice: types.VirtualDevice{
			Key: key, ControllerKey: scsiKey, UnitNumber: types.NewInt32(-1),
			Backing: &types.VirtualDiskFlatVer2BackingInfo{
				VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: j.Disk},
				DiskMode:                     string(mode),
			},
		}})
		key--
	}
	return out
}

// Mounts returns what the guest mounts, by the name of the volume. It is empty if
// the VM's configuration cannot be read.
func (vm *VM) Mounts() map[string]guestinfo.MountSpec {
	cfg, err := guestinfo.DecodeExecutor(vm.Keys)
	if err != nil {
		return nil
	}
	return cfg.Mounts
}

// DeleteVolumes returns the names of the volumes that go when the machine goes. What
// cannot be read are none: a volume too many is no harm, one too few is.
func (vm *VM) DeleteVolumes() []string {
	var names []string
	if err := json.Unmarshal([]byte(vm.Keys[guestinfo.AnnotationKey(DeleteVolumesAnnotation)]), &names); err != nil {
		return nil
	}
	return names
}

// volumeDisks returns the files of the disks that the VM has of volumes. They are
// told by their mode: the VM's own are not independent.
func (vm *VM) volumeDisks() []string {
	var out []string
	for _, d := range vm.Disks {
		if !independent(d) {
			continue
		}
		files, _ := vcenter.DiskChain(d.Backing) // what is not known cannot be protected by its name
		out = append(out, files...)
	}
	return out
}

func independent(d *types.VirtualDisk) bool {
	mode := ""
	switch b := d.Backing.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		mode = b.DiskMode
	case *types.VirtualDiskSeSparseBackingInfo:
		mode = b.DiskMode
	case *types.VirtualDiskSparseVer2BackingInfo:
		mode = b.DiskMode
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		mode = b.DiskMode
	}
	return strings.HasPrefix(mode, "independent_")
}
