// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"os"
	"path"
	"sync"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// CreateVMTask checks what vCenter checks and vcsim does not (some of it makes
// vcsim panic), keeps the half-made VM locked until it is complete, and leaves
// nothing behind when it fails.
func (o *overrides) CreateVMTask(ctx *simulator.Context, req *types.CreateVM_Task) soap.HasFault {
	folder, ok := o.sim.registry.Get(req.This).(*simulator.Folder)
	if !ok {
		return &methods.CreateVM_TaskBody{Fault_: simulator.Fault("", &types.ManagedObjectNotFound{Obj: req.This})}
	}
	return o.alone(func() (res soap.HasFault) {
		ctx.WithLock(folder, func() {
			task := o.create(ctx, folder, req)
			res = &methods.CreateVM_TaskBody{Res: &types.CreateVM_TaskResponse{Returnval: task}}
		})
		return res
	}, func() {
		o.mu.Lock()
		delete(o.creators, folder.Self)
		o.mu.Unlock()
	})
}

func (o *overrides) create(ctx *simulator.Context, folder *simulator.Folder, req *types.CreateVM_Task) ref {
	if f := o.refuse(folder, req); f != nil {
		return failingTask(ctx, folder.Self, "createVm", f)
	}
	c := &creation{ctx: ctx}
	if dir := o.sim.localPath(vmDir(req.Config.Files.VmPathName)); dir != "" {
		if _, err := os.Stat(dir); os.IsNotExist(err) {
			c.dir = dir
		}
	}
	o.mu.Lock()
	o.creators[folder.Self] = c
	o.mu.Unlock()
	body, ok := folder.CreateVMTask(ctx, req).(*methods.CreateVM_TaskBody)
	if !ok {
		return failingTask(ctx, folder.Self, "createVm", &types.SystemErrorFault{Reason: "vcsim answers CreateVM_Task with another type"})
	}
	return body.Res.Returnval
}

// alone runs a call and its task while no other such task runs, then after.
func (o *overrides) alone(call func() soap.HasFault, after func()) soap.HasFault {
	o.files.Lock()
	done := func() {
		after()
		o.files.Unlock()
	}
	res := call()
	if task, ok := taskOf(res); ok {
		o.afterTask(task, done)
	} else {
		done()
	}
	return res
}

// taskOf returns the task that a call has started.
func taskOf(res soap.HasFault) (ref, bool) {
	if res == nil || res.Fault() != nil {
		return ref{}, false
	}
	switch b := res.(type) {
	case *methods.CreateVM_TaskBody:
		return b.Res.Returnval, true
	case *methods.ReconfigVM_TaskBody:
		return b.Res.Returnval, true
	case *methods.Destroy_TaskBody:
		return b.Res.Returnval, true
	case *methods.PowerOnVM_TaskBody:
		return b.Res.Returnval, true
	case *methods.DeleteDatastoreFile_TaskBody:
		return b.Res.Returnval, true
	case *methods.MoveDatastoreFile_TaskBody:
		return b.Res.Returnval, true
	case *methods.CopyDatastoreFile_TaskBody:
		return b.Res.Returnval, true
	case *methods.CreateVirtualDisk_TaskBody:
		return b.Res.Returnval, true
	case *methods.MoveVirtualDisk_TaskBody:
		return b.Res.Returnval, true
	case *methods.DeleteVirtualDisk_TaskBody:
		return b.Res.Returnval, true
	case *methods.SearchDatastore_TaskBody:
		return b.Res.Returnval, true
	case *methods.SearchDatastoreSubFolders_TaskBody:
		return b.Res.Returnval, true
	}
	return ref{}, false
}

// afterTask runs f once the task has ended.
func (o *overrides) afterTask(r ref, f func()) {
	once := sync.OnceFunc(f)
	o.mu.Lock()
	o.tasks[r] = once
	o.mu.Unlock()
	task, ok := o.sim.registry.Get(r).(*simulator.Task)
	if !ok {
		return
	}
	// It may have ended before anybody looked.
	ctx := o.sim.newContext()
	ended := false
	ctx.WithLock(task, func() { ended = hasEnded(&task.Task) })
	if ended {
		o.ended(r)
	}
}

// ended is called when a task has ended.
func (o *overrides) ended(task ref) {
	o.mu.Lock()
	f := o.tasks[task]
	delete(o.tasks, task)
	o.mu.Unlock()
	if f != nil {
		f()
	}
}

func hasEnded(task *mo.Task) bool {
	return task.Info.State == types.TaskInfoStateSuccess || task.Info.State == types.TaskInfoStateError
}

// vmDir returns the directory of a vmx path, or "" if vCenter chooses it.
func vmDir(vmx string) string {
	if path.Ext(vmx) != ".vmx" {
		return ""
	}
	return path.Dir(vmx)
}

func (o *overrides) refuse(folder *simulator.Folder, req *types.CreateVM_Task) types.BaseMethodFault {
	config := &req.Config
	if config.Name == "" {
		return &types.InvalidVmConfig{Property: "configSpec.name"}
	}
	for _, child := range folder.ChildEntity {
		if name, ok := o.sim.index.name(child); ok && name == config.Name {
			return &types.DuplicateName{Name: name, Object: child}
		}
	}
	if _, ok := o.sim.registry.Get(req.Pool).(mo.Entity); !ok {
		return &types.ManagedObjectNotFound{Obj: req.Pool}
	}
	if config.Files == nil {
		return &types.InvalidVmConfig{Property: "configSpec.files"}
	}
	var p object.DatastorePath
	if !p.FromString(config.Files.VmPathName) {
		return &types.InvalidDatastorePath{DatastorePath: config.Files.VmPathName}
	}
	if !o.sim.isDatastore(p.Datastore) {
		return &types.InvalidDatastore{Name: p.Datastore}
	}
	return o.refuseDevices(nil, config.DeviceChange)
}

func (o *overrides) refuseDevice(spec *types.VirtualDeviceConfigSpec) types.BaseMethodFault {
	switch backing := spec.Device.GetVirtualDevice().Backing.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		var p object.DatastorePath
		if !p.FromString(backing.FileName) || !o.sim.isDatastore(p.Datastore) {
			return &types.InvalidDatastorePath{DatastorePath: backing.FileName}
		}
		if spec.FileOperation == "" && !o.sim.exists(backing.FileName) {
			return &types.FileNotFound{FileFault: types.FileFault{File: backing.FileName}}
		}
		for parent := backing.Parent; parent != nil; parent = parent.Parent {
			if !o.sim.exists(parent.FileName) {
				return &types.FileNotFound{FileFault: types.FileFault{File: parent.FileName}}
			}
		}
	case *types.VirtualEthernetCardNetworkBackingInfo:
		if backing.Network == nil || o.sim.registry.Get(*backing.Network) == nil {
			return &types.InvalidDeviceBacking{InvalidDeviceSpec: types.InvalidDeviceSpec{InvalidVmConfig: types.InvalidVmConfig{Property: "virtualDeviceSpec.device.backing"}}}
		}
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		if o.sim.registry.Get(ref{Type: "DistributedVirtualPortgroup", Value: backing.Port.PortgroupKey}) == nil {
			return &types.NotFound{}
		}
	}
	return nil
}

// entered is called, by the goroutine that makes it, when a new VM becomes
// visible, long before it is complete. It takes the VM's lock in the name of the
// create, so that readers wait.
func (o *overrides) entered(vm *simulator.VirtualMachine) {
	if vm.Parent == nil {
		return
	}
	o.mu.Lock()
	c := o.creators[*vm.Parent]
	delete(o.creators, *vm.Parent)
	o.mu.Unlock()
	if c == nil {
		return
	}
	c.unlock = o.sim.registry.AcquireLock(c.ctx, vm)
	o.mu.Lock()
	o.pending[vm.Self] = c
	o.mu.Unlock()
}

// complete is called when a VM's name is published, which is the last step of its making.
func (o *overrides) complete(r ref) {
	if c := o.taken(r); c != nil {
		c.unlock()
		o.sim.collectors.completed(r)
	}
}

// failed is called when a VM leaves the inventory; if it was never complete, its
// making has failed.
func (o *overrides) failed(r ref) {
	c := o.taken(r)
	if c == nil {
		return
	}
	c.unlock()
	if c.dir != "" {
		// What stays behind shows in Files.
		_ = os.RemoveAll(c.dir)
	}
}

// making reports whether a VM is half made.
func (o *overrides) making(r ref) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.pending[r] != nil
}

func (o *overrides) taken(r ref) *creation {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.pending[r]
	delete(o.pending, r)
	return c
}
