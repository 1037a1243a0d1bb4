// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
)

// start makes a world that ends with the test.
func start(t *testing.T, options Options) *Sim {
	t.Helper()
	options.Dir = t.TempDir()
	sim, err := Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		sim.Close()
		if left, _ := os.ReadDir(options.Dir); len(left) > 0 {
			t.Errorf("Close left %v", left)
		}
	})
	return sim
}

// connect logs in and trusts nothing but the Sim's certificate.
func connect(ctx context.Context, sim *Sim, username, password string) (*govmomi.Client, error) {
	u, err := url.Parse(sim.URL())
	if err != nil {
		return nil, err
	}
	s := soap.NewClient(u, false)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(sim.CACert())
	s.DefaultTransport().TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	vim, err := vim25.NewClient(ctx, s)
	if err != nil {
		return nil, err
	}
	client := &govmomi.Client{Client: vim, SessionManager: session.NewManager(vim)}
	return client, client.Login(ctx, url.UserPassword(username, password))
}

func login(t *testing.T, sim *Sim) *govmomi.Client {
	t.Helper()
	client, err := connect(t.Context(), sim, sim.Username, sim.Password)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// machineSpec is the create spec of a machine of ours.
func machineSpec(t *testing.T, sim *Sim, name string) types.VirtualMachineConfigSpec {
	t.Helper()
	id, err := identity.New(sim.ApplianceUUID(), Cluster, name)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := sim.containerSpec(container{
		vch: sim.vch, name: name, id: id.ContainerID, bios: id.BIOSUUID, parent: ImageDisk,
		mark: &identity.Mark{Cluster: Cluster, Role: Role, Machine: name},
	})
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func create(ctx context.Context, sim *Sim, client *govmomi.Client, spec types.VirtualMachineConfigSpec) (*object.VirtualMachine, error) {
	folder := object.NewFolder(client.Client, sim.vch.folder)
	task, err := folder.CreateVM(ctx, spec, object.NewResourcePool(client.Client, sim.vch.pool), nil)
	if err != nil {
		return nil, err
	}
	info, err := task.WaitForResult(ctx)
	if err != nil {
		return nil, err
	}
	return object.NewVirtualMachine(client.Client, info.Result.(types.ManagedObjectReference)), nil
}

func mustCreate(t *testing.T, sim *Sim, client *govmomi.Client, name string) *object.VirtualMachine {
	t.Helper()
	vm, err := create(t.Context(), sim, client, machineSpec(t, sim, name))
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

type starter func(context.Context) (*object.Task, error)

func run(ctx context.Context, f starter) error {
	task, err := f(ctx)
	if err != nil {
		return err
	}
	return task.Wait(ctx)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for a state of a VM, as a client does.
func until(t *testing.T, vm *object.VirtualMachine, reached func(VM) bool, sim *Sim) VM {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var last VM
	err := property.Wait(ctx, property.DefaultCollector(vm.Client()), vm.Reference(), []string{"config.extraConfig", "config.changeVersion", "runtime.powerState", "guest.ipAddress"}, func([]types.PropertyChange) bool {
		for _, last = range sim.VMs() {
			if last.Ref == vm.Reference() {
				return reached(last)
			}
		}
		return false
	})
	if err != nil {
		t.Fatalf("the VM did not get there: %v; it is on=%v started=%q; %v", err, last.On, last.Started, sim.GuestReports())
	}
	return last
}

func TestTheVCHIsReadableByVICsRules(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{})
	client := login(t, sim)
	finder := find.NewFinder(client.Client)
	vm, err := finder.VirtualMachine(t.Context(), "/DC0/vm/vch-1/vch-1")
	must(t, err)
	if vm.Reference() != sim.ApplianceRef() {
		t.Errorf("appliance %v, want %v", vm.Reference(), sim.ApplianceRef())
	}
	var properties mo.VirtualMachine
	must(t, vm.Properties(t.Context(), vm.Reference(), []string{"config"}, &properties))
	config, err := guestinfo.DecodeVCH(guestinfo.FromOptionValues(extraConfig(&properties)))
	must(t, err)
	if config.ID != vm.Reference().String() || config.Name != DefaultVCH {
		t.Errorf("id %q and name %q are not the appliance's", config.ID, config.Name)
	}
	if !sim.exists(config.BootstrapImagePath) || !sim.exists(ImageDisk) {
		t.Error("bootstrap ISO or image disk does not exist")
	}
	pool := types.ManagedObjectReference{Type: config.ComputeResources[0].Type, Value: config.ComputeResources[0].Value}
	if name, err := object.NewResourcePool(client.Client, pool).ObjectName(t.Context()); err != nil || name != DefaultVCH {
		t.Errorf("pool is %q, %v", name, err)
	}
	for name, n := range config.ContainerNetworks {
		var r types.ManagedObjectReference
		if !r.FromString(n.Common.ID) {
			t.Errorf("network %s has id %q", name, n.Common.ID)
		}
		if _, err := object.NewDistributedVirtualPortgroup(client.Client, r).EthernetCardBackingInfo(t.Context()); err != nil {
			t.Errorf("network %s: %v", name, err)
		}
	}
	if len(config.ContainerNetworks) != 3 {
		t.Errorf("%d networks", len(config.ContainerNetworks))
	}
}

func TestForeignVMsLookLikeOursButAreNot(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{OtherVMs: 3, DockerContainers: 4})
	if got := sim.Machines(); len(got) != 0 {
		t.Errorf("machines: %v", got)
	}
	folders := map[string]int{}
	for _, vm := range sim.VMs() {
		folders[vm.Folder]++
		if vm.ID != "" {
			if _, err := guestinfo.DecodeExecutor(guestinfo.FromOptionValues(vm.ExtraCfg)); err != nil {
				t.Errorf("%s is no container VM: %v", vm.Name, err)
			}
		}
	}
	// The appliances, the containers, one twin each; and the others.
	if diff := cmp.Diff(map[string]int{"vch-1": 6, "vch-2": 3, "vm": 3}, folders); diff != "" {
		t.Error(diff)
	}
	if got := start(t, Options{NoForeign: true}).VMs(); len(got) != 1 {
		t.Errorf("without foreign VMs there are %d VMs", len(got))
	}
}

func TestOnlyTheRightCredentialsLogIn(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true, Username: "u", Password: "p"})
	if _, err := connect(t.Context(), sim, "u", "wrong"); !fault.Is(err, &types.InvalidLogin{}) {
		t.Errorf("wrong password: %v", err)
	}
	login(t, sim)
	if sim.Logins() != 1 || sim.Sessions() != 1 || sim.Calls()["Login"] != 2 {
		t.Errorf("%d logins, %d sessions, calls %v", sim.Logins(), sim.Sessions(), sim.Calls())
	}
}

func TestAnExpiredSessionIsNotAuthenticated(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	_, err := methods.GetCurrentTime(t.Context(), client)
	must(t, err)
	sim.ExpireSessions()
	if _, err := methods.GetCurrentTime(t.Context(), client); !fault.Is(err, &types.NotAuthenticated{}) {
		t.Errorf("after expiry: %v", err)
	}
	must(t, client.Login(t.Context(), url.UserPassword(sim.Username, sim.Password)))
	if sim.Logins() != 2 || sim.Sessions() != 1 {
		t.Errorf("%d logins, %d sessions", sim.Logins(), sim.Sessions())
	}
}

func TestAStaleChangeVersionIsRefused(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	vm := mustCreate(t, sim, client, "m")
	before := sim.Machines()[0].Version
	change := types.VirtualMachineConfigSpec{ChangeVersion: before, Annotation: "first"}
	reconfigure := func(ctx context.Context) (*object.Task, error) { return vm.Reconfigure(ctx, change) }
	must(t, run(t.Context(), reconfigure))
	if after := sim.Machines()[0].Version; after == before {
		t.Error("the version did not change")
	}
	change.Annotation = "second"
	if err := run(t.Context(), reconfigure); !fault.Is(err, &types.ConcurrentAccess{}) {
		t.Errorf("stale version: %v", err)
	}
	var properties mo.VirtualMachine
	must(t, vm.Properties(t.Context(), vm.Reference(), []string{"config.annotation"}, &properties))
	if properties.Config.Annotation != "first" {
		t.Errorf("annotation %q", properties.Config.Annotation)
	}
}

func TestDestroyFollowsTheDiskChainAndLeavesForeignFiles(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	kept := sim.Files()
	vm := mustCreate(t, sim, client, "kept")
	devices, err := vm.Device(t.Context())
	must(t, err)
	must(t, vm.RemoveDevice(t.Context(), true, devices.SelectByType((*types.VirtualDisk)(nil))...))
	must(t, run(t.Context(), vm.Destroy))
	left := slices.DeleteFunc(sim.Files(), func(f string) bool { return slices.Contains(kept, f) })
	if len(left) != 3 || !strings.HasSuffix(left[1], "-flat.vmdk") {
		t.Errorf("a detached disk is to stay, with its directory: %q", left)
	}
	if !sim.exists(ImageDisk) {
		t.Error("the image disk is gone though it was detached")
	}
	must(t, run(t.Context(), mustCreate(t, sim, client, "careless").Destroy))
	if sim.exists(ImageDisk) {
		t.Error("the image disk is there though a child was destroyed with it")
	}
}

func TestADisabledDestroyIsRefused(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{DockerContainers: 2})
	client := login(t, sim)
	for _, vm := range sim.VMs() {
		if strings.HasPrefix(vm.Name, "docker-1") {
			err := run(t.Context(), object.NewVirtualMachine(client.Client, vm.Ref).Destroy)
			if !fault.Is(err, &types.MethodDisabled{}) {
				t.Errorf("destroy: %v", err)
			}
		}
	}
}

func TestAFailedCreateLeavesNothing(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	mustCreate(t, sim, client, "taken")
	files, vms := sim.Files(), sim.VMs()
	for name, c := range map[string]struct {
		change func(*types.VirtualMachineConfigSpec)
		want   types.BaseMethodFault
	}{
		"no parent disk": {func(s *types.VirtualMachineConfigSpec) {
			for _, d := range s.DeviceChange {
				if b, ok := d.GetVirtualDeviceConfigSpec().Device.GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
					b.Parent.FileName = "[LocalDS_0] images/none.vmdk"
				}
			}
		}, &types.FileNotFound{}},
		"taken name": {func(s *types.VirtualMachineConfigSpec) { s.Name = vms[0].Name }, &types.DuplicateName{}},
		"taken directory": {func(s *types.VirtualMachineConfigSpec) {
			s.Files.VmPathName = vms[0].VMX
		}, &types.FileAlreadyExists{}},
		"no datastore": {func(s *types.VirtualMachineConfigSpec) { s.Files.VmPathName = "[none] m/m.vmx" }, &types.InvalidDatastore{}},
		"no name":      {func(s *types.VirtualMachineConfigSpec) { s.Name = "" }, &types.InvalidVmConfig{}},
		"bad guest id late in the making": {func(s *types.VirtualMachineConfigSpec) {
			s.DeviceChange = append(s.DeviceChange, &types.VirtualDeviceConfigSpec{
				Operation: types.VirtualDeviceConfigSpecOperationEdit, Device: &types.VirtualFloppy{VirtualDevice: types.VirtualDevice{Key: 4711}},
			})
		}, &types.InvalidDeviceSpec{}},
	} {
		spec := machineSpec(t, sim, "m")
		c.change(&spec)
		if _, err := create(t.Context(), sim, client, spec); !sameFault(err, c.want) {
			t.Errorf("%s: %v, want %T", name, err, c.want)
		}
	}
	if diff := cmp.Diff(files, sim.Files()); diff != "" {
		t.Errorf("files differ: %s", diff)
	}
	if got := len(sim.VMs()); got != len(vms) {
		t.Errorf("%d VMs, want %d", got, len(vms))
	}
	mustCreate(t, sim, client, "m")
}

func sameFault(err error, want types.BaseMethodFault) bool { return fault.Is(err, want) }

func TestVMsAreFoundByUUIDAmongThousands(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true, OtherVMs: 5000})
	client := login(t, sim)
	vm := mustCreate(t, sim, client, "m")
	provider := identity.Scheme + "://" + sim.ApplianceUUID() + "/" + sim.Machines()[0].ID
	duplicate, err := sim.Duplicate(provider)
	must(t, err)
	dc := object.NewDatacenter(client.Client, sim.places.datacenter)
	index := object.NewSearchIndex(client.Client)
	uuid := strings.ToUpper(sim.Machines()[0].UUID)
	begin := time.Now()
	const rounds = 100
	for range rounds {
		found, err := index.FindAllByUuid(t.Context(), dc, uuid, true, nil)
		must(t, err)
		if len(found) != 2 || found[0].Reference() != vm.Reference() || found[1].Reference() != duplicate {
			t.Fatalf("found %v, want %v and %v", found, vm.Reference(), duplicate)
		}
	}
	t.Logf("%v for each search", time.Since(begin)/rounds)
	found, err := index.FindByUuid(t.Context(), nil, sim.VMs()[10].UUID, true, nil)
	must(t, err)
	if found == nil || found.Reference() != sim.VMs()[10].Ref {
		t.Errorf("found %v", found)
	}
	must(t, run(t.Context(), vm.Destroy))
	if found, _ := index.FindAllByUuid(t.Context(), dc, uuid, true, nil); len(found) != 1 {
		t.Errorf("after destroy: found %v", found)
	}
}
