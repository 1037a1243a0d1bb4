// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// completed makes a holder as a process leaves it that ends after the import.
func (w *importWorld) completed(upload string) Holder {
	w.Helper()
	c := newImportContent(w.T, 64<<20, 1<<20)
	l, err := w.open(w.Context(), c.mark(upload))
	if err == nil {
		err = w.fill(w.Context(), l, newSummed(c.packed), c.size, quiet)
	}
	if err == nil {
		err = w.complete(w.Context(), l)
	}
	if err != nil {
		w.Fatal(err)
	}
	found, err := w.Holders(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	i := slices.IndexFunc(found, func(h Holder) bool { return h.Attempt == attemptOf(upload) })
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
			found, err := w.Holders(t.Context())
			// What the waits of before clean up behind them does not count.
			if n := w.sim.Calls()["RetrievePropertiesEx"]; err != nil || len(found) != 2 || n != 1 {
				t.Errorf("%d holders, %v, %d reads", len(found), err, n)
			}
			if err := w.DestroyHolder(t.Context(), one.Ref, two.Mark); !errdefs.Is(err, errdefs.FailedPrecondition) {
				t.Errorf("with another's mark: %v", err)
			}
			for _, h := range []Holder{one, two, one} {
				if err := w.DestroyHolder(t.Context(), h.Ref, h.Mark); err != nil {
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
	if _, err := w.open(t.Context(), c.mark("up1")); err != nil {
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
	reconfigure := func(h Holder, spec types.VirtualMachineConfigSpec) {
		t.Helper()
		task, err := object.NewVirtualMachine(w.o.Client.Vim(), h.Ref).Reconfigure(t.Context(), spec)
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
	for name, change := range map[string]func(h Holder){
		"renamed":         func(h Holder) { reconfigure(h, types.VirtualMachineConfigSpec{Name: "mine"}) },
		"mark taken away": func(h Holder) { reconfigure(h, option("")) },
		"mark of another": func(h Holder) {
			other := h.Mark
			other.Attempt = attemptOf("other")
			reconfigure(h, option(encoded(t, other)))
		},
		"mark that is none":  func(h Holder) { reconfigure(h, option("{")) },
		"with a shared disk": func(h Holder) { reconfigure(h, add(vchsim.ImageDisk, nil)) },
		"powered on": func(h Holder) {
			task, err := object.NewVirtualMachine(w.o.Client.Vim(), h.Ref).PowerOn(t.Context())
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
		if err := w.DestroyHolder(t.Context(), h.Ref, h.Mark); !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), h.Ref.Value) || vcenter.IsInvalidPowerState(err) {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(before, w.present()); diff != "" {
			t.Errorf("%s: something is gone:\n%s", name, diff)
		}
	}
	for _, h := range w.sim.VMs() {
		if h.Name == w.sim.VCHName {
			if err := w.DestroyHolder(t.Context(), h.Ref, Mark{}); !errdefs.Is(err, errdefs.FailedPrecondition) {
				t.Errorf("the appliance: %v", err)
			}
		}
	}
}

func TestMarksAreReadBack(t *testing.T) {
	t.Parallel()
	want := Mark{
		Kind: "volume", Subject: "data", Size: 64 << 20, Attempt: attemptOf("u"), Owner: "me \"and\" you", To: "[ds1] VIC/volumes/data/data.vmdk",
	}
	text := encoded(t, want)
	if got, ok := decodeMark(text, "volume"); !ok || got != want {
		t.Errorf("%+v, %v", got, ok)
	}
	if got, ok := decodeMark(text, "image"); ok {
		t.Errorf("the mark of a volume is taken for one of an image: %+v", got)
	}
	for _, bad := range []string{
		"", "null", "[]", "{}", text[:len(text)-1], strings.Replace(text, want.Attempt, "", 1), strings.Replace(text, want.Attempt, want.Attempt[1:], 1),
		strings.Replace(text, `"data"`, `""`, 1), strings.Replace(text, "67108864", "0", 1), strings.Replace(text, "67108864", "-1", 1),
	} {
		if _, ok := decodeMark(bad, "volume"); ok {
			t.Errorf("%q is taken for a mark", bad)
		}
	}
}

func TestNamesOfHoldersFitAndTellAttemptsApart(t *testing.T) {
	t.Parallel()
	a := "0123456789abcdef0123456789abcdef"
	for want, m := range map[string]Mark{
		"mcm-image-0123456789ab-" + a:                     {Kind: "image", Subject: "sha256:0123456789abcdef", Attempt: a},
		"mcm-image-0123-" + a:                             {Kind: "image", Subject: "sha256:0123", Attempt: a},
		"mcm-volume-data-" + a:                            {Kind: "volume", Subject: "data", Attempt: a},
		"mcm-volume-Data_1-x-y-" + a:                      {Kind: "volume", Subject: "Data_1.x-y", Attempt: a},
		"mcm-volume-a-b-c-d--e-" + a:                      {Kind: "volume", Subject: "a/b\\c%d äe", Attempt: a},
		"mcm-volume-" + strings.Repeat("v", 36) + "-" + a: {Kind: "volume", Subject: strings.Repeat("v", 200), Attempt: a},
	} {
		got := m.name()
		if got != want {
			t.Errorf("%q: %q, want %q", m.Subject, got, want)
		}
		if len(got) > 80 {
			t.Errorf("%q: %q has %d characters", m.Subject, got, len(got))
		}
	}
}

func TestAHolderOfAnotherKindIsNotSeenAndNotTouched(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{LeaseTimeout: time.Hour})
	h := w.completed("up1")
	o := w.o
	o.Kind = "volume"
	volumes := New(o)
	if found, err := volumes.Holders(t.Context()); err != nil || len(found) != 0 {
		t.Errorf("the holder of an image is found among those of volumes: %+v, %v", found, err)
	}
	before := w.present()
	other := h.Mark
	other.Kind = "volume"
	for _, mark := range []Mark{h.Mark, other} {
		if err := volumes.DestroyHolder(t.Context(), h.Ref, mark); !errdefs.Is(err, errdefs.FailedPrecondition) {
			t.Errorf("%+v: %v", mark, err)
		}
	}
	if err := w.DestroyHolder(t.Context(), h.Ref, other); !errdefs.Is(err, errdefs.FailedPrecondition) {
		t.Errorf("with the mark of another kind: %v", err)
	}
	if diff := cmp.Diff(before, w.present()); diff != "" {
		t.Errorf("something is gone (-want +got):\n%s", diff)
	}
	if err := w.DestroyHolder(t.Context(), h.Ref, h.Mark); err != nil {
		t.Error(err)
	}
	w.clean("after its own kind destroyed it")
}
