// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
)

// withVolume makes a VM that has disks, off. Its guest hangs.
func withVolume(t *testing.T, sim *Sim, name string, disks ...string) *object.VirtualMachine {
	t.Helper()
	spec := machineSpec(t, sim, name)
	withDisks(&spec, disks...)
	vm, err := create(t.Context(), sim, login(t, sim), spec)
	must(t, err)
	return vm
}

func TestADiskIsInOneRunningVM(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true, Guest: GuestOptions{Hang: true}})
	disks := volumes(t, sim, "v", "w")
	a, b := withVolume(t, sim, "a", disks[0]), withVolume(t, sim, "b", disks...)
	must(t, run(t.Context(), a.PowerOn))
	err := run(t.Context(), b.PowerOn)
	var why *types.GenericVmConfigFault
	if _, ok := fault.As(err, &why); !ok {
		t.Fatalf("the second VM: %v", err)
	}
	var keys, files []string
	for _, m := range why.FaultMessage {
		keys = append(keys, m.Key)
		if m.Key == "msg.disk.noBackEnd" {
			files = append(files, m.Arg[0].Value.(string))
		}
	}
	if !slices.Contains(keys, "msg.fileio.lock") || len(files) != 1 || files[0] != "/vmfs/volumes/LocalDS_1/vic/vch-1/volumes/v/v.vmdk" {
		t.Errorf("messages %v, files %v", keys, files)
	}
	must(t, run(t.Context(), a.PowerOff))
	must(t, run(t.Context(), b.PowerOn))
	must(t, run(t.Context(), b.PowerOff))
	must(t, run(t.Context(), a.PowerOn))
	// b gave up both, and a has one of them.
	c := withVolume(t, sim, "c", disks[1])
	must(t, run(t.Context(), c.PowerOn))
}

func TestWhatAChildStandsOnIsReadByManyAndWrittenByNone(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true, Guest: GuestOptions{Hang: true}})
	a, b, c := withVolume(t, sim, "a"), withVolume(t, sim, "b"), withVolume(t, sim, "c", ImageDisk)
	must(t, run(t.Context(), a.PowerOn))
	must(t, run(t.Context(), b.PowerOn))
	if err := run(t.Context(), c.PowerOn); !fault.Is(err, &types.GenericVmConfigFault{}) {
		t.Errorf("a VM that would write to the parent of others' disks: %v", err)
	}
}

func TestARunningVMTakesNoDiskOfAnother(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true, Guest: GuestOptions{Hang: true}})
	disks := volumes(t, sim, "v", "w")
	a, b := withVolume(t, sim, "a", disks[0]), withVolume(t, sim, "b")
	must(t, run(t.Context(), a.PowerOn))
	must(t, run(t.Context(), b.PowerOn))
	devices, err := b.Device(t.Context())
	must(t, err)
	controller := devices.SelectByType((*types.ParaVirtualSCSIController)(nil))[0].GetVirtualDevice().Key
	attach := func(file string) error {
		return run(t.Context(), func(ctx context.Context) (*object.Task, error) {
			return b.Reconfigure(ctx, types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{diskChange(-1, controller, file)}})
		})
	}
	if err := attach(disks[0]); !fault.Is(err, &types.GenericVmConfigFault{}) {
		t.Errorf("a disk of another: %v", err)
	}
	must(t, attach(disks[1]))
	if err := run(t.Context(), withVolume(t, sim, "c", disks[1]).PowerOn); err == nil {
		t.Error("a disk that was added to a running VM is not locked")
	}
}

func TestFilesOfARunningVMStay(t *testing.T) {
	t.Parallel()
	for _, vsan := range []bool{false, true} {
		sim := start(t, Options{NoForeign: true, VSAN: vsan, Guest: GuestOptions{Hang: true}})
		client := login(t, sim)
		disk := volumes(t, sim, "v")[0]
		vm := withVolume(t, sim, "a", disk)
		must(t, run(t.Context(), vm.PowerOn))
		dc := object.NewDatacenter(client.Client, sim.places.datacenter)
		files, virtual := object.NewFileManager(client.Client), object.NewVirtualDiskManager(client.Client)
		dir := vmDir(strings.Replace(disk, ".vmdk", ".vmx", 1))
		calls := map[string]starter{
			"delete the directory":  func(ctx context.Context) (*object.Task, error) { return files.DeleteDatastoreFile(ctx, dir, dc) },
			"delete the descriptor": func(ctx context.Context) (*object.Task, error) { return files.DeleteDatastoreFile(ctx, disk, dc) },
			"delete the disk":       func(ctx context.Context) (*object.Task, error) { return virtual.DeleteVirtualDisk(ctx, disk, dc) },
			"delete the image":      func(ctx context.Context) (*object.Task, error) { return virtual.DeleteVirtualDisk(ctx, ImageDisk, dc) },
			"delete the image's content": func(ctx context.Context) (*object.Task, error) {
				return files.DeleteDatastoreFile(ctx, strings.Replace(ImageDisk, ".vmdk", "-flat.vmdk", 1), dc)
			},
			"move the directory": func(ctx context.Context) (*object.Task, error) {
				return files.MoveDatastoreFile(ctx, dir, dc, dir+"2", dc, false)
			},
			"move onto it": func(ctx context.Context) (*object.Task, error) {
				return files.MoveDatastoreFile(ctx, ImageDisk, dc, disk, dc, true)
			},
			"move the disk": func(ctx context.Context) (*object.Task, error) {
				return virtual.MoveVirtualDisk(ctx, disk, dc, dir+"/x.vmdk", dc, false)
			},
			"extend": func(ctx context.Context) (*object.Task, error) {
				return virtual.ExtendVirtualDisk(ctx, disk, dc, 1<<20, nil)
			},
			"copy": func(ctx context.Context) (*object.Task, error) {
				return virtual.CopyVirtualDisk(ctx, disk, dc, dir+"/x.vmdk", dc, nil, false)
			},
		}
		before := sim.Files()
		for name, call := range calls {
			if err := run(t.Context(), call); !fault.Is(err, &types.FileLocked{}) {
				t.Errorf("vSAN %v: %s: %v", vsan, name, err)
			}
		}
		if !slices.Equal(before, sim.Files()) {
			t.Errorf("vSAN %v: files changed", vsan)
		}
		must(t, run(t.Context(), func(ctx context.Context) (*object.Task, error) { // it is only read
			return virtual.CopyVirtualDisk(ctx, ImageDisk, dc, dir+"/copy.vmdk", dc, nil, false)
		}))
		must(t, run(t.Context(), vm.PowerOff))
		for _, name := range []string{"extend", "delete the disk", "delete the directory"} {
			if err := run(t.Context(), calls[name]); err != nil {
				t.Errorf("vSAN %v, off: %s: %v", vsan, name, err)
			}
		}
	}
}
