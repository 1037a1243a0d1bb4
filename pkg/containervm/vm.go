// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"cmp"
	"fmt"
	"net"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
	corev1 "k8s.io/api/core/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// VM is what one read of a container VM showed.
type VM struct {
	Ref  types.ManagedObjectReference
	Name string
	// UUID is the BIOS UUID, lower case.
	UUID string
	// Parent is the folder, nil for a VM in a vApp.
	Parent *types.ManagedObjectReference
	// ResourcePool is where the VM runs.
	ResourcePool *types.ManagedObjectReference
	PowerState   types.VirtualMachinePowerState
	Connection   types.VirtualMachineConnectionState
	// ChangeVersion goes with every reconfigure that follows from this read.
	ChangeVersion string
	// VMX is the datastore path of the .vmx file.
	VMX string
	// Keys is ExtraConfig, with empty values as "", migrated in memory: whatever version wrote
	// it, it reads like one of today.
	Keys map[string]string
	// Stored is ExtraConfig as it is stored, with empty values as "".
	Stored map[string]string
	// Data is what the migration in memory made of Stored, and MigrationError why it did not
	// come to its end; Keys is then as far as it came.
	Data           migration.VM
	MigrationError error
	// Disks are the VM's virtual disks.
	Disks []*types.VirtualDisk
	// ISO is the datastore path of what is in its CD drive; empty if that is nothing.
	ISO string
	// GuestIP is the address that vSphere shows for the guest.
	GuestIP string
	// mark is nil unless the VM carries a complete one.
	mark *identity.Mark
	// detached says that Detach took its disks.
	detached bool
}

// properties are what vmFrom reads.
func properties() []string {
	return []string{
		"name", "parent", "resourcePool", "runtime.powerState", "runtime.connectionState",
		"config.uuid", "config.changeVersion", "config.files.vmPathName", "config.extraConfig", "config.hardware.device",
		"guest.ipAddress",
	}
}

func (o *Operator) vmFrom(c types.ObjectContent) *VM {
	vm := &VM{Ref: c.Obj, Stored: map[string]string{}}
	for _, p := range c.PropSet {
		switch v := p.Val.(type) {
		case string:
			switch p.Name {
			case "name":
				vm.Name = v
			case "config.uuid":
				vm.UUID = strings.ToLower(v)
			case "config.changeVersion":
				vm.ChangeVersion = v
			case "config.files.vmPathName":
				vm.VMX = v
			case "guest.ipAddress":
				vm.GuestIP = v
			}
		case types.ManagedObjectReference:
			switch p.Name {
			case "parent":
				vm.Parent = &v
			case "resourcePool":
				vm.ResourcePool = &v
			}
		case types.VirtualMachinePowerState:
			vm.PowerState = v
		case types.VirtualMachineConnectionState:
			vm.Connection = v
		case types.ArrayOfOptionValue:
			vm.Stored = guestinfo.FromOptionValues(vch.Keys(v.OptionValue))
		case types.ArrayOfVirtualDevice:
			vm.attach(v.VirtualDevice)
		}
	}
	vm.Keys = vm.Stored
	if vm.Stored[guestinfo.CommonIDKey] != "" { // else it is no container VM, and nothing to be migrated
		vm.Data, vm.MigrationError = o.data.MigrateVM(vm.Stored)
		vm.Keys = vm.Data.Keys
	}
	if m, err := identity.DecodeMark(vm.Keys[guestinfo.AnnotationKey(identity.MarkAnnotation)]); err == nil {
		vm.mark = &m
	}
	return vm
}

// attach takes from the VM's devices what is read of them: its disks and what it boots.
func (vm *VM) attach(devices []types.BaseVirtualDevice) {
	for _, d := range devices {
		switch d := d.(type) {
		case *types.VirtualDisk:
			vm.Disks = append(vm.Disks, d)
		case *types.VirtualCdrom:
			if iso, ok := d.Backing.(*types.VirtualCdromIsoBackingInfo); ok {
				vm.ISO = iso.FileName
			}
		}
	}
}

// Mark returns the VM's mark; nil when it has none or only part of one.
func (vm *VM) Mark() *identity.Mark { return vm.mark }

// writable returns FailedPrecondition for a VM whose data a newer program wrote.
func (vm *VM) writable() error {
	return vm.Data.Writable(fmt.Sprintf("VM %q (%s)", vm.Name, vm.Ref.Value))
}

// Started returns what the tether reported of the process: "" (nothing yet),
// "true", or the reason why it does not run.
func (vm *VM) Started() string { return vm.Keys[guestinfo.StartedKey(vm.containerID())] }

// Running reports whether the VM is on and its process runs.
func (vm *VM) Running() bool {
	return vm.PowerState == types.VirtualMachinePowerStatePoweredOn && vm.Started() == guestinfo.StartedTrue
}

func (vm *VM) containerID() string { return vm.Keys[guestinfo.CommonIDKey] }

// containerName returns the container's name, also where data could not be migrated.
func (vm *VM) containerName() string {
	return cmp.Or(vm.Keys[guestinfo.NameKey], vm.Keys[guestinfo.OldNameKey])
}

// stopSignal returns the signal, without SIG, that the VM's process was made to
// stop on; TERM if the VM says none that its guest could send.
func (vm *VM) stopSignal() string {
	if name, ok := signalName(vm.Keys[guestinfo.StopSignalKey(vm.containerID())]); ok {
		return name
	}
	return v1alpha1.DefaultStopSignal
}

// parents returns the datastore paths of what the VM's disks are children of, all
// the way down the chains. The disk below a snapshot is the VM's own and is not among them.
func (vm *VM) parents() []string {
	var out []string
	for _, d := range vm.Disks {
		files, _ := vcenter.DiskChain(d.Backing) // what is not known cannot be protected by its name
		own := true
		for n, parent := range files[min(1, len(files)):] {
			own = own && isDelta(files[n], parent)
			if !own && parent != "" {
				out = append(out, parent)
			}
		}
	}
	return out
}

// deltaPattern is how vSphere names a disk that it puts on another one for a snapshot.
var deltaPattern = regexp.MustCompile(`^(.*)-[0-9]{6}\.vmdk$`)

// isDelta reports whether child is what a snapshot put on parent, by vSphere's names.
func isDelta(child, parent string) bool {
	m := deltaPattern.FindStringSubmatch(child)
	if m == nil {
		return false
	}
	if p := deltaPattern.FindStringSubmatch(parent); p != nil {
		return p[1] == m[1]
	}
	return parent == m[1]+".vmdk"
}

// fresh reports whether the VM was never started: nothing of an earlier run is
// left that could be mistaken for the next one's.
func (vm *VM) fresh() bool {
	id := vm.containerID()
	return vm.Started() == "" && isZero(vm.Keys[guestinfo.StartTimeKey(id)]) && isZero(vm.Keys[guestinfo.StopTimeKey(id)]) && isZero(vm.Keys[guestinfo.StatusKey(id)])
}

func isZero(s string) bool { return s == "" || s == "0" }

// Directory returns the datastore path of the VM's own directory, with a
// trailing slash, for example [ds1] 6b9a…/; ok is false when the VM has none of
// its own that could be named.
func (vm *VM) Directory() (dir string, ok bool) {
	var p object.DatastorePath
	if !p.FromString(vm.VMX) || path.Ext(p.Path) != ".vmx" {
		return "", false
	}
	d := path.Dir(path.Clean("/" + p.Path))
	if d == "/" {
		return "", false
	}
	return "[" + p.Datastore + "] " + strings.TrimPrefix(d, "/") + "/", true
}

// Addresses returns the addresses that are ready to use, sorted and each once:
// those that the tether reported for the VM's networks, else the one that
// vSphere shows. A machine that does not run has none.
func (vm *VM) Addresses() []corev1.NodeAddress {
	if !vm.Running() {
		return nil
	}
	cfg, err := guestinfo.DecodeExecutor(vm.Keys)
	var found []string
	if err == nil { // else the address of vSphere's tools is still worth having
		for _, n := range cfg.Networks {
			if n != nil && usable(n.Assigned.IP) {
				found = append(found, n.Assigned.IP.String())
			}
		}
	}
	if len(found) == 0 && usable(net.ParseIP(vm.GuestIP)) {
		found = append(found, net.ParseIP(vm.GuestIP).String())
	}
	slices.Sort(found)
	found = slices.Compact(found)
	out := make([]corev1.NodeAddress, 0, len(found))
	for _, ip := range found {
		out = append(out, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	return out
}

func usable(ip net.IP) bool {
	return len(ip) > 0 && !ip.IsUnspecified() && !ip.IsLoopback() && !ip.IsLinkLocalUnicast()
}
