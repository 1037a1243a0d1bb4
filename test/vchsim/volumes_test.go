// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/ext4"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// locations are the volume stores in the configuration of a VCH.
func locations(t *testing.T, sim *Sim, name string) map[string]string {
	t.Helper()
	vms := sim.VMs()
	i := slices.IndexFunc(vms, func(vm VM) bool { return vm.Name == name })
	config, err := guestinfo.DecodeVCH(guestinfo.FromOptionValues(vms[i].ExtraCfg))
	must(t, err)
	found := map[string]string{}
	for label, u := range config.VolumeLocations {
		found[label] = u.Scheme + " " + u.Host + " " + u.Path + " " + u.RawQuery
	}
	return found
}

func TestAVCHHasTheVolumeStoresThatItsInstallerMade(t *testing.T) {
	t.Parallel()
	const (
		first = "ds LocalDS_0 [LocalDS_0] vch-1-volumes "
		fast  = "ds LocalDS_1 [LocalDS_1] vic/vch-1 "
	)
	for name, c := range map[string]struct {
		options Options
		want    map[string]string
	}{
		"as it is":   {Options{}, map[string]string{"default": first, "fast": fast}},
		"no default": {Options{NoDefaultStore: true}, map[string]string{"fast": fast}},
		"with NFS": {Options{NFS: "nfs://127.0.0.1/exports/a?uid=7"}, map[string]string{
			"default": first, "fast": fast, "share": "nfs 127.0.0.1 /exports/a uid=7",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := start(t, c.options)
			if diff := cmp.Diff(c.want, locations(t, sim, sim.VCHName)); diff != "" {
				t.Error(diff)
			}
			if root := sim.VolumeStore(FastStore); root != "[LocalDS_1] vic/vch-1" {
				t.Errorf("fast is at %q", root)
			}
			second := locations(t, sim, SecondVCH)
			if _, ok := second[NFSStore]; ok || !strings.Contains(second[FastStore], "vic/vch-2") {
				t.Errorf("the second VCH has %v", second)
			}
		})
	}
	for _, bad := range []string{"nfs.example.com", "nfs://host", "ds://host/a", ":"} {
		if _, err := Start(t.Context(), Options{NFS: bad}); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("NFS %q: %v", bad, err)
		}
	}
}

func TestTheVolumeOfAWorldIsAsVICMakesOne(t *testing.T) {
	t.Parallel()
	for _, vsan := range []bool{false, true} {
		sim := start(t, Options{NoForeign: true, VSAN: vsan})
		root := sim.VolumeStore(DefaultStore)
		if named := strings.Contains(root, "vch-1"); named == vsan {
			t.Errorf("vSAN %v: the store is at %s", vsan, root)
		}
		if !sim.exists(sim.VolumeStore(FastStore) + "/volumes") {
			t.Errorf("vSAN %v: the second store has no directory", vsan)
		}
		dir := root + "/volumes/" + Volume
		var files []string
		for _, f := range sim.Files() {
			if rest, ok := strings.CutPrefix(f, root+"/"); ok && rest != "" {
				files = append(files, rest)
			}
		}
		want := []string{"volumes/", "volumes/vol-1/", "volumes/vol-1/imageMetadata/", "volumes/vol-1/imageMetadata/DockerMetaData", "volumes/vol-1/vol-1-flat.vmdk", "volumes/vol-1/vol-1.vmdk"}
		if diff := cmp.Diff(want, files); diff != "" {
			t.Error(diff)
		}
		content, err := os.ReadFile(sim.localPath(dir + "/imageMetadata/DockerMetaData"))
		must(t, err)
		metadata, err := volume.DecodeMetadata(content)
		if err != nil || metadata.Name != Volume || metadata.Driver != "vsphere" || !json.Valid(content) {
			t.Errorf("metadata %s: %v", content, err)
		}
		disk, err := sim.DiskContent(dir + "/vol-1.vmdk")
		must(t, err)
		fs, err := ext4.Open(disk)
		if err != nil || fs.Label != volume.Label(Volume) || fs.Size != volumeSize {
			t.Errorf("file system %+v: %v", fs, err)
		}
		must(t, disk.Close())
		flat := sim.localPath(dir + "/vol-1-flat.vmdk")
		if out, err := exec.CommandContext(t.Context(), e2fsprogs(t, "e2fsck"), "-fn", flat).CombinedOutput(); err != nil {
			t.Errorf("e2fsck: %v\n%s", err, out)
		}
		out, err := exec.CommandContext(t.Context(), e2fsprogs(t, "debugfs"), "-R", "stat /.vic.vol.data", flat).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Type: directory    Mode:  0755") {
			t.Errorf("debugfs: %v\n%s", err, out)
		}
	}
}

// e2fsprogs returns where a program is; it is not skipped, as hack/prerequisites.sh installs it.
func e2fsprogs(t *testing.T, name string) string {
	t.Helper()
	program, err := e2fs(name)
	must(t, err)
	return program
}

// withDisks adds disks that exist, as a volume is joined.
func withDisks(spec *types.VirtualMachineConfigSpec, files ...string) {
	controller := int32(-101)
	for i, file := range files {
		spec.DeviceChange = append(spec.DeviceChange, diskChange(int32(-60-i), controller, file))
	}
}

func diskChange(key, controller int32, file string) *types.VirtualDeviceConfigSpec {
	unit := int32(-1)
	return &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: &types.VirtualDisk{
		VirtualDevice: types.VirtualDevice{Key: key, ControllerKey: controller, UnitNumber: &unit, Backing: &types.VirtualDiskFlatVer2BackingInfo{
			VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: file},
			DiskMode:                     string(types.VirtualDiskModeIndependent_persistent),
		}},
	}}
}

// volumes makes volumes and returns their disks.
func volumes(t *testing.T, sim *Sim, names ...string) (disks []string) {
	t.Helper()
	for _, name := range names {
		root := sim.VolumeStore(FastStore)
		must(t, sim.makeVolume(root, name))
		disks = append(disks, root+"/volumes/"+name+"/"+name+".vmdk")
	}
	return disks
}

func numbered(n int) (names []string) {
	for i := range n {
		names = append(names, "v"+string(rune('a'+i)))
	}
	return names
}

func TestDisksThatExistAreAddedAsVCenterDoes(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	disks := volumes(t, sim, numbered(15)...)
	spec := machineSpec(t, sim, "a")
	withDisks(&spec, disks[:14]...)
	vm, err := create(t.Context(), sim, client, spec)
	must(t, err)
	devices, err := vm.Device(t.Context())
	must(t, err)
	units := map[int32]string{}
	for _, d := range devices.SelectByType((*types.VirtualDisk)(nil)) {
		disk := d.(*types.VirtualDisk)
		units[*disk.UnitNumber] += filepath.Base(disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo).FileName)
		if *disk.UnitNumber > 0 && disk.CapacityInKB != volumeSize/1024 {
			t.Errorf("unit %d has %d KB", *disk.UnitNumber, disk.CapacityInKB)
		}
	}
	if len(units) != 15 || units[7] != "" || units[1] != "va.vmdk" || units[15] != "vn.vmdk" {
		t.Errorf("units %v", units)
	}
	controller := devices.SelectByType((*types.ParaVirtualSCSIController)(nil))[0].GetVirtualDevice().Key
	attach := func(file string) error {
		return run(t.Context(), func(ctx context.Context) (*object.Task, error) {
			return vm.Reconfigure(ctx, types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{diskChange(-1, controller, file)}})
		})
	}
	if err := attach(disks[14]); !fault.Is(err, &types.TooManyDevices{}) {
		t.Errorf("a 16th disk: %v", err)
	}
	// One that is detached keeps its file, and makes room.
	first := devices.SelectByType((*types.VirtualDisk)(nil))[1]
	must(t, vm.RemoveDevice(t.Context(), true, first))
	if !sim.exists(disks[0]) || !sim.exists(strings.Replace(disks[0], ".vmdk", "-flat.vmdk", 1)) {
		t.Error("a detached disk's files are gone")
	}
	if err := attach(sim.VolumeStore(FastStore) + "/volumes/none/none.vmdk"); !fault.Is(err, &types.FileNotFound{}) {
		t.Errorf("a disk that is not there: %v", err)
	}
	must(t, attach(disks[14]))
	// What is attached goes with the VM.
	must(t, run(t.Context(), vm.Destroy))
	for i, file := range disks {
		if sim.exists(file) != (i == 0) {
			t.Errorf("after Destroy, %s is there: %v", file, i != 0)
		}
	}
}

func TestADiskThatIsNotThereFailsTheCreation(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	spec := machineSpec(t, sim, "a")
	before := sim.Files()
	withDisks(&spec, dsPath("none.vmdk"))
	if _, err := create(t.Context(), sim, client, spec); !fault.Is(err, &types.FileNotFound{}) {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff(before, sim.Files()); diff != "" {
		t.Error(diff)
	}
}

func TestDirectoriesAreMovedAsVCenterDoes(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	volumes(t, sim, "a", "b")
	root := sim.VolumeStore(FastStore)
	must(t, os.Mkdir(sim.localPath(root+"/volumes/empty"), 0o700))
	var missing types.FileNotFound
	var exists types.FileAlreadyExists
	for _, c := range []struct {
		name, from, to string
		force          bool
		want           types.BaseMethodFault
	}{
		{"onto another", "a", "b", false, &exists},
		{"onto another by force", "a", "b", true, &exists},
		{"onto one that is empty by force", "a", "empty", true, &exists},
		{"nothing", "none", "c", false, &missing},
		{"into a directory that is not there", "a", "none/a", false, &missing},
		{"elsewhere", "a", "c", false, nil},
		{"what was moved", "a", "d", false, &missing},
	} {
		err := move(t, sim, client, root+"/volumes/"+c.from, root+"/volumes/"+c.to, c.force)
		if (c.want == nil) != (err == nil) || c.want != nil && !fault.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for file, want := range map[string]bool{"a/a.vmdk": false, "b/b.vmdk": true, "c/a.vmdk": true, "c/imageMetadata/DockerMetaData": true} {
		if sim.exists(root+"/volumes/"+file) != want {
			t.Errorf("%s is there: %v", file, !want)
		}
	}
}

func move(t *testing.T, sim *Sim, client *govmomi.Client, from, to string, force bool) error {
	t.Helper()
	dc := object.NewDatacenter(client.Client, sim.places.datacenter)
	return run(t.Context(), func(ctx context.Context) (*object.Task, error) {
		return object.NewFileManager(client.Client).MoveDatastoreFile(ctx, from, dc, to, dc, force)
	})
}
