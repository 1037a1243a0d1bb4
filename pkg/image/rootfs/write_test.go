// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootfs_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/ext4"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/rootfs"
)

// tricky is an image with something of everything.
func tricky(t testing.TB) [][]byte {
	t.Helper()
	long := strings.Repeat("long-name-", 25)
	return [][]byte{
		pack(t,
			dir("./", 0o755), dir("./etc/", 0o755), file("./etc/old", "old"), dir("./usr/lib/", 0o755),
			symlink("lib", "usr/lib"), file("usr/lib/libc.so", "libc 1"), link("usr/lib/libc.so.6", "usr/lib/libc.so"),
			file("opaque/hidden", "x"), file("flip", "a file"), file("flop/child", "a directory"),
			entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "bin/su", Mode: 0o104755, Uid: 70001, Gid: 1 << 31}, body: "su"},
			entry{Header: tar.Header{
				Typeflag: tar.TypeReg, Name: "bin/ping", Mode: 0o755, ModTime: unix(1700000000, 123456789), Format: tar.FormatPAX,
				PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00", "VENDOR.note": "x"},
			}, body: "ping"},
			entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3}},
			entry{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "dev/sda", Mode: 0o660, Devmajor: 8, Devminor: 1 << 19}},
			entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "run/fifo", Mode: 0o600}},
		),
		pack(t,
			entry{Header: tar.Header{
				Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o1711, Uid: 1, Gid: 2, ModTime: unix(-5, 0),
				PAXRecords: map[string]string{"SCHILY.xattr.user.note": "of a directory"},
			}},
			file("etc/.wh.old", ""), file("opaque/.wh..wh..opq", ""), file("lib/libc.so", "libc 2"),
			dir("flip/", 0o700), file("flop", "now a file"), link("bin/aa", "bin/ping"),
			entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "gnu/" + long, Mode: 0o644, Format: tar.FormatGNU}, body: "gnu"},
			entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "gnu/link", Linkname: long + "/" + long, Format: tar.FormatGNU}},
			entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "pax/ümläut " + long[:200], Mode: 0o644, Format: tar.FormatPAX}, body: "pax"},
		),
	}
}

func TestAttributesSurvive(t *testing.T) {
	t.Parallel()
	tree := flatten(t, rootfs.Options{}, tricky(t)...)
	long := strings.Repeat("long-name-", 25)
	expect(t, map[string]string{
		"bin": "dir 755", "bin/su": "file su", "bin/ping": "file ping = bin/aa bin/ping", "bin/aa": "file ping = bin/aa bin/ping",
		"dev": "dir 755", "dev/null": "device 3 1:3", "dev/sda": "device 4 8:524288", "etc": "dir 1711",
		"flip": "dir 700", "flop": "file now a file", "gnu": "dir 755", "gnu/" + long: "file gnu", "gnu/link": "symlink " + long + "/" + long,
		"lib": "symlink usr/lib", "opaque": "dir 755", "pax": "dir 755", "pax/ümläut " + long[:200]: "file pax",
		"run": "dir 755", "run/fifo": "type 6", "usr": "dir 755", "usr/lib": "dir 755", "usr/lib/libc.so": "file libc 2", "usr/lib/libc.so.6": "file libc 1",
	}, tree)
	type attributes struct {
		Mode     int64
		UID, GID int
		Time     time.Time
		Records  map[string]string
	}
	for name, want := range map[string]attributes{
		"bin/su":   {0o4755, 70001, 1 << 31, unix(0, 0), map[string]string{"gid": "2147483648"}},
		"bin/ping": {0o755, 0, 0, unix(1700000000, 123456789), map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00", "mtime": "1700000000.123456789"}},
		"etc":      {0o1711, 1, 2, unix(-5, 0), map[string]string{"SCHILY.xattr.user.note": "of a directory", "mtime": "-5"}},
		"usr":      {0o755, 0, 0, unix(0, 0), nil},
	} {
		f := tree[name]
		if diff := cmp.Diff(want, attributes{f.Mode, f.Uid, f.Gid, f.ModTime, f.PAXRecords}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestThePlanSaysWhereEachPathComesFrom(t *testing.T) {
	t.Parallel()
	plan, err := rootfs.NewPlan(t.Context(), layersOf(
		pack(t, file("z/target", "12345"), link("z/first", "z/target"), link("a", "z/target"), file("gone", "x"), dir("z/", 0o700)),
		pack(t, file("z/.wh.target", ""), file("new", "67"), dir("d/", 0o755)),
	), rootfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []rootfs.Entry{
		{Name: "", Type: tar.TypeDir, Layer: -1},
		{Name: "z", Type: tar.TypeDir, Layer: 0, Index: 4},
		{Name: "d", Type: tar.TypeDir, Layer: 1, Index: 2},
		{Name: "z/first", Type: tar.TypeReg, Layer: 0, Index: 0},
		{Name: "gone", Type: tar.TypeReg, Layer: 0, Index: 3},
		{Name: "new", Type: tar.TypeReg, Layer: 1, Index: 1},
		{Name: "a", Type: tar.TypeLink, Layer: 0, Index: 0, Link: "z/first"},
	}
	if diff := cmp.Diff(want, slices.Collect(plan.Entries())); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if got := plan.Stats(); got.Paths != 7 || got.Bytes != 5+1+2 {
		t.Errorf("stats = %+v, want 7 paths and 8 bytes", got)
	}
	for range plan.Entries() {
		break // an iteration may be left
	}
}

func TestTheStreamIsWhatThePlanSays(t *testing.T) {
	t.Parallel()
	plan, err := rootfs.NewPlan(t.Context(), layersOf(tricky(t)...), rootfs.Options{Require: rootfs.ContainerVM()})
	if err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	for _, w := range []io.Writer{&first, &second} {
		if err := plan.Write(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two writings differ")
	}
	tr := tar.NewReader(&first)
	for e := range plan.Entries() {
		h, err := tr.Next()
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		if e.Name == "" {
			e.Name = "."
		}
		if name != e.Name || h.Typeflag != e.Type || e.Type == tar.TypeLink && h.Linkname != e.Link {
			t.Errorf("the stream has %c %q, the plan %+v", h.Typeflag, h.Name, e)
		}
	}
	if _, err := tr.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream has more than the plan: %v", err)
	}
}

func TestTheStreamBecomesAFilesystem(t *testing.T) {
	t.Parallel()
	opts := rootfs.Options{Require: rootfs.ContainerVM()}
	want := flatten(t, opts, tricky(t)...)
	plan, err := rootfs.NewPlan(t.Context(), layersOf(tricky(t)...), opts)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	r, w := io.Pipe()
	go func() { w.CloseWithError(plan.Write(t.Context(), w)) }()
	if _, err := ext4.Write(t.Context(), r, disk, ext4.Options{Size: 64 << 20, UUID: [16]byte{1}, Time: unix(1700000000, 0)}); err != nil {
		t.Fatal(err)
	}
	fs, err := ext4.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	err = fs.Walk(t.Context(), func(e *ext4.Entry) error {
		f, found := want[e.Path]
		if !found {
			if e.Path != "." && e.Path != "lost+found" {
				t.Errorf("%s is in the filesystem and not in the stream", e.Path)
			}
			return nil
		}
		seen[e.Path] = true
		body, err := io.ReadAll(fs.Content(e))
		if e.IsRegular() && (err != nil || string(body) != f.body) {
			t.Errorf("%s holds %q, %v, want %q", e.Path, body, err, f.body)
		}
		if f.Typeflag != tar.TypeLink && f.Typeflag != tar.TypeSymlink && (int64(e.UID) != int64(f.Uid) || int64(e.Mode&0o7777) != f.Mode&0o7777) {
			t.Errorf("%s is owned by %d with mode %o, want %d and %o", e.Path, e.UID, e.Mode&0o7777, f.Uid, f.Mode&0o7777)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range want {
		if name != "" && !seen[name] {
			t.Errorf("%s is in the stream and not in the filesystem", name)
		}
	}
}

func TestSparseFilesAreExpanded(t *testing.T) {
	t.Parallel()
	// The old GNU format: 10 bytes at 4096 of 8192. archive/tar can read but not write it.
	data := pack(t, entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "sparse", Mode: 0o644, Format: tar.FormatGNU}, body: "0123456789"})
	h := data[:512]
	h[156] = 'S'
	copy(h[386:], "00000010000\x0000000000012\x00") // offset 4096, 10 bytes
	copy(h[386+24:], "00000020000\x0000000000000\x00")
	copy(h[483:], "00000020000\x00") // real size 8192
	checksum(h)
	tree := flatten(t, rootfs.Options{}, data)
	want := strings.Repeat("\x00", 4096) + "0123456789" + strings.Repeat("\x00", 8192-4096-10)
	if f := tree["sparse"]; f.body != want || f.Typeflag != tar.TypeReg {
		t.Errorf("type %c, %d bytes", f.Typeflag, len(f.body))
	}
	_, err := rootfs.NewPlan(t.Context(), layersOf(data), rootfs.Options{MaxBytes: 8000})
	if !errdefs.Is(err, errdefs.ResourceExhausted) {
		t.Errorf("holes do not count: %v", err)
	}
}

// checksum gives a changed header its checksum.
func checksum(h []byte) {
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	for i := range 6 {
		h[153-i] = byte('0' + sum>>(3*i)&7)
	}
	h[154], h[155] = 0, ' '
}

func TestSocketsLeaveNothing(t *testing.T) {
	t.Parallel()
	socket := entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "a", Mode: 0o140755}}
	expect(t, map[string]string{"b": "file 1"}, flatten(t, rootfs.Options{}, pack(t, file("a", "1"), file("b", "1")), pack(t, socket)))
}

func TestAWriterThatFailsEndsIt(t *testing.T) {
	t.Parallel()
	plan, err := rootfs.NewPlan(t.Context(), layersOf(pack(t, file("a", strings.Repeat("x", 1<<20)))), rootfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	_ = r.Close()
	err = plan.Write(t.Context(), w)
	if !errors.Is(err, io.ErrClosedPipe) || !errdefs.Is(err, errdefs.Unavailable) {
		t.Errorf("kind %s: %v", errdefs.KindOf(err), err)
	}
}

func TestACancelledContextEndsIt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	layers := layersOf(pack(t, file("a", "1")))
	plan, err := rootfs.NewPlan(ctx, layers, rootfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := plan.Write(ctx, io.Discard); !errdefs.Is(err, errdefs.Canceled) {
		t.Errorf("write: kind %s: %v", errdefs.KindOf(err), err)
	}
	if _, err := rootfs.NewPlan(ctx, layers, rootfs.Options{}); !errdefs.Is(err, errdefs.Canceled) {
		t.Errorf("plan: kind %s: %v", errdefs.KindOf(err), err)
	}
}

func TestALayerThatChangesIsNoticed(t *testing.T) {
	t.Parallel()
	before := pack(t, file("a", "1"), file("b", "22"))
	for name, after := range map[string][]byte{
		"shorter":    pack(t, file("a", "1")),
		"other size": pack(t, file("a", "1"), file("b", "333")),
		"other type": pack(t, file("a", "1"), symlink("b", "22")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := before
			plan, err := rootfs.NewPlan(t.Context(), []rootfs.Layer{{Name: "l", Open: func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader(data)), nil
			}}}, rootfs.Options{})
			if err != nil {
				t.Fatal(err)
			}
			data = after
			if err := plan.Write(t.Context(), io.Discard); !errdefs.Is(err, errdefs.Aborted) {
				t.Errorf("kind %s: %v", errdefs.KindOf(err), err)
			}
		})
	}
}
