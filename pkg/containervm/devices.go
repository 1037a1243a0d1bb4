// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// Temporary device keys. They are negative, so that they can be mistaken for no
// existing device: VIC's own 100 and 200 are the keys of a VM's default PCI and
// IDE controllers.
const (
	scsiKey   = -101
	ideKey    = -102
	cdromKey  = -103
	rootKey   = -104
	serialKey = -110 // and below, one for each port
	nicKey    = -120 // and below, one for each network
	volumeKey = -130 // and below, one for each volume
)

// PCI slots of network cards: VIC gives them out from 0x4A0 in steps of 32
// (lib/constants/constants.go:61-67), and the tether finds an interface by its slot.
const (
	firstPCISlot = 1184
	pciSlotStep  = 32
)

// joinedNetwork is one network of the spec with its counterpart in the VCH.
type joinedNetwork struct {
	v1alpha1.Network
	vch  vch.Network
	slot int32
}

// joinNetworks matches the spec's networks with the VCH's.
func joinNetworks(wanted []v1alpha1.Network, host *vch.Config) ([]joinedNetwork, error) {
	if len(wanted) == 0 || len(wanted) > v1alpha1.MaxNetworks {
		return nil, errdefs.New(errdefs.InvalidArgument, "networks: %d given, a container VM has 1 to %d", len(wanted), v1alpha1.MaxNetworks)
	}
	out := make([]joinedNetwork, 0, len(wanted))
	for i, w := range wanted {
		n, ok := host.Networks[w.Name]
		switch {
		case !ok:
			return nil, errdefs.New(errdefs.InvalidArgument, "networks[%d].name: VCH %s has no container network %q", i, host.Name, w.Name)
		case n.Backing == nil:
			return nil, errdefs.New(errdefs.FailedPrecondition, "networks[%d].name: container network %q of VCH %s stands for %s, which vCenter does not have", i, w.Name, host.Name, n.Ref)
		case n.Type == vch.Bridge && w.Address == "":
			return nil, errdefs.New(errdefs.InvalidArgument, "networks[%d].address: required, as %q is a bridge network: the VCH itself hands out its addresses, there is no DHCP", i, w.Name)
		case n.Type != vch.Bridge && n.Type != vch.External:
			// The tether makes firewall rules for these two only (VIC, cmd/tether/ops_linux.go:215-256).
			return nil, errdefs.New(errdefs.FailedPrecondition, "networks[%d].name: container network %q of VCH %s has type %q, not bridge or external", i, w.Name, host.Name, n.Type)
		}
		out = append(out, joinedNetwork{Network: w, vch: n, slot: firstPCISlot + int32(i)*pciSlotStep})
	}
	return out, nil
}

// devices lists the devices in VIC's order; the order of the serial ports
// makes them ttyS0, ttyS1 and ttyS2.
func devices(r Request, p place, parent string, joined []joinedNetwork) []types.BaseVirtualDeviceConfigSpec {
	list := []types.BaseVirtualDevice{
		&types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{
			SharedBus:         types.VirtualSCSISharingNoSharing,
			VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: scsiKey}},
		}},
		&types.VirtualIDEController{VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: ideKey}}},
		cdrom(r.VCH.BootstrapISO),
		rootDisk(p, parent),
	}
	for i, n := range joined {
		list = append(list, nic(n, int32(nicKey-i)))
	}
	list = append(list, serialPorts(p)...)
	list = append(list, volumeDisks(r.Volumes)...)
	out := make([]types.BaseVirtualDeviceConfigSpec, 0, len(list))
	for _, d := range list {
		change := &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: d}
		if d.GetVirtualDevice().Key == rootKey {
			change.FileOperation = types.VirtualDeviceConfigSpecFileOperationCreate
		}
		out = append(out, change)
	}
	return out
}

func cdrom(iso string) *types.VirtualCdrom {
	return &types.VirtualCdrom{VirtualDevice: types.VirtualDevice{
		Key: cdromKey, ControllerKey: ideKey, UnitNumber: types.NewInt32(0),
		Backing: &types.VirtualCdromIsoBackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: iso}},
	}}
}

// rootDisk is a child of the image disk: it holds only what the machine writes,
// and inherits capacity, file system and label. The capacity is left at 0 even
// where it is known, which is how VIC has children inherit it (lib/spec/disk.go:49-55).
func rootDisk(p place, parent string) *types.VirtualDisk {
	ref := p.datastore.Ref
	return &types.VirtualDisk{VirtualDevice: types.VirtualDevice{
		Key: rootKey, ControllerKey: scsiKey, UnitNumber: types.NewInt32(0),
		Backing: &types.VirtualDiskFlatVer2BackingInfo{
			VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: p.rootDisk, Datastore: &ref},
			DiskMode:                     string(types.VirtualDiskModePersistent),
			ThinProvisioned:              types.NewBool(true),
			Parent: &types.VirtualDiskFlatVer2BackingInfo{
				VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: parent},
			},
		},
	}}
}

func nic(n joinedNetwork, key int32) *types.VirtualVmxnet3 {
	return &types.VirtualVmxnet3{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: types.VirtualEthernetCard{
		VirtualDevice: types.VirtualDevice{
			Key: key, Backing: n.vch.Backing,
			DeviceInfo: &types.Description{Label: n.Name},
			SlotInfo:   &types.VirtualDevicePciBusSlotInfo{PciSlotNumber: n.slot},
		},
	}}}
}

// serialPorts are the three that the tether insists on: ttyS0 for attach, which
// stays unconnected until the VCH binds it, ttyS1 for the tether's own log,
// ttyS2 for the process's output (VIC, lib/portlayer/attach/join.go:27-60, logging/logging.go:138-187).
func serialPorts(p place) []types.BaseVirtualDevice {
	attach := &types.VirtualSerialPortURIBackingInfo{VirtualDeviceURIBackingInfo: types.VirtualDeviceURIBackingInfo{
		ServiceURI: "tcp://127.0.0.1:2379", Direction: string(types.VirtualDeviceURIBackingOptionDirectionClient), ProxyURI: "telnet://0.0.0.0:2377",
	}}
	file := func(name string) types.BaseVirtualDeviceBackingInfo {
		return &types.VirtualSerialPortFileBackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: p.logs + "/" + name}}
	}
	var out []types.BaseVirtualDevice
	for i, backing := range []types.BaseVirtualDeviceBackingInfo{attach, file("tether.debug"), file("output.log")} {
		connected := i > 0
		out = append(out, &types.VirtualSerialPort{YieldOnPoll: true, VirtualDevice: types.VirtualDevice{
			Key: int32(serialKey - i), Backing: backing,
			Connectable: &types.VirtualDeviceConnectInfo{StartConnected: connected, Connected: connected, AllowGuestControl: true},
		}})
	}
	return out
}
