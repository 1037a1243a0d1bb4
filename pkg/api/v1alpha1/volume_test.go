// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// withVolumes has volumes of each form; the first sets every field.
const withVolumes = `
vch: {datacenter: dc-1, name: vch-1}
tags: {kubernetes.io/cluster/c: "", kubernetes.io/role/r: ""}
image: registry.example.com/k3s:v1.34
networks: [{name: net}]
volumes:
- name: images-{machine}
  mountPath: /var/lib/rancher
  store: fast
  capacity: 20G
  mode: rw
  noCopy: true
  retainPolicy: Delete
- "seed:/etc/seed:ro,nocopy"
- {mountPath: /cache}
- /scratch
- shared:/run/shared
- "logs-{machine}:/var/log:rw"
`

func TestVolumesAreReadInBothForms(t *testing.T) {
	want := []v1alpha1.Volume{
		{Name: "images-{machine}", MountPath: "/var/lib/rancher", Store: "fast", Capacity: quantity("20G"), Mode: "rw", NoCopy: ptr.To(true), RetainPolicy: "Delete"},
		{Name: "seed", MountPath: "/etc/seed", Mode: "ro", NoCopy: ptr.To(true), RetainPolicy: "Retain"},
		{MountPath: "/cache", Mode: "rw", NoCopy: ptr.To(false), RetainPolicy: "Delete"},
		{MountPath: "/scratch", Mode: "rw", NoCopy: ptr.To(false), RetainPolicy: "Delete"},
		{Name: "shared", MountPath: "/run/shared", Mode: "rw", NoCopy: ptr.To(false), RetainPolicy: "Retain"},
		{Name: "logs-{machine}", MountPath: "/var/log", Mode: "rw", NoCopy: ptr.To(false), RetainPolicy: "Retain"},
	}
	spec := mustLoad(t, withVolumes)
	if diff := cmp.Diff(want, spec.Volumes); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
	// What was read is written in one form, and read again as it is.
	encoded, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(spec, mustLoad(t, string(encoded))); diff != "" {
		t.Errorf("read, written and read (-want +got):\n%s", diff)
	}
}

func TestTheExampleForUsersIsValid(t *testing.T) {
	page, err := os.ReadFile("../../../docs/usage.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(page), "```yaml\nvolumes:")
	example, _, ok := strings.Cut(example, "```")
	if !ok {
		t.Fatal("docs/usage.md has no example of volumes")
	}
	before, _, _ := strings.Cut(withVolumes, "volumes:")
	if spec := mustLoad(t, before+"volumes:"+example); len(spec.Volumes) < 3 {
		t.Errorf("the example has %d volumes", len(spec.Volumes))
	}
}

func TestTheShortFormStandsForTheLongOne(t *testing.T) {
	for short, want := range map[string]v1alpha1.Volume{
		"/a":                {MountPath: "/a"},
		"v:/a":              {Name: "v", MountPath: "/a"},
		"v:/a:rw":           {Name: "v", MountPath: "/a"},
		"v:/a:ro":           {Name: "v", MountPath: "/a", Mode: "ro"},
		"v:/a:nocopy":       {Name: "v", MountPath: "/a", NoCopy: ptr.To(true)},
		"v:/a:nocopy,ro":    {Name: "v", MountPath: "/a", Mode: "ro", NoCopy: ptr.To(true)},
		"{machine}-v:/a:ro": {Name: "{machine}-v", MountPath: "/a", Mode: "ro"},
		"v:not/judged":      {Name: "v", MountPath: "not/judged"},
	} {
		raw, err := json.Marshal(map[string]any{"vch": map[string]string{"name": "x"}, "volumes": []any{short, map[string]string{"mountPath": "/behind"}, short}, "user": "z"})
		if err != nil {
			t.Fatal(err)
		}
		spec, err := v1alpha1.Decode(raw)
		if err != nil {
			t.Errorf("%q: %v", short, err)
			continue
		}
		if diff := cmp.Diff([]v1alpha1.Volume{want, {MountPath: "/behind"}, want}, spec.Volumes); diff != "" {
			t.Errorf("%q (-want +got):\n%s", short, diff)
		}
		if spec.VCH.Name != "x" || spec.User != "z" {
			t.Errorf("%q changed what is around it: %+v", short, spec)
		}
	}
}

func TestDecodeIsAsStrictWithVolumesAsWithTheRest(t *testing.T) {
	for name, tc := range map[string]struct {
		raw  string
		want []string
	}{
		"an unknown field":              {`{"volumes":["v:/a",{"mountPath":"/b","size":"1Gi"}]}`, []string{`unknown field "volumes[1].size"`}},
		"an unknown field in YAML":      {"volumes:\n- v:/a\n- {mountPath: /b, readOnly: true}\n", []string{`unknown field "volumes[1].readOnly"`}},
		"a field given twice":           {`{"volumes":[{"name":"a","name":"b"},"v:/a"]}`, []string{`duplicate field "volumes[0].name"`}},
		"a field given twice in YAML":   {"volumes:\n- v:/a\n- {name: x, name: y}\n", []string{`duplicate field "volumes[1].name"`}},
		"volumes given twice":           {`{"volumes":["v:/a"],"volumes":["w:/b"]}`, []string{`duplicate field "volumes"`}},
		"no list":                       {`{"volumes":"v:/a"}`, []string{"volumes: must be a list, got string"}},
		"an object for the list":        {`{"volumes":{"a":"v:/a"}}`, []string{"volumes: must be a list, got object"}},
		"a number":                      {`{"volumes":["v:/a",7]}`, []string{"volumes[1]: must be an object, or a string such as data:/var/lib/data:rw, got a number"}},
		"a list of lists":               {`{"volumes":[["v:/a"]]}`, []string{"volumes[0]: must be an object, or a string", "got an array"}},
		"a text for a boolean":          {`{"volumes":[{"noCopy":"yes"}]}`, []string{"noCopy: must be true or false, got string"}},
		"a capacity that is none":       {`{"volumes":[{"capacity":"big"}]}`, []string{`volumes[0].capacity: must be a quantity, for example 2Gi, got "big"`}},
		"one that would take hours":     {`{"volumes":["v:/a",{"capacity":"1e-1000000000"}]}`, []string{"volumes[1].capacity: must be a quantity"}},
		"an unquoted one of that kind":  {`{"volumes":[{"capacity":1e1000000000}]}`, []string{"volumes[0].capacity: must be a quantity"}},
		"one hidden behind a duplicate": {`{"volumes":[{"capacity":1e1000000000,"capacity":"1Gi"}]}`, []string{"volumes[0].capacity: must be a quantity"}},
		"one hidden behind volumes":     {`{"volumes":[{"capacity":1e1000000000}],"volumes":[]}`, []string{"volumes[0].capacity: must be a quantity"}},
		"an empty string":               {`{"volumes":[""]}`, []string{"volumes[0]: volume"}},
		"a directory of the host":       {`{"volumes":["/a:/b"]}`, []string{"volumes[0]: volume", "not supported"}},
		"too many fields":               {`{"volumes":["v:/a:rw:x"]}`, []string{"volumes[0]: volume"}},
		"a flag for SELinux":            {`{"volumes":["v:/a:z","w:/b:Z"]}`, []string{"volumes[0]: volume", "volumes[1]: volume", "SELinux"}},
		"a flag for propagation":        {`{"volumes":["v:/a:rshared"]}`, []string{"volumes[0]: volume", "propagate"}},
		"a flag that is none":           {`{"volumes":["v:/a:fast"]}`, []string{"volumes[0]: volume", "fast"}},
		"several of them":               {`{"kind":"x","volumes":[true,"v:/a:z"]}`, []string{"kind: must be", "volumes[0]: must be", "volumes[1]: volume"}},
		"too many":                      {`{"volumes":[` + strings.Repeat(`"",`, 40000) + `""]}`, []string{"volumes: Too many: 40001: must have at most 32 items"}},
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
					t.Fatalf("error %.1000q has no %q behind what was found before", err, want)
				}
				at += i
			}
			if len(err.Error()) > 20000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
	if spec, err := v1alpha1.Decode([]byte(`{"extraConfig":{"volumes":"v:/a:z"},"tags":{"volumes[0]":"/a:/b"}}`)); err != nil || spec.ExtraConfig["volumes"] != "v:/a:z" {
		t.Errorf("what only looks like a volume: %v, %v", spec, err)
	}
}

func volumeCase(change func(*v1alpha1.Volume), want ...string) faultCase {
	return faultCase{func(s *spec) { change(&s.Volumes[0]) }, want}
}

// checkVolumeFaults is checkFaults on the example with volumes.
func checkVolumeFaults(t *testing.T, cases map[string]faultCase) {
	t.Helper()
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := mustLoad(t, withVolumes)
			tc.change(s)
			compareFaults(t, v1alpha1.Validate(s), tc.want)
		})
	}
}

func TestVolumes(t *testing.T) {
	named := func(name string, want ...string) faultCase {
		return volumeCase(func(v *v1alpha1.Volume) { v.Name, v.RetainPolicy = name, "" }, want...)
	}
	capacity := func(q string, want ...string) faultCase {
		return volumeCase(func(v *v1alpha1.Volume) { v.Capacity = quantity(q) }, want...)
	}
	store := func(label string, want ...string) faultCase {
		return volumeCase(func(v *v1alpha1.Volume) { v.Store = label }, want...)
	}
	const name, size = "volumes[0].name: ", "volumes[0].capacity: "
	checkVolumeFaults(t, map[string]faultCase{
		"a name like VIC's":           named("a.B_c-9"),
		"a name of the placeholder":   named("{machine}"),
		"the placeholder twice":       named("{machine}.{machine}"),
		"another placeholder":         named("a-{node}", name+"no braces but those of {machine}, the only placeholder"),
		"MCM's placeholder":           named("a-<<MACHINE_NAME>>", name+"must begin with a letter or digit"),
		"an open brace":               named("a{", name+"no braces but"),
		"one in the other":            named("{{machine}}", name+"no braces but"),
		"the placeholder in capitals": named("a-{MACHINE}", name+"no braces but"),
		"a name with a slash":         named("a/b", name+"must begin with a letter or digit"),
		"a name with a blank":         named("a b", name+"must begin with a letter or digit"),
		"a name with a line break":    named("a\n", name+"must begin with a letter or digit"),
		"a name that is hidden":       named(".a", name+"must begin with a letter or digit"),
		"a name with a pipe":          named("a|b", name+"must begin with a letter or digit"),
		"the longest name":            named(long(200)),
		"a longer one":                named(long(201), name+"has 201 characters, at most 200"),
		"the longest with a machine":  named("{machine}" + long(136)),
		"one that is longer then":     named("{machine}"+long(137), name+"has 201 characters with a machine's name of 64, at most 200"),
		"a name twice":                named("seed", "volumes[1].name: Duplicate"),
		"a name twice in capitals":    named("SEED", "volumes[1].name: Duplicate"),
		"no name":                     named(""),

		"an odd store":          store("a b.c"),
		"a store with a colon":  store("a:b", "volumes[0].store: no '|' and no ':'"),
		"a store with a pipe":   store("a|b", "volumes[0].store: no '|' and no ':'"),
		"a store of two lines":  store("a\nb", "volumes[0].store: one line"),
		"a store after a blank": store(" a", "volumes[0].store: blank"),
		"a long store":          store(long(257), "volumes[0].store: Too long"),

		"the least capacity":    capacity("8Mi"),
		"less":                  capacity("8388607", size+"between 8Mi and 2Ti"),
		"the most":              capacity("2Ti"),
		"more":                  capacity("2199023255553", size+"between 8Mi and 2Ti"),
		"thousandths over":      capacity("2199023255552001m", size+"between 8Mi and 2Ti"),
		"none":                  capacity("0", size+"between 8Mi and 2Ti"),
		"a negative one":        capacity("-1Gi", size+"between 8Mi and 2Ti"),
		"one that is not whole": capacity("9000001"),

		"another mode":             volumeCase(func(v *v1alpha1.Volume) { v.Mode = "RW" }, "volumes[0].mode: Unsupported value"),
		"another policy":           volumeCase(func(v *v1alpha1.Volume) { v.RetainPolicy = "delete" }, "volumes[0].retainPolicy: Unsupported value"),
		"to keep an anonymous one": volumeCase(func(v *v1alpha1.Volume) { v.Name, v.RetainPolicy = "", v1alpha1.RetainVolume }),
		"to keep one of a machine": volumeCase(func(v *v1alpha1.Volume) { v.RetainPolicy = v1alpha1.RetainVolume }),
		"to delete what many have": volumeCase(func(v *v1alpha1.Volume) { v.Name = "data" }, "volumes[0].retainPolicy: the name must have {machine}"),
		"everything open":          volumeCase(func(v *v1alpha1.Volume) { *v = v1alpha1.Volume{MountPath: "/a"} }),
		"everything wrong":         volumeCase(func(v *v1alpha1.Volume) { *v = v1alpha1.Volume{"{x}", "a", ":", quantity("1"), "x", nil, "x"} }, name+"braces", "volumes[0].mountPath: must be absolute", "volumes[0].store: no ':'", size+"between", "volumes[0].mode: Unsupported", "volumes[0].retainPolicy: Unsupported"),
		"too many": {func(s *spec) {
			for i := range 27 {
				s.Volumes = append(s.Volumes, v1alpha1.Volume{MountPath: fmt.Sprintf("/v%d", i)})
			}
		}, []string{"volumes: Too many: 33"}},
	})
}

func TestWhereVolumesAreMounted(t *testing.T) {
	at := func(path string, want ...string) faultCase {
		for i := range want {
			want[i] = "volumes[0].mountPath: " + want[i]
		}
		return volumeCase(func(v *v1alpha1.Volume) { v.MountPath = path }, want...)
	}
	cases := map[string]faultCase{
		"nowhere":               at("", "Required"),
		"a relative path":       at("data", "must be absolute"),
		"a slash at the end":    at("/data/", "write /data"),
		"two slashes":           at("//data", "write /data"),
		"a dot":                 at("/data/./x", "write /data/x"),
		"a way up":              at("/data/../x", "write /x"),
		"a pipe":                at("/a|b", "'|'"),
		"a line break":          at("/a\nb", "one line"),
		"a NUL":                 at("/a\x00", "NUL"),
		"not UTF-8":             at("/a\xff", "UTF-8"),
		"a blank at the end":    at("/a ", "blank"),
		"a blank within":        at("/a b"),
		"a long path":           at("/"+long(1024), "Too long"),
		"the longest":           at("/" + long(1023)),
		"where another one is":  {func(s *spec) { s.Volumes[0].MountPath = "/cache" }, []string{"volumes[2].mountPath: Duplicate"}},
		"below another one":     at("/cache/below"),
		"the root":              at("/", "needs as it is; one below"),
		"a way up to the root":  at("/..", "needs as it is; one below", "write /"),
		"a way up to proc":      at("/a/../proc/x", "at or below /proc", "write /proc/x"),
		"what looks like proc":  at("/process"),
		"what looks like hosts": at("/etc/hosts.d"),
		"beside the modules":    at("/lib/firmware"),
		"a dot in front":        at("/.tether2"),
	}
	for _, p := range []string{"/.tether", "/dev", "/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf", "/lib/modules", "/proc", "/sys"} {
		cases[p] = at(p, "at or below "+p)
		cases["below "+p] = at(p+"/x", "at or below "+p)
	}
	for _, p := range []string{"/etc", "/lib", "/run"} {
		cases[p] = at(p, "needs as it is; one below")
		cases["below "+p] = at(p + "/x")
	}
	checkVolumeFaults(t, cases)
}

func TestAVolumeSaysHowItIsToBe(t *testing.T) {
	for name, tc := range map[string]struct {
		volume v1alpha1.Volume
		named  string
		policy v1alpha1.RetainPolicy
		mount  volume.Mount
	}{
		"an anonymous one":      {v1alpha1.Volume{MountPath: "/a"}, "", v1alpha1.DeleteVolume, volume.Mount{Path: "/a"}},
		"one that is kept":      {v1alpha1.Volume{MountPath: "/a", RetainPolicy: "Retain"}, "", v1alpha1.RetainVolume, volume.Mount{Path: "/a"}},
		"a name":                {v1alpha1.Volume{Name: "v", MountPath: "/a", Mode: "rw"}, "v", v1alpha1.RetainVolume, volume.Mount{Path: "/a"}},
		"a name of a machine's": {v1alpha1.Volume{Name: "{machine}-v-{machine}", RetainPolicy: "Delete"}, "m1-v-m1", v1alpha1.DeleteVolume, volume.Mount{}},
		"only read, not filled": {v1alpha1.Volume{Mode: "ro", NoCopy: ptr.To(true)}, "", v1alpha1.DeleteVolume, volume.Mount{ReadOnly: true, NoCopy: true}},
	} {
		if got := tc.volume.NameFor("m1"); got != tc.named {
			t.Errorf("%s: name %q, want %q", name, got, tc.named)
		}
		if got := tc.volume.Policy(); got != tc.policy {
			t.Errorf("%s: policy %s, want %s", name, got, tc.policy)
		}
		if diff := cmp.Diff(tc.mount, tc.volume.Mount()); diff != "" {
			t.Errorf("%s: mount (-want +got):\n%s", name, diff)
		}
	}
}

func TestCapacitiesAreRoundedUpToWholeMiB(t *testing.T) {
	if got := (&v1alpha1.Volume{}).CapacityBytes(); got != 0 {
		t.Errorf("without capacity: %d", got)
	}
	for given, want := range map[string]int64{
		"8Mi": 8 << 20, "8388609": 9 << 20, "9000000": 9 << 20, "1G": 954 << 20, "1Gi": 1 << 30, "1.5Gi": 1536 << 20, "8388608001m": 9 << 20, "2Ti": 2 << 40,
	} {
		v := v1alpha1.Volume{Capacity: quantity(given)}
		got := v.CapacityBytes()
		if got != want {
			t.Errorf("%s: %d bytes, want %d", given, got, want)
		}
		if err := volume.ValidateCapacity(got); err != nil {
			t.Errorf("%s: %v", given, err)
		}
	}
}

func TestSpecsWithoutVolumesStayWithoutThem(t *testing.T) {
	raw, err := json.Marshal(mustLoad(t, full))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), "volumes") {
		t.Errorf("volumes that nobody asked for are in %s", raw)
	}
}
