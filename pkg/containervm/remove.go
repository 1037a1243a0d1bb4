// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// Remove takes a VM away that is off, in the one safe order: detach all disks
// and keep their files, destroy, delete the VM's own directory. vCenter's
// Destroy deletes whole disk chains, shared image disks included (VIC,
// pkg/vsphere/vm/vm.go:406-470,808-813); so nothing is destroyed with a disk attached.
// shared are datastore paths that must survive, and so must what the VM's disks are
// children of, and those of volumes; a directory that holds one is not deleted.
func (o *Operator) Remove(ctx context.Context, vm *VM, shared ...string) error {
	release, err := o.heavy(ctx, vm.VMX) // before the looks, not between them and the deed
	if err != nil {
		return o.convert(err, "destroy VM %q (%s)", vm.Name, vm.Ref.Value)
	}
	defer release()
	if vm.detached {
		// Time has gone by: what somebody attached meanwhile must not be destroyed.
		fresh, err := o.Reread(ctx, vm)
		if err != nil {
			return err
		}
		vm = fresh
	}
	dir, ownDir := vm.Directory() // first: it cannot be asked for any more once the VM is gone
	vm, err = o.Detach(ctx, vm, shared...)
	if err != nil {
		return err
	}
	if err := o.destroy(ctx, vm); err != nil {
		return err
	}
	if !ownDir {
		return nil
	}
	return o.deleteDirectory(ctx, dir)
}

// Detach is the first half of Remove: it takes all disks from a VM that is off, and
// keeps their files. Nothing is done to a VM whose directory Remove would not delete. Volumes that go
// with the machine are deleted between Detach and Remove, when the VM does not have them any
// more and can still say which they are. The VM that it returns is without disks.
func (o *Operator) Detach(ctx context.Context, vm *VM, shared ...string) (*VM, error) {
	vm, err := o.change(ctx, vm, change{what: "detach the disks of", again: o.Reread, build: func(vm *VM) (*types.VirtualMachineConfigSpec, error) {
		if dir, ownDir := vm.Directory(); ownDir {
			if err := o.mayDelete(dir, slices.Concat(shared, vm.parents(), vm.volumeDisks())); err != nil {
				return nil, err
			}
		}
		return detachDisks(vm), nil
	}})
	if err != nil {
		return nil, err
	}
	detached := *vm
	detached.Disks, detached.detached = nil, true
	return &detached, nil
}

func detachDisks(vm *VM) *types.VirtualMachineConfigSpec {
	if len(vm.Disks) == 0 {
		return nil
	}
	spec := &types.VirtualMachineConfigSpec{}
	for _, d := range vm.Disks {
		// Without a file operation the file stays.
		spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationRemove, Device: d})
	}
	return spec
}

func (o *Operator) destroy(ctx context.Context, vm *VM) error {
	res, err := methods.Destroy_Task(ctx, o.client.Vim(), &types.Destroy_Task{This: vm.Ref})
	if err == nil {
		err = o.await(ctx, res.Returnval)
	}
	switch {
	case err == nil:
		o.forget(vm)
		return nil
	case vcenter.IsMethodDisabled(err):
		return errdefs.Wrap(errdefs.FailedPrecondition, err, "destroy VM %q (%s): somebody disabled it, as VIC does for its own containers; enable Destroy_Task again (source id VIC)", vm.Name, vm.Ref.Value)
	case vcenter.IsConcurrent(err) && vm.lost():
		// vCenter cannot destroy what it cannot reach; its files go with the directory.
		if _, err = methods.UnregisterVM(ctx, o.client.Vim(), &types.UnregisterVM{This: vm.Ref}); vcenter.IsManagedObjectNotFound(err) {
			err = nil
		}
		if err == nil {
			o.forget(vm)
		}
		return o.convert(err, "unregister VM %q (%s), which is %s", vm.Name, vm.Ref.Value, vm.Connection)
	}
	// A VM that vanished meanwhile is Aborted: the next removal finds out for sure and clears its files away.
	return o.convert(err, "destroy VM %q (%s)", vm.Name, vm.Ref.Value)
}

// lost reports whether vCenter has lost the VM's files or host.
func (vm *VM) lost() bool {
	return vm.Connection != "" && vm.Connection != types.VirtualMachineConnectionStateConnected
}

// RemoveLeftovers deletes the directory that a cut-off removal of the machine
// may have left, once no VM is there any more. A VM that is registered in it,
// or stands under the machine's display name, is foreign: FailedPrecondition. Another
// container VM of the VCH may have the display name, since VMs can be renamed: it has
// its own id and directory. The machine's own VM that turned up meanwhile is Aborted: find it again.
func (o *Operator) RemoveLeftovers(ctx context.Context, dir, displayName string, id identity.Identity, want identity.Mark, shared ...string) error {
	vim := o.client.Vim()
	if err := o.mayDelete(dir, shared); err != nil {
		return err
	}
	release, err := o.heavy(ctx, dir)
	if err != nil {
		return o.convert(err, "delete directory %s", dir)
	}
	defer release()
	child, err := methods.FindChild(ctx, vim, &types.FindChild{This: *vim.ServiceContent.SearchIndex, Entity: o.host.Folder, Name: displayName})
	if err != nil {
		return o.convert(err, "look for a VM %q in VCH %s", displayName, o.host.Name)
	}
	if child.Returnval != nil {
		if err := o.checkNamesake(ctx, *child.Returnval, displayName, id, want); err != nil {
			return err
		}
	}
	vmx := dir + id.ContainerID + ".vmx"
	registered, err := methods.FindByDatastorePath(ctx, vim, &types.FindByDatastorePath{This: *vim.ServiceContent.SearchIndex, Datacenter: o.host.Datacenter, Path: vmx})
	if err != nil {
		return o.convert(err, "look for a VM at %s", vmx)
	}
	if registered.Returnval != nil {
		return errdefs.New(errdefs.FailedPrecondition, "VM %s is not touched: it is registered at %s without the machine's BIOS UUID", registered.Returnval.Value, vmx)
	}
	return o.deleteDirectory(ctx, dir)
}

// checkNamesake returns nil if the VM that has the display name of a machine's VM is
// provably another container VM.
func (o *Operator) checkNamesake(ctx context.Context, ref types.ManagedObjectReference, displayName string, id identity.Identity, want identity.Mark) error {
	vms, err := o.read(ctx, []types.ManagedObjectReference{ref}, true)
	switch {
	case err != nil:
		return err
	case len(vms) == 0 || o.Owned(vms[0], id, want) == nil:
		return errdefs.New(errdefs.Aborted, "VM %q (%s) of machine %s was being created or removed just now", displayName, ref.Value, want.Machine)
	case vms[0].containerID() == id.ContainerID || o.Proven(vms[0], Containers) != nil:
		return errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) is not touched: it has the name of the machine's VM but not its BIOS UUID %s; rename it or move it away", displayName, ref.Value, id.BIOSUUID)
	}
	return nil
}

// mayDelete refuses directories that hold what others need, and such as are volumes.
func (o *Operator) mayDelete(dir string, shared []string) error {
	keep := append([]string{o.host.BootstrapISO, o.host.ImageStore.String()}, shared...)
	for _, u := range o.host.VolumeStores {
		store, err := vch.VolumeStorePath(u)
		if err != nil {
			continue // on no datastore, or nobody could use it
		}
		keep = append(keep, store.String())
		// VIC, lib/constants/constants.go:76.
		if volumes := (vch.StorePath{Datastore: store.Datastore, Path: path.Join(store.Path, "volumes")}).String(); within(dir, volumes) {
			return errdefs.New(errdefs.FailedPrecondition, "directory %s is not deleted: it is in %s, where volumes are", dir, volumes)
		}
	}
	for _, k := range keep {
		if k != "" && within(k, dir) {
			return errdefs.New(errdefs.FailedPrecondition, "directory %s is not deleted: it holds %s, which is shared", dir, k)
		}
	}
	return nil
}

// within reports whether a datastore path is dir or below it.
func within(p, dir string) bool { return strings.HasPrefix(normalPath(p)+"/", normalPath(dir)+"/") }

func normalPath(p string) string {
	return strings.ReplaceAll(strings.TrimRight(p, "/"), "] ", "]")
}

func (o *Operator) deleteDirectory(ctx context.Context, dir string) error {
	vim := o.client.Vim()
	res, err := methods.DeleteDatastoreFile_Task(ctx, vim, &types.DeleteDatastoreFile_Task{
		This: *vim.ServiceContent.FileManager, Name: strings.TrimRight(dir, "/"), Datacenter: &o.host.Datacenter,
	})
	if err == nil {
		err = o.await(ctx, res.Returnval)
	}
	if vcenter.IsFileNotFound(err) {
		return nil // Destroy took it along
	}
	return o.convert(err, "delete directory %s", dir)
}
