// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm_test

import (
	"encoding/json"
	"net"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

const (
	vectorID    = "6b9a5f2c0d1e4f3a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a"
	vectorImage = "[datastore1] vch-1/VIC/42301f0e-aaaa-bbbb-cccc-0123456789ab/images/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.vmdk"
)

func portGroup(key string) types.BaseVirtualDeviceBackingInfo {
	return &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{
		Port: types.DistributedVirtualSwitchPortConnection{SwitchUuid: "50 0e dvs uuid", PortgroupKey: key},
	}
}

// request is the world of VIC's own vector.
func request(t testing.TB) containervm.Request {
	t.Helper()
	spec := &v1alpha1.ProviderSpec{
		VCH:      v1alpha1.VirtualContainerHost{Datacenter: "DC0", Name: "vch-1"},
		Tags:     map[string]string{"kubernetes.io/cluster/shoot": "1", "kubernetes.io/role/node": "1", "team": "blue"},
		RootDisk: &v1alpha1.RootDisk{VMDK: vectorImage},
		Command:  []string{"/sbin/init"},
		Env:      []v1alpha1.EnvVar{{Name: "PATH", Value: ptr.To("/bin")}},
		Networks: []v1alpha1.Network{{Name: "vm-network"}, {Name: "bridge", Address: "172.16.0.7/16", Gateway: "172.16.0.1"}},
	}
	v1alpha1.SetDefaults(spec)
	return containervm.Request{
		Machine:  "shoot-worker-0",
		Identity: identity.Identity{VCH: "42301f0e-aaaa-bbbb-cccc-0123456789ab", ContainerID: vectorID, BIOSUUID: "2b6a2c4e-9c1c-5f3d-8a53-0d6f0f5f6f11"},
		Spec:     spec,
		Secret:   map[string][]byte{"userData": []byte("token: <<PROVIDER_ID>>"), "password": []byte("a|b")},
		VCH: &vch.Config{
			Name: "vch-1", BootstrapISO: "[datastore1] vch-1/bootstrap.iso", ImageStore: vch.StorePath{Datastore: "datastore1", Path: "vch-1"},
			Datastores: map[string]vch.Datastore{
				"datastore1": {Name: "datastore1", Ref: types.ManagedObjectReference{Type: "Datastore", Value: "datastore-11"}},
				"vsan":       {Name: "vsan", VSAN: true, Ref: types.ManagedObjectReference{Type: "Datastore", Value: "datastore-12"}},
			},
			Networks: map[string]vch.Network{
				"vm-network": {Name: "vm-network", Type: vch.External, Backing: portGroup("dvportgroup-2"), TrustLevel: 2},
				"bridge":     {Name: "bridge", Type: vch.Bridge, Backing: portGroup("dvportgroup-1")},
				"lost":       {Name: "lost", Type: vch.External},
			},
			Version: &guestinfo.Version{Version: "v1.5.7", BuildNumber: "21000", GitCommit: "9489f63e37", PluginVersion: 8},
		},
		HostKey: []byte("PEM"), Now: time.Unix(1654867607, 123456789), ProviderVersion: "v1",
	}
}

// flat spells a device as the vector does: embedded structs flattened, Go field names.
func flat(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil
		}
		return flat(v.Elem())
	case reflect.Struct:
		out := map[string]any{}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			value := flat(v.Field(i))
			if m, ok := value.(map[string]any); f.Anonymous && ok {
				for k, x := range m {
					out[k] = x
				}
				continue
			}
			out[f.Name] = value
		}
		return out
	case reflect.Int32, reflect.Int64:
		return float64(v.Int())
	case reflect.Slice:
		if v.IsNil() {
			return nil
		}
		var out []any
		for i := range v.Len() {
			out = append(out, flat(v.Index(i)))
		}
		return out
	case reflect.String:
		return v.String()
	}
	return v.Interface()
}

// prune drops what is not sent: VIC was built with an older version of the API's types.
func prune(m map[string]any) map[string]any {
	for k, v := range m {
		if sub, ok := v.(map[string]any); ok {
			prune(sub)
		}
		if v == nil || v == "" || k == "VDiskVersion" {
			delete(m, k)
		}
	}
	return m
}

func TestThePlanHasVICsDevices(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/vmconfigspec-vmfs.json")
	if err != nil {
		t.Fatal(err)
	}
	var vic struct {
		DeviceChange []struct {
			Device        map[string]any `json:"device"`
			DeviceType    string         `json:"device_type"`
			FileOperation string         `json:"file_operation"`
			Operation     string         `json:"operation"`
		} `json:"deviceChange"`
		Files               map[string]any
		GuestID             string
		MemoryMB            int64
		Name, UUID          string
		NumCPUs             int32
		CPUHotAddEnabled    *bool
		MemoryHotAddEnabled *bool
		ExtraConfig         []struct{ Key, Value string }
	}
	if err := json.Unmarshal(raw, &vic); err != nil {
		t.Fatal(err)
	}
	r := request(t)
	r.Volumes = []volume.Joint{vicsVolume()}
	spec, err := containervm.Plan(r)
	if err != nil {
		t.Fatal(err)
	}
	type scalars struct {
		Name, UUID, GuestID, VMX string
		CPUs                     int32
		Memory                   int64
		HotCPU, HotMemory        bool
	}
	if diff := cmp.Diff(
		scalars{vic.Name, vic.UUID, vic.GuestID, vic.Files["VmPathName"].(string), vic.NumCPUs, vic.MemoryMB, *vic.CPUHotAddEnabled, *vic.MemoryHotAddEnabled},
		scalars{spec.Name, spec.Uuid, spec.GuestId, spec.Files.VmPathName, spec.NumCPUs, spec.MemoryMB, *spec.CpuHotAddEnabled, *spec.MemoryHotAddEnabled},
	); diff != "" {
		t.Errorf("scalars (-VIC +ours):\n%s", diff)
	}
	want := vic.DeviceChange
	if len(spec.DeviceChange) != len(want) {
		t.Fatalf("%d devices, VIC has %d", len(spec.DeviceChange), len(want))
	}
	keys := map[float64]bool{}
	for i, c := range spec.DeviceChange {
		change := c.GetVirtualDeviceConfigSpec()
		got, _ := flat(reflect.ValueOf(change.Device)).(map[string]any)
		key, _ := got["Key"].(float64)
		if key >= 0 || keys[key] {
			t.Errorf("device %d has key %v: temporary keys are negative and differ", i, key)
		}
		keys[key] = true
		for _, m := range []map[string]any{got, want[i].Device} { // VIC's keys are not ours
			delete(m, "Key")
			delete(m, "ControllerKey")
		}
		if kind := reflect.TypeOf(change.Device).String(); kind != want[i].DeviceType || string(change.FileOperation) != want[i].FileOperation || string(change.Operation) != want[i].Operation {
			t.Errorf("device %d is %s (%s, %s), VIC has %s (%s, %s)", i, kind, change.Operation, change.FileOperation, want[i].DeviceType, want[i].Operation, want[i].FileOperation)
		}
		if diff := cmp.Diff(prune(want[i].Device), prune(got)); diff != "" {
			t.Errorf("device %d %s (-VIC +ours):\n%s", i, want[i].DeviceType, diff)
		}
	}
	fixed := map[string]string{}
	for _, o := range vic.ExtraConfig {
		if !strings.HasPrefix(o.Key, "guestinfo.") && !strings.ContainsAny(o.Key, "/|") && o.Key != "annotations" {
			fixed[o.Key] = o.Value
		}
	}
	ours := vch.Keys(spec.ExtraConfig)
	for k, v := range fixed {
		if ours[k] != v {
			t.Errorf("%s = %q, VIC has %q", k, ours[k], v)
		}
	}
}

func TestThePlanSendsEachKeyOnceAndVICReadsIt(t *testing.T) {
	t.Parallel()
	r := request(t)
	spec, err := containervm.Plan(r)
	if err != nil {
		t.Fatal(err)
	}
	keys := vch.Keys(spec.ExtraConfig)
	if len(keys) != len(spec.ExtraConfig) {
		t.Fatalf("%d options, %d different keys", len(spec.ExtraConfig), len(keys))
	}
	for k, v := range keys {
		if v == "" {
			t.Errorf("%s is empty: vSphere would drop it", k)
		}
	}
	cfg, err := guestinfo.DecodeExecutor(guestinfo.FromOptionValues(keys))
	if err != nil {
		t.Fatal(err)
	}
	session := cfg.Sessions[vectorID]
	if session == nil || session.ID != vectorID || !session.Active || session.RunBlock {
		t.Fatalf("primary session = %+v: the tether launches only an active one under the container id", session)
	}
	if diff := cmp.Diff([]string{"/sbin/init"}, session.Cmd.Args); diff != "" || session.StopSignal != "SIGTERM" {
		t.Errorf("session: %s %s", diff, session.StopSignal)
	}
	if cfg.Version.PluginVersion != 10 || cfg.CreateTime != 1654867607123456789 {
		t.Errorf("data version %d, create time %d", cfg.Version.PluginVersion, cfg.CreateTime)
	}
	dhcp, static := cfg.Networks["vm-network"], cfg.Networks["bridge"]
	if dhcp.Static || dhcp.IP != nil || dhcp.ID != "1184" || !dhcp.Network.Default || dhcp.Network.TrustLevel != guestinfo.TrustOpen || len(dhcp.Network.Gateway.IP) > 0 {
		t.Errorf("DHCP endpoint = %+v", dhcp)
	}
	if !static.Static || !static.IP.IP.Equal(net.IPv4(172, 16, 0, 7)) || static.ID != "1216" || static.Network.Default || static.Network.Type != "bridge" || !static.Network.Gateway.IP.Equal(net.IPv4(172, 16, 0, 1)) {
		t.Errorf("static endpoint = %+v", static)
	}
	mark, err := identity.DecodeMark(cfg.Annotations[identity.MarkAnnotation])
	if err != nil || mark.Cluster != "shoot" || mark.Role != "node" || mark.Machine != "shoot-worker-0" || mark.Provider != "v1" || mark.Spec == "" {
		t.Errorf("mark = %+v, %v", mark, err)
	}
	if cfg.Annotations["mcm-vch-tag/team"] != "blue" {
		t.Errorf("tags are lost: %v", cfg.Annotations)
	}
	if keys["guestinfo.userdata.encoding"] != "gzip+base64" || keys["guestinfo.metadata"] == "" {
		t.Errorf("cloud-init keys are missing")
	}
}

func TestFaultsOfTheRequestNameTheField(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*containervm.Request)
		want   string
		kind   errdefs.Kind
	}{
		"an unknown network":        {func(r *containervm.Request) { r.Spec.Networks[0].Name = "nope" }, "networks[0].name", errdefs.InvalidArgument},
		"a network without backing": {func(r *containervm.Request) { r.Spec.Networks[0].Name = "lost" }, "networks[0].name", errdefs.FailedPrecondition},
		"bridge by DHCP":            {func(r *containervm.Request) { r.Spec.Networks[1].Address = "" }, "networks[1].address", errdefs.InvalidArgument},
		"static without a gateway":  {func(r *containervm.Request) { r.Spec.Networks[1].Gateway = "" }, "gateway", errdefs.InvalidArgument},
		"no network":                {func(r *containervm.Request) { r.Spec.Networks = nil }, "networks", errdefs.InvalidArgument},
		"an unknown datastore":      {func(r *containervm.Request) { r.Spec.Placement = &v1alpha1.Placement{Datastore: "x"} }, "placement.datastore", errdefs.InvalidArgument},
		"an argument with a pipe":   {func(r *containervm.Request) { r.Spec.Args = []string{"a|b"} }, "Args", errdefs.InvalidArgument},
		"a secret with a pipe":      {func(r *containervm.Request) { r.Spec.Env[0].ValueFrom = &v1alpha1.EnvVarSource{SecretKey: "password"} }, "env[0]", errdefs.InvalidArgument},
		"a missing secret key":      {func(r *containervm.Request) { r.Spec.Env[0].ValueFrom = &v1alpha1.EnvVarSource{SecretKey: "gone"} }, "env[0].valueFrom.secretKey", errdefs.InvalidArgument},
		"the name of userData.exec": {func(r *containervm.Request) { r.Spec.Env[0].Name = "MCM_VCH_USERDATA" }, "env[0].name", errdefs.InvalidArgument},
		"nothing to run":            {func(r *containervm.Request) { r.Spec.Command = nil }, "command", errdefs.InvalidArgument},
		"exec without userData":     {func(r *containervm.Request) { r.Secret = nil; r.Spec.UserData = &v1alpha1.UserData{Exec: ptr.To(true)} }, "userData.exec", errdefs.InvalidArgument},
		"userData too large for exec": {func(r *containervm.Request) {
			r.Secret["userData"] = make([]byte, 60<<10)
			r.Spec.UserData = &v1alpha1.UserData{Exec: ptr.To(true)}
		}, "userData", errdefs.InvalidArgument},
		"shares that are no number": {func(r *containervm.Request) {
			r.Spec.Resources = &v1alpha1.Resources{CPU: &v1alpha1.CPUAllocation{Shares: "lots"}}
		}, "resources.cpu.shares", errdefs.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := request(t)
			tc.change(&r)
			_, err := containervm.Plan(r)
			if errdefs.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error = %v (%s), want %s naming %s", err, errdefs.KindOf(err), tc.kind, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "a|b") && name != "an argument with a pipe" {
				t.Errorf("the secret's value is in the error: %v", err)
			}
		})
	}
}

func TestOnVSANTheDirectoryIsLeftToVSphere(t *testing.T) {
	t.Parallel()
	r := request(t)
	r.Spec.Placement = &v1alpha1.Placement{Datastore: "vsan"}
	spec, err := containervm.Plan(r)
	if err != nil {
		t.Fatal(err)
	}
	if spec.Files.VmPathName != "[vsan]" {
		t.Errorf("VmPathName = %q", spec.Files.VmPathName)
	}
	if _, known := containervm.Directory(r.Spec, r.VCH, r.Identity); known {
		t.Error("the directory is known before vSphere made it")
	}
}

func TestExecRunsUserDataWithoutAPipe(t *testing.T) {
	t.Parallel()
	r := request(t)
	r.Spec.Command, r.Spec.UserData = nil, &v1alpha1.UserData{Exec: ptr.To(true), Publish: ptr.To(false)}
	r.Secret["userData"] = []byte("#!/bin/sh\necho <<MACHINE_NAME>> | cat\n")
	spec, err := containervm.Plan(r)
	if err != nil {
		t.Fatal(err)
	}
	keys := vch.Keys(spec.ExtraConfig)
	if _, ok := keys["guestinfo.userdata"]; ok {
		t.Error("userData is published although publish is false")
	}
	cfg, err := guestinfo.DecodeExecutor(guestinfo.FromOptionValues(keys))
	if err != nil {
		t.Fatal(err)
	}
	cmd := cfg.Sessions[vectorID].Cmd
	if len(cmd.Args) != 3 || !strings.HasSuffix(cmd.Args[2], "exec $f\n") || strings.Contains(cmd.Args[2], "|") {
		t.Errorf("command = %q", cmd.Args)
	}
	if !strings.HasPrefix(cmd.Env[len(cmd.Env)-1], "MCM_VCH_USERDATA=IyEvYmluL3NoCmVjaG8gc2hvb3Qtd29ya2VyLTAgfCBjYXQK") {
		t.Errorf("environment = %q", cmd.Env)
	}
}

func TestAllocationsReachTheSpecInVSpheresUnits(t *testing.T) {
	t.Parallel()
	r := request(t)
	half := resource.MustParse("512Mi")
	r.Spec.Resources = &v1alpha1.Resources{
		CPU:    &v1alpha1.CPUAllocation{ReservationMHz: ptr.To[int64](500), Shares: "high"},
		Memory: &v1alpha1.MemoryAllocation{Reservation: &half, Shares: "1234"},
	}
	spec, err := containervm.Plan(r)
	if err != nil {
		t.Fatal(err)
	}
	if *spec.CpuAllocation.Reservation != 500 || spec.CpuAllocation.Shares.Level != types.SharesLevelHigh {
		t.Errorf("CPU = %+v", spec.CpuAllocation)
	}
	if *spec.MemoryAllocation.Reservation != 512 || spec.MemoryAllocation.Shares.Shares != 1234 || spec.MemoryAllocation.Shares.Level != types.SharesLevelCustom {
		t.Errorf("memory = %+v", spec.MemoryAllocation)
	}
}

func BenchmarkPlan(b *testing.B) {
	r := request(b)
	for b.Loop() {
		if _, err := containervm.Plan(r); err != nil {
			b.Fatal(err)
		}
	}
}
