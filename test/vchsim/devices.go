// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"slices"
	"strconv"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	// scsiUnits is how many places the SCSI bus of a container VM has; controllerUnit
	// is the controller's own (VIC, pkg/vsphere/disk/disk_manager.go:630).
	scsiUnits      = 16
	controllerUnit = 7
)

// placeDisks does what vCenter does with disks that are added and vcsim does not: it
// gives those of unit -1 a unit each, and knows the capacity of those that exist. A
// bus that has no place is a fault.
func (o *overrides) placeDisks(existing object.VirtualDeviceList, changes []types.BaseVirtualDeviceConfigSpec) types.BaseMethodFault {
	taken := map[int32][]int32{}
	take := func(device types.BaseVirtualDevice) bool {
		d := device.GetVirtualDevice()
		if d.UnitNumber == nil || *d.UnitNumber < 0 {
			return true
		}
		free := !slices.Contains(taken[d.ControllerKey], *d.UnitNumber)
		taken[d.ControllerKey] = append(taken[d.ControllerKey], *d.UnitNumber)
		return free
	}
	removed := map[int32]bool{}
	for _, change := range changes {
		if spec := change.GetVirtualDeviceConfigSpec(); spec.Operation == types.VirtualDeviceConfigSpecOperationRemove {
			removed[spec.Device.GetVirtualDevice().Key] = true
		}
	}
	for _, device := range existing.SelectByType((*types.VirtualDisk)(nil)) {
		if !removed[device.GetVirtualDevice().Key] {
			take(device)
		}
	}
	added := addedDisks(changes)
	for i, disk := range added {
		if unit := disk.UnitNumber; unit != nil && (*unit == controllerUnit || *unit >= scsiUnits || !take(disk)) {
			return &types.InvalidDeviceSpec{InvalidVmConfig: types.InvalidVmConfig{Property: "deviceChange.device.unitNumber"}, DeviceIndex: int32(i)}
		}
	}
	for _, disk := range added {
		if disk.UnitNumber == nil || *disk.UnitNumber >= 0 {
			continue
		}
		unit := int32(0)
		for unit == controllerUnit || slices.Contains(taken[disk.ControllerKey], unit) {
			unit++
		}
		if unit >= scsiUnits {
			return &types.TooManyDevices{InvalidVmConfig: types.InvalidVmConfig{Property: "deviceChange.device"}}
		}
		disk.UnitNumber = &unit
		take(disk)
	}
	return nil
}

func addedDisks(changes []types.BaseVirtualDeviceConfigSpec) (disks []*types.VirtualDisk) {
	for _, change := range changes {
		spec := change.GetVirtualDeviceConfigSpec()
		if disk, ok := spec.Device.(*types.VirtualDisk); ok && spec.Operation == types.VirtualDeviceConfigSpecOperationAdd {
			disks = append(disks, disk)
		}
	}
	return disks
}

// sizeDisk tells the capacity of a disk that is added as it is.
func (o *overrides) sizeDisk(spec *types.VirtualDeviceConfigSpec) {
	disk, ok := spec.Device.(*types.VirtualDisk)
	if !ok || spec.FileOperation != "" || disk.CapacityInKB != 0 || disk.CapacityInBytes != 0 {
		return
	}
	backing, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if !ok || backing.Parent != nil {
		return
	}
	_, text, extent, fault := o.descriptor(backing.FileName)
	if fault != nil {
		return
	}
	if sectors, err := strconv.ParseInt(string(text[extent[2]:extent[3]]), 10, 64); err == nil {
		disk.CapacityInBytes, disk.CapacityInKB = sectors*sector, sectors*sector/1024
	}
}

// refuseDevices returns why devices cannot be added to a VM, nil if they can.
func (o *overrides) refuseDevices(existing object.VirtualDeviceList, changes []types.BaseVirtualDeviceConfigSpec) types.BaseMethodFault {
	for _, change := range changes {
		spec := change.GetVirtualDeviceConfigSpec()
		if spec.Operation != types.VirtualDeviceConfigSpecOperationAdd {
			continue
		}
		if f := o.refuseDevice(spec); f != nil {
			return f
		}
		o.sizeDisk(spec)
	}
	return o.placeDisks(existing, changes)
}
