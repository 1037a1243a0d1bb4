// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr/funcr"
	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
)

func TestCertificatesAreVerifiedUnlessTheHostIsListed(t *testing.T) {
	t.Parallel()
	h, other, f := newTLSHub(t), newTLSHub(t), newFixture(noise(1, 10))
	f.push(h, "a", "v1")
	named := parse(t, strings.Replace(h.host(), "127.0.0.1", "localhost", 1)+"/a:v1")
	for name, tc := range map[string]struct {
		ref  registry.Reference
		opts registry.Options
		want string
	}{
		"unknown authority":             {h.ref("a:v1"), registry.Options{}, "is of an authority that is not known (O=Acme Co): give its certificate in the CA bundle"},
		"known authority":               {h.ref("a:v1"), registry.Options{CABundle: h.ca()}, ""},
		"listed":                        {h.ref("a:v1"), registry.Options{Insecure: []string{h.host()}}, ""},
		"listed with its repository":    {h.ref("a:v1"), registry.Options{Insecure: []string{h.host() + "/a"}}, ""},
		"listed for another repository": {h.ref("a:v1"), registry.Options{Insecure: []string{h.host() + "/b"}}, "not known"},
		"listed as a network":           {h.ref("a:v1"), registry.Options{Insecure: []string{"127.0.0.0/8"}}, ""},
		"another is listed":             {h.ref("a:v1"), registry.Options{Insecure: []string{other.host()}}, "not known"},
		"another name":                  {named, registry.Options{CABundle: h.ca()}, "is for another host"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			image, err := registry.Resolve(t.Context(), tc.ref, tc.opts)
			if tc.want != "" {
				wantError(t, err, errdefs.FailedPrecondition, tc.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer image.Close()
			dir := t.TempDir()
			files, err := image.Download(t.Context(), dir, registry.DownloadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			wantFiles(t, dir, files, f.layers...)
		})
	}
}

func TestPlainHTTPIsForListedHosts(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	newFixture(noise(1, 10)).push(h, "a", "v1")
	_, err := registry.Resolve(t.Context(), h.ref("a:v1"), registry.Options{})
	wantError(t, err, errdefs.FailedPrecondition, "does not speak https: list the host as insecure")
	if n := h.count(""); n > 0 {
		t.Errorf("%d requests went out with http", n)
	}
	resolve(t, h.ref("a:v1"), h.options())
}

func TestWhatIsNotAllowedIsNotAsked(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	newFixture(noise(1, 10)).push(h, "a", "v1")
	for name, tc := range map[string]struct {
		allow, deny []string
		want        string
	}{
		"nothing listed":     {nil, nil, ""},
		"allowed":            {[]string{"docker.io", h.host()}, nil, ""},
		"allowed repository": {[]string{h.host() + "/a"}, nil, ""},
		"not allowed":        {[]string{"docker.io", "*.example.com", h.host() + "/b"}, nil, "it is not in the allowed registries"},
		"denied":             {[]string{h.host()}, []string{"127.0.0.0/8"}, "the denied registries have it in 127.0.0.0/8"},
		"another denied":     {nil, []string{"docker.io"}, ""},
	} {
		opts := h.options()
		opts.Allow, opts.Deny = tc.allow, tc.deny
		before := h.count("")
		image, err := registry.Resolve(t.Context(), h.ref("a:v1"), opts)
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			image.Close()
			continue
		}
		wantError(t, err, errdefs.PermissionDenied, tc.want)
		if n := h.count("") - before; n > 0 {
			t.Errorf("%s: %d requests", name, n)
		}
	}
}

// logs is a context whose log lines can be read.
func logs(t *testing.T) (context.Context, func() string) {
	t.Helper()
	var mu sync.Mutex
	var lines strings.Builder
	logger := funcr.New(func(_, args string) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintln(&lines, args)
	}, funcr.Options{})
	return klog.NewContext(t.Context(), logger), func() string {
		mu.Lock()
		defer mu.Unlock()
		return lines.String()
	}
}

func TestMirrorsAreAskedFirst(t *testing.T) {
	t.Parallel()
	h, mirror, f := newHub(t), newHub(t), newFixture(noise(1, 10))
	f.push(h, "a", "v1")
	f.push(mirror, "proxy/a", "v1")
	opts := h.options()
	opts.Insecure = append(opts.Insecure, mirror.host())
	opts.Mirrors = []registry.Mirror{
		{Registry: "docker.io", Endpoint: "https://nobody.invalid"},
		{Registry: h.host(), Endpoint: "http://" + mirror.host() + "/proxy"},
	}
	image, dir := resolve(t, h.ref("a:v1"), opts), t.TempDir()
	files, err := image.Download(t.Context(), dir, registry.DownloadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, files, f.layers...)
	if n := h.count(""); n > 0 || mirror.count("/v2/proxy/a/manifests/v1") != 1 {
		t.Errorf("the registry was asked %d times", n)
	}
}

func TestAMirrorThatFailsIsSkipped(t *testing.T) {
	t.Parallel()
	content := noise(1, 2*mib)
	manifest := func(answer http.HandlerFunc) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			answer(w, r)
			return true
		}
	}
	for name, fault := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"unknown there": manifest(http.NotFound),
		"denied":        manifest(func(w http.ResponseWriter, r *http.Request) { registryError(w, r, 403, "DENIED", "no") }),
		"down": func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		},
		"another image": manifest(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }),
		"broken layer":  cutAfter(content, mib, false),
		"wrong layer": func(w http.ResponseWriter, r *http.Request) bool {
			if isBlob(r, content) {
				_, _ = w.Write(noise(2, 2*mib))
			}
			return isBlob(r, content)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, mirror, f := newHub(t), newHub(t), newFixture(content, noise(3, 10))
			ref := h.ref("a@" + f.push(h, "a", "v1")["digest"].(string))
			f.push(mirror, "a", "v1")
			mirror.breakWith(fault)
			opts := h.options()
			opts.Insecure, opts.Auth = append(opts.Insecure, mirror.host()), pullSecret(mirror.host())
			opts.Mirrors = []registry.Mirror{{Registry: "*", Endpoint: mirror.host()}}
			ctx, lines := logs(t)
			image, err := registry.Resolve(ctx, ref, opts)
			if err != nil {
				t.Fatal(err)
			}
			defer image.Close()
			dir := t.TempDir()
			files, err := image.Download(ctx, dir, registry.DownloadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			wantFiles(t, dir, files, f.layers...)
			if n := strings.Count(lines(), "Mirror failed"); n != 1 || strings.Contains(lines(), password) {
				t.Errorf("the log has %s", lines())
			}
		})
	}
}

func TestAMirrorThatShowsAPageForATagIsSkipped(t *testing.T) {
	t.Parallel()
	h, mirror := newHub(t), newHub(t)
	want := newFixture(noise(1, 10)).push(h, "a", "v1")["digest"]
	mirror.breakWith(func(w http.ResponseWriter, _ *http.Request) bool {
		_, _ = w.Write([]byte("<html>Log in</html>"))
		return true
	})
	opts := h.options()
	opts.Insecure = append(opts.Insecure, mirror.host())
	opts.Mirrors = []registry.Mirror{{Registry: "*", Endpoint: mirror.host()}}
	ctx, lines := logs(t)
	image, err := registry.Resolve(ctx, h.ref("a:v1"), opts)
	if err != nil {
		t.Fatal(err)
	}
	image.Close()
	if image.Digest != want || !strings.Contains(lines(), "Mirror failed") {
		t.Errorf("image is %s, the log has %s", image.Digest, lines())
	}
}

func TestMirrorsObeyTheListsAndErrorsAreTheRegistrys(t *testing.T) {
	t.Parallel()
	h, mirror := newHub(t), newHub(t)
	newFixture(noise(1, 10)).push(mirror, "a", "v1")
	opts := h.options()
	opts.Insecure, opts.Allow = append(opts.Insecure, mirror.host()), []string{h.host()}
	opts.Mirrors = []registry.Mirror{{Registry: "*", Endpoint: mirror.host()}}
	ctx, lines := logs(t)
	_, err := registry.Resolve(ctx, h.ref("a:v1"), opts)
	wantError(t, err, errdefs.InvalidArgument, h.host()+" has no such image: NAME_UNKNOWN")
	if mirror.count("") > 0 || !strings.Contains(lines(), "Mirror is not asked") {
		t.Errorf("the mirror was asked %d times, the log has %s", mirror.count(""), lines())
	}
}

func TestWrongOptionsAreNamed(t *testing.T) {
	t.Parallel()
	for want, opts := range map[string]registry.Options{
		"allowed registries[0]":            {Allow: []string{"a b"}},
		"denied registries[0]":             {Deny: []string{"a b"}},
		"insecure registries[0]":           {Insecure: []string{"a b"}},
		"CA bundle: holds no PEM":          {CABundle: []byte("x")},
		"pull secret: is not the JSON":     {Auth: []byte("x")},
		"MaxBytes is -1":                   {MaxBytes: -1},
		"Attempts is 99":                   {Attempts: 99},
		"Stall is -1ns":                    {Stall: -1},
		`endpoint "a b"`:                   {Mirrors: []registry.Mirror{{Registry: "*", Endpoint: "a b"}}},
		`mirror: registry "a b"`:           {Mirrors: []registry.Mirror{{Registry: "a b", Endpoint: "a.b"}}},
		"in the insecure registries":       {Mirrors: []registry.Mirror{{Registry: "*", Endpoint: "http://a.b"}}},
		"credentials belong in the pull":   {Mirrors: []registry.Mirror{{Registry: "*", Endpoint: "https://u:" + password + "@a.b"}}},
		"the scheme must be http or https": {Mirrors: []registry.Mirror{{Registry: "*", Endpoint: "ftp://a.b"}}},
	} {
		err := opts.Validate()
		wantError(t, err, errdefs.InvalidArgument, want)
		wantNoSecret(t, err)
		_, err = registry.Resolve(t.Context(), parse(t, "a.invalid/b"), opts)
		wantError(t, err, errdefs.InvalidArgument, want)
	}
	if err := (registry.Options{}).Validate(); err != nil {
		t.Error(err)
	}
	_, err := registry.Resolve(t.Context(), registry.Reference{}, registry.Options{})
	wantError(t, err, errdefs.InvalidArgument, "image")
	_, err = registry.Resolve(t.Context(), registry.Reference{Registry: "index.docker.io", Repository: "a", Tag: "b"}, registry.Options{})
	wantError(t, err, errdefs.InvalidArgument, "want what ParseReference returns, which is docker.io/library/a:b")
}

func TestWhatTheListsForbidCanBeToldWithoutAskingTheRegistry(t *testing.T) {
	t.Parallel()
	for what, tc := range map[string]struct {
		opts registry.Options
		kind errdefs.Kind
		part string
	}{
		"no lists":                     {registry.Options{}, "", ""},
		"allowed":                      {registry.Options{Allow: []string{"*.example.com"}}, "", ""},
		"allowed by path":              {registry.Options{Allow: []string{"registry.example.com/team"}}, "", ""},
		"another path":                 {registry.Options{Allow: []string{"registry.example.com/other"}}, errdefs.PermissionDenied, "not in the allowed registries"},
		"not allowed":                  {registry.Options{Allow: []string{"docker.io"}}, errdefs.PermissionDenied, "not in the allowed registries"},
		"denied":                       {registry.Options{Deny: []string{"registry.example.com"}}, errdefs.PermissionDenied, "denied registries"},
		"denied and allowed":           {registry.Options{Allow: []string{"*.example.com"}, Deny: []string{"registry.*"}}, errdefs.PermissionDenied, "denied registries"},
		"a list that cannot be read":   {registry.Options{Allow: []string{"a b"}}, errdefs.InvalidArgument, "allowed registries[0]"},
		"the other list":               {registry.Options{Deny: []string{"a b"}}, errdefs.InvalidArgument, "denied registries[0]"},
		"what is wrong with the rest ": {registry.Options{Auth: []byte("{"), CABundle: []byte("x"), Attempts: -1}, "", ""},
	} {
		err := tc.opts.Permits(parse(t, "registry.example.com/team/k3s:v1"))
		if tc.kind == "" {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		wantError(t, err, tc.kind, tc.part)
	}
}
