// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package images_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
)

func opener(l v1.Layer) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) { return l.Uncompressed() }
}

func describe(h *tar.Header) string {
	return fmt.Sprintf("%s %c %o %d:%d %d %s", h.Name, h.Typeflag, h.Mode, h.Uid, h.Gid, h.Size, h.Linkname)
}

func serve(t *testing.T, options images.Options) *images.Registry {
	t.Helper()
	r, err := images.Serve(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func pushNode(t *testing.T, r *images.Registry) string {
	t.Helper()
	node, err := images.Node()
	if err != nil {
		t.Fatal(err)
	}
	ref, err := r.Push("nodes/node:v1", node)
	if err != nil {
		t.Fatal(err)
	}
	if ref != r.Host()+"/nodes/node:v1" {
		t.Errorf("the reference is %s", ref)
	}
	return ref
}

func pull(t *testing.T, ref string, o registry.Options) error {
	t.Helper()
	parsed, err := registry.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := registry.Resolve(t.Context(), parsed, o)
	if err != nil {
		return err
	}
	defer img.Close()
	_, err = img.Download(t.Context(), t.TempDir(), registry.DownloadOptions{})
	return err
}

func TestWhatIsPushedCanBePulled(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]images.Options{
		"http in memory":         {},
		"https on disk":          {TLS: true, Dir: t.TempDir()},
		"basic over https":       {TLS: true, Username: "u", Password: "p"},
		"token over http, disk":  {Username: "u", Password: "p", Token: true, Dir: t.TempDir()},
		"token over https, port": {Listen: "localhost:0", TLS: true, Username: "u", Password: "p", Token: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := serve(t, o)
			ref := pushNode(t, r)
			if got := len(r.Log()); got != 0 {
				t.Errorf("pushing counts as %d requests", got)
			}
			good := registry.Options{Auth: r.DockerConfig(), CABundle: r.CA(), Attempts: 1}
			if !o.TLS {
				good.Insecure = []string{r.Host()}
			}
			if err := pull(t, ref, good); err != nil {
				t.Fatal(err)
			}
			if r.Requests(http.MethodGet, "/manifests/") == 0 || r.BlobBytes("") == 0 {
				t.Errorf("counted %v, %d bytes", r.Log(), r.BlobBytes(""))
			}
			r.ResetCounts()
			if o.Username != "" {
				bad := good
				bad.Auth = nil
				if err := pull(t, ref, bad); !errdefs.Is(err, errdefs.Unauthenticated) {
					t.Errorf("without credentials: %v", err)
				}
				r.RevokeTokens()
				if err := pull(t, ref, good); err != nil {
					t.Errorf("with a new token: %v", err)
				}
			}
			if o.TLS {
				bad := good
				bad.CABundle = nil
				if err := pull(t, ref, bad); !errdefs.Is(err, errdefs.FailedPrecondition) {
					t.Errorf("without trust: %v", err)
				}
			}
		})
	}
}

func TestAnIndexLeadsToItsImages(t *testing.T) {
	t.Parallel()
	r := serve(t, images.Options{})
	node, err := images.Node()
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: node, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
	ref, err := r.PushIndex("node", index)
	if err != nil {
		t.Fatal(err)
	}
	if err := pull(t, ref, registry.Options{Insecure: []string{r.Host()}, Attempts: 1}); err != nil {
		t.Error(err)
	}
	if r.Requests(http.MethodGet, "/v2/node/manifests/latest") == 0 {
		t.Errorf("asked for %v", r.Log())
	}
}

// one is a registry with one blob.
func one(t *testing.T) (r *images.Registry, url, digest string, content []byte) {
	t.Helper()
	r = serve(t, images.Options{})
	content = bytes.Repeat([]byte("0123456789"), 10_000)
	layer, err := images.TarLayer(images.LayerOptions{Compression: images.None}, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	img, err := images.Image(v1.Config{}, layer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Push("one", img); err != nil {
		t.Fatal(err)
	}
	digest = fmt.Sprintf("sha256:%x", sha256.Sum256(content))
	return r, "http://" + r.Host() + "/v2/one/blobs/" + digest, digest, content
}

func get(t *testing.T, url, byteRange string) (int, []byte, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if byteRange != "" {
		request.Header.Set("Range", byteRange)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return answer.StatusCode, body, err
}

func TestFaultsMeetWhatTheyMatch(t *testing.T) {
	t.Parallel()
	r, url, digest, content := one(t)
	r.Inject(images.Fault{Match: images.Blob(digest), Times: 1, Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"1"}}})
	r.Inject(images.Fault{Match: images.Blob(digest), Times: 1, Effect: images.Corrupt, At: 50_001})
	remove := r.Inject(images.Fault{Match: images.Blob(""), Effect: images.Truncate, At: 60_000})

	if status, _, err := get(t, url, ""); status != http.StatusTooManyRequests || err != nil || r.BlobBytes("") != 0 {
		t.Errorf("fail: %d, %v, %d bytes counted", status, err, r.BlobBytes(""))
	}
	corrupt := bytes.Clone(content)
	corrupt[50_001] ^= 0xff
	if _, body, err := get(t, url, ""); err != nil || !bytes.Equal(body, corrupt) {
		t.Errorf("corrupt: %d bytes, %v", len(body), err)
	}
	for range 2 {
		if _, body, err := get(t, url, ""); err == nil || !bytes.Equal(body, content[:60_000]) {
			t.Errorf("truncate: %d bytes, %v", len(body), err)
		}
	}
	if status, _, err := get(t, "http://"+r.Host()+"/v2/", ""); status != http.StatusOK || err != nil {
		t.Errorf("another request: %d, %v", status, err)
	}
	remove()
	remove()
	if status, body, err := get(t, url, "bytes=99990-"); err != nil || status != http.StatusPartialContent || string(body) != "0123456789" {
		t.Errorf("the rest: %d %q, %v", status, body, err)
	}
	if got := r.BlobBytes(digest); got != 100_000+2*60_000+10 {
		t.Errorf("%d bytes of the blob are counted", got)
	}
}

func TestAFaultCanComeBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	r, url, _, _ := one(t)
	r.Inject(images.Fault{Effect: images.Truncate})
	if status, _, err := get(t, url, ""); err == nil {
		t.Errorf("answered %d", status)
	}
}

func TestWhatIsStalledGoesOnWhenTheFaultIsRemoved(t *testing.T) {
	t.Parallel()
	r, url, _, content := one(t)
	met := make(chan struct{})
	remove := r.Inject(images.Fault{Effect: images.Stall, At: 70_000, Times: 1, Match: func(*http.Request) bool {
		close(met)
		return true
	}})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	<-met
	begin := make([]byte, 70_000)
	if _, err := io.ReadFull(answer.Body, begin); err != nil {
		t.Fatal(err)
	}
	if got := r.BlobBytes(""); got != 70_000 {
		t.Errorf("%d bytes were sent before it was removed", got)
	}
	remove()
	if rest, err := io.ReadAll(answer.Body); err != nil || !bytes.Equal(slices.Concat(begin, rest), content) {
		t.Errorf("then came %d bytes, %v", len(rest), err)
	}
}

func TestAStallBeforeTheAnswerEndsToo(t *testing.T) {
	t.Parallel()
	r, url, _, content := one(t)
	met := make(chan struct{})
	remove := r.Inject(images.Fault{Effect: images.Stall, Times: 1, Match: func(*http.Request) bool {
		close(met)
		return true
	}})
	go func() {
		<-met
		remove()
	}()
	if _, body, err := get(t, url, ""); err != nil || !bytes.Equal(body, content) {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}

func TestCloseEndsWhatIsStalled(t *testing.T) {
	t.Parallel()
	r, url, _, _ := one(t)
	met := make(chan struct{})
	r.Inject(images.Fault{Effect: images.Stall, At: 10, Times: 1, Match: func(*http.Request) bool {
		close(met)
		return true
	}})
	done := make(chan error)
	go func() {
		_, _, err := get(t, url, "")
		done <- err
	}()
	<-met
	r.Close()
	r.Close()
	if err := <-done; err == nil {
		t.Error("the answer was whole")
	}
	if conn, err := net.Dial("tcp", r.Host()); err == nil {
		t.Errorf("something still listens on %s", conn.RemoteAddr())
	}
}

func TestBlobsCanBeSlow(t *testing.T) {
	t.Parallel()
	quick := serve(t, images.Options{Delay: time.Millisecond})
	if err := pull(t, pushNode(t, quick), registry.Options{Insecure: []string{quick.Host()}, Attempts: 1}); err != nil {
		t.Error(err)
	}
	slow := serve(t, images.Options{Delay: time.Hour})
	ref := pushNode(t, slow)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	parsed, err := registry.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Resolve(ctx, parsed, registry.Options{Insecure: []string{slow.Host()}, Attempts: 1}); err == nil {
		t.Error("the configuration came before its time")
	}
}

func TestItServesOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "example.com:0", "127.0.0.1"} {
		if r, err := images.Serve(images.Options{Listen: listen}); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%s: %v", listen, err)
			if r != nil {
				r.Close()
			}
		}
	}
}

func TestBlobsStayInTheDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pushNode(t, serve(t, images.Options{Dir: dir}))
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 3 {
		t.Errorf("it has %v, %v", files, err)
	}
}
