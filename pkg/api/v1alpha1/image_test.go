// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"encoding/pem"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// fromImage sets every field that is only for images, but registries.caBundle.
const fromImage = `
vch: {datacenter: dc-1, name: vch-1}
tags: {kubernetes.io/cluster/c: "", kubernetes.io/role/r: ""}
image: registry.example.com/k3s:v1.34
imagePullPolicy: Always
rootDisk: {size: 10Gi}
registries:
  insecure: ["registry.example.com:5000/team", "http://10.0.0.1", 10.1.0.0/16, "*.local"]
  mirrors:
  - {registry: docker.io, endpoint: "https://mirror.example.com/hub"}
  - {registry: "*", endpoint: mirror.example.com}
networks: [{name: net}]
`

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// checkImageFaults is checkFaults on the example with an image. PLANTED is what no error may show.
func checkImageFaults(t *testing.T, cases map[string]faultCase) {
	t.Helper()
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := mustLoad(t, fromImage)
			tc.change(s)
			errs := v1alpha1.Validate(s)
			compareFaults(t, errs, tc.want)
			for _, e := range errs {
				if strings.Contains(e.Error(), planted) {
					t.Errorf("the error %q shows what may be a password", e)
				}
			}
		})
	}
}

func TestLoadTakesTheExampleWithAnImageAsItStands(t *testing.T) {
	s := mustLoad(t, fromImage)
	want := &v1alpha1.Registries{
		Insecure: []string{"registry.example.com:5000/team", "http://10.0.0.1", "10.1.0.0/16", "*.local"},
		Mirrors: []v1alpha1.RegistryMirror{
			{Registry: "docker.io", Endpoint: "https://mirror.example.com/hub"}, {Registry: "*", Endpoint: "mirror.example.com"},
		},
	}
	if diff := cmp.Diff(want, s.Registries); diff != "" {
		t.Errorf("registries (-want +got):\n%s", diff)
	}
	if s.Image != "registry.example.com/k3s:v1.34" || s.ImagePullPolicy != v1alpha1.PullAlways || s.RootDiskBytes() != 10<<30 || s.RootDisk.VMDK != "" {
		t.Errorf("image %q, policy %q, size %d, vmdk %q", s.Image, s.ImagePullPolicy, s.RootDiskBytes(), s.RootDisk.VMDK)
	}
}

func TestDefaultsWithAnImageLeaveOpenWhatTheImageMaySay(t *testing.T) {
	s := &v1alpha1.ProviderSpec{Image: "k3s"}
	if s.RootDiskBytes() != 8<<30 {
		t.Errorf("without a size: %d bytes", s.RootDiskBytes())
	}
	v1alpha1.SetDefaults(s)
	if s.ImagePullPolicy != v1alpha1.PullIfNotPresent || s.RootDisk == nil || s.RootDisk.Size.String() != "8Gi" || s.RootDiskBytes() != 8<<30 {
		t.Errorf("policy %q, disk %+v", s.ImagePullPolicy, s.RootDisk)
	}
	if s.WorkingDir != "" || s.StopSignal != "" || s.Signal() != "" || s.Registries != nil {
		t.Errorf("workingDir %q, stopSignal %q (%q), registries %v: want them open", s.WorkingDir, s.StopSignal, s.Signal(), s.Registries)
	}
	once := s.DeepCopy()
	v1alpha1.SetDefaults(s)
	if diff := cmp.Diff(once, s); diff != "" {
		t.Errorf("defaulting twice differs (-once +twice):\n%s", diff)
	}
}

func TestAVMDKHasItsOwnSize(t *testing.T) {
	if size := mustLoad(t, full).RootDiskBytes(); size != 0 {
		t.Errorf("RootDiskBytes = %d", size)
	}
}

func imageCase(image string, want ...string) faultCase {
	return faultCase{func(s *spec) { s.Image = image }, want}
}

func sizeCase(size string, want ...string) faultCase {
	return faultCase{func(s *spec) { s.RootDisk.Size = quantity(size) }, want}
}

func TestImages(t *testing.T) {
	const ascii, scheme, at = "image: printable ASCII", "image: must not begin with a scheme", "image: what follows the @ must be a digest"
	checkImageFaults(t, map[string]faultCase{
		"a bare name":              imageCase("k3s"),
		"a port and a tag":         imageCase("localhost:5000/a/b_c:v1.34"),
		"an address of IPv6":       imageCase("[::1]:5000/a"),
		"a digest":                 imageCase("registry.example.com/k3s@" + digest),
		"a tag and a digest":       imageCase("k3s:v1@" + digest),
		"a short digest":           imageCase("k3s@sha256:PLANTED", at),
		"a digest of another kind": imageCase("k3s@md5:PLANTED", at),
		"a password":               imageCase("user:PLANTED@registry/k3s", at),
		"a password in a URL":      imageCase("https://user:PLANTED@registry/k3s", at, scheme),
		"a password and a digest":  imageCase("user:PLANTED@registry/k3s@"+digest, at),
		"a scheme":                 imageCase("docker://k3s", scheme),
		"a blank":                  imageCase("k3s v1", ascii),
		"a line break":             imageCase("k3s\n", ascii),
		"a letter beyond ASCII":    imageCase("k3ß", ascii),
		"everything at once":       imageCase("http://a b@PLANTED", "image: Invalid", "image: Invalid", "image: Invalid"),
		"too long":                 imageCase(long(1025), "image: Too long"),
		"no policy":                {func(s *spec) { s.ImagePullPolicy = "" }, nil},
		"policy Never":             {func(s *spec) { s.ImagePullPolicy = v1alpha1.PullNever }, nil},
		"another policy":           {func(s *spec) { s.ImagePullPolicy = "never" }, []string{"imagePullPolicy: Unsupported value"}},
		"a vmdk":                   {func(s *spec) { s.RootDisk.VMDK = "[ds] a.vmdk" }, []string{"rootDisk.vmdk: only one of"}},
		"a wrong vmdk":             {func(s *spec) { s.RootDisk.VMDK = "a" }, []string{"rootDisk.vmdk: Forbidden: only one of", "rootDisk.vmdk: Invalid value: \"a\": must be a datastore path"}},
		"no disk":                  {func(s *spec) { s.RootDisk = nil }, nil},
		"a command":                {func(s *spec) { s.Command, s.Args = []string{"/bin/x"}, []string{"y"} }, nil},
		"an empty command":         {func(s *spec) { s.Command = []string{"", "x"} }, []string{"command: Required"}},
		"args alone":               {func(s *spec) { s.Args = []string{"y"} }, nil},
		"userData as command":      {func(s *spec) { s.UserData.Exec = ptr.To(true) }, nil},
		"userData and args":        {func(s *spec) { s.UserData.Exec, s.Args = ptr.To(true), []string{"y"} }, []string{"args: must be empty"}},
		"a policy without image": {func(s *spec) { s.Image = "" }, []string{
			"command: Required", "imagePullPolicy: only with image", "registries: only with image", "rootDisk.size: only with image", "rootDisk.vmdk: Required",
		}},
		"the smallest disk":   sizeCase("64Mi"),
		"the largest disk":    sizeCase("2Ti"),
		"in bytes":            sizeCase("67108864"),
		"too small a disk":    sizeCase("63Mi", "rootDisk.size: between 64Mi and 2Ti"),
		"too large a disk":    sizeCase("2097153Mi", "rootDisk.size: between 64Mi and 2Ti"),
		"a disk beyond int64": sizeCase("99999999999E", "rootDisk.size: between 64Mi and 2Ti"),
		"half a MiB":          sizeCase("65536.5Ki", "rootDisk.size: whole MiB"),
		"a size in GB":        sizeCase("8G", "rootDisk.size: whole MiB"),
		"a negative size":     sizeCase("-8Gi", "rootDisk.size: whole MiB"),
	})
}

func TestRegistries(t *testing.T) {
	cert := string(certificate(t))
	bundle := func(text string, want ...string) faultCase {
		return faultCase{func(s *spec) { s.Registries.CABundle = text }, want}
	}
	insecure := func(text string, want ...string) faultCase {
		return faultCase{func(s *spec) { s.Registries.Insecure[1] = text }, want}
	}
	mirror := func(registry, endpoint string, want ...string) faultCase {
		return faultCase{func(s *spec) {
			s.Registries.Mirrors[1] = v1alpha1.RegistryMirror{Registry: registry, Endpoint: endpoint}
		}, want}
	}
	const ca, list, from, to = "registries.caBundle: ", "registries.insecure[1]: ", "registries.mirrors[1].registry: ", "registries.mirrors[1].endpoint: "
	checkImageFaults(t, map[string]faultCase{
		"nothing":                      {func(s *spec) { s.Registries = &v1alpha1.Registries{} }, nil},
		"a certificate":                bundle(cert),
		"two with remarks":             bundle("one:\n" + cert + "two:\n" + cert),
		"no PEM":                       bundle(planted, ca+"certificates in PEM"),
		"only blanks":                  bundle(" \n", ca+"certificates in PEM"),
		"a key":                        bundle(cert+string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte(planted)})), ca+"block 2 must be a CERTIFICATE"),
		"half a certificate":           bundle(cert+cert[:60], ca+"certificates in PEM"),
		"much":                         bundle(strings.Repeat(planted, 80000), ca+"Too long"),
		"an empty entry":               insecure("", list+"Required"),
		"an entry with a blank":        insecure("a b", list+"printable ASCII"),
		"an entry with a user":         insecure("http://u:PLANTED@a", list+"user or a password"),
		"an entry with a query":        insecure("a?token=PLANTED", list+"query"),
		"an entry of another scheme":   insecure("ftp://a", list+"http or https"),
		"a long entry":                 insecure(long(513), list+"Too long"),
		"many entries":                 {func(s *spec) { s.Registries.Insecure = slices.Repeat([]string{"a"}, 65) }, []string{"registries.insecure: Too many"}},
		"a mirror of nothing":          mirror("", "a", from+"Required"),
		"a mirror nowhere":             mirror("a", "", to+"Required"),
		"a mirror by http":             mirror("localhost:5000", "http://10.0.0.1:80/x"),
		"a mirror of a URL":            mirror("https://a", "b", from+"without a scheme"),
		"a mirror with a user":         mirror("a", "https://u:PLANTED@b", to+"user or a password"),
		"a mirror of a user":           mirror("u:PLANTED@a", "b", from+"user or a password"),
		"a mirror with a signature":    mirror("a", "https://b/?sig=PLANTED#x", to+"query"),
		"a mirror of another protocol": mirror("a", "oci://b", to+"http or https"),
		"a mirror with a line break":   mirror("a", "b\n", to+"printable ASCII"),
		"many mirrors": {func(s *spec) {
			s.Registries.Mirrors = slices.Repeat([]v1alpha1.RegistryMirror{{Registry: "a", Endpoint: "b"}}, 33)
		}, []string{"registries.mirrors: Too many"}},
	})
}

func TestFieldsOfImagesAreDecodedStrictly(t *testing.T) {
	for raw, want := range map[string]string{
		`{"rootDisk":{"Size":"8Gi"}}`:                             `unknown field "rootDisk.Size"`,
		`{"rootDisk":{"size":"1e9999999"}}`:                       "rootDisk.size: must be a quantity",
		`{"rootDisk":{"size":{}}}`:                                "rootDisk.size: must be a quantity",
		`{"registries":{"ca":"x"}}`:                               `unknown field "registries.ca"`,
		`{"registries":{"mirrors":[{"registry":"a","url":"b"}]}}`: `unknown field "registries.mirrors[0].url"`,
		`{"registries":{"insecure":"a"}}`:                         "registries.insecure: must be a list, got string",
	} {
		_, err := v1alpha1.Decode([]byte(raw))
		if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), want) {
			t.Errorf("Decode(%s) = %v, want %s", raw, err, want)
		}
	}
}

func TestRegistryCredentialsAreJudgedWithAnImage(t *testing.T) {
	withImage, withDisk := mustLoad(t, fromImage), mustLoad(t, small)
	for value, want := range map[string][]string{
		"":   nil,
		"\n": nil,
		`{"auths":{"a":{"auth":"PLANTED"}}}` + "\n": nil,
		`"PLANTED"`:                      {"secret[.dockerconfigjson]: a JSON object"},
		`{"auths":"PLANTED"`:             {"secret[.dockerconfigjson]: a JSON object"},
		"UExBTlRFRA==":                   {"secret[.dockerconfigjson]: a JSON object"},
		strings.Repeat(" ", 1<<20) + "x": {"secret[.dockerconfigjson]: Too long"},
	} {
		data := goodSecret()
		data[v1alpha1.SecretDockerConfig] = []byte(value)
		compareFaults(t, v1alpha1.ValidateSecret(data, withImage), want)
		compareFaults(t, v1alpha1.ValidateSecret(data, withDisk), nil)
		compareFaults(t, v1alpha1.ValidateSecret(data, nil), nil)
		if err := v1alpha1.CheckSecret(data, withImage); err != nil && strings.Contains(err.Error(), planted) {
			t.Errorf("error %q has the value", err)
		}
	}
}

func TestRegistryCredentialsAreNoConnectionToVCenter(t *testing.T) {
	if slices.Contains(v1alpha1.ConnectionKeys(), v1alpha1.SecretDockerConfig) {
		t.Error("another Secret's way to vCenter would take the credentials for registries with it")
	}
}
