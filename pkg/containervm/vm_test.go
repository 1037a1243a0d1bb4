// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
)

// chain returns a disk whose first file is a child of the second, and so on.
func chain(files ...string) *types.VirtualDisk {
	var b *types.VirtualDiskFlatVer2BackingInfo
	for i := len(files) - 1; i >= 0; i-- {
		b = &types.VirtualDiskFlatVer2BackingInfo{
			VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: files[i]}, Parent: b,
		}
	}
	return &types.VirtualDisk{VirtualDevice: types.VirtualDevice{Backing: b}}
}

func seSparse(file string, below *types.VirtualDiskSeSparseBackingInfo) *types.VirtualDiskSeSparseBackingInfo {
	return &types.VirtualDiskSeSparseBackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: file}, Parent: below}
}

func TestWhatDisksAreChildrenOfIsShared(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		disks []*types.VirtualDisk
		want  []string
	}{
		"no disk":                        {nil, nil},
		"a disk of its own":              {[]*types.VirtualDisk{chain("[ds] id/id.vmdk")}, nil},
		"a child of an image":            {[]*types.VirtualDisk{chain("[ds] id/id.vmdk", "[ds] images/a.vmdk")}, []string{"[ds] images/a.vmdk"}},
		"an image within the directory":  {[]*types.VirtualDisk{chain("[ds] id/id.vmdk", "[ds] id/image.vmdk")}, []string{"[ds] id/image.vmdk"}},
		"an image of layers":             {[]*types.VirtualDisk{chain("[ds] id/id.vmdk", "[ds] l/b.vmdk", "[ds] l/a.vmdk")}, []string{"[ds] l/b.vmdk", "[ds] l/a.vmdk"}},
		"a snapshot":                     {[]*types.VirtualDisk{chain("[ds] id/id-000001.vmdk", "[ds] id/id.vmdk", "[ds] images/a.vmdk")}, []string{"[ds] images/a.vmdk"}},
		"two snapshots":                  {[]*types.VirtualDisk{chain("[ds] id/id-000002.vmdk", "[ds] id/id-000001.vmdk", "[ds] id/id.vmdk", "[ds] images/a.vmdk")}, []string{"[ds] images/a.vmdk"}},
		"a snapshot of an image":         {[]*types.VirtualDisk{chain("[ds] id/id.vmdk", "[ds] images/a-000001.vmdk", "[ds] images/a.vmdk")}, []string{"[ds] images/a-000001.vmdk", "[ds] images/a.vmdk"}},
		"a name that only looks like it": {[]*types.VirtualDisk{chain("[ds] id/id-000001.vmdk", "[ds] id/id2.vmdk")}, []string{"[ds] id/id2.vmdk"}},
		"a snapshot on another disk":     {[]*types.VirtualDisk{chain("[ds] id/id-000001.vmdk", "[ds] other/id.vmdk")}, []string{"[ds] other/id.vmdk"}},
		"two disks":                      {[]*types.VirtualDisk{chain("[ds] id/id.vmdk", "[ds] a.vmdk"), chain("[ds] id/id_1.vmdk", "[ds] b.vmdk")}, []string{"[ds] a.vmdk", "[ds] b.vmdk"}},
		"another kind of disk": {[]*types.VirtualDisk{{VirtualDevice: types.VirtualDevice{
			Backing: seSparse("[ds] id/id-000001.vmdk", seSparse("[ds] id/id.vmdk", seSparse("[ds] a.vmdk", nil))),
		}}}, []string{"[ds] a.vmdk"}},
		"a backing without file": {[]*types.VirtualDisk{{}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, (&VM{Disks: tc.disks}).parents()); diff != "" {
				t.Errorf("parents (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAVMSaysWhichSignalStopsIt(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{"SIGQUIT": "QUIT", "INT": "INT", "10": "USR1", "": "TERM", "SIGRTMIN+3": "TERM", "KILL; x": "TERM"} {
		vm := &VM{Keys: map[string]string{guestinfo.CommonIDKey: "c1", guestinfo.StopSignalKey("c1"): value}}
		if got := vm.stopSignal(); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
	if got := (&VM{}).stopSignal(); got != "TERM" {
		t.Errorf("without keys: %q", got)
	}
}
