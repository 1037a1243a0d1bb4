// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package inventory_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/inventory"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// world is a simulated vCenter with a reader of it.
type world struct {
	*testing.T
	sim    *vchsim.Sim
	client *vcenter.Client
	host   *vch.Config
	reader *inventory.Reader
}

func newWorld(t *testing.T, options vchsim.Options) *world {
	t.Helper()
	options.Dir = t.TempDir()
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
	w := &world{T: t, sim: sim, client: client, host: host}
	w.reader = w.readerOf(host.Datacenter, vchsim.Datastore, vchsim.SecondDatastore)
	sim.ResetCounters()
	return w
}

func (w *world) readerOf(container types.ManagedObjectReference, datastores ...string) *inventory.Reader {
	o := inventory.Options{Client: w.client, Datacenter: container}
	for _, name := range datastores {
		o.Datastores = append(o.Datastores, w.host.Datastores[name].Ref)
	}
	return inventory.New(o)
}

// set gives a VM keys.
func (w *world) set(vm types.ManagedObjectReference, keys map[string]string) {
	w.Helper()
	var spec types.VirtualMachineConfigSpec
	for key, value := range keys {
		spec.ExtraConfig = append(spec.ExtraConfig, &types.OptionValue{Key: key, Value: value})
	}
	task, err := object.NewVirtualMachine(w.client.Vim(), vm).Reconfigure(w.Context(), spec)
	if err == nil {
		err = task.Wait(w.Context())
	}
	if err != nil {
		w.Fatal(err)
	}
}

// destroy destroys a VM that is powered off.
func (w *world) destroy(vm types.ManagedObjectReference) {
	w.Helper()
	task, err := object.NewVirtualMachine(w.client.Vim(), vm).Destroy(w.Context())
	if err == nil {
		err = task.Wait(w.Context())
	}
	if err != nil {
		w.Fatal(err)
	}
}

// foreign makes a VM that is powered off.
func (w *world) foreign(name string) types.ManagedObjectReference {
	w.Helper()
	vm, err := w.sim.CreateForeignVM(name, "", nil)
	if err != nil {
		w.Fatal(err)
	}
	return vm
}

// calls fails the test unless these and no others were made since the last look.
func (w *world) calls(when string, want map[string]int) {
	w.Helper()
	if diff := cmp.Diff(want, w.sim.Calls()); diff != "" {
		w.Errorf("%s: calls (-want +got):\n%s", when, diff)
	}
	w.sim.ResetCounters()
}

func names(vms []inventory.VM) []string {
	var all []string
	for _, vm := range vms {
		all = append(all, vm.Name)
	}
	slices.Sort(all)
	return all
}

// oddKeys are keys as VIC has them, and odder ones.
func oddKeys() map[string]string {
	return map[string]string{
		"guestinfo.vice./mounts":                 "data|logs",
		"guestinfo.vice./mounts|data/source":     "nfs://host/export/volumes/data",
		"guestinfo.vice./mounts|a.b_c-d/mode":    "rw",
		"common/name":                            "a name",
		"annotations|x y~0.z":                    "1",
		"guestinfo.vice..init.sessions|a.detail": "\"quoted\" <&> ü",
	}
}

func TestKeysAreReadOfAllVMsAndOfSome(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	one, two := w.foreign("one"), w.foreign("two")
	odd := oddKeys()
	w.set(one, odd)
	w.set(two, map[string]string{"guestinfo.vice./mounts": "x", "common/empty": "<nil>"})
	keys := append(slices.Sorted(maps.Keys(odd)), "common/empty", "common/absent")
	want := map[types.ManagedObjectReference]map[string]string{one: maps.Clone(odd), two: {"guestinfo.vice./mounts": "x"}}

	// What a VM has anyway is not what was set.
	want[two]["common/name"] = w.extra(two)["common/name"]
	w.sim.ResetCounters()
	got, err := w.reader.Keys(t.Context(), []types.ManagedObjectReference{one, two}, keys...)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("of two VMs (-want +got):\n%s", diff)
	}
	w.calls("Keys of two VMs", map[string]int{"RetrievePropertiesEx": 1})

	all, err := w.reader.VMs(t.Context(), keys...)
	if err != nil {
		t.Fatal(err)
	}
	for _, vm := range all {
		if of, asked := want[vm.Ref]; asked {
			if diff := cmp.Diff(of, vm.Keys); diff != "" {
				t.Errorf("of %s among all (-want +got):\n%s", vm.Name, diff)
			}
			delete(want, vm.Ref)
		}
		if vm.Unproven {
			t.Errorf("%s is not proven", vm.Name)
		}
	}
	if len(want) > 0 {
		t.Errorf("not among %v: %v", names(all), want)
	}
	w.calls("VMs", map[string]int{"CreateContainerView": 1, "RetrievePropertiesEx": 1, "DestroyView": 1})
}

// extra are the keys that the simulator says a VM has.
func (w *world) extra(vm types.ManagedObjectReference) map[string]string {
	for _, known := range w.sim.VMs() {
		if known.Ref == vm {
			return known.ExtraCfg
		}
	}
	return nil
}

func TestNothingIsSentForNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	vm := w.foreign("one")
	w.sim.ResetCounters()
	for _, ask := range []func() (map[types.ManagedObjectReference]map[string]string, error){
		func() (map[types.ManagedObjectReference]map[string]string, error) {
			return w.reader.Keys(t.Context(), nil, "x")
		},
		func() (map[types.ManagedObjectReference]map[string]string, error) {
			return w.reader.Keys(t.Context(), []types.ManagedObjectReference{vm})
		},
	} {
		if got, err := ask(); err != nil || got == nil || len(got) != 0 {
			t.Errorf("%v, %v", got, err)
		}
	}
	for _, bad := range []string{"", `a"b`, "a[0]", "a]"} {
		if _, err := w.reader.Keys(t.Context(), []types.ManagedObjectReference{vm}, "x", bad); !errdefs.Is(err, errdefs.Internal) {
			t.Errorf("key %q: %v", bad, err)
		}
		if _, err := w.reader.VMs(t.Context(), "x", bad); !errdefs.Is(err, errdefs.Internal) {
			t.Errorf("key %q of all: %v", bad, err)
		}
	}
	w.calls("nothing to ask for", nil)
}

func TestFilesOfVMsAreThoseOfTheirDisksAndDirectories(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{NoForeign: true, DockerContainers: 1})
	all, err := w.reader.VMs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, vm := range w.sim.VMs() {
		known = append(known, vm.Name)
	}
	slices.Sort(known)
	if diff := cmp.Diff(known, names(all)); diff != "" {
		t.Errorf("VMs (-want +got):\n%s", diff)
	}
	for _, vm := range all {
		i := slices.IndexFunc(w.sim.VMs(), func(k vchsim.VM) bool { return k.Ref == vm.Ref })
		if vmx := w.sim.VMs()[i].VMX; !slices.Contains(vm.Files, vmx) {
			t.Errorf("%s: %v lacks %s", vm.Name, vm.Files, vmx)
		}
		parent := func(f string) bool { return strings.Contains(f, "/images/") && !strings.HasSuffix(f, "-flat.vmdk") }
		if vm.Name != w.sim.VCHName && !slices.ContainsFunc(vm.Files, parent) {
			t.Errorf("%s: %v lacks what its disk is a child of", vm.Name, vm.Files)
		}
	}
}

func TestAVMIsFoundByItsDatastoreTooAndOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	all, err := w.reader.VMs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The VCH's folder has some of them; the others are known by the datastore alone.
	for what, datastores := range map[string][]string{"one datastore": {vchsim.Datastore}, "both": {vchsim.Datastore, vchsim.SecondDatastore}} {
		some, err := w.readerOf(w.host.Folder, datastores...).VMs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(names(all), names(some)); diff != "" {
			t.Errorf("%s (-datacenter +folder):\n%s", what, diff)
		}
	}
	none, err := w.readerOf(w.host.Folder).VMs(t.Context())
	if err != nil || len(none) == 0 || len(none) >= len(all) {
		t.Errorf("the folder alone has %v of %v, %v", names(none), names(all), err)
	}
}

func TestManyVMsComeInPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{NoForeign: true, OtherVMs: 50})
	all, err := w.reader.InPages(20).VMs(t.Context(), "guestinfo.owner")
	if err != nil {
		t.Fatal(err)
	}
	if want := len(w.sim.VMs()); len(all) != want {
		t.Errorf("%d VMs, want %d", len(all), want)
	}
	for _, vm := range all {
		if strings.HasPrefix(vm.Name, "other-") && vm.Keys["guestinfo.owner"] != vm.Name {
			t.Errorf("%s has %v", vm.Name, vm.Keys)
		}
	}
	w.calls("VMs", map[string]int{"CreateContainerView": 1, "RetrievePropertiesEx": 1, "ContinueRetrievePropertiesEx": 2, "DestroyView": 1})
	if whole, err := w.reader.VMs(t.Context()); err != nil || len(whole) != len(all) {
		t.Errorf("%d VMs in one page, %v", len(whole), err)
	}
	w.calls("VMs in one page", map[string]int{"CreateContainerView": 1, "RetrievePropertiesEx": 1, "DestroyView": 1})
	var refs []types.ManagedObjectReference
	for _, vm := range all {
		refs = append(refs, vm.Ref)
	}
	found, err := w.reader.Keys(t.Context(), refs, "guestinfo.owner")
	if err != nil || len(found) != 50 {
		t.Errorf("%d VMs with a key, %v", len(found), err)
	}
	w.calls("Keys", map[string]int{"RetrievePropertiesEx": 1})
}

func TestVMsThatVanishAreAbsent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{NoForeign: true})
	one, two := w.foreign("one"), w.foreign("two")
	w.set(one, map[string]string{"x": "1"})
	w.set(two, map[string]string{"x": "2"})
	w.destroy(one)
	w.sim.ResetCounters()
	found, err := w.reader.Keys(t.Context(), []types.ManagedObjectReference{one, two}, "x")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[types.ManagedObjectReference]map[string]string{two: {"x": "2"}}, found); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	w.calls("Keys", map[string]int{"RetrievePropertiesEx": 1})
	// One that goes between the look at all and the reading of each.
	w.vanish(2)
	all, err := w.reader.VMs(t.Context())
	if err != nil || !slices.Contains(names(all), "two") || slices.Contains(names(all), "one") {
		t.Errorf("%v, %v", names(all), err)
	}
	w.calls("VMs, two vanish", map[string]int{"CreateContainerView": 1, "RetrievePropertiesEx": 3, "DestroyView": 1})
	w.vanish(3)
	if all, err := w.reader.VMs(t.Context()); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("%v, %v", names(all), err)
	}
	w.calls("VMs, always some vanish", map[string]int{"CreateContainerView": 1, "RetrievePropertiesEx": 3, "DestroyView": 1})
}

// vanish makes the next reads find that something is gone.
func (w *world) vanish(times int) {
	w.Helper()
	w.sim.ClearFaults()
	if err := w.sim.SetFault(vchsim.FaultRule{Method: "RetrievePropertiesEx", Kind: "ManagedObjectNotFound", Count: times}); err != nil {
		w.Fatal(err)
	}
}

func TestFailuresAreSaidAndTheViewIsTakenAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{NoForeign: true})
	for method, calls := range map[string]map[string]int{
		"CreateContainerView":  {"CreateContainerView": 1},
		"RetrievePropertiesEx": {"CreateContainerView": 1, "RetrievePropertiesEx": 1, "DestroyView": 1},
	} {
		w.sim.ClearFaults()
		if err := w.sim.SetFault(vchsim.FaultRule{Method: method, Kind: "NoPermission"}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.reader.VMs(t.Context()); !errdefs.Is(err, errdefs.PermissionDenied) || !strings.Contains(err.Error(), w.host.Datacenter.Value) {
			t.Errorf("%s: %v", method, err)
		}
		w.calls(method, calls)
	}
	w.sim.ClearFaults()
	if err := w.sim.SetFault(vchsim.FaultRule{Method: "RetrievePropertiesEx", Kind: "NoPermission"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.reader.Keys(t.Context(), []types.ManagedObjectReference{w.host.Appliance}, "x"); !errdefs.Is(err, errdefs.PermissionDenied) {
		t.Errorf("Keys: %v", err)
	}
	// The call ends while vCenter reads; the view goes all the same.
	w.sim.ClearFaults()
	w.sim.ResetCounters()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stop := w.sim.OnCall("RetrievePropertiesEx", cancel)
	defer stop()
	if _, err := w.reader.VMs(ctx); !errdefs.Is(err, errdefs.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	w.calls("cancelled", map[string]int{"CreateContainerView": 1, "RetrievePropertiesEx": 1, "DestroyView": 1})
}

func TestTheClockIsVCenters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{NoForeign: true})
	now, err := w.reader.Now(t.Context())
	if err != nil || time.Since(now).Abs() > time.Minute {
		t.Errorf("%v, %v", now, err)
	}
	if err := w.sim.SetFault(vchsim.FaultRule{Method: "CurrentTime", Kind: vchsim.KindHTTP503}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.reader.Now(t.Context()); !errdefs.Is(err, errdefs.Unavailable) {
		t.Errorf("%v", err)
	}
}
