// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration/plugins"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/world"
)

// site is a simulated VCH with an operator on it.
type site struct {
	*world.World
	*containervm.Operator
}

func newSite(t *testing.T) site {
	t.Helper()
	return newSiteOf(t, vchsim.Options{})
}

func newSiteOf(t *testing.T, o vchsim.Options) site {
	t.Helper()
	w := world.New(t, o)
	return site{w, operatorOn(t, w, plugins.Shipped(), nil)}
}

// operatorOn returns another operator, as another process would have it, with data migrated by
// a set, on the VCH as change leaves it.
func operatorOn(t *testing.T, w *world.World, data *migration.Set, change func(*vch.Config)) *containervm.Operator {
	t.Helper()
	host := *w.Host
	if change != nil {
		change(&host)
	}
	return containervm.NewOperator(clientOf(t, w, w.Pool()), &host, data)
}

// clientOf returns a client of a world with a pool's session.
func clientOf(t *testing.T, w *world.World, pool *vcenter.Pool) *vcenter.Client {
	t.Helper()
	cfg, err := vcenter.ConfigFromSecret(w.Sim.Secret())
	if err != nil {
		t.Fatal(err)
	}
	client, err := pool.Client(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// poolWith returns a pool that ends with the test.
func poolWith(t *testing.T, o vcenter.Options) *vcenter.Pool {
	t.Helper()
	pool := vcenter.NewPool(o)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := pool.Close(ctx); err != nil {
			t.Log(err)
		}
	})
	return pool
}

// machine makes a machine and returns its VM.
func (s site) machine(name string) *containervm.VM {
	s.Helper()
	r := s.request(name, vchsim.ImageDisk)
	if err := s.create(r); err != nil {
		s.Fatal(err)
	}
	return s.find(r)
}

// started makes a machine and starts it.
func (s site) started(name string) *containervm.VM {
	s.Helper()
	vm := s.machine(name)
	if _, err := s.Start(s.Context(), vm, time.Unix(1654867608, 0)); err != nil {
		s.Fatal(err)
	}
	return s.reread(vm)
}

// reread returns a VM as it is now.
func (s site) reread(vm *containervm.VM) *containervm.VM {
	s.Helper()
	vms, err := s.ReadWhole(s.Context(), vm.Ref)
	if err != nil {
		s.Fatal(err)
	}
	if vms[vm.Ref] == nil {
		s.Fatalf("VM %s is gone", vm.Ref.Value)
	}
	return vms[vm.Ref]
}

// called returns the container VM that is called so.
func (s site) called(name string) *containervm.VM {
	s.Helper()
	all, err := s.Members(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	for _, m := range all {
		if m.Name == name {
			return s.reread(&containervm.VM{Ref: m.Ref})
		}
	}
	s.Fatalf("no container VM is called %s: %+v", name, all)
	return nil
}

// set changes keys of a VM as somebody else would; "" deletes.
func (s site) set(vm *containervm.VM, keys map[string]string) {
	s.Helper()
	if err := s.Sim.SetKeys(s.reread(vm).Name, keys); err != nil {
		s.Fatal(err)
	}
}

// request is for a machine of an image whose disk is at path.
func (s site) request(name, path string) containervm.Request {
	s.Helper()
	id, err := identity.New(s.VCH(), vchsim.Cluster, name)
	if err != nil {
		s.Fatal(err)
	}
	key, err := world.HostKey()
	if err != nil {
		s.Fatal(err)
	}
	spec := s.Sim.ProviderSpec()
	spec.Image, spec.RootDisk, spec.Command = "registry.example.com/node:1", nil, nil
	v1alpha1.SetDefaults(spec)
	return containervm.Request{
		Machine: name, Identity: id, Spec: spec, Secret: s.Sim.Secret(), VCH: s.Host, HostKey: key, Now: time.Unix(1654867607, 0), ProviderVersion: "v1",
		Image: &image.Disk{
			Key: image.Key{Digest: "sha256:" + strings.Repeat("0123", 16), Size: spec.RootDiskBytes()}, Path: path,
			Description: image.Description{ConfigDigest: "sha256:" + strings.Repeat("4567", 16), Config: image.Config{Cmd: []string{"/bin/k3s"}, StopSignal: "9"}},
		},
	}
}

func (s site) create(r containervm.Request) error {
	s.Helper()
	plan, err := containervm.Plan(r)
	if err != nil {
		s.Fatal(err)
	}
	return s.Create(s.Context(), plan)
}

func (s site) find(r containervm.Request) *containervm.VM {
	s.Helper()
	vm, err := s.Find(s.Context(), r.Identity, identity.Mark{Cluster: vchsim.Cluster, Role: vchsim.Role, Machine: r.Machine}, true)
	if err != nil {
		s.Fatal(err)
	}
	return vm
}

func TestAMissingDiskOfAnImageCanBeTold(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const gone = "[" + vchsim.Datastore + "] mcm-images/gone.vmdk"
	err := s.create(s.request("machine-1", gone))
	if !errdefs.Is(err, errdefs.FailedPrecondition) || !vcenter.IsFileNotFound(err) {
		t.Errorf("create = %v (%s), want FailedPrecondition in which FileNotFound can be told", err, errdefs.KindOf(err))
	}
	if err == nil || !strings.Contains(err.Error(), "image: "+gone) || strings.Contains(err.Error(), "rootDisk.vmdk") {
		t.Errorf("error = %v, want one that names the image's disk and not rootDisk.vmdk", err)
	}
	r := s.request("machine-1", "")
	r.Image, r.Spec.Image, r.Spec.RootDisk.VMDK, r.Spec.Command = nil, "", gone, []string{"/x"}
	if err := s.create(r); !vcenter.IsFileNotFound(err) || !strings.Contains(err.Error(), "rootDisk.vmdk: "+gone) {
		t.Errorf("create from a vmdk = %v, want one that names the field", err)
	}
}

func TestTheImagesStopSignalStopsTheMachine(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		signal, status string
	}{
		"the image's":        {"", "-1"}, // KILL
		"the spec's instead": {"TERM", "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			r := s.request("machine-1", vchsim.ImageDisk)
			if err := s.create(r); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Start(t.Context(), s.find(r), time.Unix(1654867608, 0)); err != nil {
				t.Fatal(err)
			}
			if err := s.Stop(t.Context(), s.find(r), tc.signal, time.Minute); err != nil {
				t.Fatal(err)
			}
			vm := s.find(r)
			if status := vm.Keys[guestinfo.StatusKey(r.Identity.ContainerID)]; vm.PowerState != types.VirtualMachinePowerStatePoweredOff || status != tc.status {
				t.Errorf("power %s, status %s, want %s", vm.PowerState, status, tc.status)
			}
		})
	}
}

func TestWhatADiskIsAChildOfSurvivesItsMachine(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := s.request("machine-1", vchsim.ImageDisk)
	if err := s.create(r); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), s.find(r)); err != nil {
		t.Fatal(err)
	}
	if left := s.Leftovers(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := s.create(r); err != nil { // needs the disk
		t.Fatal(err)
	}
	vm := s.find(r)
	dir, _ := vm.Directory()
	// The caller knows of nothing shared; the chain alone says it.
	b, ok := vm.Disks[0].Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if !ok || b.Parent == nil {
		t.Fatalf("the root disk is %+v, no child", vm.Disks[0].Backing)
	}
	b.Parent.FileName = dir + "image.vmdk"
	if err := s.Remove(t.Context(), vm); !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), "image.vmdk, which is shared") {
		t.Errorf("remove = %v, want FailedPrecondition that names what is shared", err)
	}
	if vm := s.find(r); vm == nil || len(vm.Disks) != 1 {
		t.Error("the VM was changed before the check")
	}
}

const volumeDir = "[" + vchsim.Datastore + "] " + vchsim.DefaultVCH + "-volumes/volumes/" + vchsim.Volume

// withVolume is a request for a machine that has the volume of the world.
func (s site) withVolume(name string) containervm.Request {
	s.Helper()
	r := s.request(name, vchsim.ImageDisk)
	r.Volumes = []volume.Joint{diskJoint(vchsim.Volume, "/data", volumeDir+"/"+vchsim.Volume+".vmdk")}
	r.DeleteVolumes = []string{"other"}
	return r
}

func (s site) volumeFiles() []string {
	s.Helper()
	files := slices.DeleteFunc(s.Sim.Files(), func(f string) bool { return !strings.HasPrefix(f, volumeDir) })
	if len(files) < 4 {
		s.Fatalf("the world has no volume: %v", files)
	}
	return files
}

func TestAVolumeSurvivesItsMachines(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	before := s.volumeFiles()
	for _, name := range []string{"machine-1", "machine-2"} {
		r := s.withVolume(name)
		if err := s.create(r); err != nil {
			t.Fatal(err)
		}
		vm := s.find(r)
		if len(vm.Disks) != 2 || vm.Mounts()[vchsim.Volume].Path != "/data" {
			t.Fatalf("the VM has %d disks and mounts %v", len(vm.Disks), vm.Mounts())
		}
		if err := s.Remove(t.Context(), vm); err != nil {
			t.Fatal(err)
		}
		if s.find(r) != nil {
			t.Error("the VM is still there")
		}
	}
	if diff := cmp.Diff(before, s.volumeFiles()); diff != "" {
		t.Errorf("files of the volume (-before +after):\n%s", diff)
	}
	if left := s.Leftovers(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestAMissingDiskOfAVolumeIsNamed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := s.withVolume("machine-1")
	gone := "[" + vchsim.Datastore + "] gone/volumes/gone/gone.vmdk"
	r.Volumes = append(r.Volumes, diskJoint("gone", "/gone", gone))
	err := s.create(r)
	if !errdefs.Is(err, errdefs.FailedPrecondition) || !vcenter.IsFileNotFound(err) || !strings.Contains(err.Error(), "disks of volumes ("+r.Volumes[0].Disk+", "+gone+")") {
		t.Errorf("create = %v (%s), want FailedPrecondition that names the disks of volumes", err, errdefs.KindOf(err))
	}
	s.volumeFiles()
}

func TestAVolumeThatARunningMachineHasIsLocked(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first, second := s.withVolume("machine-1"), s.withVolume("machine-2")
	for _, r := range []containervm.Request{first, second} {
		if err := s.create(r); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Unix(1654867608, 0)
	if _, err := s.Start(t.Context(), s.find(first), now); err != nil {
		t.Fatal(err)
	}
	_, err := s.Start(t.Context(), s.find(second), now)
	if !vcenter.IsFileLocked(err) {
		t.Errorf("start = %v (%s), want one in which a locked file can be told", err, errdefs.KindOf(err))
	}
	// It starts as soon as the first is gone.
	if err := s.Abandon(t.Context(), s.find(first)); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), s.find(first)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Start(t.Context(), s.find(second), now); err != nil {
		t.Error(err)
	}
}

func TestDetachedIsBetweenThereAndGone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := s.withVolume("machine-1")
	if err := s.create(r); err != nil {
		t.Fatal(err)
	}
	before := s.volumeFiles()
	whole := s.find(r)
	vm, err := s.Detach(t.Context(), whole)
	if err != nil {
		t.Fatal(err)
	}
	if len(vm.Disks) != 0 || len(whole.Disks) != 2 {
		t.Errorf("%d disks detached, %d given; the given VM is not changed", len(vm.Disks), len(whole.Disks))
	}
	if found := s.find(r); found == nil || len(found.Disks) != 0 {
		t.Fatalf("the VM in vCenter is %+v, want one without disks", found)
	}
	if diff := cmp.Diff([]string{"other"}, vm.DeleteVolumes()); diff != "" {
		t.Errorf("a VM without disks does not know any more what goes with it: %s", diff)
	}
	again, err := s.Detach(t.Context(), vm)
	if err != nil {
		t.Fatalf("a second time: %v", err)
	}
	if err := s.Remove(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, s.volumeFiles()); s.find(r) != nil || diff != "" {
		t.Errorf("after removal (-before +after):\n%s", diff)
	}
	if left := s.Leftovers(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestWhatIsAttachedBeforeTheEndIsNotDestroyed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := s.withVolume("machine-1")
	if err := s.create(r); err != nil {
		t.Fatal(err)
	}
	before := s.volumeFiles()
	vm, err := s.Detach(t.Context(), s.find(r))
	if err != nil {
		t.Fatal(err)
	}
	// Somebody gives the VM a disk while its volumes are removed.
	disk := s.volumeDevice()
	task, err := s.VMOf("machine-1").Reconfigure(t.Context(), types.VirtualMachineConfigSpec{ChangeVersion: s.find(r).ChangeVersion, DeviceChange: []types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: disk},
	}})
	if err == nil {
		err = task.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(s.find(r).Disks) != 1 {
		t.Fatal("the disk was not attached")
	}
	if err := s.Remove(t.Context(), vm); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, s.volumeFiles()); s.find(r) != nil || diff != "" {
		t.Errorf("files of the volume (-before +after):\n%s", diff)
	}
}

// volumeDevice is the disk of the world's volume, for any VM of ours.
func (s site) volumeDevice() *types.VirtualDisk {
	s.Helper()
	plan, err := containervm.Plan(s.withVolume("machine-0"))
	if err != nil {
		s.Fatal(err)
	}
	disk, ok := plan.DeviceChange[len(plan.DeviceChange)-1].GetVirtualDeviceConfigSpec().Device.(*types.VirtualDisk)
	if !ok {
		s.Fatal("the last device is no disk")
	}
	devices, err := s.VMOf("machine-1").Device(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	disk.ControllerKey = devices.PickController((*types.VirtualSCSIController)(nil)).GetVirtualController().Key
	return disk
}

func TestADirectoryWithAVolumeInItIsNotDeleted(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		// vmx and disk are where the VM's file and the volume's disk are.
		vmx, disk string
		// first detaches before it removes, as when volumes go with the machine.
		first bool
		want  string
	}{
		"a volume in the VM's directory":           {"", "%sdata.vmdk", false, "data.vmdk, which is shared"},
		"one below it":                             {"", "%svolumes/data/data.vmdk", false, "data.vmdk, which is shared"},
		"one that is detached first":               {"", "%sdata.vmdk", true, "data.vmdk, which is shared"},
		"a VM in the directory of its volume":      {"[" + vchsim.SecondDatastore + "] v/data/m.vmx", "[" + vchsim.SecondDatastore + "] v/data/data.vmdk", false, "data.vmdk, which is shared"},
		"a VM in the directory of anybody's":       {volumeDir + "/m.vmx", "[" + vchsim.SecondDatastore + "] data.vmdk", false, "where volumes are"},
		"a VM in the directory of all":             {"[" + vchsim.Datastore + "] " + vchsim.DefaultVCH + "-volumes/volumes/m.vmx", "[" + vchsim.SecondDatastore + "] data.vmdk", false, "where volumes are"},
		"a VM above a store":                       {"[" + vchsim.Datastore + "] " + vchsim.DefaultVCH + "-volumes/m.vmx", "[" + vchsim.SecondDatastore + "] data.vmdk", false, "which is shared"},
		"a VM in the directory of all, with a dot": {"[" + vchsim.Datastore + "] " + vchsim.DefaultVCH + "-volumes/./volumes/x/m.vmx", "[" + vchsim.SecondDatastore + "] data.vmdk", false, "where volumes are"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			r := s.withVolume("machine-1")
			if err := s.create(r); err != nil {
				t.Fatal(err)
			}
			before := s.volumeFiles()
			vm := s.find(r)
			dir, _ := vm.Directory()
			if tc.vmx != "" {
				vm.VMX = tc.vmx
			}
			b, ok := vm.Disks[1].Backing.(*types.VirtualDiskFlatVer2BackingInfo)
			if !ok {
				t.Fatalf("the volume's disk is %+v", vm.Disks[1].Backing)
			}
			b.FileName = strings.ReplaceAll(tc.disk, "%s", dir)
			remove := func() error {
				if !tc.first {
					return s.Remove(t.Context(), vm)
				}
				_, err := s.Detach(t.Context(), vm)
				return err
			}
			if err := remove(); !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("remove = %v (%s), want FailedPrecondition with %q", err, errdefs.KindOf(err), tc.want)
			}
			if found := s.find(r); found == nil || len(found.Disks) != 2 {
				t.Error("the VM was changed before the check")
			}
			if diff := cmp.Diff(before, s.volumeFiles()); diff != "" {
				t.Errorf("files of the volume (-before +after):\n%s", diff)
			}
		})
	}
}
