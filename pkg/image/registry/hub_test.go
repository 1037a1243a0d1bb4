// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	upstream "github.com/google/go-containerregistry/pkg/registry"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
)

const (
	ociIndex     = "application/vnd.oci.image.index.v1+json"
	ociManifest  = "application/vnd.oci.image.manifest.v1+json"
	ociConfig    = "application/vnd.oci.image.config.v1+json"
	ociLayer     = "application/vnd.oci.image.layer.v1.tar+gzip"
	dockerList   = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerImage  = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig = "application/vnd.docker.container.image.v1+json"
	dockerLayer  = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// hub is a registry on loopback with faults.
type hub struct {
	t       testing.TB
	content http.Handler
	server  *httptest.Server

	mu    sync.Mutex
	fault func(w http.ResponseWriter, r *http.Request) bool
	asked []string
}

func newHub(t testing.TB) *hub { return startHub(t, (*httptest.Server).Start) }

// newTLSHub speaks HTTP/2.
func newTLSHub(t testing.TB) *hub {
	return startHub(t, func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.StartTLS()
	})
}

func startHub(t testing.TB, start func(*httptest.Server)) *hub {
	t.Helper()
	h := &hub{t: t, content: upstream.New(upstream.Logger(log.New(io.Discard, "", 0)))}
	h.server = httptest.NewUnstartedServer(h)
	h.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	start(h.server)
	t.Cleanup(h.server.Close)
	return h
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.asked = append(h.asked, r.Method+" "+r.URL.Path)
	fault := h.fault
	h.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	h.content.ServeHTTP(w, r)
}

// break makes the hub answer with f, which reports whether it did.
func (h *hub) breakWith(f func(w http.ResponseWriter, r *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = f
}

// count is how many requests had a part in method and path.
func (h *hub) count(part string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, asked := range h.asked {
		if strings.Contains(asked, part) {
			n++
		}
	}
	return n
}

func (h *hub) host() string { return strings.SplitN(h.server.URL, "://", 2)[1] }

func (h *hub) ref(s string) registry.Reference { return parse(h.t, h.host()+"/"+s) }

func (h *hub) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.server.Certificate().Raw})
}

func parse(t testing.TB, s string) registry.Reference {
	t.Helper()
	ref, err := registry.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// do stores something, without faults.
func (h *hub) do(method, path, contentType string, body []byte) {
	h.t.Helper()
	req := httptest.NewRequest(method, "http://registry"+path, bytes.NewReader(body))
	req.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	h.content.ServeHTTP(w, req)
	if w.Code >= 300 {
		h.t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
}

func digest(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

func (h *hub) blob(repo string, content []byte) map[string]any {
	h.t.Helper()
	h.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+digest(content), "application/octet-stream", content)
	return map[string]any{"digest": digest(content), "size": len(content)}
}

// manifest stores a document under a tag and returns its descriptor.
func (h *hub) manifest(repo, tag, mediaType string, content any) map[string]any {
	h.t.Helper()
	raw, ok := content.([]byte)
	if !ok {
		raw = encode(h.t, content)
	}
	h.do(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, mediaType, raw)
	h.do(http.MethodPut, "/v2/"+repo+"/manifests/"+digest(raw), mediaType, raw)
	return map[string]any{"mediaType": mediaType, "digest": digest(raw), "size": len(raw)}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// fixture is an image that tests change before they store it.
type fixture struct {
	manifest, config map[string]any
	layers           [][]byte
}

func newFixture(layers ...[]byte) *fixture {
	diffIDs := []string{}
	for i := range layers {
		diffIDs = append(diffIDs, digest(fmt.Append(nil, "content of ", i)))
	}
	return &fixture{
		layers: layers,
		config: map[string]any{
			"os": "linux", "architecture": "amd64",
			"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
			"config": map[string]any{
				"Entrypoint": []string{"/bin/k3s"}, "Cmd": []string{"agent"}, "Env": []string{"PATH=/bin"}, "WorkingDir": "/work",
				"User": "1:2", "StopSignal": "SIGTERM", "Volumes": map[string]any{"/var/lib": struct{}{}, "/etc/rancher": struct{}{}},
			},
		},
		manifest: map[string]any{"schemaVersion": 2, "mediaType": ociManifest},
	}
}

// push stores the image and returns its descriptor.
func (f *fixture) push(h *hub, repo, tag string) map[string]any {
	h.t.Helper()
	config := h.blob(repo, encode(h.t, f.config))
	config["mediaType"] = ociConfig
	layers := []any{}
	for _, l := range f.layers {
		d := h.blob(repo, l)
		d["mediaType"] = ociLayer
		layers = append(layers, d)
	}
	for key, value := range map[string]any{"config": config, "layers": layers} {
		if _, set := f.manifest[key]; !set {
			f.manifest[key] = value
		}
	}
	mediaType, _ := f.manifest["mediaType"].(string)
	return h.manifest(repo, tag, mediaType, f.manifest)
}

// noise is content that is different for each seed.
func noise(seed byte, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// hasty is a clock whose seconds take a millisecond.
type hasty struct{ clock.RealClock }

func (h hasty) NewTimer(d time.Duration) clock.Timer {
	return hastyTimer{h.RealClock.NewTimer(d / 1000)}
}

type hastyTimer struct{ clock.Timer }

func (t hastyTimer) Reset(d time.Duration) bool { return t.Timer.Reset(d / 1000) }

// options asks a hub with http and does not wait.
func (h *hub) options() registry.Options {
	return registry.Options{Insecure: []string{h.host()}, Clock: hasty{}, Stall: time.Hour}
}

func resolve(t testing.TB, ref registry.Reference, opts registry.Options) *registry.Image {
	t.Helper()
	image, err := registry.Resolve(t.Context(), ref, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(image.Close)
	return image
}

// wantFiles fails unless the files of an image are whole and nothing else is there.
func wantFiles(t testing.TB, dir string, files []string, want ...[]byte) {
	t.Helper()
	if len(files) != len(want) {
		t.Fatalf("%d files, want %d", len(files), len(want))
	}
	different := map[string]bool{}
	for i, name := range files {
		different[name] = true
		got, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(got, want[i]) || filepath.Dir(name) != dir {
			t.Errorf("layer %d in %s has %d bytes, %v", i, name, len(got), err)
		}
	}
	if left := names(t, dir); len(left) != len(different) {
		t.Errorf("the directory has %v", left)
	}
}

func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}
