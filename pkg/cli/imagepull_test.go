// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// serve starts a registry that has one image, of one layer.
func serve(t *testing.T, options images.Options) (hub *images.Registry, ref, layerDigest string) {
	t.Helper()
	hub, err := images.Serve(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hub.Close)
	layer, err := images.Layer(images.Dir("etc/"), images.File("etc/release", strings.Repeat("a node\n", 1000)), images.Executable("bin/node", "#!/bin/sh\n"))
	if err != nil {
		t.Fatal(err)
	}
	img, err := images.Image(images.Config{Entrypoint: []string{"/bin/node"}, Env: []string{"PATH=/bin"}}, layer)
	if err != nil {
		t.Fatal(err)
	}
	if ref, err = hub.Push("team/node:v1", img); err != nil {
		t.Fatal(err)
	}
	digest, err := layer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return hub, ref, digest.String()
}

// pull runs image pull with an empty directory for temporary files, which must be
// empty again.
func (l *library) pull(ctx context.Context, t *testing.T, args ...string) result {
	t.Helper()
	dir := t.TempDir()
	got := l.run(ctx, append([]string{"pull", "--temp-dir", dir}, args...)...)
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("%v is left of the pull, %v", left, err)
	}
	return got
}

// settled replaces what differs from run to run: the port of the registry, and
// with it the digest.
func settled(s string, hub *images.Registry) string {
	return strings.ReplaceAll(s, hub.Host(), "REGISTRY")
}

func TestPullMakesAnImageDisk(t *testing.T) {
	l := newLibrary(t)
	hub, ref, _ := serve(t, images.Options{})
	got := l.pull(t.Context(), t, "--size", "100Mi", "--insecure-registry", hub.Host(), ref)
	if got.code != 0 {
		t.Fatalf("exit code %d, %s", got.code, got.stderr)
	}
	golden(t, "image-pull.txt", settled(got.stdout, hub))
	golden(t, "image-pull-progress.txt", got.stderr)
	disk, err := l.store.Lookup(t.Context(), ref, 100<<20)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got.stdout, disk.Digest) || len(l.place.Content(disk.Path)) == 0 {
		t.Errorf("%s does not tell of %v", got.stdout, disk)
	}

	// The disk is there now: nothing is downloaded but the manifest.
	hub.ResetCounts()
	again := l.pull(t.Context(), t, "--size", "100Mi", "--insecure-registry", hub.Host(), "-o", "json", ref)
	if again.code != 0 || strings.Contains(again.stderr, string(image.Uploading)) {
		t.Errorf("got %+v", again)
	}
	golden(t, "image-pull.json", settled(again.stdout, hub))
	if n := hub.Requests("GET", "/manifests/"); n != 1 {
		t.Errorf("%d manifests were asked for: %v", n, hub.Log())
	}
}

func TestPullTakesItsDefaultsFromSpecAndSecret(t *testing.T) {
	l := newLibrary(t)
	hub, ref, _ := serve(t, images.Options{TLS: true, Username: "puller", Password: planted})
	spec := l.spec()
	spec.Image, spec.RootDisk = "registry.example.com/team/node:v1", nil
	spec.Command = []string{"/bin/node"}
	v1alpha1.SetDefaults(spec)
	*spec.RootDisk.Size = *quantity(t, "128Mi")
	spec.Registries = &v1alpha1.Registries{
		CABundle: string(hub.CA()), Mirrors: []v1alpha1.RegistryMirror{{Registry: "registry.example.com", Endpoint: hub.Host()}},
	}
	data := l.Secret()
	data[v1alpha1.SecretDockerConfig] = hub.DockerConfig()
	got := l.pull(t.Context(), t, "--provider-spec", l.file(t, "spec.yaml", spec), "--secret-file", l.file(t, "pull-secret.yaml", map[string]any{"kind": "Secret", "data": data}), "-o", "json")
	if got.code != 0 {
		t.Fatalf("exit code %d, %s", got.code, got.stderr)
	}
	var pulled struct {
		Reference string
		Size      int64
	}
	if err := json.Unmarshal([]byte(got.stdout), &pulled); err != nil || pulled.Reference != spec.Image || pulled.Size != 128<<20 {
		t.Errorf("%v, %+v, not of %s", err, pulled, ref)
	}
	if strings.Contains(got.stdout+got.stderr, planted) {
		t.Errorf("a secret is shown: %+v", got)
	}
}

func TestPullTakesCredentialsFromAFile(t *testing.T) {
	l := newLibrary(t)
	hub, ref, _ := serve(t, images.Options{TLS: true, Username: "puller", Password: planted, Token: true})
	ca := l.file(t, "registry-ca.pem", hub.CA())
	args := []string{"--size", "100Mi", "--registry-ca", ca, ref}
	for name, file := range map[string]string{
		"docker's file": l.file(t, "config.json", hub.DockerConfig()),
		"a Secret":      l.file(t, "auth-secret.yaml", map[string]any{"kind": "Secret", "type": "kubernetes.io/dockerconfigjson", "data": map[string][]byte{v1alpha1.SecretDockerConfig: hub.DockerConfig()}}),
	} {
		if got := l.pull(t.Context(), t, append([]string{"--auth-file", file}, args...)...); got.code != 0 || strings.Contains(got.stdout+got.stderr, planted) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	wrong := l.file(t, "wrong.json", []byte(strings.Replace(string(hub.DockerConfig()), `"auths"`, `"others"`, 1)))
	if got := l.pull(t.Context(), t, append([]string{"--auth-file", wrong}, args...)...); got.code != 1 || strings.Contains(got.stdout+got.stderr, planted) || strings.Count(got.stderr, "vchctl: ") != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestPullHonoursTheVCHsLists(t *testing.T) {
	hub, ref, _ := serve(t, images.Options{})
	for _, test := range []struct {
		name  string
		rules vchsim.RegistryOptions
		args  []string
		want  string
	}{
		{"insecure", vchsim.RegistryOptions{Insecure: []string{hub.Host()}}, nil, ""},
		{"an insecure mirror", vchsim.RegistryOptions{Insecure: []string{hub.Host()}}, []string{"--mirror", "*=http://" + hub.Host()}, ""},
		{"not in the whitelist", vchsim.RegistryOptions{Insecure: []string{hub.Host()}, Whitelist: []string{"registry.example.com"}}, nil, "it is not in the allowed registries"},
		{"without a word", vchsim.RegistryOptions{}, []string{"--mirror", "*=http://" + hub.Host()}, "http is for hosts that are in the insecure registries"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLibrary(t)
			l.world = newWorld(t, vchsim.Options{NoForeign: true, Registries: test.rules})
			l.env = l.govc(t)
			got := l.pull(t.Context(), t, append([]string{"--size", "100Mi", ref}, test.args...)...)
			if test.want == "" && got.code != 0 || test.want != "" && (got.code != 1 || !strings.Contains(got.stderr, test.want)) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestInterruptedPullLeavesNothing(t *testing.T) {
	l := newLibrary(t)
	hub, ref, layer := serve(t, images.Options{})
	ctx, interrupt := context.WithCancel(t.Context())
	remove := hub.Inject(images.Fault{Match: images.Blob(layer), Effect: images.Stall, At: 10})
	defer remove()
	go func() {
		for hub.BlobBytes(layer) == 0 && t.Context().Err() == nil {
			runtime.Gosched()
		}
		interrupt()
	}()
	before := l.place.Files()
	if got := l.pull(ctx, t, "--size", "100Mi", "--insecure-registry", hub.Host(), ref); got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, "context canceled") {
		t.Errorf("got %+v", got)
	}
	if diff := cmp.Diff(before, l.place.Files()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := l.Sessions(); n != 0 {
		t.Errorf("%d sessions are left in vCenter", n)
	}
}

func TestPullShowsBarsOnATerminal(t *testing.T) {
	l := newLibrary(t)
	hub, ref, _ := serve(t, images.Options{})
	user, written := openTerminal(t, 30)
	l.stderr = user
	got := l.pull(t.Context(), t, "--size", "100Mi", "--insecure-registry", hub.Host(), ref)
	screen := written()
	if got.code != 0 || !strings.Contains(screen, "downloading") || !strings.Contains(screen, "\x1b[") {
		t.Errorf("exit code %d, the terminal shows %q", got.code, screen)
	}
	for _, line := range regexp.MustCompile("\x1b\\[[0-9]*[A-Z]|\r?\n").Split(screen, -1) {
		if n := len([]rune(line)); n > 30 {
			t.Errorf("a line has %d columns: %q", n, line)
		}
	}
}

func TestWrongWordsAboutAPullAreRefusedAtOnce(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	broken, empty := file("broken.json", "{"+planted), file("empty.pem", "none "+planted)
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"no reference", nil, "which image? Give a reference, or a --provider-spec with an image"},
		{"two references", []string{"a", "b"}, "accepts at most 1 arg(s), received 2"},
		{"a broken reference", []string{"A B"}, `image "A B": `},
		{"a size", []string{"--size", "8GB", "node"}, `--size "8GB": want whole MiB between 64Mi and 2Ti, such as 8Gi`},
		{"an output", []string{"-o", "wide", "node"}, `--output must be json, got "wide"`},
		{"no temp dir", []string{"--temp-dir", "/nonexistent", "node"}, "--temp-dir /nonexistent is not a directory"},
		{"a file as temp dir", []string{"--temp-dir", broken, "node"}, "--temp-dir " + broken + " is not a directory"},
		{"no auth file", []string{"--auth-file", "/nonexistent", "node"}, "read --auth-file: open /nonexistent: no such file or directory"},
		{"a broken auth file", []string{"--auth-file", broken, "node"}, "pull secret: is not the JSON of a .dockerconfigjson"},
		{"no CA file", []string{"--registry-ca", "/nonexistent", "node"}, "read --registry-ca: open /nonexistent: no such file or directory"},
		{"a CA file without PEM", []string{"--registry-ca", empty, "node"}, "CA bundle: holds no PEM certificate"},
		{"half a mirror", []string{"--mirror", "docker.io", "node"}, "--mirror: want REGISTRY=ENDPOINT, such as docker.io=mirror.example.com/hub"},
		{"a mirror with a user", []string{"--mirror", "docker.io=https://u:" + planted + "@mirror", "node"}, `mirror of "docker.io": endpoint`},
		{"an insecure registry", []string{"--insecure-registry", "a b", "node"}, "insecure registries"},
		{"no spec", []string{"--provider-spec", "/nonexistent"}, "read --provider-spec: open /nonexistent: no such file or directory"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			// Nobody listens there.
			env := map[string]string{"GOVC_URL": "https://127.0.0.1:1", "GOVC_USERNAME": "u", "GOVC_PASSWORD": planted, "TMPDIR": dir}
			got := vchctl(t.Context(), "", env, append([]string{"image", "pull"}, test.args...)...)
			if got.code != 1 || got.stdout != "" || !strings.HasPrefix(got.stderr, "vchctl: "+test.want) || strings.Count(got.stderr, "\n") != 1 || strings.Contains(got.stderr, planted) {
				t.Errorf("got  %+v\nwant %s", got, test.want)
			}
		})
	}
}

func quantity(t *testing.T, text string) *resource.Quantity {
	t.Helper()
	q, err := resource.ParseQuantity(text)
	if err != nil {
		t.Fatal(err)
	}
	return &q
}
