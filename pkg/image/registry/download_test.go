// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
)

const mib = 1 << 20

func isBlob(r *http.Request, content []byte) bool {
	return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/blobs/"+digest(content))
}

// cutAfter answers like a registry whose connection breaks after n bytes. With
// ranges, it goes on where it is asked to.
func cutAfter(content []byte, n int, ranges bool) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !isBlob(r, content) {
			return false
		}
		first := 0
		if ranges && r.Header.Get("Range") != "" {
			_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &first)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, len(content)-1, len(content)))
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(content)-first))
		if first > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write(content[first:min(first+n, len(content))])
		if first+n < len(content) {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		return true
	}
}

func TestLayersAreDownloadedOnceEachAndVerified(t *testing.T) {
	t.Parallel()
	h, f := newHub(t), newFixture(noise(1, 3*mib), noise(2, 10), noise(1, 3*mib), noise(3, mib))
	f.push(h, "a", "v1")
	image, dir := resolve(t, h.ref("a:v1"), h.options()), t.TempDir()
	var mu sync.Mutex
	var done []int64
	files, err := image.Download(t.Context(), dir, registry.DownloadOptions{Progress: func(n, total int64) {
		if !mu.TryLock() {
			t.Error("calls of Progress overlap")
			return
		}
		defer mu.Unlock()
		if total != 4*mib+10 {
			t.Errorf("total is %d", total)
		}
		done = append(done, n)
	}})
	if err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, files, f.layers...)
	if n := h.count("/blobs/" + digest(f.layers[0])); n != 1 {
		t.Errorf("a blob was downloaded %d times", n)
	}
	if len(done) == 0 || len(done) > 8 || !slices.IsSorted(done) || done[len(done)-1] != 4*mib+10 {
		t.Errorf("progress is %v", done)
	}
}

func TestNoMoreThanTheLimitIsTransferredAtOnce(t *testing.T) {
	t.Parallel()
	h, f := newHub(t), newFixture(noise(1, 10), noise(2, 10), noise(3, 10), noise(4, 10), noise(5, 10))
	f.push(h, "a", "v1")
	image := resolve(t, h.ref("a:v1"), h.options())
	var now, most atomic.Int64
	var begun atomic.Int64
	two := make(chan struct{})
	h.breakWith(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer now.Add(-1)
			if begun.Add(1) == 2 { // the first waits for the second
				close(two)
			}
			select {
			case <-two:
			case <-r.Context().Done():
			}
		}
		return false
	})
	dir := t.TempDir()
	files, err := image.Download(t.Context(), dir, registry.DownloadOptions{Parallel: 2})
	if err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, files, f.layers...)
	if most.Load() != 2 {
		t.Errorf("%d at once, want 2", most.Load())
	}
	_, err = image.Download(t.Context(), dir, registry.DownloadOptions{Parallel: 99})
	wantError(t, err, errdefs.InvalidArgument, "Parallel is 99")
}

func TestABrokenTransferGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	content := noise(1, 8*mib)
	for name, h := range map[string]*hub{"HTTP": newHub(t), "HTTP/2": newTLSHub(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(content)
			f.push(h, "a", "v1")
			image, dir := resolve(t, h.ref("a:v1"), h.options()), t.TempDir()
			h.breakWith(cutAfter(content, mib, true))
			files, err := image.Download(t.Context(), dir, registry.DownloadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			wantFiles(t, dir, files, content)
			// The end of what was sent before a cut may be lost.
			if n := h.count("/blobs/" + digest(content)); n < 8 || n > 16 {
				t.Errorf("%d requests for 8 pieces", n)
			}
		})
	}
}

func TestABrokenTransferBeginsAnewWhereTheRegistryHasNoRanges(t *testing.T) {
	t.Parallel()
	content := noise(1, 2*mib)
	for name, refuse := range map[string]func(w http.ResponseWriter) bool{
		"ignored": func(http.ResponseWriter) bool { return false },
		"refused": func(w http.ResponseWriter) bool {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return true
		},
		"another range": func(w http.ResponseWriter) bool {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 5-9/%d", len(content)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(content[5:10])
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, f := newHub(t), newFixture(content)
			f.push(h, "a", "v1")
			image, dir := resolve(t, h.ref("a:v1"), h.options()), t.TempDir()
			var calls atomic.Int64
			h.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
				if !isBlob(r, content) {
					return false
				}
				if calls.Add(1) == 1 {
					return cutAfter(content, mib, false)(w, r)
				}
				if r.Header.Get("Range") != "" && refuse(w) {
					return true
				}
				return cutAfter(content, len(content), false)(w, r)
			})
			var last int64
			files, err := image.Download(t.Context(), dir, registry.DownloadOptions{Progress: func(done, _ int64) { last = done }})
			if err != nil {
				t.Fatal(err)
			}
			wantFiles(t, dir, files, content)
			if last != int64(len(content)) {
				t.Errorf("progress ended at %d", last)
			}
		})
	}
}

func TestWrongContentIsRefusedAndNothingIsLeft(t *testing.T) {
	t.Parallel()
	content := noise(1, 2*mib)
	send := func(body []byte, chunked bool) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !isBlob(r, content) {
				return false
			}
			if chunked {
				_ = http.NewResponseController(w).Flush()
			} else {
				w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			}
			_, _ = w.Write(body)
			return true
		}
	}
	status := func(code int, body string) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !isBlob(r, content) {
				return false
			}
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
			return true
		}
	}
	for name, tc := range map[string]struct {
		fault func(w http.ResponseWriter, r *http.Request) bool
		kind  errdefs.Kind
		want  string
		tries int
	}{
		"other bytes":         {send(noise(2, 2*mib), false), errdefs.FailedPrecondition, "gives a layer of digest " + digest(noise(2, 2*mib)), 2},
		"other bytes, chunks": {send(noise(2, 2*mib), true), errdefs.FailedPrecondition, "gives a layer of digest", 2},
		"too short":           {send(content[:mib], false), errdefs.FailedPrecondition, "has 1048576 bytes", 2},
		"too short, chunks":   {send(content[:mib], true), errdefs.Unavailable, "ends after", 4},
		"too long":            {send(append(slices.Clone(content), 1), false), errdefs.FailedPrecondition, "has 2097153 bytes", 2},
		"endless":             {send(noise(1, 20*mib), true), errdefs.FailedPrecondition, "gives more", 2},
		"cut at once":         {cutAfter(content, 0, true), errdefs.Unavailable, "connection", 4},
		"gone":                {status(404, `{"errors":[{"code":"BLOB_UNKNOWN","message":"who"}]}`), errdefs.FailedPrecondition, "not all of its blobs; push the image again: BLOB_UNKNOWN: who", 1},
		"failing":             {status(500, strings.Repeat("<html>", 50_000)), errdefs.Unavailable, "status 500", 4},
		"busy":                {status(429, ""), errdefs.Unavailable, "wants fewer requests", 4},
		"no content":          {status(204, ""), errdefs.FailedPrecondition, "no registry should", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, f := newHub(t), newFixture(content, noise(7, 10))
			f.push(h, "a", "v1")
			image, dir := resolve(t, h.ref("a:v1"), h.options()), t.TempDir()
			h.breakWith(tc.fault)
			files, err := image.Download(t.Context(), dir, registry.DownloadOptions{})
			wantError(t, err, tc.kind, tc.want)
			if left := names(t, dir); len(left) > 0 || files != nil {
				t.Errorf("the directory has %v", left)
			}
			if n := h.count("/blobs/" + digest(content)); n != tc.tries {
				t.Errorf("%d tries, want %d", n, tc.tries)
			}
		})
	}
}

func TestADownloadEndsWithItsContext(t *testing.T) {
	t.Parallel()
	content := noise(1, 2*mib)
	h, f := newHub(t), newFixture(content, noise(2, 10))
	f.push(h, "a", "v1")
	image, dir := resolve(t, h.ref("a:v1"), h.options()), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	h.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
		if !isBlob(r, content) {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content[:mib])
		_ = http.NewResponseController(w).Flush()
		cancel()
		<-r.Context().Done()
		return true
	})
	_, err := image.Download(ctx, dir, registry.DownloadOptions{})
	if !errdefs.Is(err, errdefs.Canceled) || !errors.Is(err, context.Canceled) {
		t.Errorf("error is %s: %v", errdefs.KindOf(err), err)
	}
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("the directory has %v", left)
	}
}

func TestATransferThatStallsIsTriedAgain(t *testing.T) {
	t.Parallel()
	content := noise(1, 2*mib)
	h, f := newHub(t), newFixture(content)
	f.push(h, "a", "v1")
	opts := h.options()
	opts.Clock, opts.Stall = nil, 300*time.Millisecond
	image, dir := resolve(t, h.ref("a:v1"), opts), t.TempDir()
	var calls atomic.Int64
	h.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
		if !isBlob(r, content) || calls.Add(1) > 1 {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content[:mib])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	})
	files, err := image.Download(t.Context(), dir, registry.DownloadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, files, content)
}

func TestADirectoryThatCannotBeWrittenIsNotTheRegistrysFault(t *testing.T) {
	t.Parallel()
	h, f := newHub(t), newFixture(noise(1, 10))
	f.push(h, "a", "v1")
	image := resolve(t, h.ref("a:v1"), h.options())
	_, err := image.Download(t.Context(), filepath.Join(t.TempDir(), "gone"), registry.DownloadOptions{})
	wantError(t, err, errdefs.FailedPrecondition, "temporary directory: no such file or directory")
}

// TestMemoryHasNothingToDoWithTheSizeOfAnImage measures the whole process: the
// registry makes up what it sends.
func TestMemoryHasNothingToDoWithTheSizeOfAnImage(t *testing.T) {
	// Not parallel: it measures the heap.
	const size = 96 * mib
	content := func(w io.Writer) {
		_, _ = io.CopyBuffer(struct{ io.Writer }{w}, io.LimitReader(rand.NewChaCha8([32]byte{1}), size), make([]byte, 64<<10))
	}
	sum := sha256.New()
	content(sum)
	layer := fmt.Sprintf("sha256:%x", sum.Sum(nil))
	h, f := newHub(t), newFixture([]byte("small"))
	f.manifest["layers"] = []any{map[string]any{"mediaType": ociLayer, "digest": layer, "size": size}}
	h.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, layer) {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(size))
		content(w)
		return true
	})
	f.push(h, "a", "v1")
	image := resolve(t, h.ref("a:v1"), h.options())
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var most uint64
	_, err := image.Download(t.Context(), t.TempDir(), registry.DownloadOptions{Progress: func(int64, int64) {
		runtime.ReadMemStats(&now)
		most = max(most, now.HeapAlloc)
	}})
	if err != nil {
		t.Fatal(err)
	}
	grown := int64(most) - int64(before.HeapAlloc)
	t.Logf("the heap grew by %d KiB at most, %d allocations", grown/1024, now.Mallocs-before.Mallocs)
	if grown > 4*mib {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

func BenchmarkDownload(b *testing.B) {
	const size = 200 * mib
	content := noise(1, size/4)
	h := newHub(b)
	layers := make([][]byte, 4)
	for i := range layers {
		layers[i] = slices.Clone(content)
		layers[i][0] = byte(i)
	}
	f := newFixture(layers...)
	f.push(h, "a", "v1")
	bodies := map[string][]byte{}
	for _, l := range layers {
		bodies["/v2/a/blobs/"+digest(l)] = l
	}
	h.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
		body, ok := bodies[r.URL.Path]
		if ok { // the library's registry copies what it sends
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
		}
		return ok
	})
	image, err := registry.Resolve(b.Context(), h.ref("a:v1"), h.options())
	if err != nil {
		b.Fatal(err)
	}
	defer image.Close()
	dir := b.TempDir()
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		files, err := image.Download(b.Context(), dir, registry.DownloadOptions{Progress: func(int64, int64) {}})
		if err != nil {
			b.Fatal(err)
		}
		for _, name := range files {
			_ = os.Remove(name)
		}
	}
}
