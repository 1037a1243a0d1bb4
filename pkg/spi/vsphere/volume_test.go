// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/vsphere"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/world"
)

// mounted is a volume of the smallest size; without a name an anonymous one.
func mounted(name, path string) v1alpha1.Volume {
	size := resource.MustParse("8Mi")
	return v1alpha1.Volume{Name: name, MountPath: path, Capacity: &size}
}

// with is the world's spec with volumes.
func (w site) with(volumes ...v1alpha1.Volume) *v1alpha1.ProviderSpec {
	spec := w.Spec()
	spec.Volumes = volumes
	v1alpha1.SetDefaults(spec)
	return spec
}

// own is the name of the anonymous volume that a machine has at a path.
func (w site) own(machine, path string) string {
	w.Helper()
	id, err := identity.New(w.VCH(), vchsim.Cluster, machine)
	if err != nil {
		w.Fatal(err)
	}
	return volume.AnonymousName(id.BIOSUUID, path)
}

// create makes a machine, which must succeed.
func (w site) create(machine string, spec *v1alpha1.ProviderSpec) {
	w.Helper()
	if _, err := w.SPI().CreateMachine(w.Context(), machine, spec, w.Secret()); err != nil {
		w.Fatal(err)
	}
}

func (w site) remove(machine string, spec *v1alpha1.ProviderSpec) {
	w.Helper()
	if _, err := w.SPI().DeleteMachine(w.Context(), machine, "", spec, w.Secret()); err != nil {
		w.Fatal(err)
	}
}

// refused fails the test unless err is of the kind and has all the words.
func (w site) refused(what string, err error, kind errdefs.Kind, words ...string) {
	w.Helper()
	if !errdefs.Is(err, kind) {
		w.Errorf("%s = %v, of kind %s; want %s", what, err, errdefs.KindOf(err), kind)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			w.Errorf("%s = %q, without %q", what, err, word)
		}
	}
}

// file is where a file of the first datastore is on this machine.
func (w site) file(elements ...string) string {
	return filepath.Join(append([]string{w.Sim.Dir(), "datastores", vchsim.Datastore}, elements...)...)
}

// volumeDir is where a volume of the default store is on this machine.
func (w site) volumeDir(name string) string {
	w.Helper()
	p, err := vch.VolumeStorePath(w.Host.VolumeStores[volume.DefaultStore])
	if err != nil {
		w.Fatal(err)
	}
	return w.file(p.Path, "volumes", name)
}

// hold makes a foreign VM that has the disk of a volume of the default store.
func (w site) hold(name string) {
	w.Helper()
	p, err := vch.VolumeStorePath(w.Host.VolumeStores[volume.DefaultStore])
	if err != nil {
		w.Fatal(err)
	}
	dir := "[" + vchsim.Datastore + "] holder-of-" + name
	w.PlantVM(&types.VirtualMachineConfigSpec{
		Name: "holder-of-" + name, GuestId: "otherGuest", Files: &types.VirtualMachineFileInfo{VmPathName: dir + "/holder.vmx"},
		DeviceChange: []types.BaseVirtualDeviceConfigSpec{
			&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: &types.ParaVirtualSCSIController{
				VirtualSCSIController: types.VirtualSCSIController{
					SharedBus:         types.VirtualSCSISharingNoSharing,
					VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: -1}},
				},
			}},
			&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: &types.VirtualDisk{
				VirtualDevice: types.VirtualDevice{
					Key: -2, ControllerKey: -1, UnitNumber: types.NewInt32(0),
					Backing: &types.VirtualDiskFlatVer2BackingInfo{
						DiskMode:                     string(types.VirtualDiskModeIndependent_persistent),
						VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: "[" + p.Datastore + "] " + p.Path + "/volumes/" + name + "/" + name + ".vmdk"},
					},
				},
			}},
		},
	})
}

// powerOnHolder starts the VM that hold made.
func (w site) powerOnHolder(name string) {
	w.Helper()
	for ref, vm := range w.VMs() {
		if vm.Name != "holder-of-"+name {
			continue
		}
		task, err := object.NewVirtualMachine(w.Admin, ref).PowerOn(w.Context())
		if err == nil {
			err = task.Wait(w.Context())
		}
		if err != nil {
			w.Fatal(err)
		}
		return
	}
	w.Fatalf("nobody holds %s", name)
}

// silent is a store that does not answer.
type silent struct{ volume.Store }

func (silent) down() error {
	return errdefs.New(errdefs.Unavailable, "the store does not answer")
}

func (s silent) Get(context.Context, string) (*volume.Volume, error) { return nil, s.down() }

func (s silent) Create(context.Context, volume.Request) (*volume.Volume, error) { return nil, s.down() }
func (s silent) Remove(context.Context, string, ...string) error                { return s.down() }
func (s silent) Users(context.Context, ...string) (map[string][]volume.User, error) {
	return nil, s.down()
}

// backend is one with volume stores of the test's choice.
func (w site) backend(volumes func(*vcenter.Client, *vch.Config) *volume.Set) *vsphere.Backend {
	return vsphere.New(vsphere.Options{Pool: w.Pool(), HostKey: world.HostKey, Volumes: volumes})
}

func TestAStoreThatDoesNotAnswerKeepsTheMachineUntilItDoes(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{NoForeign: true})
	spec := w.with(mounted("", "/cache"))
	w.create("machine-x", spec)
	broken := w.backend(func(_ *vcenter.Client, host *vch.Config) *volume.Set {
		return volume.NewSet(host.Name, map[string]volume.Store{volume.DefaultStore: silent{}})
	})
	_, err := broken.CreateMachine(t.Context(), "machine-y", spec, w.Secret())
	w.refused("create", err, errdefs.Unavailable, "volumes[0]", "does not answer")
	key := guestinfo.AnnotationKey(containervm.DeleteVolumesAnnotation)
	_, err = broken.DeleteMachine(t.Context(), "machine-x", "", spec, w.Secret())
	w.refused("delete", err, errdefs.Unavailable, "does not answer", w.own("machine-x", "/cache"), key)
	_, err = broken.DeleteMachine(t.Context(), "machine-y", "", spec, w.Secret())
	w.refused("delete without a VM", err, errdefs.Unavailable, "machine class")
	if len(w.Machines()) != 1 || len(w.Volumes()) != 1 {
		t.Fatalf("there is %v with %v", w.Machines(), w.Volumes())
	}

	// What the text says.
	without := w.Spec()
	if _, err := broken.DeleteMachine(t.Context(), "machine-y", "", without, w.Secret()); err != nil {
		t.Errorf("delete without volumes in the class: %v", err)
	}
	task, err := w.VMOf("machine-x").Reconfigure(t.Context(), types.VirtualMachineConfigSpec{ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: key, Value: ""}}})
	if err == nil {
		err = task.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := broken.DeleteMachine(t.Context(), "machine-x", "", spec, w.Secret()); err != nil {
		t.Errorf("delete with the volumes given up: %v", err)
	}
	if got := w.Volumes(); len(w.Machines()) != 0 || len(got) != 1 {
		t.Errorf("there is %v with %v, want the volume alone", w.Machines(), got)
	}
	w.remove("machine-x", spec) // with a store that answers
	if got := w.Volumes(); len(got) != 0 {
		t.Errorf("volumes = %v", got)
	}
}

func TestAMachineThatExistsAsksNoStore(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{NoForeign: true})
	plain, spec := w.Spec(), w.with(mounted("data", "/data"), mounted("", "/cache"))
	w.create("machine-x", spec)
	var asked atomic.Int32
	s := w.backend(func(_ *vcenter.Client, host *vch.Config) *volume.Set {
		asked.Add(1)
		return volume.NewSet(host.Name, nil)
	})
	calls := map[string]func() error{
		"create again": func() error { _, err := s.CreateMachine(t.Context(), "machine-x", spec, w.Secret()); return err },
		"initialize": func() error {
			_, _, err := s.InitializeMachine(t.Context(), "machine-x", "", spec, w.Secret())
			return err
		},
		"list":     func() error { _, err := s.ListMachines(t.Context(), spec, w.Secret()); return err },
		"shutdown": func() error { _, err := s.ShutDownMachine(t.Context(), "machine-x", "", spec, w.Secret()); return err },
		"create and delete without volumes": func() error {
			if _, err := s.CreateMachine(t.Context(), "machine-y", plain, w.Secret()); err != nil {
				return err
			}
			_, err := s.DeleteMachine(t.Context(), "machine-y", "", plain, w.Secret())
			return err
		},
	}
	for what, call := range calls {
		if err := call(); err != nil || asked.Load() != 0 {
			t.Errorf("%s = %v, and asked for volume stores %d times", what, err, asked.Load())
		}
		asked.Store(0)
	}
}

func TestWhatAMachineCannotHaveIsRefusedWithTheField(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{NoForeign: true})
	w.PlantVolume("here", spitest.Volume{})
	w.PlantVolume("damaged", spitest.Volume{})
	if err := os.RemoveAll(filepath.Join(w.volumeDir("damaged"), "imageMetadata")); err != nil {
		t.Fatal(err)
	}
	elsewhere := mounted("here", "/data")
	elsewhere.Store = "fast"
	long := mounted("{machine}", "/data")
	for what, tc := range map[string]struct {
		machine string
		volume  v1alpha1.Volume
		kind    errdefs.Kind
		words   []string
	}{
		"another store than the spec's": {"m", elsewhere, errdefs.FailedPrecondition, []string{"here", "fast", volume.DefaultStore}},
		"a damaged volume":              {"m", mounted("damaged", "/data"), errdefs.FailedPrecondition, []string{"damaged"}},
		"the same name twice":           {"first", mounted("{machine}", "/data"), errdefs.InvalidArgument, []string{"volumes[0]"}},
		"a name that is too long":       {strings.Repeat("m", 201), long, errdefs.InvalidArgument, []string{"200"}},
	} {
		_, err := w.SPI().CreateMachine(t.Context(), tc.machine, w.with(mounted("first", "/first"), tc.volume), w.Secret())
		w.refused(what, err, tc.kind, append(tc.words, "volumes[1]")...)
	}
	if len(w.Machines()) != 0 {
		t.Errorf("machines = %v", w.Machines())
	}
}

func TestWithoutADefaultStoreAnonymousVolumesAreRefused(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{NoForeign: true, NoDefaultStore: true})
	_, err := w.SPI().CreateMachine(t.Context(), "m", w.with(mounted("", "/cache")), w.Secret())
	w.refused("create", err, errdefs.FailedPrecondition, "volumes[0]", "default", "fast")
	named := mounted("data", "/data")
	_, err = w.SPI().CreateMachine(t.Context(), "m", w.with(named), w.Secret())
	w.refused("create with a name and no store", err, errdefs.FailedPrecondition, "volumes[0]", "default")
	named.Store = "fast"
	w.create("m", w.with(named))
	w.create("n", w.with()) // that has none
	w.remove("m", w.with(named))
	w.create("m", w.with(mounted("data", "/data"))) // it is there, so no default is needed
}

func TestALockedVolumeNamesItsHolder(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{NoForeign: true})
	spec := w.with(mounted("free", "/free"), mounted("data", "/data"))
	w.create("machine-x", spec)
	w.hold("data") // after the look
	w.powerOnHolder("data")
	_, _, err := w.SPI().InitializeMachine(t.Context(), "machine-x", "", spec, w.Secret())
	w.refused("initialize", err, errdefs.FailedPrecondition, "volume data", "holder-of-data", "machine-x")
	if err != nil && strings.Contains(err.Error(), "volume free") {
		t.Errorf("the volume that nobody else has is blamed: %v", err)
	}
	w.remove("machine-x", spec)
	if got := w.Volumes(); len(got) != 2 {
		t.Errorf("volumes = %v", got)
	}
	// A VM that is no container VM of the VCH shows when the disk is locked, not before:
	// nobody looks at all VMs of a datacenter for each machine.
	w.create("machine-y", spec)
	_, _, err = w.SPI().InitializeMachine(t.Context(), "machine-y", "", spec, w.Secret())
	w.refused("initialize the next one", err, errdefs.FailedPrecondition, "volume data", "holder-of-data")
}

func TestALockedRootDiskIsNotBlamedOnVolumes(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{NoForeign: true})
	spec := w.with(mounted("data", "/data"))
	w.create("machine-x", spec)
	if err := w.Sim.SetFault(vchsim.FaultRule{Method: "PowerOnVM_Task", Kind: "task:FileLocked", Count: 1}); err != nil {
		t.Fatal(err)
	}
	_, _, err := w.SPI().InitializeMachine(t.Context(), "machine-x", "", spec, w.Secret())
	w.refused("initialize", err, errdefs.Aborted)
	if _, _, err := w.SPI().InitializeMachine(t.Context(), "machine-x", "", spec, w.Secret()); err != nil {
		t.Error(err)
	}
}

func TestAnAnonymousVolumeThatSomebodyElseHasStaysAndIsNoHindrance(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{NoForeign: true})
	var l logs
	ctx := l.context(t.Context())
	spec := w.with(mounted("", "/held"), mounted("", "/free"))
	w.create("machine-x", spec)
	held := w.own("machine-x", "/held")
	w.hold(held)
	w.WriteVolume(held, "precious")
	if _, err := w.SPI().DeleteMachine(ctx, "machine-x", "", spec, w.Secret()); err != nil {
		t.Fatal(err)
	}
	got := w.Volumes()
	if len(w.Machines()) != 0 || len(got) != 1 || got[held].Content != "precious" {
		t.Errorf("there is %v with %v, want the held volume alone", w.Machines(), got)
	}
	if text := l.buf.String(); !strings.Contains(text, "somebody else has it") || !strings.Contains(text, held) || !strings.Contains(text, "holder-of-") {
		t.Errorf("the log does not say what stayed and who has it:\n%s", text)
	}
}

func TestAVolumeThatIsRemovedWhileItIsJoinedIsAborted(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{NoForeign: true})
	spec := w.with(mounted("stays", "/stays"), mounted("data", "/data"))
	var once atomic.Bool
	stop := w.Sim.OnCall("CreateVM_Task", func() {
		if once.CompareAndSwap(false, true) {
			if err := os.RemoveAll(w.volumeDir("data")); err != nil {
				t.Error(err)
			}
		}
	})
	defer stop()
	_, err := w.SPI().CreateMachine(t.Context(), "machine-x", spec, w.Secret())
	w.refused("create", err, errdefs.Aborted, "volumes[1]", "volume data", "removed")
	w.create("machine-x", spec)
	if got := w.Volumes(); len(got) != 2 {
		t.Errorf("volumes = %v", got)
	}
}

func TestAMissingISOIsNotBlamedOnVolumes(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{NoForeign: true})
	if err := w.Sim.SetFault(vchsim.FaultRule{Method: "CreateVM_Task", Kind: "task:FileNotFound", Count: 1}); err != nil {
		t.Fatal(err)
	}
	_, err := w.SPI().CreateMachine(t.Context(), "machine-1", w.with(mounted("data", "/data")), w.Secret())
	w.refused("create", err, errdefs.FailedPrecondition, w.Host.BootstrapISO)
}

func TestAVolumeSaysForWhomItWasMade(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{NoForeign: true})
	named := mounted("data", "/data")
	named.Store = "default"
	w.create("machine-x", w.with(named, mounted("", "/cache")))
	for name, anonymous := range map[string]bool{"data": false, w.own("machine-x", "/cache"): true} {
		text, err := os.ReadFile(filepath.Join(w.volumeDir(name), "imageMetadata", volume.MetadataKey))
		if err != nil {
			t.Fatal(err)
		}
		m, err := volume.DecodeMetadata(text)
		if err != nil {
			t.Fatal(err)
		}
		disk, err := os.Stat(filepath.Join(w.volumeDir(name), name+"-flat.vmdk"))
		if err != nil {
			t.Fatal(err)
		}
		v := volume.Volume{Metadata: m, Capacity: disk.Size()}
		if m.Labels[volume.LabelMachine] != "machine-x" || m.Labels[volume.LabelCluster] != vchsim.Cluster || m.Labels[volume.LabelCreated] == "" || v.Anonymous() != anonymous {
			t.Errorf("labels of %s = %v", name, m.Labels)
		}
		if len(m.AttachHistory) != 1 || m.AttachHistory[0] != "machine-x" || m.DriverOpts["Capacity"] != "8" || v.Capacity != 8<<20 {
			t.Errorf("metadata of %s = %+v, capacity %d", name, m, v.Capacity)
		}
		if o, err := volume.ParseOptions(m.DriverOpts); err != nil || o.Capacity != v.Capacity || (o.Store == "default") == anonymous {
			t.Errorf("driver options of %s = %v: %+v, %v", name, m.DriverOpts, o, err)
		}
	}
}
