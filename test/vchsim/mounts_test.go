// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"errors"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
)

// mountKeys are the keys of mounts, as our own encoder has them.
func mountKeys(t *testing.T, mounts map[string]guestinfo.MountSpec) map[string]string {
	t.Helper()
	keys, err := guestinfo.EncodeExecutor(&guestinfo.ExecutorConfig{Mounts: mounts})
	must(t, err)
	for key := range keys {
		if !strings.Contains(key, "/mounts") {
			delete(keys, key)
		}
	}
	return keys
}

func labelled(name, at string, copyMode guestinfo.CopyMode) guestinfo.MountSpec {
	return guestinfo.MountSpec{Source: url.URL{Scheme: "label", Path: volume.Label(name)}, Path: at, Mode: "rw", CopyMode: copyMode}
}

// joined makes and starts a machine of an image with volumes, whose disks follow each
// other as the names do. Its process is there.
func joined(t *testing.T, sim *Sim, name, image string, mode types.VirtualDiskMode, mounts map[string]guestinfo.MountSpec, disks ...string) *object.VirtualMachine {
	t.Helper()
	spec := machineSpec(t, sim, name)
	for _, d := range spec.DeviceChange {
		if d, ok := d.GetVirtualDeviceConfigSpec().Device.(*types.VirtualDisk); ok && image != "" {
			d.Backing.(*types.VirtualDiskFlatVer2BackingInfo).Parent.FileName = image
		}
	}
	withDisks(&spec, disks...)
	for _, d := range addedDisks(spec.DeviceChange)[1:] {
		d.Backing.(*types.VirtualDiskFlatVer2BackingInfo).DiskMode = string(mode)
	}
	keys := guestinfo.OptionValues(mountKeys(t, mounts))
	spec.ExtraConfig = append(spec.ExtraConfig, options(keys)...)
	vm, err := create(t.Context(), sim, login(t, sim), spec)
	must(t, err)
	must(t, run(t.Context(), vm.PowerOn))
	return vm
}

func wait(t *testing.T, sim *Sim, vm *object.VirtualMachine) VM {
	t.Helper()
	return until(t, vm, func(is VM) bool { return is.Started != "" || !is.On }, sim)
}

// imageWithData is a system with something at a mount point.
func imageWithData() []images.Entry {
	return append(someImage(), images.Executable("usr/bin/sh", "#!"),
		images.Entry{Name: "srv/", Mode: 0o750, UID: 7, GID: 8}, images.File("srv/a file", "of the image"),
		images.Entry{Name: "srv/own", Mode: 0o600, UID: 7, GID: 9, Content: "mine"},
		images.Dir("srv/deep"), images.File(`srv/deep/"quoted"`, "q"), images.Symlink("srv/link", "deep"), images.Symlink("alias", "srv"))
}

func clean(t *testing.T, sim *Sim, disk string) {
	t.Helper()
	flat := sim.localPath(flatFile(disk))
	if out, err := exec.CommandContext(t.Context(), e2fsprogs(t, "e2fsck"), "-fn", flat).CombinedOutput(); err != nil {
		t.Errorf("e2fsck of %s: %v\n%s", disk, err, out)
	}
}

func TestAGuestMountsVolumesAndFillsTheEmptyOnes(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	image := putDisk(t, sim, "i", containerLabel, imageWithData()...)
	disks := volumes(t, sim, "v", "w", "x")
	nfs := guestinfo.MountSpec{Source: url.URL{Scheme: "nfs", Host: "h", Path: "/e/volumes/n"}, Path: "/n", Mode: "vers=3,addr=h"}
	mounts := map[string]guestinfo.MountSpec{
		"v": labelled("v", "/alias", guestinfo.CopyNew), "w": labelled("w", "/srv", guestinfo.CopyNever),
		"x": labelled("x", "/new/dir", guestinfo.CopyNew), "n": nfs,
	}
	vm := joined(t, sim, "a", image, types.VirtualDiskModeIndependent_persistent, mounts, disks...)
	if is := wait(t, sim, vm); is.Started != "true" {
		t.Fatalf("started %q, %v", is.Started, sim.GuestReports())
	}
	want := map[string]Mount{
		"/alias":   {Volume: "v", Disk: disks[0], Mode: "rw", Data: true, Copied: true},
		"/srv":     {Volume: "w", Disk: disks[1], Mode: "rw", Data: true},
		"/new/dir": {Volume: "x", Disk: disks[2], Mode: "rw", Data: true},
		"/n":       {Volume: "n", Source: "nfs://h/e/volumes/n", Mode: nfs.Mode},
	}
	if diff := cmp.Diff(want, sim.Mounted("a"), cmpopts.IgnoreUnexported(Mount{})); diff != "" {
		t.Error(diff)
	}
	for file, text := range map[string]string{"/alias/a file": "of the image", "/alias/own": "mine", `/alias/deep/"quoted"`: "q"} {
		if got, err := sim.ReadMounted("a", file); err != nil || string(got) != text {
			t.Errorf("%s has %q: %v", file, got, err)
		}
	}
	if _, err := sim.ReadMounted("a", "/srv/own"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a volume that is not to be filled: %v", err)
	}
	out, err := exec.CommandContext(t.Context(), e2fsprogs(t, "debugfs"), "-R", "ls -l /.vic.vol.data", sim.localPath(flatFile(disks[0]))).CombinedOutput()
	must(t, err)
	for _, line := range []string{"40750 (2)      7      8", "100600 (1)      7      9       4", "120777 (7)      0      0       4"} {
		if !strings.Contains(string(out), line) {
			t.Errorf("the volume lacks %q:\n%s", line, out)
		}
	}
	for _, d := range disks {
		clean(t, sim, d)
	}
	// Who comes after finds the volume filled, and adds nothing.
	must(t, sim.WriteVolume("a", "/alias/own", []byte("changed")))
	must(t, run(t.Context(), vm.PowerOff))
	if m := sim.Mounted("a"); m != nil {
		t.Errorf("a machine that is off has %v", m)
	}
	after := joined(t, sim, "b", image, types.VirtualDiskModeIndependent_persistent, map[string]guestinfo.MountSpec{"v": mounts["v"]}, disks[0])
	wait(t, sim, after)
	if got, err := sim.ReadMounted("b", "/alias/own"); err != nil || string(got) != "changed" || sim.Mounted("b")["/alias"].Copied {
		t.Errorf("the next machine finds %q: %v, %+v", got, err, sim.Mounted("b"))
	}
}

func TestWhatAGuestWritesIsOnTheDisk(t *testing.T) {
	t.Parallel()
	for _, vsan := range []bool{false, true} {
		sim := start(t, Options{NoForeign: true, VSAN: vsan, Guest: GuestOptions{Diary: true}})
		disk := volumes(t, sim, "v")[0]
		mounts := map[string]guestinfo.MountSpec{"v": labelled("v", "/data", guestinfo.CopyNew)}
		vm := joined(t, sim, "a", "", types.VirtualDiskModeIndependent_persistent, mounts, disk)
		wait(t, sim, vm)
		big := strings.Repeat("0123456789abcdef", 1<<16)
		for _, text := range []string{"first", big, ""} {
			must(t, sim.WriteVolume("a", "/data/deep/er/file", []byte(text)))
			if got, err := sim.ReadVolume(disk, "deep/er/file"); err != nil || string(got) != text {
				t.Errorf("vSAN %v: %d bytes were read back: %v", vsan, len(got), err)
			}
		}
		if err := sim.WriteVolume("a", "/elsewhere", nil); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("a file on no volume: %v", err)
		}
		must(t, run(t.Context(), vm.PowerOff))
		if err := sim.WriteVolume("a", "/data/x", nil); !errdefs.Is(err, errdefs.FailedPrecondition) {
			t.Errorf("a machine that is off: %v", err)
		}
		must(t, run(t.Context(), vm.PowerOn))
		until(t, vm, func(VM) bool { return len(sim.Mounted("a")) > 0 }, sim)
		if got, err := sim.ReadVolume(disk, Diary); err != nil || string(got) != "a\na\n" {
			t.Errorf("the diary has %q: %v", got, err)
		}
		if _, err := sim.ReadVolume(disk, "none"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("no file: %v", err)
		}
		clean(t, sim, disk)
	}
}

func TestADiskThatForgetsForgetsAtPowerOff(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	image := putDisk(t, sim, "i", containerLabel, imageWithData()...)
	disk := volumes(t, sim, "v")[0]
	before, err := os.ReadFile(sim.localPath(flatFile(disk)))
	must(t, err)
	mounts := map[string]guestinfo.MountSpec{"v": labelled("v", "/srv", guestinfo.CopyNew)}
	vm := joined(t, sim, "a", image, types.VirtualDiskModeIndependent_nonpersistent, mounts, disk)
	wait(t, sim, vm)
	must(t, sim.WriteVolume("a", "/srv/x", []byte("1")))
	for file, text := range map[string]string{"/srv/x": "1", "/srv/own": "mine"} {
		if got, err := sim.ReadMounted("a", file); err != nil || string(got) != text {
			t.Errorf("%s has %q: %v", file, got, err)
		}
	}
	after, err := os.ReadFile(sim.localPath(flatFile(disk)))
	must(t, err)
	if !slices.Equal(before, after) {
		t.Error("the disk was written to")
	}
	must(t, run(t.Context(), vm.PowerOff))
	must(t, run(t.Context(), vm.PowerOn))
	until(t, vm, func(VM) bool { return len(sim.Mounted("a")) > 0 }, sim)
	if _, err := sim.ReadMounted("a", "/srv/x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after power-off: %v", err)
	}
}

func TestWhatAGuestCannotMountKeepsItFromRunning(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	fs := func(label string) *rootFS { return &rootFS{label: label, files: map[string]rootFile{}} }
	const disk1, disk2 = "[" + Datastore + "] 1.vmdk", "[" + Datastore + "] 2.vmdk"
	type mounts = map[string]guestinfo.MountSpec
	nfs := func(host, mode string) mounts {
		return mounts{"v": {Source: url.URL{Scheme: "nfs", Host: host, Path: "/e"}, Path: "/n", Mode: mode}}
	}
	for name, c := range map[string]struct {
		mounts mounts
		disks  map[string]*rootFS
		fate   fate
		why    string
	}{
		"two volumes":           {mounts{"v": labelled("v", "/v", 2), "w": labelled("w", "/w", 1)}, map[string]*rootFS{disk1: fs(volume.Label("v")), disk2: fs(volume.Label("w"))}, runs, ""},
		"no disk":               {mounts{"v": labelled("v", "/v", 2)}, nil, hangs, "waits for a disk with the label"},
		"the disk of another":   {mounts{"v": labelled("v", "/v", 2)}, map[string]*rootFS{disk1: fs(volume.Label("w"))}, hangs, "waits for a disk with the label"},
		"the same label twice":  {nil, map[string]*rootFS{disk1: fs("x"), disk2: fs("x")}, hangs, `the label "x" of`},
		"the root disk's label": {nil, map[string]*rootFS{disk1: fs(containerLabel)}, hangs, "of the root disk"},
		"no label":              {nil, map[string]*rootFS{disk1: fs("")}, hangs, "no file system label"},
		"no file system":        {nil, map[string]*rootFS{disk1: {broken: "junk"}}, hangs, "no file system label"},
		"an empty disk":         {nil, map[string]*rootFS{disk1: nil}, hangs, "no file system label"},
		"no mount point":        {mounts{"v": labelled("v", "", 2)}, map[string]*rootFS{disk1: fs(volume.Label("v"))}, dies, "mount point"},
		"NFS":                   {nfs("h", "vers=3,addr=h"), nil, runs, ""},
		"NFS by IPv6":           {nfs("[::1]", "vers=3,addr=::1"), nil, runs, ""},
		"NFS without address":   {nfs("h", "rw"), nil, dies, "no address"},
		"NFS of nobody":         {nfs("", "addr="), nil, dies, "no address"},
		"ds":                    {mounts{"v": {Source: url.URL{Scheme: "ds"}, Path: "/v"}}, nil, dies, `unknown scheme "ds"`},
	} {
		m := typical(t, sim)
		for key, value := range mountKeys(t, c.mounts) {
			m.keys[key] = strings.ReplaceAll(value, "<nil>", "")
		}
		m.volumes = c.disks
		controller := m.devices.SelectByType((*types.ParaVirtualSCSIController)(nil))[0].GetVirtualDevice().Key
		for _, file := range []string{disk1, disk2} {
			if _, ok := c.disks[file]; ok {
				m.devices = append(m.devices, diskChange(0, controller, file).Device)
			}
		}
		if v := m.boot(); v.fate != c.fate || !strings.Contains(v.why, c.why) || v.fate == runs && len(v.mounts) != len(c.mounts) {
			t.Errorf("%s: fate %d, %q, mounts %v", name, v.fate, v.why, v.mounts)
		}
	}
}
