// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vmdk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// importContent is an image disk in memory and one temporary file.
type importContent struct {
	key    image.Key
	prefix []byte
	packed *os.File
	size   int64
}

func newImportContent(t *testing.T, size int64, prefix int) *importContent {
	t.Helper()
	c := &importContent{key: image.Key{Digest: "sha256:" + strings.Repeat("0123456789abcdef", 4), Size: size}, prefix: make([]byte, prefix)}
	for i := range c.prefix {
		c.prefix[i] = byte(i ^ i>>8 ^ i>>16)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "packed.vmdk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	r, err := vmdk.WriteFile(t.Context(), f, bytes.NewReader(c.prefix), int64(prefix), vmdk.Options{Capacity: size, Identity: vmdk.Identity{1}})
	if err != nil {
		t.Fatal(err)
	}
	c.packed, c.size = f, r.Bytes
	return c
}

func (c *importContent) Description() image.Description { return image.Description{} }
func (c *importContent) Identity() [16]byte             { return [16]byte{1} }
func (c *importContent) Close() error                   { return nil }
func (c *importContent) Raw() (io.ReaderAt, int64) {
	return bytes.NewReader(c.prefix), int64(len(c.prefix))
}

func (c *importContent) StreamOptimized(context.Context, image.Report) (io.ReaderAt, int64, error) {
	return c.packed, c.size, nil
}

// importWorld is a VCH and an importer for its image store's datastore.
type importWorld struct {
	*testing.T
	*importer
	sim *vchsim.Sim
	dir string // where disks go
	// foreign is what was there before.
	foreign []string
}

func newImportWorld(t *testing.T, options vchsim.Options) *importWorld {
	t.Helper()
	options.Dir, options.NoForeign = t.TempDir(), true
	sim, err := vchsim.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	pool := vcenter.NewPool(vcenter.Options{})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := pool.Close(ctx); err != nil {
			t.Log(err)
		}
	})
	cfg, err := vcenter.ConfigFromSecret(sim.Secret())
	if err != nil {
		t.Fatal(err)
	}
	client, err := pool.Client(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	host, err := vch.Find(t.Context(), client, v1alpha1.VirtualContainerHost{Datacenter: sim.Datacenter, Name: sim.VCHName})
	if err != nil {
		t.Fatal(err)
	}
	ds := host.Datastores[host.ImageStore.Datastore]
	files := datastore.New(datastore.Options{
		Client: client, Datacenter: host.Datacenter, DatacenterPath: host.DatacenterPath, Datastore: ds.Ref, Name: ds.Name, Type: ds.Type,
	})
	w := &importWorld{T: t, sim: sim, dir: "disks/a", importer: &importer{
		client: client, host: host, files: files, datastore: ds, owner: "test", clock: clock.RealClock{},
	}}
	if err := files.MakeDirectory(t.Context(), w.dir, true); err != nil {
		t.Fatal(err)
	}
	if w.dir, err = files.Resolve(t.Context(), w.dir); err != nil {
		t.Fatal(err)
	}
	w.foreign = w.present()
	return w
}

// present is everything in the world: VMs and files.
func (w *importWorld) present() []string {
	all := w.sim.Files()
	for _, vm := range w.sim.VMs() {
		all = append(all, "VM "+vm.Name)
	}
	return all
}

// added is what is there beside what was there before.
func (w *importWorld) added() []string {
	return slices.DeleteFunc(w.present(), func(p string) bool { return slices.Contains(w.foreign, p) })
}

// clean fails the test if anything is left.
func (w *importWorld) clean(when string) {
	w.Helper()
	if left := w.added(); len(left) > 0 {
		w.Errorf("%s: left %v", when, left)
	}
}

// same compares the disk at a path with the content.
func (w *importWorld) same(p string, c *importContent) {
	w.Helper()
	f, err := w.sim.DiskContent(w.files.Path(p))
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	got, err := io.ReadAll(f)
	if err != nil {
		w.Fatal(err)
	}
	want := append(slices.Clone(c.prefix), make([]byte, c.key.Size-int64(len(c.prefix)))...)
	if !bytes.Equal(got, want) {
		w.Errorf("%s has another content: %d bytes, want %d", p, len(got), len(want))
	}
}

// fault sets the only fault.
func (w *importWorld) fault(rule vchsim.FaultRule) {
	w.Helper()
	w.sim.ClearFaults()
	if err := w.sim.SetFault(rule); err != nil {
		w.Fatal(err)
	}
}

func TestAnImportedDiskHasTheContentAndNothingElseIsLeft(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]vchsim.Options{
		"VMFS":                    {},
		"vSAN":                    {VSAN: true},
		"host that is no address": {ImportHost: "*"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newImportWorld(t, options)
			c := newImportContent(t, 64<<20, 5<<20+512)
			var told []image.Progress
			w.sim.ResetCounters()
			if err := w.importDisk(t.Context(), c.key, "up1", c, w.dir+"/disk.vmdk", func(p image.Progress) { told = append(told, p) }); err != nil {
				t.Fatal(err)
			}
			calls := w.sim.Calls()
			w.same(w.dir+"/disk.vmdk", c)
			want := []string{w.files.Path(w.dir + "/disk-flat.vmdk"), w.files.Path(w.dir + "/disk.vmdk")}
			if diff := cmp.Diff(want, w.added()); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			if len(told) == 0 || told[len(told)-1] != (image.Progress{Stage: image.Uploading, Done: c.size, Total: c.size}) {
				t.Errorf("progress ended with %v", told[max(0, len(told)-1):])
			}
			if n := w.sim.BytesReceived(); n != c.size || calls["POST /nfc"] != 1 {
				t.Errorf("%d bytes were sent for %d; %v", n, c.size, calls)
			}
			// How often a wait polls is a matter of luck.
			if n := w.sim.Requests() - calls["WaitForUpdatesEx"]; n > 22 {
				t.Errorf("%d requests: %v", n, calls)
			}
		})
	}
}

func TestAHolderSaysWhatItIs(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{})
	c := newImportContent(t, 64<<20, 1<<20)
	mark := holderMark{Digest: c.key.Digest, Size: c.key.Size, Upload: "up1", Owner: "test"}
	l, err := w.open(t.Context(), mark)
	if err != nil {
		t.Fatal(err)
	}
	found, err := w.holders(t.Context())
	if err != nil || len(found) != 1 || found[0].mark != mark || found[0].name != "mcm-image-0123456789ab-up1" || found[0].ref != l.info.Entity {
		t.Fatalf("%+v, %v", found, err)
	}
	if _, err := object.NewVirtualMachine(w.client.Vim(), l.info.Entity).PowerOn(t.Context()); err == nil {
		t.Error("the simulator starts a VM that is being imported")
	}
	if vm := w.sim.VMs()[slices.IndexFunc(w.sim.VMs(), func(vm vchsim.VM) bool { return vm.Name == mark.name() })]; vm.Folder != w.sim.VCHName {
		t.Errorf("it stands in %s", vm.Folder)
	}
	w.abandon(t.Context(), l, mark)
	w.clean("after abandon")
}

func TestAnImportThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{})
	c := newImportContent(t, 64<<20, 5<<20)
	for name, tc := range map[string]struct {
		rule vchsim.FaultRule
		kind errdefs.Kind
	}{
		"import refused":            {vchsim.FaultRule{Method: "ImportVApp", Kind: "NoPermission"}, errdefs.PermissionDenied},
		"import unreachable":        {vchsim.FaultRule{Method: "ImportVApp", Kind: vchsim.KindHTTP503}, errdefs.Unavailable},
		"lease cannot be waited on": {vchsim.FaultRule{Method: "WaitForUpdatesEx", Kind: vchsim.KindHTTP503, Count: 1}, errdefs.Unavailable},
		"host busy":                 {vchsim.FaultRule{Method: "POST /nfc", Kind: vchsim.KindHTTP503}, errdefs.Unavailable},
		"host full":                 {vchsim.FaultRule{Method: "POST /nfc", Kind: vchsim.KindHTTP507}, errdefs.ResourceExhausted},
		"transfer cut":              {vchsim.FaultRule{Method: "POST /nfc", Kind: vchsim.KindHalf}, errdefs.Unavailable},
		"connection reset":          {vchsim.FaultRule{Method: "POST /nfc", Kind: vchsim.KindConnectionReset}, errdefs.Unavailable},
		"answer lost":               {vchsim.FaultRule{Method: "POST /nfc", Kind: vchsim.KindResponseLost}, errdefs.Unavailable},
		"arrived damaged":           {vchsim.FaultRule{Method: "POST /nfc", Kind: vchsim.KindCorrupt}, errdefs.Unavailable},
		"no manifest":               {vchsim.FaultRule{Method: "HttpNfcLeaseGetManifest", Kind: "NoPermission"}, errdefs.PermissionDenied},
		"not completed":             {vchsim.FaultRule{Method: "HttpNfcLeaseComplete", Kind: vchsim.KindHTTP503}, errdefs.Unavailable},
		"completed, answer lost":    {vchsim.FaultRule{Method: "HttpNfcLeaseComplete", Kind: vchsim.KindResponseLost}, errdefs.Unavailable},
		"holder unreadable":         {vchsim.FaultRule{Method: "RetrievePropertiesEx", Kind: vchsim.KindHTTP503, Count: 1}, errdefs.Unavailable},
		"copy refused":              {vchsim.FaultRule{Method: "CopyVirtualDisk_Task", Kind: "NoPermission"}, errdefs.PermissionDenied},
		"copy fails":                {vchsim.FaultRule{Method: "CopyVirtualDisk_Task", Kind: "task:NoDiskSpace"}, errdefs.ResourceExhausted},
		"copied, answer lost":       {vchsim.FaultRule{Method: "CopyVirtualDisk_Task", Kind: vchsim.KindResponseLost}, errdefs.Unavailable},
	} {
		w.fault(tc.rule)
		err := w.importDisk(t.Context(), c.key, "up1", c, w.dir+"/disk.vmdk", nil)
		if !errdefs.Is(err, tc.kind) {
			t.Errorf("%s: %v (%s), want %s", name, err, errdefs.KindOf(err), tc.kind)
		}
		w.clean(name)
	}
	// A holder that could not be made says why.
	w.sim.ClearFaults()
	host := *w.host
	host.Folder.Value = "group-v999"
	broken := *w.importer
	broken.host = &host
	if err := broken.importDisk(t.Context(), c.key, "up1", c, w.dir+"/disk.vmdk", nil); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("no folder: %v", err)
	}
	w.clean("no folder")
	if err := w.importDisk(t.Context(), c.key, "up1", c, w.dir+"/disk.vmdk", nil); err != nil {
		t.Error(err)
	}
	w.same(w.dir+"/disk.vmdk", c)
}

func TestAnImportLeavesNothingWhereverItsContextEnds(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{})
	c := newImportContent(t, 64<<20, 2<<20)
	for _, method := range []string{"ImportVApp", "WaitForUpdatesEx", "POST /nfc", "HttpNfcLeaseGetManifest", "HttpNfcLeaseComplete", "RetrievePropertiesEx", "CopyVirtualDisk_Task"} {
		ctx, cancel := context.WithCancel(t.Context())
		broken := *w.importer
		broken.client = w.client
		stop := w.sim.OnCall(method, cancel)
		w.sim.ResetCounters()
		err := broken.importDisk(ctx, c.key, "up1", c, w.dir+"/disk.vmdk", nil)
		stop()
		cancel()
		if !errdefs.Is(err, errdefs.Canceled) {
			t.Errorf("%s: %v (%s), want Canceled", method, err, errdefs.KindOf(err))
		}
		w.clean("cancelled at " + method)
		// The lease is known even if its answer came after the end.
		calls := w.sim.Calls()
		if calls["HttpNfcLeaseAbort"]+calls["Destroy_Task"] == 0 {
			t.Errorf("cancelled at %s: nobody ended the lease: %v", method, calls)
		}
	}
}

func TestADiskThatIsThereIsNotTouched(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{})
	first, second := newImportContent(t, 64<<20, 1<<20), newImportContent(t, 64<<20, 2<<20)
	if err := w.importDisk(t.Context(), first.key, "up1", first, w.dir+"/disk.vmdk", nil); err != nil {
		t.Fatal(err)
	}
	w.foreign = w.present()
	if err := w.importDisk(t.Context(), second.key, "up2", second, w.dir+"/disk.vmdk", nil); !errdefs.Is(err, errdefs.AlreadyExists) {
		t.Errorf("%v, want AlreadyExists", err)
	}
	w.same(w.dir+"/disk.vmdk", first)
	w.clean("after the second")
}

func TestALeaseIsKeptWhileContentIsSent(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{LeaseTimeout: 6 * time.Second})
	c := newImportContent(t, 64<<20, 5<<20)
	heard := func(context.Context) (bool, error) { return w.sim.Calls()["HttpNfcLeaseProgress"] >= 4, nil }
	begin := time.Now()
	// The content comes so slowly that the lease would have ended meanwhile.
	slow := &slowContent{importContent: c, wait: func() {
		if err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, heard); err != nil {
			t.Errorf("the lease heard %d times: %v", w.sim.Calls()["HttpNfcLeaseProgress"], err)
		}
	}}
	if err := w.importDisk(t.Context(), c.key, "up1", slow, w.dir+"/disk.vmdk", nil); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 6*time.Second {
		t.Errorf("it took %s only", took)
	}
	w.same(w.dir+"/disk.vmdk", c)
}

// slowContent waits before each piece.
type slowContent struct {
	*importContent
	wait func()
}

func (s *slowContent) StreamOptimized(context.Context, image.Report) (io.ReaderAt, int64, error) {
	return s, s.size, nil
}

func (s *slowContent) ReadAt(p []byte, at int64) (int, error) {
	s.wait()
	return s.packed.ReadAt(p, at)
}

func TestALeaseThatIsLostEndsTheTransfer(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{LeaseTimeout: time.Second})
	c := newImportContent(t, 64<<20, 5<<20)
	w.fault(vchsim.FaultRule{Method: "HttpNfcLeaseProgress", Kind: "Timedout"})
	if err := w.sim.SetFault(vchsim.FaultRule{Method: "POST /nfc", Kind: vchsim.KindStall}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	err := w.importDisk(t.Context(), c.key, "up1", c, w.dir+"/disk.vmdk", nil)
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("it took %s: the transfer was not ended", took)
	}
	if !errdefs.Is(err, errdefs.DeadlineExceeded) || !strings.Contains(err.Error(), "keep the lease") {
		t.Errorf("%v (%s)", err, errdefs.KindOf(err))
	}
	w.clean("lost lease")
}

func TestAHostIsBelievedByTheThumbprintThatVCenterKnows(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{})
	c := newImportContent(t, 64<<20, 1<<20)
	l, err := w.open(t.Context(), holderMark{Digest: c.key.Digest, Size: c.key.Size, Upload: "up1"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.abandon(t.Context(), l, holderMark{Digest: c.key.Digest, Size: c.key.Size, Upload: "up1"})
	good := l.info.DeviceUrl[0].SslThumbprint
	for name, tc := range map[string]struct {
		thumbprint, address string
		kind                errdefs.Kind
	}{
		"another certificate":             {strings.Repeat("AB:", 19) + "AB", "", errdefs.FailedPrecondition},
		"no thumbprint, vCenter's trust":  {"", "", errdefs.FailedPrecondition},
		"a thumbprint that is none":       {"xyz", "", errdefs.Internal},
		"an address that is no https one": {good, "http://127.0.0.1/nfc/x", errdefs.Internal},
		"no address":                      {good, "::", errdefs.Internal},
	} {
		l.info.DeviceUrl = slices.Clone(l.info.DeviceUrl)
		d := l.info.DeviceUrl[0]
		d.SslThumbprint = tc.thumbprint
		if tc.address != "" {
			d.Url = tc.address
		}
		bad := &lease{ref: l.ref, info: l.info}
		bad.info.DeviceUrl = []types.HttpNfcLeaseDeviceUrl{d}
		err := w.fill(t.Context(), bad, newSummed(c.packed), c.size, nil)
		if !errdefs.Is(err, tc.kind) {
			t.Errorf("%s: %v (%s), want %s", name, err, errdefs.KindOf(err), tc.kind)
		}
	}
	if n := w.sim.BytesReceived(); n != 0 {
		t.Errorf("%d bytes were sent to a host that is not believed", n)
	}
	if err := w.fill(t.Context(), l, newSummed(c.packed), c.size, nil); err != nil {
		t.Error(err)
	}
}

func TestTheStarInAnAddressIsVCenter(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{})
	own := w.client.Vim().URL()
	for in, want := range map[string]string{
		"https://*/nfc/a/disk.vmdk":           "https://" + own.Host + "/nfc/a/disk.vmdk",
		"https://*:902/nfc/a/disk.vmdk":       "https://" + own.Hostname() + ":902/nfc/a/disk.vmdk",
		"https://esx1:443/nfc/a/disk.vmdk":    "https://esx1:443/nfc/a/disk.vmdk",
		"https://[2001:db8::1]/nfc/disk.vmdk": "https://[2001:db8::1]/nfc/disk.vmdk",
	} {
		got, done, err := w.address(types.HttpNfcLeaseDeviceUrl{Url: in})
		if err != nil || got.URL != want {
			t.Errorf("%s: %q, %v, want %q", in, got.URL, err, want)
			continue
		}
		done()
	}
}

// completed makes a holder as a process leaves it that ends after the import.
func (w *importWorld) completed(upload string) holder {
	w.Helper()
	c := newImportContent(w.T, 64<<20, 1<<20)
	l, err := w.open(w.Context(), holderMark{Digest: c.key.Digest, Size: c.key.Size, Upload: upload})
	if err == nil {
		err = w.fill(w.Context(), l, newSummed(c.packed), c.size, nil)
	}
	if err == nil {
		err = w.importer.complete(w.Context(), l)
	}
	if err != nil {
		w.Fatal(err)
	}
	found, err := w.holders(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	i := slices.IndexFunc(found, func(h holder) bool { return h.mark.Upload == upload })
	if i < 0 {
		w.Fatalf("holder of %s is not among %v", upload, found)
	}
	return found[i]
}

func TestHoldersThatAProcessLeftAreFoundAndDestroyed(t *testing.T) {
	t.Parallel()
	for name, vsan := range map[string]bool{"VMFS": false, "vSAN": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newImportWorld(t, vchsim.Options{VSAN: vsan, LeaseTimeout: time.Hour})
			one, two := w.completed("up1"), w.completed("up2")
			w.sim.ResetCounters()
			found, err := w.holders(t.Context())
			if err != nil || len(found) != 2 || w.sim.Requests() != 1 {
				t.Errorf("%d holders, %v, %d requests", len(found), err, w.sim.Requests())
			}
			if err := w.destroyHolder(t.Context(), one.ref, two.mark); !errdefs.Is(err, errdefs.FailedPrecondition) {
				t.Errorf("with another's mark: %v", err)
			}
			for _, h := range []holder{one, two, one} {
				if err := w.destroyHolder(t.Context(), h.ref, h.mark); err != nil {
					t.Error(err)
				}
			}
			w.clean("after both were destroyed")
		})
	}
}

func TestALeaseThatNobodyKeepsTakesTheHolderAlong(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{LeaseTimeout: time.Second})
	c := newImportContent(t, 64<<20, 1<<20)
	if _, err := w.open(t.Context(), holderMark{Digest: c.key.Digest, Size: c.key.Size, Upload: "up1"}); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for len(w.added()) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("left %v", w.added())
		}
		<-time.After(20 * time.Millisecond)
	}
}

func TestWhatIsNoLeftoverHolderIsNeverDestroyed(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{})
	reconfigure := func(h holder, spec types.VirtualMachineConfigSpec) {
		t.Helper()
		task, err := object.NewVirtualMachine(w.client.Vim(), h.ref).Reconfigure(t.Context(), spec)
		if err == nil {
			err = task.Wait(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	add := func(file string, parent *types.VirtualDiskFlatVer2BackingInfo) types.VirtualMachineConfigSpec {
		spec := &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: &types.VirtualDisk{
			CapacityInKB: 8_000_000,
			VirtualDevice: types.VirtualDevice{Key: -1, ControllerKey: 1000, UnitNumber: types.NewInt32(3), Backing: &types.VirtualDiskFlatVer2BackingInfo{
				VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: file}, Parent: parent,
				DiskMode: string(types.VirtualDiskModePersistent),
			}},
		}}
		return types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{spec}}
	}
	option := func(value string) types.VirtualMachineConfigSpec {
		return types.VirtualMachineConfigSpec{ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: holderKey, Value: value}}}
	}
	for name, change := range map[string]func(h holder){
		"renamed":         func(h holder) { reconfigure(h, types.VirtualMachineConfigSpec{Name: "mine"}) },
		"mark taken away": func(h holder) { reconfigure(h, option("")) },
		"mark of another": func(h holder) {
			reconfigure(h, option(strings.ReplaceAll(`{"digest":"`+h.mark.Digest+`","size":67108864,"upload":"other"}`, "\n", "")))
		},
		"mark that is none":  func(h holder) { reconfigure(h, option("{")) },
		"with a shared disk": func(h holder) { reconfigure(h, add(vchsim.ImageDisk, nil)) },
		"powered on": func(h holder) {
			task, err := object.NewVirtualMachine(w.client.Vim(), h.ref).PowerOn(t.Context())
			if err == nil {
				err = task.Wait(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
		},
	} {
		h := w.completed("up-" + strings.ReplaceAll(name, " ", "-"))
		change(h)
		before := w.present()
		if err := w.destroyHolder(t.Context(), h.ref, h.mark); !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), h.ref.Value) || vcenter.IsInvalidPowerState(err) {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(before, w.present()); diff != "" {
			t.Errorf("%s: something is gone:\n%s", name, diff)
		}
	}
	for _, h := range w.sim.VMs() {
		if h.Name == w.sim.VCHName {
			if err := w.destroyHolder(t.Context(), h.Ref, holderMark{}); !errdefs.Is(err, errdefs.FailedPrecondition) {
				t.Errorf("the appliance: %v", err)
			}
		}
	}
}

func TestMarksAreReadBack(t *testing.T) {
	t.Parallel()
	want := holderMark{Digest: "sha256:" + strings.Repeat("a", 64), Size: 64 << 20, Upload: "u", Owner: "me \"and\" you"}
	text, err := want.encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := decodeHolderMark(text); !ok || got != want {
		t.Errorf("%+v, %v", got, ok)
	}
	for _, bad := range []string{"", "null", "[]", "{}", strings.Replace(text, `"upload":"u"`, `"upload":""`, 1), strings.Replace(text, "sha256:", "", 1)} {
		if _, ok := decodeHolderMark(bad); ok {
			t.Errorf("%q is taken for a mark", bad)
		}
	}
}

func TestOtherChecksumsAndNoneAreUnderstood(t *testing.T) {
	t.Parallel()
	content := []byte("content")
	s := newSummed(bytes.NewReader(content))
	part := make([]byte, 4)
	for _, at := range []int64{0, 4, 0, 4} { // the second attempt counts
		if _, err := s.ReadAt(part[:min(4, 7-at)], at); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	if got := s.sha1(); got != "040f06fd774092478d450774f5ba30c5da78acc8" {
		t.Errorf("SHA-1 %s", got)
	}
	if got, err := s.sha256(7); err != nil || got != "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73" {
		t.Errorf("SHA-256 %s, %v", got, err)
	}
}

func TestAProcessThatEndsLeavesNothingButHoldersThatAreFound(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{LeaseTimeout: 2 * time.Second})
	c := newImportContent(t, 64<<20, 2<<20)
	for n, method := range []string{"ImportVApp", "WaitForUpdatesEx", "POST /nfc", "HttpNfcLeaseGetManifest", "HttpNfcLeaseComplete", "RetrievePropertiesEx", "CopyVirtualDisk_Task", "Destroy_Task"} {
		for _, executed := range []string{vchsim.KindConnectionReset, vchsim.KindResponseLost} {
			upload := "up" + strconv.Itoa(n) + strings.ToLower(executed)
			w.sim.ClearFaults()
			// From this call on the process is heard of no more.
			stop := w.sim.OnCall(method, func() {
				if err := errors.Join(w.sim.SetFault(vchsim.FaultRule{Method: method, Kind: executed, Count: 1}),
					w.sim.SetFault(vchsim.FaultRule{Method: "*", Kind: vchsim.KindConnectionReset})); err != nil {
					t.Error(err)
				}
			})
			err := w.importDisk(t.Context(), c.key, upload, c, w.dir+"/"+upload+".vmdk", nil)
			stop()
			w.sim.ClearFaults()
			if method != "Destroy_Task" && err == nil {
				t.Errorf("%s: the import succeeded", upload)
			}
			// The disk is for whoever looks into the directory of the upload.
			for _, file := range []string{upload + ".vmdk", upload + "-flat.vmdk"} {
				if err := w.files.Delete(t.Context(), w.dir+"/"+file); err != nil {
					t.Error(err)
				}
			}
			deadline := time.Now().Add(30 * time.Second)
			for len(w.added()) > 0 {
				if time.Now().After(deadline) {
					t.Fatalf("%s: left %v", upload, w.added())
				}
				found, err := w.holders(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, h := range found {
					// One that is still lent out goes when its lease ends.
					if err := w.destroyHolder(t.Context(), h.ref, h.mark); err != nil && !errdefs.Is(err, errdefs.Aborted) {
						t.Errorf("%s: %v", upload, err)
					}
				}
				<-time.After(20 * time.Millisecond)
			}
		}
	}
}
