// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package ext4_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/ext4"
)

// memory is a file in memory.
type memory struct{ b []byte }

func (m *memory) Truncate(size int64) error {
	m.b = append(m.b[:min(int64(len(m.b)), size)], make([]byte, max(size-int64(len(m.b)), 0))...)
	return nil
}

func (m *memory) WriteAt(b []byte, at int64) (int, error) {
	if missing := at + int64(len(b)) - int64(len(m.b)); missing > 0 {
		m.b = append(m.b, make([]byte, missing)...)
	}
	return copy(m.b[at:], b), nil
}

// Whatever an archive holds, it makes a filesystem that reads back, or an error of a kind.
func FuzzWrite(f *testing.F) {
	f.Add(archive(f, dir("d").xattr("user.x", "y"), symlink("d/s", "d"), device("c", tar.TypeChar, 1, 3)).Bytes())
	f.Add(archive(f, regular("f", "x"), hardlink("g", "f"), regular("f", "y")).Bytes())
	f.Add([]byte("no archive"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var disk memory
		opts := options(16 * mib)
		opts.MaxEntries = 100
		if _, err := ext4.Write(context.Background(), bytes.NewReader(b), &disk, opts); err != nil {
			if kind := errdefs.KindOf(err); kind != errdefs.InvalidArgument && kind != errdefs.ResourceExhausted {
				t.Errorf("the kind is %s of %v", kind, err)
			}
			return
		}
		fs, err := ext4.Open(bytes.NewReader(disk.b))
		if err == nil {
			err = fs.Walk(context.Background(), func(e *ext4.Entry) error {
				if !e.IsRegular() {
					return nil
				}
				n, err := io.Copy(io.Discard, fs.Content(e))
				if n != e.Size {
					t.Errorf("%q has %d bytes of %d", e.Path, n, e.Size)
				}
				return err
			})
		}
		if err != nil {
			t.Errorf("what was written cannot be read: %v", err)
		}
	})
}

// Whatever is on a disk, reading it ends, with an error of a kind if need be. The
// input is what is changed on a good disk: places and bytes.
func FuzzOpen(f *testing.F) {
	var disk memory
	if _, err := ext4.Write(context.Background(), archive(f, trickyFiles()...), &disk, options(16*mib)); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{0, 4, 0x38, 1})
	f.Add([]byte{0, 16, 8, 0xff, 0, 4, 0x20, 0})
	f.Fuzz(func(t *testing.T, changes []byte) {
		b := bytes.Clone(disk.b)
		for ; len(changes) >= 4; changes = changes[4:] {
			at := int(changes[0])<<16 | int(changes[1])<<8 | int(changes[2])
			b[at%len(b)] = changes[3]
		}
		fs, err := ext4.Open(bytes.NewReader(b))
		if err == nil {
			err = fs.Walk(context.Background(), func(e *ext4.Entry) error {
				_, err := io.Copy(io.Discard, io.LimitReader(fs.Content(e), mib))
				return err
			})
		}
		if kind := errdefs.KindOf(err); err != nil && kind != errdefs.InvalidArgument {
			t.Errorf("the kind is %s of %v", kind, err)
		}
	})
}

// A container image of 200 MB in 4000 files, on a disk of 8 GiB.
func BenchmarkWrite(b *testing.B) {
	name := filepath.Join(b.TempDir(), "tar")
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const files, size = 4000, 50_000
	w := tar.NewWriter(f)
	random := rand.NewChaCha8([32]byte{1})
	for i := range files {
		if err := put(w, fmt.Sprintf("usr/lib/%d/%d", i%100, i), size, random); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(files * size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			b.Fatal(err)
		}
		out, err := os.Create(filepath.Join(b.TempDir(), "disk"))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := ext4.Write(context.Background(), f, out, options(8<<30)); err != nil {
			b.Fatal(err)
		}
		out.Close()
		os.Remove(out.Name())
	}
}
