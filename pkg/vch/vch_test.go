// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vch_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

type world struct {
	*testing.T
	sim    *vchsim.Sim
	client *vcenter.Client
	calls  atomic.Int64
}

type roundTripper func(context.Context, soap.HasFault, soap.HasFault) error

func (r roundTripper) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	return r(ctx, req, res)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOf(t, vchsim.Options{})
}

func newWorldOf(t *testing.T, options vchsim.Options) *world {
	t.Helper()
	options.Dir = t.TempDir()
	sim, err := vchsim.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	w := &world{T: t, sim: sim}
	pool := vcenter.NewPool(vcenter.Options{Middleware: func(next soap.RoundTripper) soap.RoundTripper {
		return roundTripper(func(ctx context.Context, req, res soap.HasFault) error {
			w.calls.Add(1)
			return next.RoundTrip(ctx, req, res)
		})
	}})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := pool.Close(ctx); err != nil {
			t.Log(err)
		}
	})
	cfg, err := vcenter.ConfigFromSecret(sim.Secret())
	if err != nil {
		t.Fatal(err)
	}
	if w.client, err = pool.Client(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

// set changes keys of a VM as vic-machine would.
func (w *world) set(ref types.ManagedObjectReference, key, value string) {
	w.Helper()
	task, err := object.NewVirtualMachine(w.client.Vim(), ref).Reconfigure(w.Context(), types.VirtualMachineConfigSpec{
		ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: key, Value: value}},
	})
	if err == nil {
		err = task.Wait(w.Context())
	}
	if err != nil {
		w.Fatal(err)
	}
}

func TestAVCHIsFoundByNamePathAndMoref(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dc := w.sim.Datacenter
	for name, ref := range map[string]v1alpha1.VirtualContainerHost{
		"name":                {Datacenter: dc, Name: w.sim.VCHName},
		"datacenter by path":  {Datacenter: "/" + dc, Name: w.sim.VCHName},
		"path":                {Datacenter: dc, Path: "/" + dc + "/vm/" + w.sim.VCHName + "/" + w.sim.VCHName},
		"moref":               {Datacenter: dc, MoRef: w.sim.ApplianceRef().Value},
		"moref with its type": {Datacenter: dc, MoRef: w.sim.ApplianceRef().String()},
	} {
		before := w.calls.Load()
		cfg, err := vch.Find(t.Context(), w.client, ref)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if n := w.calls.Load() - before; n > 8 {
			t.Errorf("%s took %d calls, want at most 8", name, n)
		}
		if cfg.Appliance != w.sim.ApplianceRef() || cfg.UUID != w.sim.ApplianceUUID() || cfg.Name != w.sim.VCHName || cfg.FolderIsRoot {
			t.Errorf("%s: %+v", name, cfg)
		}
		if !strings.HasSuffix(cfg.BootstrapISO, "bootstrap.iso") || cfg.ImageStore.Datastore != vchsim.Datastore || cfg.Pool.Type != "ResourcePool" {
			t.Errorf("%s: ISO %q, image store %s, pool %s", name, cfg.BootstrapISO, cfg.ImageStore, cfg.Pool)
		}
		if n := cfg.Networks[vchsim.ExternalNetwork]; n.Type != vch.External || n.Backing == nil {
			t.Errorf("%s: network %+v", name, n)
		}
		if n := cfg.Networks[vchsim.BridgeNetwork]; n.Type != vch.Bridge || n.Backing == nil {
			t.Errorf("%s: network %+v", name, n)
		}
		if n := cfg.Networks[vchsim.StaticNetwork]; n.Gateway == nil || !n.Pooled {
			t.Errorf("%s: network %+v", name, n)
		}
		if d := cfg.Datastores[vchsim.Datastore]; d.Ref.Type != "Datastore" || d.VSAN || d.Type == "" || d.Type == "vsan" {
			t.Errorf("%s: datastore %+v", name, d)
		}
		if cfg.DatacenterPath != "/"+dc {
			t.Errorf("%s: datacenter path %q, want /%s", name, cfg.DatacenterPath, dc)
		}
		if r := cfg.Registries; len(r.Whitelist)+len(r.Insecure)+len(r.CABundle) != 0 {
			t.Errorf("%s: rules for registries that nobody made: %+v", name, r)
		}
	}
}

func TestRulesForRegistriesAndTypesOfDatastoresAreRead(t *testing.T) {
	t.Parallel()
	rules := vchsim.RegistryOptions{
		Whitelist: []string{"registry.example.com", "*.example.org", "10.0.0.0/8"},
		Insecure:  []string{"127.0.0.1:5000"},
		CABundle:  []byte("-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"),
	}
	w := newWorldOf(t, vchsim.Options{VSAN: true, Registries: rules})
	cfg, err := vch.Find(t.Context(), w.client, v1alpha1.VirtualContainerHost{Datacenter: w.sim.Datacenter + "/", Name: w.sim.VCHName})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(vch.Registries{Whitelist: rules.Whitelist, Insecure: rules.Insecure, CABundle: rules.CABundle}, cfg.Registries); diff != "" {
		t.Errorf("rules for registries (-want +got):\n%s", diff)
	}
	if d := cfg.Datastores[vchsim.Datastore]; d.Type != "vsan" || !d.VSAN {
		t.Errorf("datastore %+v, want vSAN", d)
	}
	if cfg.DatacenterPath != "/"+w.sim.Datacenter {
		t.Errorf("datacenter path %q", cfg.DatacenterPath)
	}
}

func TestWhatIsNoVCHIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dc := w.sim.Datacenter
	other, err := find.NewFinder(w.client.Vim()).VirtualMachineList(t.Context(), "/"+dc+"/vm/"+w.sim.VCHName+"/*")
	if err != nil {
		t.Fatal(err)
	}
	container := ""
	for _, vm := range other {
		if vm.Reference() != w.sim.ApplianceRef() {
			container = vm.Reference().Value
		}
	}
	for name, tc := range map[string]struct {
		ref  v1alpha1.VirtualContainerHost
		kind errdefs.Kind
		text string
	}{
		"unknown name":       {v1alpha1.VirtualContainerHost{Datacenter: dc, Name: "nope"}, errdefs.NotFound, "nope"},
		"unknown datacenter": {v1alpha1.VirtualContainerHost{Datacenter: "nope", Name: w.sim.VCHName}, errdefs.NotFound, "nope"},
		"no datacenter":      {v1alpha1.VirtualContainerHost{Datacenter: dc + "/vm", Name: w.sim.VCHName}, errdefs.NotFound, dc},
		"unknown moref":      {v1alpha1.VirtualContainerHost{Datacenter: dc, MoRef: "vm-999999"}, errdefs.NotFound, "vm-999999"},
		"unknown path":       {v1alpha1.VirtualContainerHost{Datacenter: dc, Path: "/" + dc + "/vm/x"}, errdefs.NotFound, "/vm/x"},
		"a folder":           {v1alpha1.VirtualContainerHost{Datacenter: dc, Path: "/" + dc + "/vm"}, errdefs.NotFound, "/vm"},
		"a container VM":     {v1alpha1.VirtualContainerHost{Datacenter: dc, MoRef: container}, errdefs.FailedPrecondition, "not a VCH"},
	} {
		if _, err := vch.Find(t.Context(), w.client, tc.ref); !errdefs.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v, want %s with %q", name, err, tc.kind, tc.text)
		}
	}
}

func TestAnIncompleteConfigurationNamesThePart(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"guestinfo.vice./container/bootstrap_image_path": "bootstrap",
		"guestinfo.vice./storage/image_stores":           "image store",
		"guestinfo.vice./container/ComputeResources":     "resource pool",
		guestinfo.VCHIDKey:                               "not a VCH",
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.set(w.sim.ApplianceRef(), key, "")
			_, err := vch.Find(t.Context(), w.client, v1alpha1.VirtualContainerHost{Datacenter: w.sim.Datacenter, MoRef: w.sim.ApplianceRef().Value})
			if !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), want) {
				t.Errorf("without %s: %v, want FailedPrecondition that names the %s", key, err, want)
			}
		})
	}
}

func TestANetworkThatIsGoneHarmsOnlyItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set(w.sim.ApplianceRef(), "guestinfo.vice./network/container_networks|"+vchsim.StaticNetwork+"/Common/id", "DistributedVirtualPortgroup:dvportgroup-9999")
	cfg, err := vch.Find(t.Context(), w.client, v1alpha1.VirtualContainerHost{Datacenter: w.sim.Datacenter, Name: w.sim.VCHName})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Networks[vchsim.StaticNetwork].Backing != nil || cfg.Networks[vchsim.ExternalNetwork].Backing == nil {
		t.Errorf("networks = %+v", cfg.Networks)
	}
}

func TestManyAskersShareOneReadAndItAges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	clk := clocktesting.NewFakePassiveClock(time.Unix(1, 0))
	cache := vch.NewCache(clk, time.Minute)
	ref := v1alpha1.VirtualContainerHost{Datacenter: w.sim.Datacenter, Name: w.sim.VCHName}
	get := func() *vch.Config {
		cfg, err := cache.Get(t.Context(), w.client, ref)
		if err != nil {
			t.Error(err)
		}
		return cfg
	}
	before := w.calls.Load()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { get() })
	}
	all.Wait()
	once := w.calls.Load() - before
	if once > 8 {
		t.Errorf("20 askers made %d calls, want those of one read", once)
	}
	first := get()
	if w.calls.Load() != before+once {
		t.Error("a warm cache asked vCenter")
	}
	clk.SetTime(time.Unix(62, 0))
	if get() == first {
		t.Error("an entry lived longer than its time")
	}
	second := get()
	cache.Forget(w.client, ref)
	if get() == second {
		t.Error("a forgotten entry was answered")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cache.Forget(w.client, ref)
	if _, err := cache.Get(ctx, w.client, ref); !errdefs.Is(err, errdefs.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := cache.Get(t.Context(), w.client, v1alpha1.VirtualContainerHost{Datacenter: w.sim.Datacenter, Name: "nope"}); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("unknown: %v", err)
	}
}

func TestUpdateInProgressForbidsChanges(t *testing.T) {
	t.Parallel()
	cfg := &vch.Config{Name: "vch-1"}
	prop := func(v types.AnyType) []types.DynamicProperty {
		return []types.DynamicProperty{{Name: vch.KeyProperty(guestinfo.KeyUpdateInProgress), Val: v}}
	}
	for name, tc := range map[string]struct {
		props []types.DynamicProperty
		busy  bool
	}{
		"absent":                {nil, false},
		"false":                 {prop(types.OptionValue{Value: "false"}), false},
		"true":                  {prop(types.OptionValue{Value: "true"}), true},
		"true behind a pointer": {prop(&types.OptionValue{Value: "TRUE"}), true},
		"null":                  {prop(nil), false},
	} {
		if err := cfg.CheckState(tc.props); (err != nil) != tc.busy || (tc.busy && !errdefs.Is(err, errdefs.Unavailable)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
