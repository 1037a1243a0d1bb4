// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootfs_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/rootfs"
)

const (
	benchFiles = 100_000
	benchBytes = 200 << 20
)

// writeBench writes a layer of many files, half of whose content compresses.
func writeBench(w io.Writer, files, size int) error {
	tw := tar.NewWriter(w)
	r := rand.NewChaCha8([32]byte{1})
	body := make([]byte, size)
	for i := range files {
		name := fmt.Sprintf("usr/lib/package-%03d/module-%02d/file-%06d.js", i%250, i/250%20, i)
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(size), ModTime: unix(1700000000, 0)}
		if i%20 == 0 {
			h.ModTime = unix(1700000000, 5)
			h.Format = tar.FormatPAX
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		_, _ = r.Read(body[:size/2])
		if _, err := tw.Write(body); err != nil {
			return err
		}
	}
	return tw.Close()
}

// benchLayers returns an image in files: 100,000 paths and 200 MB in the first
// layer, and a second one that replaces, hides and links some.
func benchLayers(b *testing.B) ([]rootfs.Layer, int64) {
	b.Helper()
	name := filepath.Join(b.TempDir(), "layer")
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	if err := writeBench(f, benchFiles, benchBytes/benchFiles); err != nil {
		b.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	upper := pack(b,
		file("usr/lib/package-000/.wh..wh..opq", ""), file("usr/lib/.wh.package-001", ""),
		file("usr/lib/package-002/module-00/file-000002.js", "new"), link("etc/link", "usr/lib/package-003/module-00/file-000003.js"))
	return []rootfs.Layer{
		{Name: "lower", Open: func(context.Context) (io.ReadCloser, error) { return os.Open(name) }},
		{Name: "upper", Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(upper)), nil }},
	}, info.Size()
}

// perEntry reports allocations and time for each path.
func perEntry(b *testing.B, before runtime.MemStats, paths int) {
	b.Helper()
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	n := float64(b.N) * float64(paths)
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/n, "allocs/entry")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/entry")
}

func BenchmarkPlan(b *testing.B) {
	layers, size := benchLayers(b)
	b.SetBytes(size)
	var before, live runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var plan *rootfs.Plan
	for b.Loop() {
		var err error
		if plan, err = rootfs.NewPlan(b.Context(), layers, rootfs.Options{}); err != nil {
			b.Fatal(err)
		}
	}
	perEntry(b, before, benchFiles)
	runtime.GC()
	runtime.ReadMemStats(&live)
	held := float64(live.HeapAlloc - before.HeapAlloc)
	stats := plan.Stats()
	b.ReportMetric(held/float64(stats.Paths), "held-B/path")
	b.ReportMetric(float64(stats.Memory)/float64(stats.Paths), "account-B/path")
}

func BenchmarkWrite(b *testing.B) {
	layers, size := benchLayers(b)
	b.SetBytes(size)
	plan, err := rootfs.NewPlan(b.Context(), layers, rootfs.Options{})
	if err != nil {
		b.Fatal(err)
	}
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		if err := plan.Write(b.Context(), io.Discard); err != nil {
			b.Fatal(err)
		}
	}
	perEntry(b, before, plan.Stats().Paths)
}

func BenchmarkUnpack(b *testing.B) {
	for name, compress := range map[string]func(io.Writer) io.WriteCloser{
		"gzip": func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"zstd": func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w)
			if err != nil {
				b.Fatal(err)
			}
			return z
		},
	} {
		b.Run(name, func(b *testing.B) {
			var packed bytes.Buffer
			z, sum := compress(&packed), sha256.New()
			if err := writeBench(io.MultiWriter(z, sum), benchFiles, benchBytes/benchFiles); err != nil {
				b.Fatal(err)
			}
			if err := z.Close(); err != nil {
				b.Fatal(err)
			}
			temp := b.TempDir()
			for b.Loop() {
				u, err := rootfs.Unpack(b.Context(), temp, []rootfs.Blob{blob(fmt.Sprintf("sha256:%x", sum.Sum(nil)), packed.Bytes())}, rootfs.Options{})
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(u.Bytes())
				if err := u.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestAPlanStaysWithinItsMemory: the account that a plan keeps of its memory is
// what it takes, for the trees that cost most, and so the limit holds.
func TestAPlanStaysWithinItsMemory(t *testing.T) {
	// Not parallel: it measures the heap.
	for name, one := range map[string]func(i int) entry{
		"files with short names":    func(i int) entry { return file(fmt.Sprintf("d%d/%x", i/1000, i%1000), "") },
		"files with long names":     func(i int) entry { return file(fmt.Sprintf("%0240d", i), "") },
		"directories":               func(i int) entry { return dir(fmt.Sprintf("%x/", i), 0o755) },
		"directories with xattrs":   func(i int) entry { return xattrDir(i) },
		"symbolic links":            func(i int) entry { return symlink(fmt.Sprintf("%x", i), fmt.Sprintf("%0100d", i)) },
		"files of one long chain":   func(i int) entry { return file(fmt.Sprintf("%0*d", 1+i%250, i), "") },
		"links to the same content": func(i int) entry { return linkTo(i) },
	} {
		t.Run(name, func(t *testing.T) {
			held, plan := heldBy(t, func() *rootfs.Plan {
				plan, err := rootfs.NewPlan(t.Context(), []rootfs.Layer{many(10_000, one)}, rootfs.Options{})
				if err != nil {
					t.Fatal(err)
				}
				return plan
			})
			stats := plan.Stats()
			t.Logf("%d paths, held %.1f MiB (%.0f B/path), account %.1f MiB (%.0f B/path)", stats.Paths,
				float64(held)/(1<<20), float64(held)/float64(stats.Paths), float64(stats.Memory)/(1<<20), float64(stats.Memory)/float64(stats.Paths))
			// The default limit is 40 MiB, so that no plan takes more than 48.
			if limit := stats.Memory + stats.Memory/8 + 512<<10; held > limit {
				t.Errorf("held %d bytes, the account says %d", held, stats.Memory)
			}
			runtime.KeepAlive(plan)
		})
	}
}

func xattrDir(i int) entry {
	e := dir(fmt.Sprintf("%x/", i), 0o755)
	e.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "1"}
	return e
}

func linkTo(i int) entry {
	if i == 0 {
		return file("target", "")
	}
	return link(fmt.Sprintf("%x", i), "target")
}

// heldBy measures what the heap has more while a plan lives.
func heldBy(t testing.TB, plan func() *rootfs.Plan) (int64, *rootfs.Plan) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	p := plan()
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc), p
}

// many is a layer of n entries that are made while it is read.
func many(n int, one func(i int) entry) rootfs.Layer {
	return rootfs.Layer{Name: "many", Open: func(context.Context) (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() {
			tw := tar.NewWriter(w)
			for i := range n {
				e := one(i)
				if err := tw.WriteHeader(&e.Header); err != nil {
					_ = w.CloseWithError(err)
					return
				}
			}
			_ = w.CloseWithError(tw.Close())
		}()
		return r, nil
	}}
}
