// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/disk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
)

// withoutRace skips what hack/test.sh runs without the race detector, which takes
// memory of its own and many times as long.
func withoutRace(t testing.TB) {
	t.Helper()
	if raceDetector {
		t.Skip("run it without -race")
	}
}

// bounded does a task, whose process must stay within its memory.
func bounded(t *testing.T, work task) outcome {
	t.Helper()
	o := inChild(t, work)
	if o.Error != "" {
		t.Error(o.Error)
	}
	t.Logf("at most %d MiB were resident", o.Peak>>20)
	if o.Peak > 128<<20 {
		t.Errorf("%d MiB of memory were resident, want at most 128", o.Peak>>20)
	}
	return o
}

// TestMemoryOfManyFilesAtFullSize: as many as an image may have, of the kinds that
// take most.
func TestMemoryOfManyFilesAtFullSize(t *testing.T) {
	withoutRace(t)
	const most = disk.MaxEntries - 1000
	for name, entry := range map[string]func(i int) images.Entry{
		"directories": func(i int) images.Entry { return images.Dir(fmt.Sprintf("%x/%x", i/1000, i)) },
		"symbolic links": func(i int) images.Entry {
			return images.Symlink(fmt.Sprintf("%x/%x", i/1000, i), fmt.Sprintf("/usr/%040d", i))
		},
	} {
		t.Run(name, func(t *testing.T) {
			var entries []images.Entry
			for i := range most {
				entries = append(entries, entry(i))
			}
			l, err := images.LayerWith(images.LayerOptions{Fast: true, File: filepath.Join(t.TempDir(), "layer")}, entries...)
			if err != nil {
				t.Fatal(err)
			}
			bounded(t, task{Reference: serve(t, images.Config{}, l), Dir: t.TempDir(), Size: 8 * gib})
		})
	}
}

// TestMemoryOfDecodersAtFullSize: zstd remembers as much as the best compression wants.
func TestMemoryOfDecodersAtFullSize(t *testing.T) {
	withoutRace(t)
	var layers []images.ImageLayer
	for n := range 4 {
		l, err := images.LayerWith(images.LayerOptions{Compression: images.Zstd, Window: 32 << 20, File: filepath.Join(t.TempDir(), "layer")},
			images.Entry{Name: fmt.Sprint(n), Size: 70 << 20, Open: func() io.Reader { return rand.NewChaCha8([32]byte{byte(n)}) }})
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	bounded(t, task{Reference: serve(t, images.Config{}, layers...), Dir: t.TempDir(), Size: 8 * gib})
}

// TestBytesAtFullSize: what is uploaded is hardly more than what the image has.
func TestBytesAtFullSize(t *testing.T) {
	withoutRace(t)
	const megabytes = 200
	o := bounded(t, task{Reference: serve(t, images.Config{}, large(t, megabytes)...), Dir: t.TempDir(), Size: 8 * gib, VMDK: true})
	if limit := int64(megabytes * 1_050_000); o.Used > limit || o.VMDK > limit {
		t.Errorf("%d bytes raw and %d as a VMDK are uploaded for %d MB, want at most 5 %% more", o.Used, o.VMDK, megabytes)
	}
}
