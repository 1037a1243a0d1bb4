// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootfs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/rootfs"
)

func gzipped(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(data)
	_ = w.Close()
	return b.Bytes()
}

func zstandard(t testing.TB, data []byte, opts ...zstd.EOption) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, opts...)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(data)
	_ = w.Close()
	return b.Bytes()
}

func diffID(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

func blob(id string, data []byte) rootfs.Blob {
	return rootfs.Blob{DiffID: id, Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
}

// noise is data that does not compress.
func noise(n int) []byte {
	r := rand.NewChaCha8([32]byte{4})
	data := make([]byte, n)
	_, _ = r.Read(data)
	return data
}

// empty says what is left in a directory.
func empty(t testing.TB, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		t.Errorf("%s is left", f.Name())
	}
}

func TestLayersAreUnpackedOnceAndVerified(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	plain, big := pack(t, file("a", "1")), pack(t, file("big", string(noise(3<<20))))
	skippable := append([]byte{0x52, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c'}, zstandard(t, plain)...)
	u, err := rootfs.Unpack(t.Context(), temp, []rootfs.Blob{
		blob(diffID(plain), plain),
		blob(diffID(big), gzipped(big)),
		blob(diffID(big), zstandard(t, big)),
		blob(diffID(plain), skippable),
		blob(diffID(big), append(gzipped(big[:1<<20]), gzipped(big[1<<20:])...)), // as parallel compressors write
		blob(fmt.Sprintf("sha512:%x", sha512.Sum512(plain)), plain),
		blob(diffID(nil), nil),
	}, rootfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(3*len(plain) + 3*len(big)); u.Bytes() != want {
		t.Errorf("%d bytes, want %d", u.Bytes(), want)
	}
	empty(t, temp) // nothing to be left behind, even by a process that is killed
	want := [][]byte{plain, big, big, plain, big, plain, nil}
	for i, layer := range u.Layers() {
		for range 2 {
			r, err := layer.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, want[i]) {
				t.Errorf("layer %d: %d bytes, want %d: %v", i, len(got), len(want[i]), err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := rootfs.Flatten(t.Context(), u.Layers(), io.Discard, rootfs.Options{}); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestBlobsThatAreNotWhatTheyShouldBeAreRefused(t *testing.T) {
	t.Parallel()
	data := pack(t, file("a", strings.Repeat("1", 1<<20)))
	id, z := diffID(data), gzipped(data)
	broken := errors.New("connection reset")
	change := func(data []byte, at int) []byte {
		data = bytes.Clone(data)
		data[at] ^= 0x55
		return data
	}
	for name, tc := range map[string]struct {
		blob rootfs.Blob
		kind errdefs.Kind
		says string
	}{
		"another digest":             {blob(diffID(nil), z), errdefs.InvalidArgument, "another digest"},
		"another digest of a plain":  {blob(diffID(nil), data), errdefs.InvalidArgument, "another digest"},
		"a gzip that is cut":         {blob(id, z[:len(z)/2]), errdefs.InvalidArgument, "unexpected EOF"},
		"a gzip that is damaged":     {blob(id, change(z, len(z)/2)), errdefs.InvalidArgument, id},
		"a gzip with a wrong sum":    {blob(id, change(z, len(z)-6)), errdefs.InvalidArgument, "invalid checksum"},
		"a gzip of two bytes":        {blob(id, z[:2]), errdefs.InvalidArgument, id},
		"a gzip with more behind it": {blob(id, append(bytes.Clone(z), "garbage garbage"...)), errdefs.InvalidArgument, id},
		"a zstd that is cut":         {blob(id, zstandard(t, data)[:50]), errdefs.InvalidArgument, id},
		"a zstd that is damaged":     {blob(id, change(zstandard(t, data), 20)), errdefs.InvalidArgument, id},
		"a zstd that needs memory": {
			blob(id, zstandard(t, noise(80<<20), zstd.WithWindowSize(64<<20), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))),
			errdefs.ResourceExhausted, "window of more than",
		},
		"gzip in gzip":               {blob(id, gzipped(z)), errdefs.InvalidArgument, "another digest"},
		"no digest":                  {blob("", z), errdefs.InvalidArgument, "want sha256:"},
		"a digest that is too short": {blob("sha256:abcd", z), errdefs.InvalidArgument, "want sha256:"},
		"a digest of another kind":   {blob("md5:"+id[7:], z), errdefs.InvalidArgument, "want sha256:"},
		"a blob that cannot be opened": {
			rootfs.Blob{DiffID: id, Open: func(context.Context) (io.ReadCloser, error) { return nil, broken }}, errdefs.Unavailable, "connection reset",
		},
		"a kind of the blob's own": {
			rootfs.Blob{DiffID: id, Open: func(context.Context) (io.ReadCloser, error) { return nil, errdefs.New(errdefs.Unauthenticated, "who?") }}, errdefs.Unauthenticated, "who?",
		},
		"a blob that breaks off": {
			rootfs.Blob{DiffID: id, Open: func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(bytes.NewReader(z[:len(z)/2]), read(func([]byte) (int, error) { return 0, broken }))), nil
			}}, errdefs.Unavailable, "connection reset",
		},
		"a bomb": {blob(id, gzipped(make([]byte, 16<<20))), errdefs.ResourceExhausted, "more than 16777216 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			temp := t.TempDir()
			good := pack(t, file("good", ""))
			_, err := rootfs.Unpack(t.Context(), temp, []rootfs.Blob{blob(diffID(good), good), tc.blob}, rootfs.Options{MaxBytes: 16 << 20})
			if !errdefs.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("kind %q: %v, want %s and %q", errdefs.KindOf(err), err, tc.kind, tc.says)
			}
			empty(t, temp)
		})
	}
}

func TestTheLimitOfBytesIsForAllLayers(t *testing.T) {
	t.Parallel()
	temp, data := t.TempDir(), make([]byte, 1<<20)
	blobs := []rootfs.Blob{blob(diffID(data), gzipped(data)), blob(diffID(data), gzipped(data)), blob(diffID(data), gzipped(data))}
	if _, err := rootfs.Unpack(t.Context(), temp, blobs, rootfs.Options{MaxBytes: 3<<20 - 1}); !errdefs.Is(err, errdefs.ResourceExhausted) {
		t.Errorf("kind %q: %v", errdefs.KindOf(err), err)
	}
	empty(t, temp)
	u, err := rootfs.Unpack(t.Context(), temp, blobs, rootfs.Options{MaxBytes: 3 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Close(); err != nil {
		t.Error(err)
	}
}

func TestADirectoryThatIsMissingIsSaid(t *testing.T) {
	t.Parallel()
	data := pack(t)
	_, err := rootfs.Unpack(t.Context(), t.TempDir()+"/missing", []rootfs.Blob{blob(diffID(data), data)}, rootfs.Options{})
	if !errdefs.Is(err, errdefs.Unavailable) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("kind %q: %v", errdefs.KindOf(err), err)
	}
}

// hanging is a blob whose reader hangs until it is closed.
type hanging struct {
	reading, closed chan struct{}
	closes          atomic.Int32
}

func (h *hanging) Read([]byte) (int, error) {
	close(h.reading)
	<-h.closed
	return 0, errors.New("closed")
}

func (h *hanging) Close() error {
	if h.closes.Add(1) == 1 {
		close(h.closed)
	}
	return nil
}

func TestABlobThatHangsEndsWithTheContext(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	h := &hanging{reading: make(chan struct{}), closed: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-h.reading
		cancel()
	}()
	_, err := rootfs.Unpack(ctx, temp, []rootfs.Blob{{DiffID: diffID(nil), Open: func(context.Context) (io.ReadCloser, error) { return h, nil }}}, rootfs.Options{})
	if !errdefs.Is(err, errdefs.Canceled) {
		t.Errorf("kind %q: %v", errdefs.KindOf(err), err)
	}
	if n := h.closes.Load(); n != 1 {
		t.Errorf("closed %d times", n)
	}
	empty(t, temp)
}

func TestZeroesTakeNoRoom(t *testing.T) {
	t.Parallel()
	data := append(noise(10_000), make([]byte, 16<<20)...)
	data = append(data, noise(10_000)...)
	data = append(data, make([]byte, 16<<20)...)
	dir := t.TempDir()
	u, err := rootfs.Unpack(t.Context(), dir, []rootfs.Blob{blob(diffID(data), gzipped(data))}, rootfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	r, err := u.Layers()[0].Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v: they are not what was packed", len(got), err)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, fd := range fds {
		name := "/proc/self/fd/" + fd.Name()
		if target, _ := os.Readlink(name); !strings.HasPrefix(target, dir) {
			continue
		}
		found++
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Blocks*512 > 1<<20 {
			t.Errorf("the layer takes %d bytes of room", stat.Blocks*512)
		}
	}
	if found != 1 {
		t.Errorf("%d files are open in the directory", found)
	}
}
