// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import (
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/volumetest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// world is a simulated vCenter with stores at one location.
type world struct {
	*testing.T
	sim      *vchsim.Sim
	client   *vcenter.Client
	host     *vch.Config
	label    string
	location url.URL
	// plain is a store with nothing around it.
	plain *Store
	// root is the directory of the store in this machine's file system.
	root string

	mu  sync.Mutex
	vms int
	// hidden are VMs of which vCenter tells nothing, snapshots VMs with a file in a snapshot.
	hidden    map[types.ManagedObjectReference]bool
	snapshots map[types.ManagedObjectReference]string
	foreign   []string
	// attached are the directories of the VMs of Use by name.
	attached map[string]string
}

// newWorld makes a world with a store of the VCH, by its label.
func newWorld(t *testing.T, label string, options vchsim.Options) *world {
	t.Helper()
	options.NoForeign, options.Dir = true, t.TempDir()
	sim, err := vchsim.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	w := &world{
		T: t, sim: sim, label: label,
		hidden: map[types.ManagedObjectReference]bool{}, snapshots: map[types.ManagedObjectReference]string{}, attached: map[string]string{},
	}
	w.client = w.session(vcenter.Options{})
	w.host, err = vch.Find(t.Context(), w.client, v1alpha1.VirtualContainerHost{Datacenter: sim.Datacenter, Name: sim.VCHName})
	if err != nil {
		t.Fatal(err)
	}
	var known bool
	if w.location, known = w.host.VolumeStores[label]; !known {
		t.Fatalf("the VCH has no volume store %s", label)
	}
	w.plain = w.store()
	w.root = w.find()
	w.foreign = w.all()
	return w
}

// session logs in.
func (w *world) session(options vcenter.Options) *vcenter.Client {
	w.Helper()
	pool := vcenter.NewPool(options)
	w.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(w.Context()), 10*time.Second)
		defer cancel()
		if err := pool.Close(ctx); err != nil {
			w.Log(err)
		}
	})
	cfg, err := vcenter.ConfigFromSecret(w.sim.Secret())
	if err != nil {
		w.Fatal(err)
	}
	client, err := pool.Client(w.Context(), cfg)
	if err != nil {
		w.Fatal(err)
	}
	return client
}

func (w *world) store() *Store {
	return New(Options{Client: w.client, Host: w.host, Label: w.label, Location: w.location, Owner: "test"})
}

// find finds the store's directory in this machine's file system.
func (w *world) find() (root string) {
	w.Helper()
	const probe = "probe-of-this-test"
	if err := w.plain.files.MakeDirectory(w.Context(), path.Join(w.plain.layout.root, probe), true); err != nil {
		w.Fatal(err)
	}
	err := filepath.WalkDir(w.sim.Dir(), func(p string, _ fs.DirEntry, err error) error {
		if filepath.Base(p) == probe {
			root = filepath.Dir(p)
		}
		return err
	})
	if err == nil {
		err = os.Remove(filepath.Join(root, probe))
	}
	if err != nil {
		w.Fatal(err)
	}
	return root
}

// never is more steps than anything takes.
const never = 1 << 30

// local is a path below the store's directory in this machine's file system.
func (w *world) local(elements ...string) string {
	return filepath.Join(append([]string{w.root}, elements...)...)
}

// Store implements volumetest.Harness.
func (w *world) Store() volume.Store {
	s, _ := w.Faulty(volumetest.Fault{Step: never})
	return s
}

// Faulty implements volumetest.Harness.
func (w *world) Faulty(fault volumetest.Fault) (volume.Store, func() bool) {
	s := w.store()
	m := newSeam(w, s, fault)
	return s, m.struck
}

// Advance implements volumetest.Harness: it makes all files older.
func (w *world) Advance(d time.Duration) {
	w.Helper()
	err := filepath.WalkDir(w.root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		at := info.ModTime().Add(-d)
		return os.Chtimes(p, at, at)
	})
	if err != nil {
		w.Fatal(err)
	}
}

// all is everything in the world: files, and VMs.
func (w *world) all() []string {
	all := w.sim.Files()
	for _, vm := range w.sim.VMs() {
		all = append(all, "VM "+vm.Name)
	}
	return all
}

// Files implements volumetest.World.
func (w *world) Files() []string {
	w.Helper()
	shared := slices.Clone(w.foreign)
	for _, dir := range []string{w.plain.layout.volumes(), path.Join(w.plain.layout.own(), string(making)), path.Join(w.plain.layout.own(), string(removing))} {
		for dir != "." {
			shared = append(shared, w.shown(dir)+"/")
			dir = path.Dir(dir)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(w.all(), func(p string) bool {
		for name, dir := range w.attached {
			if p == "VM "+name || strings.HasPrefix(p, dir+"/") {
				return true
			}
		}
		return slices.Contains(shared, p)
	})
}

// shown is how the simulator shows a directory; top-level directories may have ids.
func (w *world) shown(dir string) string {
	if resolved, err := w.plain.files.Resolve(w.Context(), dir); err == nil {
		dir = resolved
	}
	return w.plain.files.Path(dir)
}

// machine makes a VM without disks.
func (w *world) machine() (*object.VirtualMachine, volume.User) {
	w.Helper()
	w.mu.Lock()
	w.vms++
	name := fmt.Sprintf("user-%d", w.vms)
	w.mu.Unlock()
	vim, ctx := w.client.Vim(), w.Context()
	task, err := object.NewFolder(vim, w.host.Folder).CreateVM(ctx, types.VirtualMachineConfigSpec{
		Name: name, GuestId: "otherGuest64", Files: &types.VirtualMachineFileInfo{VmPathName: "[" + w.host.ImageStore.Datastore + "]"},
		DeviceChange: []types.BaseVirtualDeviceConfigSpec{&types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationAdd,
			Device: &types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{
				SharedBus:         types.VirtualSCSISharingNoSharing,
				VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: -101}},
			}},
		}},
	}, object.NewResourcePool(vim, w.host.Pool), nil)
	if err != nil {
		w.Fatal(err)
	}
	info, err := task.WaitForResult(ctx)
	if err != nil {
		w.Fatal(err)
	}
	ref, ok := info.Result.(types.ManagedObjectReference)
	if !ok {
		w.Fatalf("CreateVM answered %T", info.Result)
	}
	for _, known := range w.sim.VMs() {
		if known.Ref == ref {
			w.mu.Lock()
			w.attached[name] = path.Dir(known.VMX)
			w.mu.Unlock()
		}
	}
	return object.NewVirtualMachine(vim, ref), volume.User{Name: name, VM: ref.Value}
}

// disk is the device of a VM that has a volume.
func (w *world) disk(devices object.VirtualDeviceList, file string) *types.VirtualDisk {
	w.Helper()
	controller, err := devices.FindDiskController("")
	if err != nil {
		w.Fatal(err)
	}
	disk := devices.CreateDisk(controller, w.plain.datastore.Ref, file)
	disk.CapacityInKB = 0
	if backing, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
		backing.DiskMode = string(types.VirtualDiskModeIndependent_persistent)
		backing.ThinProvisioned, backing.Datastore = nil, nil
	}
	return disk
}

// running is one more way to have a volume: then nobody can remove it, excepted or not.
const running = "running"

// Uses implements volumetest.World.
func (w *world) Uses() []string { return []string{"attached", "child of it", "in a snapshot"} }

// Use implements volumetest.World.
func (w *world) Use(name, how string) (volume.User, bool) {
	w.Helper()
	if _, err := os.Stat(w.local(volumesDirectory, name, name+diskSuffix)); err != nil {
		return volume.User{}, false
	}
	file := w.shown(w.plain.layout.volume(name)) + "/" + name + diskSuffix
	vm, user := w.machine()
	if how == "in a snapshot" {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.snapshots[vm.Reference()] = strings.TrimSuffix(file, diskSuffix) + "-000001" + diskSuffix
		return user, true
	}
	devices, err := vm.Device(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	disk := w.disk(devices, file)
	if how == "child of it" {
		disk = devices.ChildDisk(disk)
	}
	add := []types.BaseVirtualDeviceConfigSpec{&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: disk}}
	if how == "child of it" {
		add[0].GetVirtualDeviceConfigSpec().FileOperation = types.VirtualDeviceConfigSpecFileOperationCreate
	}
	task, err := vm.Reconfigure(w.Context(), types.VirtualMachineConfigSpec{DeviceChange: add})
	if err == nil {
		err = task.Wait(w.Context())
	}
	if err == nil && how == running {
		if task, err = vm.PowerOn(w.Context()); err == nil {
			err = task.Wait(w.Context())
		}
	}
	if err != nil {
		w.Fatalf("attach %s: %v", file, err)
	}
	return user, true
}

// UseHidden implements volumetest.World.
func (w *world) UseHidden() (volume.User, bool) {
	w.Helper()
	vm, user := w.machine()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hidden[vm.Reference()] = true
	user.Unproven = true
	return user, true
}

// Release implements volumetest.World.
func (w *world) Release(user volume.User) {
	w.Helper()
	ctx := w.Context()
	vm := object.NewVirtualMachine(w.client.Vim(), types.ManagedObjectReference{Type: "VirtualMachine", Value: user.VM})
	if state, err := vm.PowerState(ctx); err != nil {
		w.Fatal(err)
	} else if state == types.VirtualMachinePowerStatePoweredOn {
		task, err := vm.PowerOff(ctx)
		if err == nil {
			err = task.Wait(ctx)
		}
		if err != nil {
			w.Fatal(err)
		}
	}
	devices, err := vm.Device(ctx)
	if err != nil {
		w.Fatal(err)
	}
	if err := vm.RemoveDevice(ctx, true, devices.SelectByType((*types.VirtualDisk)(nil))...); err != nil {
		w.Fatal(err)
	}
	task, err := vm.Destroy(ctx)
	if err == nil {
		err = task.Wait(ctx)
	}
	if err == nil {
		err = w.plain.files.Delete(ctx, user.Name) // where its child disk is
	}
	if err != nil {
		w.Fatal(err)
	}
}

// Fill implements volumetest.World.
func (w *world) Fill(full bool) {
	w.Helper()
	w.sim.ClearFaults()
	if !full {
		return
	}
	for _, rule := range []vchsim.FaultRule{
		{Method: "ExtendVirtualDisk_Task", Kind: "task:NoDiskSpace"},
		{Method: "CopyVirtualDisk_Task", Kind: "task:NoDiskSpace"},
	} {
		if err := w.sim.SetFault(rule); err != nil {
			w.Fatal(err)
		}
	}
}
