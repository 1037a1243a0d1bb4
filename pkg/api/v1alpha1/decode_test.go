// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/randfill"
	"sigs.k8s.io/yaml"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// full sets every field that can stand beside the others.
const full = `
apiVersion: vch.provider.machine.sapcloud.io/v1alpha1
kind: ProviderSpec
vch:
  datacenter: dc-1
  name: vch-1
tags:
  kubernetes.io/cluster/shoot--demo: "1"
  kubernetes.io/role/node: "1"
  team: blue
rootDisk:
  vmdk: "[datastore1] images/node.vmdk"
cpus: 4
memory: 4Gi
resources:
  cpu: {reservationMHz: 100, limitMHz: 8000, shares: high}
  memory: {reservation: 1Gi, limit: 4Gi, shares: "2000"}
command: [/bin/k3s, agent]
args: [--node-name, <<MACHINE_NAME>>, "--kubelet-arg=provider-id=<<PROVIDER_ID>>"]
workingDir: /var/lib
user: root
group: "0"
env:
- name: K3S_URL
  value: https://10.0.0.1:6443
- name: K3S_TOKEN
  valueFrom: {secretKey: token}
domain: example.org
networks:
- name: vm-network
  address: 10.0.0.7/24
  gateway: 10.0.0.1
  nameservers: [10.0.0.2, 10.0.0.3]
  trustLevel: open
  default: true
- name: storage.network
userData: {publish: true, exec: false}
stopSignal: SIGINT
stopGracePeriodSeconds: 30
startTimeoutSeconds: 120
extraConfig:
  sched.cpu.latencySensitivity: high
placement:
  datastore: datastore2
`

// small is the least that is valid.
const small = `{"vch":{"datacenter":"dc-1","moref":"vm-12"},
"tags":{"kubernetes.io/cluster/c":"","kubernetes.io/role/r":""},
"rootDisk":{"vmdk":"[ds] node.vmdk"},"command":["/sbin/init"],"networks":[{"name":"net"}]}`

func mustLoad(t *testing.T, raw string) *v1alpha1.ProviderSpec {
	t.Helper()
	spec, err := v1alpha1.Load([]byte(raw))
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return spec
}

func TestLoadTakesTheFullExampleAsItStands(t *testing.T) {
	want := &v1alpha1.ProviderSpec{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.Kind},
		VCH:      v1alpha1.VirtualContainerHost{Datacenter: "dc-1", Name: "vch-1"},
		Tags:     map[string]string{"kubernetes.io/cluster/shoot--demo": "1", "kubernetes.io/role/node": "1", "team": "blue"},
		RootDisk: &v1alpha1.RootDisk{VMDK: "[datastore1] images/node.vmdk"},
		CPUs:     ptr.To[int32](4),
		Memory:   ptr.To(resource.MustParse("4Gi")),
		Resources: &v1alpha1.Resources{
			CPU:    &v1alpha1.CPUAllocation{ReservationMHz: ptr.To[int64](100), LimitMHz: ptr.To[int64](8000), Shares: "high"},
			Memory: &v1alpha1.MemoryAllocation{Reservation: ptr.To(resource.MustParse("1Gi")), Limit: ptr.To(resource.MustParse("4Gi")), Shares: "2000"},
		},
		Command:    []string{"/bin/k3s", "agent"},
		Args:       []string{"--node-name", "<<MACHINE_NAME>>", "--kubelet-arg=provider-id=<<PROVIDER_ID>>"},
		WorkingDir: "/var/lib", User: "root", Group: "0",
		Env: []v1alpha1.EnvVar{
			{Name: "K3S_URL", Value: ptr.To("https://10.0.0.1:6443")},
			{Name: "K3S_TOKEN", ValueFrom: &v1alpha1.EnvVarSource{SecretKey: "token"}},
		},
		Domain: "example.org",
		Networks: []v1alpha1.Network{
			{
				Name: "vm-network", Address: "10.0.0.7/24", Gateway: "10.0.0.1", Nameservers: []string{"10.0.0.2", "10.0.0.3"},
				TrustLevel: v1alpha1.TrustOpen, Default: ptr.To(true),
			},
			{Name: "storage.network", Default: ptr.To(false)},
		},
		UserData:               &v1alpha1.UserData{Publish: ptr.To(true), Exec: ptr.To(false)},
		StopSignal:             "SIGINT",
		StopGracePeriodSeconds: ptr.To[int64](30), StartTimeoutSeconds: ptr.To[int64](120),
		ExtraConfig: map[string]string{"sched.cpu.latencySensitivity": "high"},
		Placement:   &v1alpha1.Placement{Datastore: "datastore2"},
	}
	if diff := cmp.Diff(want, mustLoad(t, full)); diff != "" {
		t.Errorf("the example was not read as it stands (-want +got):\n%s", diff)
	}
	asJSON, err := yaml.YAMLToJSON([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, mustLoad(t, string(asJSON))); diff != "" {
		t.Errorf("JSON is not read like YAML (-want +got):\n%s", diff)
	}
}

func TestDecodeRefusesWhatIsNoProviderSpec(t *testing.T) {
	for name, tc := range map[string]struct {
		raw  string
		want []string
	}{
		"nothing":                              {"", []string{"it is empty"}},
		"only a comment":                       {"# nothing\n", []string{"it is empty"}},
		"JSON null":                            {"null", []string{"must be an object, got null"}},
		"YAML null":                            {"~", []string{"must be an object, got null"}},
		"an array":                             {"[]", []string{"must be an object, got an array"}},
		"a string":                             {`"x"`, []string{"must be an object, got a string"}},
		"a number":                             {"7", []string{"must be an object, got a number"}},
		"a boolean":                            {"true", []string{"must be an object, got a boolean"}},
		"neither JSON nor YAML":                {"{", []string{"neither JSON nor YAML"}},
		"two documents":                        {"cpus: 1\n---\ncpus: 2\n", []string{"more than one YAML document"}},
		"too much":                             {`{"user":"` + strings.Repeat("x", v1alpha1.MaxSpecBytes) + `"}`, []string{"at most 262144 are allowed"}},
		"too much once aliases are expanded":   {"extraConfig:\n  a: &a " + strings.Repeat("x", 60000) + "\n  b: *a\n  c: *a\n  d: *a\n  e: *a\n", []string{"as JSON, at most"}},
		"an unknown field":                     {`{"cpu":2}`, []string{`unknown field "cpu"`}},
		"several unknown fields":               {`{"vch":{"datacentre":"x"},"networks":[{"nam":"y"}],"zz":1}`, []string{`unknown field "networks[0].nam"`, `unknown field "vch.datacentre"`, `unknown field "zz"`}},
		"another spelling of case":             {`{"CPUs":2}`, []string{`unknown field "CPUs"`}},
		"an unknown field in YAML":             {"vch: {dc: x}", []string{`unknown field "vch.dc"`}},
		"a field given twice":                  {`{"vch":{"name":"a","name":"b"}}`, []string{`duplicate field "vch.name"`}},
		"a field given twice in YAML":          {"vch:\n  name: a\n  name: b\nnetworks:\n- {name: x, name: y}\n", []string{`duplicate field "networks[0].name"`, `duplicate field "vch.name"`}},
		"unknown and twice":                    {`{"user":"a","user":"b","x":1}`, []string{`duplicate field "user"`, `unknown field "x"`}},
		"another apiVersion":                   {`{"apiVersion":"v1"}`, []string{`apiVersion: must be "vch.provider.machine.sapcloud.io/v1alpha1" or absent, got "v1"`}},
		"another kind":                         {`{"kind":"Pod"}`, []string{`kind: must be "ProviderSpec" or absent, got "Pod"`}},
		"an empty kind":                        {`{"kind":""}`, []string{`kind: must be "ProviderSpec" or absent, got ""`}},
		"a kind that is no string":             {`{"kind":7}`, []string{`kind: must be "ProviderSpec" or absent, got "7"`}},
		"a text for a number":                  {`{"cpus":"2"}`, []string{"cpus: must be a whole number (int32), got string"}},
		"a fraction for a whole number":        {`{"cpus":1.5}`, []string{"cpus: must be a whole number (int32), got number 1.5"}},
		"a number beyond int32":                {`{"cpus":4294967298}`, []string{"cpus: must be a whole number (int32), got number 4294967298"}},
		"a text for an object":                 {`{"vch":"vch-1"}`, []string{"vch: must be an object, got string"}},
		"a text for a list":                    {`{"args":"-v"}`, []string{"args: must be a list, got string"}},
		"a text for a boolean":                 {`{"userData":{"exec":"yes"}}`, []string{"userData.exec: must be true or false, got string"}},
		"a number for a text":                  {`{"user":0}`, []string{"user: must be a string, got number"}},
		"a memory that is no quantity":         {`{"memory":"2 Gigs"}`, []string{`memory: must be a quantity, for example 2Gi, got "2 Gigs"`}},
		"a memory that is an object":           {`{"memory":{}}`, []string{`memory: must be a quantity`}},
		"a memory that would take hours":       {`{"memory":"1e-1000000000"}`, []string{`memory: must be a quantity`}},
		"an unquoted memory of that kind":      {`{"memory":1e1000000000}`, []string{`memory: must be a quantity`}},
		"one hidden behind a duplicate":        {`{"memory":"1e-1000000000","memory":"2Gi"}`, []string{`memory: must be a quantity`}},
		"a reservation that is no quantity":    {`{"resources":{"memory":{"reservation":"x"}}}`, []string{`resources.memory.reservation: must be a quantity`}},
		"a limit that is no quantity":          {`{"resources":{"memory":{"limit":true}}}`, []string{`resources.memory.limit: must be a quantity`}},
		"several of them":                      {`{"kind":"x","memory":"y"}`, []string{"kind: must be", "memory: must be"}},
		"nesting without end":                  {strings.Repeat("[", 100000), []string{"decode providerSpec"}},
		"a wrong type and an unknown field":    {`{"cpus":"2","x":1}`, []string{"cpus: must be"}},
		"a tag that is no text":                {`{"tags":{"a":1}}`, []string{"tags: must be"}},
		"a list of numbers where texts go":     {`{"command":[1]}`, []string{"command: must be a string, got number"}},
		"a list where a text goes in a map":    {`{"extraConfig":{"a":[]}}`, []string{"extraConfig: must be"}},
		"an object for a network's text":       {`{"networks":[{"name":{}}]}`, []string{"networks.name: must be a string, got object"}},
		"a start timeout that is not a number": {`{"startTimeoutSeconds":true}`, []string{"startTimeoutSeconds: must be a whole number (int64), got bool"}},
	} {
		t.Run(name, func(t *testing.T) {
			spec, err := v1alpha1.Decode([]byte(tc.raw))
			if !errdefs.Is(err, errdefs.InvalidArgument) || spec != nil {
				t.Fatalf("Decode = %v, %v; want InvalidArgument and no spec", spec, err)
			}
			at := 0
			for _, want := range tc.want {
				i := strings.Index(err.Error()[at:], want)
				if i < 0 {
					t.Fatalf("error %q has no %q behind what was found before", err, want)
				}
				at += i
			}
		})
	}
}

func TestLoadListsAllFaultsInOneOrder(t *testing.T) {
	raw := `{"vch":{"datacenter":"dc"},"cpus":0,"networks":[],"user":"a b","group":"c d","image":"https://x"}`
	const want = "providerSpec: cpus: Invalid value: 0: must be between 1 and 128; " +
		`group: Invalid value: "c d": must be a name or a number; ` +
		`image: Invalid value: "https://x": must not begin with a scheme; http is for what registries.insecure lists; ` +
		"networks: Required value: at least one network is required; " +
		"tags: Required value: one key kubernetes.io/cluster/<name> is required; " +
		"tags: Required value: one key kubernetes.io/role/<name> is required; " +
		`user: Invalid value: "a b": must be a name or a number; ` +
		"vch: Required value: one of name, path and moref is required"
	for range 20 { // maps have no order
		_, err := v1alpha1.Load([]byte(raw))
		if !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Fatalf("Load = %v, want InvalidArgument", err)
		}
		if diff := cmp.Diff(want, err.Error()); diff != "" {
			t.Fatalf("faults (-want +got):\n%s", diff)
		}
	}
}

func TestLoadPassesOnWhatDecodeRefuses(t *testing.T) {
	if spec, err := v1alpha1.Load([]byte(`{"x":1}`)); !errdefs.Is(err, errdefs.InvalidArgument) || spec != nil {
		t.Errorf("Load = %v, %v; want InvalidArgument", spec, err)
	}
}

func TestEncodedSpecsDecodeToThemselves(t *testing.T) {
	fill := randfill.NewWithSeed(1).NilChance(0.3).NumElements(0, 3).Funcs(
		func(m *metav1.TypeMeta, _ randfill.Continue) {
			*m = metav1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.Kind}
		},
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewQuantity(c.Int63(), resource.BinarySI)
		},
		func(s *string, c randfill.Continue) { *s = strings.ToValidUTF8(c.String(20), "?") },
	)
	for range 500 {
		var spec v1alpha1.ProviderSpec
		fill.Fill(&spec)
		want := spec.DeepCopy()
		raw, err := json.Marshal(&spec)
		if err != nil {
			t.Fatal(err)
		}
		got, err := v1alpha1.Decode(raw)
		if err != nil {
			t.Fatalf("Decode(%s): %v", raw, err)
		}
		if !apiequality.Semantic.DeepEqual(want, got) {
			t.Fatalf("round trip of %s:\n%s", raw, cmp.Diff(want, got))
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		full, small, fromImage, withVolumes, "", "null", "[]", "{", "a: &a [*a]", `{"memory":"1e9"}`, `{"memory":1e99}`, `{"apiVersion":1}`, "? {a: b}\n: c", "{a: 1, a: 2}",
		`{"resources":{"memory":{"limit":"99999999999999999999.9E99"}}}`, `{"image":"a","rootDisk":{"size":"9E99"}}`,
		`{"volumes":["v:/a:ro",{"mountPath":"/b","capacity":"9E99"},null,7,"","/a:b:c:d"],"volumes":{}}`, `{"volumes":["{machine}:/a"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		spec, err := v1alpha1.Decode(raw)
		if !bytes.Equal(before, raw) {
			t.Fatal("Decode changed its input")
		}
		if err != nil {
			if !errdefs.Is(err, errdefs.InvalidArgument) || spec != nil {
				t.Fatalf("Decode = %v, %v; want InvalidArgument and no spec", spec, err)
			}
			return
		}
		v1alpha1.Validate(spec)
		v1alpha1.SetDefaults(spec)
		once := spec.DeepCopy()
		v1alpha1.SetDefaults(spec)
		if !apiequality.Semantic.DeepEqual(once, spec) {
			t.Fatalf("defaulting twice differs: %s", cmp.Diff(once, spec))
		}
		if len(v1alpha1.Validate(spec)) == 0 && (spec.MemoryMB() < v1alpha1.MinMemoryMB || spec.MemoryMB() > v1alpha1.MaxMemoryMB) {
			t.Fatalf("a valid spec has %d MB", spec.MemoryMB())
		}
		if size := spec.RootDiskBytes(); len(v1alpha1.Validate(spec)) == 0 && (size > 2<<40 || size < 64<<20 && spec.Image != "") {
			t.Fatalf("a valid spec has a root disk of %d bytes", size)
		}
		judgeVolumes(t, spec)
	})
}

// judgeVolumes checks that a valid spec has volumes that a store takes for any machine.
func judgeVolumes(t *testing.T, spec *v1alpha1.ProviderSpec) {
	t.Helper()
	if len(v1alpha1.Validate(spec)) > 0 {
		return
	}
	for _, v := range spec.Volumes {
		if bytes := v.CapacityBytes(); v.Capacity != nil && volume.ValidateCapacity(bytes) != nil {
			t.Fatalf("a valid spec has a volume of %d bytes", bytes)
		}
		for _, machine := range []string{"a", strings.Repeat("9", 64), "a.b-c"} {
			if err := volume.ValidateName(v.NameFor(machine)); err != nil && !v.Anonymous() {
				t.Fatalf("a valid spec has a volume whose name is refused: %v", err)
			}
		}
	}
}
