// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
)

// container describes a container VM to make.
type container struct {
	vch  vch
	name string // of the container; the VM is called name-shortid
	// vmName overrides the VM's name.
	vmName string
	id     string
	// bios is the BIOS UUID. Default: VIC's, from appliance and id.
	bios string
	mark *identity.Mark
	// parent is the parent of the root disk. Default: the VCH's layer.
	parent string
	// disabled makes Destroy_Task disabled, as VIC does for its own containers.
	disabled bool
}

// containerID makes an id like VIC's, but always the same for one name.
func containerID(parts ...string) string {
	sum := sha256.Sum256(fmt.Append(nil, parts))
	return "a" + hex.EncodeToString(sum[:])[1:]
}

// makeDockerContainers makes complete container VMs by VIC's rules, without our
// mark: every second one runs.
func (s *Sim) makeDockerContainers(v vch, count int) error {
	for i := range count {
		name := fmt.Sprintf("docker-%d", i)
		vm, err := s.makeContainer(container{vch: v, name: name, id: containerID("docker", v.name, name), disabled: true})
		if err != nil {
			return err
		}
		if i%2 == 0 {
			s.pretendStarted(vm)
		}
	}
	return nil
}

// makeForeign makes the machines that look most like ours: of the same name and
// cluster in another VCH, and of another cluster in this one.
func (s *Sim) makeForeign() error {
	second, err := s.makeVCH(SecondVCH, secondBridgePortgroup)
	if err != nil {
		return err
	}
	if err := s.makeDockerContainers(second, 1); err != nil {
		return err
	}
	for _, m := range []struct {
		vch     vch
		cluster string
	}{{second, Cluster}, {s.vch, OtherCluster}} {
		mark := identity.Mark{Cluster: m.cluster, Role: Role, Machine: TwinMachine, Provider: "v0.0.0"}
		id, err := identity.New(m.vch.uuid, m.cluster, TwinMachine)
		if err != nil {
			return fmt.Errorf("make foreign machine: %w", err)
		}
		vm, err := s.makeContainer(container{vch: m.vch, name: TwinMachine, id: id.ContainerID, bios: id.BIOSUUID, mark: &mark, parent: ImageDisk})
		if err != nil {
			return err
		}
		s.pretendStarted(vm)
	}
	return nil
}

// makeContainer makes a container VM as VIC's port layer does (lib/portlayer/exec/commit.go:33-105).
func (s *Sim) makeContainer(c container) (*simulator.VirtualMachine, error) {
	spec, err := s.containerSpec(c)
	if err != nil {
		return nil, err
	}
	vm, err := s.makeVM(c.vch.folder, c.vch.pool, spec)
	if err != nil {
		return nil, err
	}
	if c.disabled {
		vm.DisabledMethod = append(vm.DisabledMethod, "Destroy_Task")
	}
	return vm, nil
}

func (s *Sim) containerSpec(c container) (types.VirtualMachineConfigSpec, error) {
	var spec types.VirtualMachineConfigSpec
	if c.vmName == "" {
		c.vmName = c.name + "-" + c.id[:identity.ShortLength]
	}
	if c.parent == "" {
		c.parent = c.vch.layerDisk
	}
	if c.bios == "" {
		appliance, err := uuid.Parse(c.vch.uuid)
		if err != nil {
			return spec, fmt.Errorf("make container %s: %w", c.name, err)
		}
		c.bios = uuid.NewSHA1(appliance, []byte(c.id)).String()
	}
	keys, err := s.containerKeys(c)
	if err != nil {
		return spec, err
	}
	dir, vmx := dsPath(c.id), dsPath(c.id, c.id+".vmx")
	if s.places.vsan {
		dir, vmx = dsPath(c.vmName), dsPath("")
	}
	return types.VirtualMachineConfigSpec{
		Name: c.vmName, Uuid: c.bios, GuestId: "otherGuest64",
		AlternateGuestName: "Photon - Container v1.5.7, 21000, 9489f63",
		Files:              &types.VirtualMachineFileInfo{VmPathName: vmx},
		NumCPUs:            2, MemoryMB: 2048,
		DeviceChange: s.containerDevices(c, dir),
		ExtraConfig:  options(keys),
	}, nil
}

func (s *Sim) containerKeys(c container) (map[string]string, error) {
	key, err := newHostKey()
	if err != nil {
		return nil, err
	}
	config := &guestinfo.ExecutorConfig{
		ExecutorConfigCommon: guestinfo.ExecutorConfigCommon{ID: c.id, Name: c.name},
		CreateTime:           time.Now().UnixNano(),
		Hostname:             c.name, ImageID: c.vch.layer, LayerID: c.vch.layer, RepoName: "busybox",
		Key: key, Version: vicVersion(),
		Sessions: map[string]*guestinfo.SessionConfig{c.id: {
			Common: guestinfo.Common{ID: c.id},
			Cmd:    guestinfo.Cmd{Path: "/bin/sh", Args: []string{"/bin/sh"}, Env: []string{"PATH=/bin"}, Dir: "/"},
			Active: true, Attach: true, StopSignal: "SIGTERM",
		}},
		Networks: map[string]*guestinfo.NetworkEndpoint{ExternalNetwork: {
			Common: guestinfo.Common{ID: "1184"},
			Network: guestinfo.ContainerNetwork{
				Common: guestinfo.Common{Name: ExternalNetwork}, Type: "external", Default: true, TrustLevel: guestinfo.TrustOpen,
			},
		}},
	}
	if c.mark != nil {
		mark, err := c.mark.Encode()
		if err != nil {
			return nil, fmt.Errorf("make container %s: %w", c.name, err)
		}
		config.Annotations = map[string]string{identity.MarkAnnotation: mark}
	}
	keys, err := guestinfo.EncodeExecutor(config)
	if err != nil {
		return nil, fmt.Errorf("encode configuration of container %s: %w", c.name, err)
	}
	keys = guestinfo.OptionValues(keys)
	maps.Copy(keys, map[string]string{
		"disk.EnableUUID":                "true",
		"answer.msg.disk.duplicateUUID":  "Yes",
		"answer.msg.serial.file.open":    "Append",
		"serial0.hardwareFlowControl":    "TRUE",
		"sched.mem.lpage.maxSharedPages": "256",
	})
	return keys, nil
}

// containerDevices are the devices of a container VM in VIC's order, with
// temporary keys where VIC's own would meet vcsim's defaults.
func (s *Sim) containerDevices(c container, dir string) []types.BaseVirtualDeviceConfigSpec {
	const scsi, ide = -101, -102
	unit := int32(0)
	datastore := s.places.datastores[Datastore]
	serial := func(key int32, backing types.BaseVirtualDeviceBackingInfo, connected bool) types.BaseVirtualDevice {
		return &types.VirtualSerialPort{
			VirtualDevice: types.VirtualDevice{
				Key: key, Backing: backing,
				Connectable: &types.VirtualDeviceConnectInfo{Connected: connected, StartConnected: connected, AllowGuestControl: true},
			},
			YieldOnPoll: true,
		}
	}
	file := func(name string) *types.VirtualSerialPortFileBackingInfo {
		return &types.VirtualSerialPortFileBackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: dir + "/" + name}}
	}
	disk := dir + "/" + path.Base(c.id) + ".vmdk"
	devices := []types.BaseVirtualDevice{
		&types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{
			SharedBus:         types.VirtualSCSISharingNoSharing,
			VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: scsi}},
		}},
		&types.VirtualIDEController{VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: ide}}},
		&types.VirtualCdrom{VirtualDevice: types.VirtualDevice{
			Key: -10, ControllerKey: ide, UnitNumber: &unit,
			Backing: &types.VirtualCdromIsoBackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: c.vch.iso}},
		}},
		&types.VirtualDisk{VirtualDevice: types.VirtualDevice{
			Key: -20, ControllerKey: scsi, UnitNumber: &unit,
			Backing: &types.VirtualDiskFlatVer2BackingInfo{
				VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: disk, Datastore: &datastore},
				DiskMode:                     string(types.VirtualDiskModePersistent), ThinProvisioned: types.NewBool(true),
				Parent: &types.VirtualDiskFlatVer2BackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: c.parent}},
			},
		}},
		&types.VirtualVmxnet3{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: types.VirtualEthernetCard{VirtualDevice: types.VirtualDevice{
			Key: -30, DeviceInfo: &types.Description{Label: ExternalNetwork},
			SlotInfo: &types.VirtualDevicePciBusSlotInfo{PciSlotNumber: 1184},
			Backing: &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{Port: types.DistributedVirtualSwitchPortConnection{
				SwitchUuid: s.places.switchID, PortgroupKey: s.places.networks[externalPortgroup].Value,
			}},
		}}}},
		serial(-40, &types.VirtualSerialPortURIBackingInfo{VirtualDeviceURIBackingInfo: types.VirtualDeviceURIBackingInfo{
			ServiceURI: "tcp://127.0.0.1:2379", Direction: "client", ProxyURI: "telnet://0.0.0.0:2377",
		}}, false),
		serial(-41, file("tether.debug"), true),
		serial(-42, file("output.log"), true),
	}
	specs := make([]types.BaseVirtualDeviceConfigSpec, 0, len(devices))
	for _, d := range devices {
		spec := &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: d}
		if _, ok := d.(*types.VirtualDisk); ok {
			spec.FileOperation = types.VirtualDeviceConfigSpecFileOperationCreate
		}
		specs = append(specs, spec)
	}
	return specs
}

func options(keys map[string]string) []types.BaseOptionValue {
	var list []types.BaseOptionValue
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		list = append(list, &types.OptionValue{Key: key, Value: keys[key]})
	}
	return list
}

// pretendStarted makes a container VM running, without its guest: nothing is to
// wait for it when the world is made.
func (s *Sim) pretendStarted(vm *simulator.VirtualMachine) {
	ctx := s.newContext()
	ctx.WithLock(vm, func() {
		id := extraConfig(&vm.VirtualMachine)[commonID]
		s.guests.adopt(vm.Self, id)
		setPower(ctx, vm, types.VirtualMachinePowerStatePoweredOn)
		setTools(ctx, vm, true)
		setExtraConfig(ctx, vm, map[string]string{
			guestinfo.StartedKey(id):   "true",
			guestinfo.StartTimeKey(id): fmt.Sprint(now()),
		})
	})
}

// makeOthers makes VMs outside of every VCH by copying one: they share their
// hardware and cannot be operated, only found, listed and read.
func (s *Sim) makeOthers(count int) {
	folder, okFolder := s.registry.Get(s.places.vmFolder).(*simulator.Folder)
	pool, okPool := s.registry.Get(s.places.rootPool).(*simulator.ResourcePool)
	template, okVM := s.registry.Get(s.vch.appliance).(*simulator.VirtualMachine)
	if !okFolder || !okPool || !okVM {
		return
	}
	for i := range count {
		vm := &simulator.VirtualMachine{VirtualMachine: template.VirtualMachine}
		name := fmt.Sprintf("other-%d", i)
		vm.Self, vm.Name, vm.Parent = ref{}, name, &folder.Self
		vm.ResourcePool = &pool.Self
		config := *template.Config
		config.Name, config.ExtraConfig = name, []types.BaseOptionValue{&types.OptionValue{Key: "guestinfo.owner", Value: name}}
		config.Uuid = uuid.NewSHA1(uuid.NameSpaceDNS, []byte(name)).String()
		config.InstanceUuid = uuid.NewSHA1(uuid.NameSpaceURL, []byte(name)).String()
		config.Files.VmPathName = dsPath(name, name+".vmx")
		vm.Config = &config
		vm.Summary.Config.Name, vm.Summary.Config.Uuid, vm.Summary.Config.InstanceUuid = name, config.Uuid, config.InstanceUuid
		vm.Summary.Config.VmPathName = config.Files.VmPathName
		s.registry.Put(vm)
		vm.Summary.Vm = &vm.Self
		folder.ChildEntity = append(folder.ChildEntity, vm.Self)
		pool.Vm = append(pool.Vm, vm.Self)
		if host, ok := s.registry.Get(s.places.host).(*simulator.HostSystem); ok {
			host.Vm = append(host.Vm, vm.Self)
		}
	}
}
