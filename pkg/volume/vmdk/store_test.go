// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/inventory"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/volumetest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// small is a volume that is made quickly.
func small(name string) volume.Request { return volume.Request{Name: name, Capacity: 64 << 20} }

func (w *world) create(r volume.Request) *volume.Volume {
	w.Helper()
	v, err := w.store().Create(w.Context(), r)
	if err != nil {
		w.Fatal(err)
	}
	return v
}

// wantVIC fails the test unless a VCH that starts lists these volumes, and stumbles over nothing.
func (w *world) wantVIC(names ...string) {
	w.Helper()
	entries, err := w.Listed()
	if err != nil {
		w.Error(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name)
	}
	if !slices.Equal(got, names) {
		w.Errorf("VIC lists %q, want %q", got, names)
	}
}

// wantNothing fails the test if there is anything that was not at the beginning.
func (w *world) wantNothing() {
	w.Helper()
	if files := w.Files(); len(files) != 0 {
		w.Errorf("there is %q, want nothing", files)
	}
}

func TestAVolumeLiesWhereVICHasIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.FastStore, vchsim.Options{})
	r := small("data")
	r.Metadata = volume.Metadata{DriverOpts: map[string]string{"capacity": "64MB"}, Labels: map[string]string{"a": "b"}, AttachHistory: []string{"worker-1"}, Image: "registry/node:v1"}
	got := w.create(r)
	const root = "[LocalDS_1] vic/vch-1/"
	want := &volume.Volume{
		Name: "data", Store: "fast", Driver: volume.VMDK, Capacity: 64 << 20,
		Location: root + "volumes/data/data.vmdk", Disk: root + "volumes/data/data.vmdk", Metadata: r.Metadata,
	}
	want.Metadata.Name, want.Metadata.Driver = "data", "vsphere"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	files := []string{
		root + "volumes/data/", root + "volumes/data/data-flat.vmdk", root + "volumes/data/data.vmdk",
		root + "volumes/data/imageMetadata/", root + "volumes/data/imageMetadata/DockerMetaData",
	}
	if diff := cmp.Diff(files, w.Files()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	text, err := os.ReadFile(w.local("volumes", "data", "imageMetadata", "DockerMetaData"))
	const metadata = `{"Driver":"vsphere","DriverOpts":{"capacity":"64MB"},"Name":"data","Labels":{"a":"b"},"AttachHistory":["worker-1"],"Image":"registry/node:v1"}`
	if err != nil || string(text) != metadata {
		t.Errorf("the metadata is %s, %v", text, err)
	}
}

// TestVolumesOfVICAreRead: of a store that VIC made, which it knows by an id on vSAN.
func TestVolumesOfVICAreRead(t *testing.T) {
	t.Parallel()
	for kind, options := range map[string]vchsim.Options{"VMFS": {}, "vSAN": {VSAN: true}} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, vchsim.DefaultStore, options)
			s := w.Store()
			v, err := s.Get(t.Context(), vchsim.Volume)
			if err != nil {
				t.Fatal(err)
			}
			disk := w.sim.VolumeStore(vchsim.DefaultStore) + "/volumes/vol-1/vol-1.vmdk"
			want := volume.Volume{
				Name: vchsim.Volume, Store: vchsim.DefaultStore, Driver: volume.VMDK, Location: disk, Disk: disk, Capacity: 16 << 20,
				Metadata: volume.Metadata{Driver: "vsphere", DriverOpts: map[string]string{}, Name: vchsim.Volume, AttachHistory: []string{""}},
			}
			if diff := cmp.Diff(want, *v); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			list, err := s.List(t.Context())
			if err != nil || !cmp.Equal(list, []volume.Volume{want}) {
				t.Errorf("%+v, %v", list, err)
			}
			w.wantVIC(vchsim.Volume)
			user, _ := w.Use(vchsim.Volume, "attached")
			users, err := s.Users(t.Context(), vchsim.Volume, "other")
			if diff := cmp.Diff(map[string][]volume.User{vchsim.Volume: {user}}, users); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			if err := s.Remove(t.Context(), vchsim.Volume, user.VM); err != nil {
				t.Error(err)
			}
			w.wantVIC()
		})
	}
}

func TestFiftyCreatorsOfOneNameMakeOneVolume(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.FastStore, vchsim.Options{})
	var all sync.WaitGroup
	errs := make([]error, 50)
	for i := range errs {
		all.Go(func() {
			_, errs[i] = w.store().Create(t.Context(), small("data"))
		})
	}
	all.Wait()
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
		} else if !errdefs.Is(err, errdefs.AlreadyExists) {
			t.Error(err)
		}
	}
	if made != 1 {
		t.Errorf("%d creators had success", made)
	}
	w.wantVIC("data")
	w.wantClean("data", 64<<20)
	if err := w.store().Remove(t.Context(), "data"); err != nil {
		t.Error(err)
	}
	w.wantNothing()
}

// TestADatastoreThatIsFullAtAnyWriteLeavesNothing: one write after the other.
func TestADatastoreThatIsFullAtAnyWriteLeavesNothing(t *testing.T) {
	t.Parallel()
	for kind, c := range map[string]struct {
		options vchsim.Options
		rules   []vchsim.FaultRule
	}{
		"VMFS": {vchsim.Options{}, []vchsim.FaultRule{{Method: "PUT /folder", Kind: vchsim.KindHTTP507}, {Method: "ExtendVirtualDisk_Task", Kind: "task:NoDiskSpace"}}},
		"vSAN": {vchsim.Options{VSAN: true}, []vchsim.FaultRule{
			{Method: "PUT /folder", Kind: vchsim.KindHTTP507}, {Method: "POST /nfc", Kind: vchsim.KindHTTP507}, {Method: "CopyVirtualDisk_Task", Kind: "task:NoDiskSpace"},
		}},
	} {
		w := newWorld(t, vchsim.FastStore, c.options)
		for _, rule := range c.rules {
			for rule.NthCall = 1; ; rule.NthCall++ {
				w.sim.ClearFaults()
				if err := w.sim.SetFault(rule); err != nil {
					t.Fatal(err)
				}
				_, err := w.store().Create(t.Context(), small("data"))
				if err == nil {
					break
				}
				if !errdefs.Is(err, errdefs.ResourceExhausted) {
					t.Errorf("%s, %s %d: %v (%s)", kind, rule.Method, rule.NthCall, err, errdefs.KindOf(err))
				}
				w.wantVIC()
				w.wantNothing()
				if rule.NthCall > 20 {
					t.Fatalf("%s fails %d times", rule.Method, rule.NthCall)
				}
			}
			if rule.NthCall == 1 {
				t.Errorf("%s: %s was never called", kind, rule.Method)
			}
			w.sim.ClearFaults()
			if err := w.store().Remove(t.Context(), "data"); err != nil {
				t.Fatal(err)
			}
			w.wantNothing()
		}
	}
}

func (w *world) wantLocked(err error, texts ...string) {
	w.Helper()
	if !errdefs.Is(err, errdefs.FailedPrecondition) {
		w.Errorf("the error is %v (%s)", err, errdefs.KindOf(err))
		return
	}
	for _, text := range append(texts, "data", "fast") {
		if !strings.Contains(err.Error(), text) {
			w.Errorf("the error %v does not say %q", err, text)
		}
	}
	w.wantVIC("data")
	if got := w.Read("data"); got != "kept" {
		w.Errorf("the volume holds %q", got)
	}
	for _, file := range w.Files() {
		if strings.Contains(file, ownDirectory) {
			w.Errorf("there is %s", file)
		}
	}
}

// blind does not see a VM.
type blind struct {
	machines
	vm string
}

func (b blind) VMs(ctx context.Context, keys ...string) ([]inventory.VM, error) {
	all, err := b.machines.VMs(ctx, keys...)
	return slices.DeleteFunc(all, func(vm inventory.VM) bool { return vm.Ref.Value == b.vm }), err
}

func TestALockedDiskStaysAndItsHolderIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.FastStore, vchsim.Options{Guest: vchsim.GuestOptions{Hang: true}})
	w.create(small("data"))
	w.Write("data", "kept")
	user, _ := w.Use("data", running)
	w.wantLocked(w.store().Remove(t.Context(), "data"), user.Name)
	// Nobody can delete what a running VM has.
	w.wantLocked(w.store().Remove(t.Context(), "data", user.VM), user.Name)
	s := w.store()
	s.inventory = blind{s.inventory, user.VM}
	w.wantLocked(s.Remove(t.Context(), "data"), "does not see")
	w.Release(user)
	// It may be noticed as late as when the disk is deleted.
	if err := w.sim.SetFault(vchsim.FaultRule{Method: "DeleteVirtualDisk_Task", Kind: "task:FileLocked"}); err != nil {
		t.Fatal(err)
	}
	w.wantLocked(w.store().Remove(t.Context(), "data"), "does not see")
	w.sim.ClearFaults()
	// A VM that starts between the first look and the withdrawal.
	s = w.store()
	var late volume.User
	m := newSeam(w, s, volumetest.Fault{Step: never})
	m.before = func(what string) {
		if strings.HasPrefix(what, "move ") && late.VM == "" {
			late, _ = w.Use("data", running)
		}
	}
	w.wantLocked(s.Remove(t.Context(), "data"), late.Name)
	w.Release(late)
	if err := w.store().Remove(t.Context(), "data"); err != nil {
		t.Error(err)
	}
	w.wantNothing()
}

// TestMovesThatComeLateDoNoHarm: a task goes on in vCenter when nobody waits for it any
// more, and may have its effect before any of the steps that follow.
func TestMovesThatComeLateDoNoHarm(t *testing.T) {
	t.Parallel()
	for what, after := range map[string]int{"publication": 0, "withdrawal": 0, "claim": 1} {
		w := newWorld(t, vchsim.FastStore, vchsim.Options{})
		for at := 1; ; at++ {
			s := w.store()
			d := &delayed{files: s.files, after: after, at: at}
			m := newSeam(w, s, volumetest.Fault{Step: never})
			m.files, m.before = d, d.step
			var err error
			if what == "publication" {
				_, err = s.Create(t.Context(), small("data"))
			} else {
				w.create(small("data"))
				w.Write("data", "kept")
				err = s.Remove(t.Context(), "data")
			}
			d.done()
			entries, stumbles := w.Listed()
			there := len(entries) == 1
			switch {
			case stumbles != nil:
				t.Error(stumbles)
			case what == "publication" && there != (err == nil):
				t.Errorf("the volume is there: %v, and the error is %v", there, err)
			case what == "withdrawal" && (err == nil || !there || w.Read("data") != "kept"):
				t.Errorf("the volume is there: %v, and the error is %v", there, err)
			case what == "claim" && err == nil:
				t.Error("no error")
			}
			if there {
				if err := w.store().Remove(t.Context(), "data"); err != nil {
					t.Error(err)
				}
			}
			if what == "claim" {
				w.clean()
			}
			w.wantNothing()
			if t.Failed() {
				t.Fatalf("that was with a %s that came before step %d after it was given up", what, at)
			}
			if d.at > 0 {
				break // that many there are not
			}
		}
	}
}

// clean deletes what operations left that ended long ago.
func (w *world) clean() {
	w.Helper()
	w.Advance(time.Hour)
	left, err := w.store().Leftovers(w.Context())
	if err == nil {
		err = w.store().Clean(w.Context(), left...)
	}
	if err != nil {
		w.Error(err)
	}
}

// delayed does one move too late: before a step that follows, or at the end.
type delayed struct {
	files
	after, at int
	from, to  string
}

func (d *delayed) Move(ctx context.Context, from, to string) error {
	if d.after--; d.after == -1 {
		d.from, d.to = from, to
		return errdefs.New(errdefs.DeadlineExceeded, "move %s", from)
	}
	return d.files.Move(ctx, from, to)
}

func (d *delayed) step(string) {
	if d.from == "" {
		return
	}
	if d.at--; d.at == 0 {
		d.done()
	}
}

func (d *delayed) done() {
	_ = d.files.Move(context.Background(), d.from, d.to)
}

func TestHoldersOfImportsThatWereCutOffAreFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.FastStore, vchsim.Options{VSAN: true})
	for _, rule := range []vchsim.FaultRule{{Method: "CopyVirtualDisk_Task", Kind: "task:NoPermission"}, {Method: "Destroy_Task", Kind: "NoPermission"}} {
		if err := w.sim.SetFault(rule); err != nil {
			t.Fatal(err)
		}
	}
	_, err := w.store().Create(t.Context(), small("data"))
	if !errdefs.Is(err, errdefs.PermissionDenied) {
		t.Errorf("create: %v", err)
	}
	w.wantVIC()
	w.sim.ClearFaults()
	w.Advance(time.Hour)
	// A store elsewhere in the same VCH does not take it for its own.
	other := New(Options{Client: w.client, Host: w.host, Label: "default", Location: w.host.VolumeStores[vchsim.DefaultStore]})
	if left, err := other.Leftovers(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("the other store has %v, %v", left, err)
	}
	left, err := w.store().Leftovers(t.Context())
	if err != nil || len(left) != 1 || !strings.Contains(left[0].Path, "data") || !strings.Contains(left[0].Reason, "import of volume data") {
		t.Fatalf("leftovers are %v, %v", left, err)
	}
	if err := w.store().Clean(t.Context(), left...); err != nil {
		t.Error(err)
	}
	w.wantNothing()
}

// TestWhatIsInTheWayIsShown: names that no volume can have.
func TestWhatIsInTheWayIsShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.FastStore, vchsim.Options{})
	w.create(small("data"))
	if err := os.Mkdir(w.local("volumes", "my data"), 0o700); err != nil {
		t.Fatal(err)
	}
	list, err := w.store().List(t.Context())
	if err != nil || len(list) != 2 || list[0].Name != "data" || list[0].Damage != "" || !strings.HasPrefix(list[1].Damage, badName+hidesStore) {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := w.Listed(); err == nil {
		t.Error("VIC does not mind")
	}
}

// TestRequestsAreFew counts what goes over the wire. A task is some requests of its own.
func TestRequestsAreFew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.FastStore, vchsim.Options{OtherVMs: 200})
	s, ctx := w.store(), t.Context()
	for _, name := range []string{"a", "b", "c"} {
		w.create(small(name))
	}
	var first volume.Volume
	for _, c := range []struct {
		what string
		most int
		call func() error
	}{
		{"get", 2, func() error {
			v, err := s.Get(ctx, "a")
			if err == nil {
				first = *v
			}
			return err
		}},
		{"get of nothing", 8, func() error { _, err := s.Get(ctx, "x"); return notFound(err) }},
		{"list of three", 13, func() error { _, err := s.List(ctx); return err }},
		{"users", 3, func() error { _, err := s.Users(ctx, "a", "b", "c"); return err }},
		{"users of none", 0, func() error { _, err := s.Users(ctx); return err }},
		{"join", 0, func() error { _, err := s.Join(&first, volume.Mount{Path: "/data"}); return err }},
		{"create", 28, func() error { _, err := s.Create(ctx, small("d")); return err }},
		{"create of what is there", 1, func() error {
			if _, err := s.Create(ctx, small("d")); !errdefs.Is(err, errdefs.AlreadyExists) {
				return err
			}
			return nil
		}},
		{"remove", 34, func() error { return s.Remove(ctx, "d") }},
		{"leftovers", 8, func() error { _, err := s.Leftovers(ctx); return err }},
		{"clean of nothing", 0, func() error { return s.Clean(ctx) }},
	} {
		w.sim.ResetCounters()
		if err := c.call(); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		n := w.sim.Requests() - w.sim.Calls()["WaitForUpdatesEx"] // that of the session goes on whatever is asked
		t.Logf("%s: %d requests, %d bytes came in", c.what, n, w.sim.BytesReceived())
		if n > c.most {
			t.Errorf("%s takes %d requests, the budget is %d: %v", c.what, n, c.most, w.sim.Calls())
		}
	}
}

func notFound(err error) error {
	if errdefs.Is(err, errdefs.NotFound) {
		return nil
	}
	return err
}
