// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
)

func TestAnImageIsResolvedToWhatIdentifiesIt(t *testing.T) {
	t.Parallel()
	h, f := newHub(t), newFixture(noise(1, 1000), noise(2, 2000), noise(1, 1000))
	manifest := f.push(h, "team/k3s", "v1")
	image := resolve(t, h.ref("team/k3s:v1"), h.options())
	layer := func(content []byte, i int) registry.Layer {
		diffIDs := f.config["rootfs"].(map[string]any)["diff_ids"].([]string)
		return registry.Layer{Digest: digest(content), DiffID: diffIDs[i], Size: int64(len(content)), MediaType: ociLayer}
	}
	want := &registry.Image{
		Reference: h.ref("team/k3s:v1"), Digest: manifest["digest"].(string), ConfigDigest: digest(encode(t, f.config)),
		Layers: []registry.Layer{layer(f.layers[0], 0), layer(f.layers[1], 1), layer(f.layers[2], 2)},
		Config: registry.Config{
			Entrypoint: []string{"/bin/k3s"}, Cmd: []string{"agent"}, Env: []string{"PATH=/bin"}, WorkingDir: "/work",
			User: "1:2", StopSignal: "SIGTERM", Volumes: []string{"/etc/rancher", "/var/lib"},
		},
	}
	if diff := cmp.Diff(want, image, cmpopts.IgnoreUnexported(registry.Image{})); diff != "" {
		t.Errorf("image (-want +got):\n%s", diff)
	}
	if image.Size() != 3000 {
		t.Errorf("size is %d, want 3000: what comes twice is downloaded once", image.Size())
	}
	if n := h.count("/blobs/"); n != 1 {
		t.Errorf("%d blobs were read, want the configuration alone", n)
	}
}

func TestADigestIsWhatCountsAndIsVerified(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	first := newFixture(noise(1, 10)).push(h, "a", "v1")["digest"].(string)
	newFixture(noise(2, 10)).push(h, "a", "v1")
	for _, ref := range []string{"a@" + first, "a:v1@" + first, "a:gone@" + first} {
		if image := resolve(t, h.ref(ref), h.options()); image.Digest != first {
			t.Errorf("%s is %s", ref, image.Digest)
		}
	}
	h.breakWith(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, first) {
			r.URL.Path = "/v2/a/manifests/v1"
		}
		return false
	})
	_, err := registry.Resolve(t.Context(), h.ref("a@"+first), h.options())
	wantError(t, err, errdefs.FailedPrecondition, "gives a manifest of digest")
}

func wantError(t testing.TB, err error, kind errdefs.Kind, part string) {
	t.Helper()
	if !errdefs.Is(err, kind) || !strings.Contains(err.Error(), part) {
		t.Errorf("error is %s: %v; want %s with %q", errdefs.KindOf(err), err, kind, part)
	}
}

func platform(d map[string]any, os, arch, variant string) map[string]any {
	d = maps.Clone(d)
	d["platform"] = map[string]any{"os": os, "architecture": arch, "variant": variant}
	return d
}

func index(mediaType string, manifests ...map[string]any) map[string]any {
	return map[string]any{"schemaVersion": 2, "mediaType": mediaType, "manifests": manifests}
}

func TestTheImageForThePlatformIsFoundInAnIndex(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	push := func(seed byte, arch string) map[string]any {
		f := newFixture(noise(seed, 10))
		f.config["architecture"] = arch
		return f.push(h, "a", string('a'+rune(seed)))
	}
	amd, amdV3, arm := push(1, "amd64"), push(2, "amd64"), push(3, "arm64")
	artifact := &fixture{config: map[string]any{}, manifest: map[string]any{"schemaVersion": 2, "mediaType": ociManifest, "artifactType": "application/x-signature"}}
	signature := artifact.push(h, "a", "sig")
	attestation := platform(signature, "unknown", "unknown", "")
	nested := h.manifest("a", "nested", ociIndex, index(ociIndex, platform(arm, "linux", "arm64", "v8"), platform(amd, "linux", "amd64", "")))
	for name, tc := range map[string]struct {
		mediaType string
		manifests []map[string]any
		want      any
		err       string
	}{
		"OCI":                              {ociIndex, []map[string]any{attestation, platform(arm, "linux", "arm64", ""), platform(amd, "linux", "amd64", "")}, amd, ""},
		"docker":                           {dockerList, []map[string]any{platform(arm, "linux", "arm64", ""), platform(amd, "linux", "amd64", "")}, amd, ""},
		"the one for every CPU":            {ociIndex, []map[string]any{platform(amdV3, "linux", "amd64", "v3"), platform(amd, "linux", "amd64", "")}, amd, ""},
		"a newer CPU if there is no other": {ociIndex, []map[string]any{platform(arm, "linux", "arm64", ""), platform(amdV3, "linux", "amd64", "v3")}, amdV3, ""},
		"nested without a platform":        {ociIndex, []map[string]any{platform(arm, "linux", "arm64", ""), nested}, amd, ""},
		"images that do not say":           {ociIndex, []map[string]any{signature, arm, amd}, amd, ""},
		"none":                             {ociIndex, []map[string]any{platform(arm, "linux", "arm64", ""), platform(arm, "windows", "amd64", ""), attestation}, nil, "not for linux/amd64 but for linux/arm64, windows/amd64"},
		"none that do not say":             {ociIndex, []map[string]any{arm}, nil, "but for linux/arm64"},
		"an index that lies":               {ociIndex, []map[string]any{platform(arm, "linux", "amd64", "")}, nil, "but for linux/arm64"},
		"attestations alone":               {ociIndex, []map[string]any{attestation}, nil, "no image for linux/amd64, nor for anything else"},
		"signatures alone":                 {ociIndex, []map[string]any{signature}, nil, "artifact of type application/x-signature"},
		"empty":                            {ociIndex, []map[string]any{}, nil, "nor for anything else"},
	} {
		tag := "t" + strings.ToLower(strings.ReplaceAll(name, " ", "-"))
		top := h.manifest("a", tag, tc.mediaType, index(tc.mediaType, tc.manifests...))
		image, err := registry.Resolve(t.Context(), h.ref("a:"+tag), h.options())
		if tc.err != "" {
			wantError(t, err, errdefs.InvalidArgument, tc.err)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := tc.want.(map[string]any)["digest"]; image.Digest != want || image.IndexDigest != top["digest"] {
			t.Errorf("%s: %s of %s, want %s of %s", name, image.Digest, image.IndexDigest, want, top["digest"])
		}
	}
}

func TestIndexesAreBounded(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	arm := newFixture(noise(1, 10))
	arm.config["architecture"] = "arm64"
	inner := arm.push(h, "a", "arm")
	for range 6 {
		inner = h.manifest("a", "deep", ociIndex, index(ociIndex, inner))
	}
	_, err := registry.Resolve(t.Context(), h.ref("a:deep"), h.options())
	wantError(t, err, errdefs.InvalidArgument, "more than 4 levels")
	h.manifest("a", "wide", ociIndex, index(ociIndex, slices.Repeat([]map[string]any{arm.push(h, "a", "arm")}, 1000)...))
	before := h.count("/manifests/")
	_, err = registry.Resolve(t.Context(), h.ref("a:wide"), h.options())
	wantError(t, err, errdefs.InvalidArgument, "more than 32 manifests")
	if n := h.count("/manifests/") - before; n > 40 {
		t.Errorf("%d manifests were read", n)
	}
}

func TestWhatIsNoImageIsCalledWhatItIs(t *testing.T) {
	t.Parallel()
	layer := func(mediaType string, size int) []any {
		return []any{map[string]any{"mediaType": mediaType, "digest": digest(nil), "size": size, "urls": []string{"https://example.com/"}}}
	}
	for name, tc := range map[string]struct {
		change func(f *fixture)
		want   string
	}{
		"another platform": {func(f *fixture) { f.config["architecture"] = "arm64" }, "not for linux/amd64 but for linux/arm64"},
		"windows":          {func(f *fixture) { f.config["os"] = "windows" }, "but for windows/amd64"},
		"no layers":        {func(f *fixture) { f.layers = nil }, "no layers"},
		"no rootfs":        {func(f *fixture) { delete(f.config, "rootfs") }, "is of type unknown, want layers"},
		"diff IDs":         {func(f *fixture) { f.layers = append(f.layers, noise(9, 9)) }, "the manifest has 2 layers, the configuration 1"},
		"wrong diff IDs":   {func(f *fixture) { f.config["rootfs"] = map[string]any{"type": "layers", "diff_ids": []string{"x"}} }, "cannot be read"},
		"helm chart": {func(f *fixture) {
			f.manifest["config"] = map[string]any{"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": digest(nil), "size": 1}
		}, "artifact of type application/vnd.cncf.helm.config.v1+json"},
		"artifact": {func(f *fixture) { f.manifest["artifactType"] = "application/x" }, "artifact of type application/x"},
		"foreign": {func(f *fixture) {
			f.manifest["layers"] = layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", 1)
		}, "layer 0 is foreign"},
		"nondistributable": {func(f *fixture) {
			f.manifest["layers"] = layer("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", 1)
		}, "layer 0 is foreign"},
		"encrypted": {func(f *fixture) {
			f.manifest["layers"] = layer("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", 1)
		}, "encrypted"},
		"unknown layer":  {func(f *fixture) { f.manifest["layers"] = layer("application/x", 1) }, "layer 0 is of type application/x"},
		"negative layer": {func(f *fixture) { f.manifest["layers"] = layer(ociLayer, -1) }, "size of -1 bytes"},
		"huge layer":     {func(f *fixture) { f.manifest["layers"] = layer(ociLayer, 1<<62) }, "more than 34359738368 bytes"},
		"two sizes":      {func(f *fixture) { f.manifest["layers"] = append(layer(ociLayer, 1), layer(ociLayer, 2)...) }, "and 1 where it comes before"},
		"many layers":    {func(f *fixture) { f.manifest["layers"] = slices.Repeat(layer(ociLayer, 1), 2000) }, "2000 layers"},
		"ambiguous":      {func(f *fixture) { f.manifest["manifests"] = []any{} }, "both an image and an index"},
		"huge config": {func(f *fixture) {
			f.manifest["config"] = map[string]any{"mediaType": ociConfig, "digest": digest(nil), "size": 1 << 40}
		}, "configuration has 1099511627776 bytes"},
		"huge value":  {func(f *fixture) { f.config["config"] = map[string]any{"User": strings.Repeat("x", 40_000)} }, "value of User has 40000 bytes"},
		"many values": {func(f *fixture) { f.config["config"] = map[string]any{"Env": make([]string, 2000)} }, "Env has 2000 values"},
		"much of all": {func(f *fixture) {
			f.config["config"] = map[string]any{"Env": slices.Repeat([]string{strings.Repeat("x", 30_000)}, 9)}
		}, "more than 131072 bytes"},
		"NUL":          {func(f *fixture) { f.config["config"] = map[string]any{"Cmd": []string{"a\x00b"}} }, "must have no NUL"},
		"wrong config": {func(f *fixture) { f.config["config"] = "x" }, "cannot be read"},
		"wrong digest": {func(f *fixture) {
			f.manifest["config"] = map[string]any{"mediaType": ociConfig, "digest": "../x", "size": 1}
		}, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, f := newHub(t), newFixture(noise(1, 10))
			tc.change(f)
			f.push(h, "a", "v1")
			_, err := registry.Resolve(t.Context(), h.ref("a:v1"), h.options())
			wantError(t, err, errdefs.InvalidArgument, tc.want)
		})
	}
}

func TestDocumentsOfOtherKindsAreCalledWhatTheyAre(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ mediaType, content, want string }{
		"schema 1":                  {"application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1,"fsLayers":[],"history":[]}`, "schema 1"},
		"schema 1 of no type":       {"application/json", `{"schemaVersion":1,"fsLayers":[]}`, "schema 1"},
		"an artifact manifest":      {"application/vnd.oci.artifact.manifest.v1+json", `{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","artifactType":"x/y"}`, "artifact of type x/y"},
		"HTML":                      {"text/html", `<html>`, "no JSON"},
		"something":                 {"application/json", `{}`, "of type application/json, which is no image"},
		"a manifest of many values": {ociManifest, `{"manifests":[{}` + strings.Repeat(",{}", 1_300_000) + `]}`, "1300000 values, want at most"},
		"a huge manifest":           {ociManifest, `{"x":"` + strings.Repeat("x", 5<<20) + `"}`, "more than 4194304 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t)
			h.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/manifests/") {
					return false
				}
				w.Header().Set("Content-Type", tc.mediaType)
				_, _ = w.Write([]byte(tc.content))
				return true
			})
			_, err := registry.Resolve(t.Context(), h.ref("a:v1"), h.options())
			wantError(t, err, errdefs.InvalidArgument, tc.want)
		})
	}
}

func TestAConfigurationIsVerified(t *testing.T) {
	t.Parallel()
	h, f := newHub(t), newFixture(noise(1, 10))
	f.push(h, "a", "v1")
	h.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			_, _ = w.Write([]byte(`{"os":"linux"}`))
		}
		return strings.Contains(r.URL.Path, "/blobs/")
	})
	_, err := registry.Resolve(t.Context(), h.ref("a:v1"), h.options())
	wantError(t, err, errdefs.FailedPrecondition, "gives a configuration of digest")
}

func TestImagesOfDockersKindAreTheSame(t *testing.T) {
	t.Parallel()
	h, f := newHub(t), newFixture(noise(1, 10))
	config := h.blob("a", encode(t, f.config))
	config["mediaType"] = dockerConfig
	layer := h.blob("a", f.layers[0])
	layer["mediaType"] = dockerLayer
	f.manifest = map[string]any{"schemaVersion": 2, "mediaType": dockerImage, "config": config, "layers": []any{layer}}
	want := f.push(h, "a", "v1")["digest"]
	if image := resolve(t, h.ref("a:v1"), h.options()); image.Digest != want || len(image.Layers) != 1 {
		t.Errorf("image is %+v", image)
	}
}
