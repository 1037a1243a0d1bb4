// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// overrides answers the methods that vcsim answers too kindly, or racily. It is a
// managed object of its own; intercept sends calls to it, and each method calls
// the vcsim object that was meant. Its name in the registry is never shown to
// clients.
type overrides struct {
	mo.ManagedEntity // gives vcsim's reflection the field Self

	sim *Sim

	mu sync.Mutex
	// creators holds, per folder, the context of the one create that runs in it.
	creators map[ref]*creation
	// pending holds, per VM that is being made, what ends when it is complete or has failed.
	pending map[ref]*creation
	// files is held while a task that makes, changes or removes a VM or its files
	// runs: vcsim copies a whole datastore, unlocked, when it resolves a path, and
	// changes it when a VM comes or goes. Also, its own locks are not fair, and
	// readers would starve among many creators.
	files sync.Mutex
	// tasks holds what to do when a task has ended.
	tasks map[ref]func()
}

type creation struct {
	ctx    *simulator.Context
	unlock func()
	// dir is the VM's directory if the creation makes it.
	dir string
}

func (o *overrides) register(s *Sim) {
	o.sim = s
	o.creators, o.pending = map[ref]*creation{}, map[ref]*creation{}
	o.tasks = map[ref]func(){}
	o.Self = ref{Type: "VchSim", Value: "overrides"}
	s.registry.Put(o)
}

// Lock and Unlock do nothing: vcsim would else lock this one object for each
// call. The methods lock the objects that they use.
func (*overrides) Lock() {}

// Unlock does nothing.
func (*overrides) Unlock() {}

// intercept is asked before vcsim dispatches a call. It injects faults and sends
// the methods of overrides there.
func (s *Sim) intercept(ctx *simulator.Context, method *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	if ctx.Session != nil && ctx.Session.Key == s.places.internalSession {
		return nil, nil
	}
	switch kind := s.faults.strike(method.Name, false); {
	case strings.HasPrefix(kind, taskPrefix):
		if ctx.Session == nil {
			return nil, nil // vcsim refuses the call
		}
		method.Body = &failedCall{method: method.Name, on: method.This, fault: newFault(kind, method.This)}
		method.Name, method.This = "FailInTask", s.calls.Self
		return nil, nil
	case kind == "NotAuthenticated" && ctx.Session != nil:
		s.terminate(ctx.Session.Key) // or the client could not log in again: it would be logged in
		fallthrough
	case kind != "":
		return nil, newFault(kind, method.This)
	}
	switch {
	case s.calls.answers(method.Name, method.This):
		method.This = s.calls.Self
	case s.collectors.answers(ctx, method):
		method.This = s.collectors.Self
	}
	return nil, nil
}

// answers reports whether the method is answered by overrides.
func (*overrides) answers(method string, this ref) bool {
	switch method {
	case "ImportVApp", "MakeDirectory", "CreateDirectory", "ConvertNamespacePathToUuidPath", "SearchDatastore_Task", "SearchDatastoreSubFolders_Task", "MoveDatastoreFile_Task",
		"CopyDatastoreFile_Task", "CreateVirtualDisk_Task", "MoveVirtualDisk_Task", "CopyVirtualDisk_Task", "ExtendVirtualDisk_Task", "DeleteVirtualDisk_Task",
		"CreateVM_Task", "DeleteDatastoreFile_Task", "FindAllByUuid", "FindByUuid", "FindChild", "FindByInventoryPath", "StartProgramInGuest":
		return true
	case "ReconfigVM_Task", "Rename_Task", "Destroy_Task", "PowerOnVM_Task", "ShutdownGuest", "UnregisterVM":
		return this.Type == "VirtualMachine"
	}
	return false
}

// vm returns the VM that was called, or the fault that it is not there.
func (o *overrides) vm(r ref) (*simulator.VirtualMachine, *soap.Fault) {
	vm, ok := o.sim.registry.Get(r).(*simulator.VirtualMachine)
	if !ok {
		return nil, simulator.Fault("The object has already been deleted or has not been completely created", &types.ManagedObjectNotFound{Obj: r})
	}
	return vm, nil
}

// ReconfigVMTask refuses a stale changeVersion, a name that is taken and devices that
// cannot be, as vCenter does, before anything is changed. Values that readers may
// still encode are copied, not changed in place.
func (o *overrides) ReconfigVMTask(ctx *simulator.Context, req *types.ReconfigVM_Task) soap.HasFault {
	vm, missing := o.vm(req.This)
	if missing != nil {
		return &methods.ReconfigVM_TaskBody{Fault_: missing}
	}
	return o.alone(func() (res soap.HasFault) {
		ctx.WithLock(vm, func() {
			if fault := o.refuseReconfigure(ctx, vm, &req.Spec); fault != nil {
				task := failingTask(ctx, vm.Self, "reconfigVm", fault)
				res = &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: task}}
				return
			}
			vm.Config.ExtraConfig = slices.Clone(vm.Config.ExtraConfig)
			vm.Config.Hardware.Device = slices.Clone(vm.Config.Hardware.Device)
			req.Spec.ExtraConfig = withoutEmpty(vm.Config.ExtraConfig, req.Spec.ExtraConfig)
			publishName(ctx, vm, req.Spec.Name)
			res = vm.ReconfigVMTask(ctx, req)
		})
		return res
	}, func() {})
}

func (o *overrides) refuseReconfigure(ctx *simulator.Context, vm *simulator.VirtualMachine, spec *types.VirtualMachineConfigSpec) types.BaseMethodFault {
	if v := spec.ChangeVersion; v != "" && v != vm.Config.ChangeVersion {
		return &types.ConcurrentAccess{}
	}
	if fault := o.refuseName(ctx, vm, spec.Name); fault != nil {
		return fault
	}
	if fault := o.refuseDevices(vm.Config.Hardware.Device, spec.DeviceChange); fault != nil {
		return fault
	}
	if added := addedDisks(spec.DeviceChange); len(added) > 0 && o.sim.index.on(vm.Self) {
		all := slices.Clone(vm.Config.Hardware.Device)
		for _, disk := range added {
			all = append(all, disk)
		}
		if taken := o.sim.locks.take(vm.Self, disksOf(all)); taken != "" {
			return cannotOpen(vm.Name, taken)
		}
	}
	return nil
}

// DeleteDatastoreFileTask refuses files that a running VM has.
func (o *overrides) DeleteDatastoreFileTask(ctx *simulator.Context, req *types.DeleteDatastoreFile_Task) soap.HasFault {
	return o.exclusive(func() soap.HasFault {
		if f := o.locked(req.Name, false); f != nil {
			task := failingTask(ctx, o.sim.registry.FileManager().Self, "deleteDatastoreFile", f)
			return &methods.DeleteDatastoreFile_TaskBody{Res: &types.DeleteDatastoreFile_TaskResponse{Returnval: task}}
		}
		return o.sim.registry.FileManager().DeleteDatastoreFileTask(ctx, req)
	})
}

// PowerOnVMTask refuses a VM whose disks are not there, or are in a VM that runs.
func (o *overrides) PowerOnVMTask(ctx *simulator.Context, req *types.PowerOnVM_Task) soap.HasFault {
	vm, missing := o.vm(req.This)
	if missing != nil {
		return &methods.PowerOnVM_TaskBody{Fault_: missing}
	}
	if o.sim.importing(req.This) {
		return &methods.PowerOnVM_TaskBody{Fault_: simulator.Fault("", &types.TaskInProgress{})}
	}
	var res soap.HasFault
	ctx.WithLock(vm, func() {
		for _, file := range diskChains(vm) {
			if !o.sim.exists(file) {
				task := failingTask(ctx, vm.Self, "powerOn", &types.FileNotFound{FileFault: types.FileFault{File: file}})
				res = &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: task}}
				return
			}
		}
		if vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
			res = vm.PowerOnVMTask(ctx, req) // which says so
			return
		}
		if taken := o.sim.locks.take(vm.Self, disksOf(vm.Config.Hardware.Device)); taken != "" {
			task := failingTask(ctx, vm.Self, "powerOn", cannotOpen(vm.Name, taken))
			res = &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: task}}
			return
		}
		res = vm.PowerOnVMTask(ctx, req)
		if task, ok := taskOf(res); ok {
			o.afterTask(task, func() { o.unlockUnlessOn(vm.Self) })
		} else {
			o.sim.locks.release(vm.Self)
		}
	})
	return res
}

// unlockUnlessOn ends the locks of a VM whose power-on failed.
func (o *overrides) unlockUnlessOn(vm ref) {
	if !o.sim.index.on(vm) {
		o.sim.locks.release(vm)
	}
}

// UnregisterVM only adds that the VM must be there when the call is executed.
func (o *overrides) UnregisterVM(ctx *simulator.Context, req *types.UnregisterVM) soap.HasFault {
	vm, missing := o.vm(req.This)
	if missing != nil {
		return &methods.UnregisterVMBody{Fault_: missing}
	}
	return o.alone(func() (res soap.HasFault) {
		ctx.WithLock(vm, func() {
			if _, gone := o.vm(req.This); gone != nil {
				res = &methods.UnregisterVMBody{Fault_: gone}
				return
			}
			res = vm.UnregisterVM(ctx, req)
		})
		return res
	}, func() {})
}

// DestroyTask deletes what vCenter deletes: the VM's own files and every attached
// disk with its whole parent chain, wherever it lies. Files that merely lie in the
// VM's directory, detached disks and serial port logs among them, stay, and so
// does then the directory. A disabled Destroy_Task is refused.
func (o *overrides) DestroyTask(ctx *simulator.Context, req *types.Destroy_Task) soap.HasFault {
	vm, missing := o.vm(req.This)
	if missing != nil {
		return &methods.Destroy_TaskBody{Fault_: missing}
	}
	if o.sim.importing(req.This) {
		return &methods.Destroy_TaskBody{Fault_: simulator.Fault("", &types.TaskInProgress{})}
	}
	return o.alone(func() soap.HasFault { return o.destroy(ctx, vm, req) }, func() {})
}

func (o *overrides) destroy(ctx *simulator.Context, vm *simulator.VirtualMachine, req *types.Destroy_Task) (res soap.HasFault) {
	ctx.WithLock(vm, func() {
		switch _, gone := o.vm(req.This); {
		case gone != nil:
			res = &methods.Destroy_TaskBody{Fault_: gone}
		case slices.Contains(vm.DisabledMethod, "Destroy_Task"):
			res = &methods.Destroy_TaskBody{Fault_: simulator.Fault("The method is disabled by 'VIC'", &types.MethodDisabled{Source: "VIC"})}
		default:
			if vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff {
				o.deleteFiles(vm)
			}
			res = vm.DestroyTask(ctx, req)
		}
	})
	return res
}

// deleteFiles deletes what a Destroy deletes, and takes from vcsim the name of the
// directory, which it would delete whole, and after the task had ended.
func (o *overrides) deleteFiles(vm *simulator.VirtualMachine) {
	for _, file := range diskChains(vm) {
		o.sim.remove(file)
		o.sim.remove(simulator.VirtualDiskBackingFileName(file))
	}
	vmx := vm.Config.Files.VmPathName
	dir := path.Dir(vmx)
	o.sim.remove(vmx)
	o.sim.remove(dir + "/" + o.sim.index.born(vm.Self) + ".nvram")
	alone := o.sim.onlyFile(dir, "vmware.log")
	o.sim.remove(dir + "/vmware.log")
	if alone {
		o.sim.remove(dir)
	}
	vm.Config.Files.LogDirectory = ""
}

// diskChains returns the files of all attached disks and of all their parents.
func diskChains(vm *simulator.VirtualMachine) []string {
	var files []string
	for _, d := range object.VirtualDeviceList(vm.Config.Hardware.Device).SelectByType((*types.VirtualDisk)(nil)) {
		backing, ok := d.GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		for ok && backing != nil {
			files = append(files, backing.FileName)
			backing = backing.Parent
		}
	}
	return files
}

// failedCall stands for a call whose task is to fail.
type failedCall struct {
	method string
	on     ref
	fault  types.BaseMethodFault
}

// FailInTask starts a task that fails, in the name of the method that was called.
func (o *overrides) FailInTask(ctx *simulator.Context, call *failedCall) soap.HasFault {
	if o.sim.registry.Get(call.on) == nil {
		return &methods.ReconfigVM_TaskBody{Fault_: simulator.Fault("", &types.ManagedObjectNotFound{Obj: call.on})}
	}
	name := strings.TrimSuffix(call.method, "_Task")
	task := failingTask(ctx, call.on, strings.ToLower(name[:1])+name[1:], call.fault)
	return taskResponses()[call.method](task)
}

// taskResponses makes the answer of each method whose task can be made to fail.
func taskResponses() map[string]func(ref) soap.HasFault {
	return map[string]func(ref) soap.HasFault{
		"CreateVM_Task": func(t ref) soap.HasFault {
			return &methods.CreateVM_TaskBody{Res: &types.CreateVM_TaskResponse{Returnval: t}}
		},
		"ReconfigVM_Task": func(t ref) soap.HasFault {
			return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: t}}
		},
		"PowerOnVM_Task": func(t ref) soap.HasFault {
			return &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: t}}
		},
		"PowerOnMultiVM_Task": func(t ref) soap.HasFault {
			return &methods.PowerOnMultiVM_TaskBody{Res: &types.PowerOnMultiVM_TaskResponse{Returnval: t}}
		},
		"PowerOffVM_Task": func(t ref) soap.HasFault {
			return &methods.PowerOffVM_TaskBody{Res: &types.PowerOffVM_TaskResponse{Returnval: t}}
		},
		"Destroy_Task": func(t ref) soap.HasFault {
			return &methods.Destroy_TaskBody{Res: &types.Destroy_TaskResponse{Returnval: t}}
		},
		"Rename_Task": func(t ref) soap.HasFault {
			return &methods.Rename_TaskBody{Res: &types.Rename_TaskResponse{Returnval: t}}
		},
		"RelocateVM_Task": func(t ref) soap.HasFault {
			return &methods.RelocateVM_TaskBody{Res: &types.RelocateVM_TaskResponse{Returnval: t}}
		},
		"RegisterVM_Task": func(t ref) soap.HasFault {
			return &methods.RegisterVM_TaskBody{Res: &types.RegisterVM_TaskResponse{Returnval: t}}
		},
		"MoveIntoFolder_Task": func(t ref) soap.HasFault {
			return &methods.MoveIntoFolder_TaskBody{Res: &types.MoveIntoFolder_TaskResponse{Returnval: t}}
		},
		"DeleteDatastoreFile_Task": func(t ref) soap.HasFault {
			return &methods.DeleteDatastoreFile_TaskBody{Res: &types.DeleteDatastoreFile_TaskResponse{Returnval: t}}
		},
		"MoveDatastoreFile_Task": func(t ref) soap.HasFault {
			return &methods.MoveDatastoreFile_TaskBody{Res: &types.MoveDatastoreFile_TaskResponse{Returnval: t}}
		},
		"CopyDatastoreFile_Task": func(t ref) soap.HasFault {
			return &methods.CopyDatastoreFile_TaskBody{Res: &types.CopyDatastoreFile_TaskResponse{Returnval: t}}
		},
		"CreateVirtualDisk_Task": func(t ref) soap.HasFault {
			return &methods.CreateVirtualDisk_TaskBody{Res: &types.CreateVirtualDisk_TaskResponse{Returnval: t}}
		},
		"DeleteVirtualDisk_Task": func(t ref) soap.HasFault {
			return &methods.DeleteVirtualDisk_TaskBody{Res: &types.DeleteVirtualDisk_TaskResponse{Returnval: t}}
		},
		"ExtendVirtualDisk_Task": func(t ref) soap.HasFault {
			return &methods.ExtendVirtualDisk_TaskBody{Res: &types.ExtendVirtualDisk_TaskResponse{Returnval: t}}
		},
		"MoveVirtualDisk_Task": func(t ref) soap.HasFault {
			return &methods.MoveVirtualDisk_TaskBody{Res: &types.MoveVirtualDisk_TaskResponse{Returnval: t}}
		},
		"SearchDatastore_Task": func(t ref) soap.HasFault {
			return &methods.SearchDatastore_TaskBody{Res: &types.SearchDatastore_TaskResponse{Returnval: t}}
		},
		"SearchDatastoreSubFolders_Task": func(t ref) soap.HasFault {
			return &methods.SearchDatastoreSubFolders_TaskBody{Res: &types.SearchDatastoreSubFolders_TaskResponse{Returnval: t}}
		},
		"CopyVirtualDisk_Task": func(t ref) soap.HasFault {
			return &methods.CopyVirtualDisk_TaskBody{Res: &types.CopyVirtualDisk_TaskResponse{Returnval: t}}
		},
	}
}

// exists reports whether there is a file at a datastore path.
func (s *Sim) exists(file string) bool {
	_, err := os.Stat(s.localPath(file))
	return err == nil
}

func (s *Sim) remove(file string) {
	// A file that is not there needs no removal; any other failure shows in Files.
	_ = os.Remove(s.localPath(file))
}

// onlyFile reports whether a directory holds nothing but the named file.
func (s *Sim) onlyFile(dir, name string) bool {
	entries, err := os.ReadDir(s.localPath(dir))
	return err == nil && !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() != name })
}
