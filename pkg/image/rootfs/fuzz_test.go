// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootfs_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/rootfs"
)

// allowed are the kinds that hostile bytes may be answered with.
func allowed(err error) bool {
	return errdefs.Is(err, errdefs.InvalidArgument) || errdefs.Is(err, errdefs.ResourceExhausted)
}

// repair gives what looks like headers their checksums, so that changes in them
// get past archive/tar.
func repair(data []byte) []byte {
	data = bytes.Clone(data)
	for at := 0; at+512 <= len(data); at += 512 {
		if bytes.HasPrefix(data[at+257:], []byte("ustar")) {
			checksum(data[at : at+512])
		}
	}
	return data
}

// FuzzFlatten: whatever the layers are, they are refused or make a tree that is as
// Write promises, with nothing outside of the root and within the limits.
func FuzzFlatten(f *testing.F) {
	image := tricky(f)
	f.Add(image[0], image[1])
	f.Add(pack(f, file("../../etc/passwd", "x"), symlink("a", "../../.."), file("a/etc/x", "")), pack(f, link("b", "../a"), file("a/.wh..wh..opq", "")))
	f.Add(pack(f, symlink("etc", "/etc"), symlink("lib", "..")), pack(f, file("/../x", ""), file(".wh...", "")))
	f.Add(pack(f, symlink("etc/hosts", "../proc/x"), symlink("etc/resolv.conf", "a/../b"), dir("./", 0)), []byte{})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		first, second = repair(first), repair(second)
		opts := rootfs.Options{MaxEntries: 1000, MaxBytes: 1 << 22, MaxMemory: 1 << 19, Require: rootfs.ContainerVM()}
		plan, err := rootfs.NewPlan(t.Context(), layersOf(first, second), opts)
		if err != nil {
			if !allowed(err) {
				t.Fatalf("kind %q: %v", errdefs.KindOf(err), err)
			}
			return
		}
		var b bytes.Buffer
		if err := plan.Write(t.Context(), &b); err != nil {
			// Content is read now for the first time.
			if !allowed(err) {
				t.Fatalf("kind %q: %v", errdefs.KindOf(err), err)
			}
			return
		}
		tree, err := unpackFlat(bytes.NewReader(b.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		stats, size := plan.Stats(), int64(0)
		for name, f := range tree {
			if len(f.names) < 2 || f.names[0] == name {
				size += int64(len(f.body))
			}
			if len(name) > 4095 {
				t.Errorf("a path of %d bytes", len(name))
			}
		}
		if len(tree) != stats.Paths || size != stats.Bytes || stats.Paths > opts.MaxEntries || stats.Memory > opts.MaxMemory {
			t.Errorf("%d paths and %d bytes, the plan says %+v", len(tree), size, stats)
		}
		// What is flat stays as it is.
		var again bytes.Buffer
		if _, err := rootfs.Flatten(t.Context(), layersOf(b.Bytes()), &again, rootfs.Options{}); err != nil {
			t.Fatalf("the flattened image is refused: %v", err)
		}
		same, err := unpackFlat(&again)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, show(tree), same)
	})
}

// FuzzUnpack: whatever a blob is, it is refused, and leaves nothing.
func FuzzUnpack(f *testing.F) {
	data := pack(f, file("a", "1"))
	f.Add(data)
	f.Add(gzipped(data))
	f.Add(zstandard(f, data))
	f.Fuzz(func(t *testing.T, data []byte) {
		temp := t.TempDir()
		u, err := rootfs.Unpack(t.Context(), temp, []rootfs.Blob{{
			DiffID: diffID([]byte("nothing is so")),
			Open:   func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
		}}, rootfs.Options{MaxBytes: 1 << 20})
		if u != nil || !allowed(err) {
			t.Errorf("kind %q: %v", errdefs.KindOf(err), err)
		}
		empty(t, temp)
	})
}
