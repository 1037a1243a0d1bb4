// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"slices"
	"strings"
	"sync"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// diskLocks are the locks that running VMs have on the files of their disks. The
// disk itself is its VM's alone; what it stands on may be read by many.
type diskLocks struct {
	mu   sync.Mutex
	held map[ref][]heldDisk
}

type heldDisk struct {
	file string // the descriptor's datastore path
	top  bool
}

// take locks the disks of a VM that is to run. It returns the file that another
// VM has, and locks none then.
func (l *diskLocks) take(vm ref, disks []heldDisk) (taken string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for other, held := range l.held {
		if other == vm {
			continue
		}
		for _, d := range disks {
			if slices.ContainsFunc(held, func(h heldDisk) bool { return h.file == d.file && (h.top || d.top) }) {
				return d.file
			}
		}
	}
	l.set(vm, disks)
	return ""
}

// hold notes what a VM that runs has, whoever else has it.
func (l *diskLocks) hold(vm ref, disks []heldDisk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set(vm, disks)
}

func (l *diskLocks) set(vm ref, disks []heldDisk) {
	if l.held == nil {
		l.held = map[ref][]heldDisk{}
	}
	l.held[vm] = disks
}

func (l *diskLocks) release(vm ref) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, vm)
}

// files returns what is locked, by whomever: whole chains, or only the disks themselves.
func (l *diskLocks) files(chains bool) (files []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, held := range l.held {
		for _, d := range held {
			if d.top || chains {
				files = append(files, d.file)
			}
		}
	}
	return files
}

// disksOf returns the disks of a VM with their chains. The caller holds the VM's lock.
func disksOf(devices object.VirtualDeviceList) (disks []heldDisk) {
	for _, d := range devices.SelectByType((*types.VirtualDisk)(nil)) {
		backing, ok := d.GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		for top := true; ok && backing != nil; top = false {
			disks = append(disks, heldDisk{backing.FileName, top})
			backing = backing.Parent
		}
	}
	return disks
}

// locked returns the fault of using a file or directory that a running VM has, as
// vSphere's API says it of both managers: locked or in use. A file that a
// running VM only reads may still be read. The caller holds files.
func (o *overrides) locked(name string, read bool) types.BaseMethodFault {
	local := o.sim.localPath(name)
	if local == "" {
		return nil
	}
	for _, file := range o.sim.locks.files(!read) {
		for _, held := range []string{file, simulator.VirtualDiskBackingFileName(file)} {
			if path := o.sim.localPath(held); path == local || strings.HasPrefix(path, local+"/") {
				return &types.FileLocked{FileFault: types.FileFault{File: name}}
			}
		}
	}
	return nil
}

// cannotOpen is the fault of a power-on that meets a locked disk, as a host
// answered it to VIC (pkg/vsphere/disk/vmdk_test.go): its type says next to
// nothing, what happened is in its messages.
func cannotOpen(vm, file string) types.BaseMethodFault {
	local := "/vmfs/volumes/" + strings.Replace(strings.TrimPrefix(file, "["), "] ", "/", 1)
	message := func(key, text string, args ...string) types.LocalizableMessage {
		m := types.LocalizableMessage{Key: key, Message: text}
		for _, value := range args {
			m.Arg = append(m.Arg, types.KeyAnyValue{Key: "1", Value: value})
		}
		return m
	}
	const opened = "File system specific implementation of LookupAndOpen[file] failed"
	return &types.GenericVmConfigFault{Reason: opened, VmConfigFault: types.VmConfigFault{VimFault: types.VimFault{MethodFault: types.MethodFault{
		FaultMessage: []types.LocalizableMessage{
			message("vob.fssvec.LookupAndOpen.file.failed", opened),
			message("msg.fileio.lock", "Failed to lock the file"),
			message("msg.disk.noBackEnd", "Cannot open the disk '"+local+"' or one of the snapshot disks it depends on. ", local),
			message("msg.moduletable.powerOnFailed", "Module 'Disk' power on failed. ", "Disk"),
			message("msg.vmx.poweron.failed", "Failed to start the virtual machine."),
			message("vpxd.vm.poweron.unexpectedfailure", "An error was received from the ESX host while powering on VM "+vm+".", vm),
		},
	}}}}
}
