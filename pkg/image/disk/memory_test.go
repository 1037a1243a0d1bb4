// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
)

// TestMemoryAtFullSize: a process that makes the disk of the largest image of each
// kind stays within its bounds.
func TestMemoryAtFullSize(t *testing.T) {
	most := 200_000
	for name, layers := range map[string]func() []images.Entry{
		"as many files as there may be": func() (all []images.Entry) {
			for i := range most {
				all = append(all, images.File(fmt.Sprintf("usr/share/doc/%d/some-file-%d.txt", i/10, i), ""))
			}
			return all
		},
		"as many files with content": func() (all []images.Entry) {
			for i := range most {
				all = append(all, images.File(fmt.Sprintf("usr/share/doc/%d/some-file-%d.txt", i/10, i), "x"))
			}
			return all
		},
		"long names": func() (all []images.Entry) {
			for i := range most / 2 {
				all = append(all, images.File(fmt.Sprintf("%d/%s%d", i/1000, strings.Repeat("n", 90), i), ""))
			}
			return all
		},
		"directories": func() (all []images.Entry) {
			for i := range most {
				all = append(all, images.Dir(fmt.Sprintf("%x/%x", i/1000, i)))
			}
			return all
		},
		"directories with attributes": func() (all []images.Entry) {
			for i := range most {
				e := images.Dir(fmt.Sprintf("%x/%x", i/1000, i))
				e.Xattrs = map[string]string{"user.a": "12345678901234567890"}
				all = append(all, e)
			}
			return all
		},
		"symbolic links": func() (all []images.Entry) {
			for i := range most {
				all = append(all, images.Symlink(fmt.Sprintf("%x/%x", i/1000, i), fmt.Sprintf("/usr/share/something/%032d", i)))
			}
			return all
		},
		"hard links": func() (all []images.Entry) {
			for i := range most {
				if i%1000 == 0 {
					all = append(all, images.File(fmt.Sprintf("target-%d", i/1000), "x"))
				} else {
					all = append(all, images.Hardlink(fmt.Sprintf("%x/%x", i/1000, i), fmt.Sprintf("target-%d", i/1000)))
				}
			}
			return all
		},
	} {
		t.Run(name, func(t *testing.T) {
			layer, err := images.LayerWith(images.LayerOptions{Fast: true, File: filepath.Join(t.TempDir(), "layer")}, layers()...)
			if err != nil {
				t.Fatal(err)
			}
			bounded(t, task{Reference: serve(t, images.Config{}, layer), Dir: t.TempDir(), Size: 8 << 30, VMDK: true})
		})
	}
}

func TestMemoryOfDecodersAtFullSize(t *testing.T) {
	var layers []images.ImageLayer
	for n := range 5 {
		layer, err := images.LayerWith(images.LayerOptions{Compression: images.Zstd, Window: 32 << 20, File: filepath.Join(t.TempDir(), "layer")},
			images.Entry{Name: fmt.Sprint(n), Size: 100 << 20, Open: func() io.Reader { return rand.NewChaCha8([32]byte{byte(n)}) }})
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, layer)
	}
	bounded(t, task{Reference: serve(t, images.Config{}, layers...), Dir: t.TempDir(), Size: 8 << 30, VMDK: true})
}

func bounded(t *testing.T, work task) {
	t.Helper()
	o := inChild(t, work)
	t.Logf("peak %d MiB %s %v", o.Peak>>20, o.Error, o.Stages)
	if o.Peak > 128<<20 {
		t.Errorf("peak %d MiB", o.Peak>>20)
	}
}

// withoutRace skips what hack/test.sh runs without the race detector, which takes
// memory of its own and many times as long.
func withoutRace(t testing.TB) {
	t.Helper()
	if raceDetector {
		t.Skip("run it without -race")
	}
}
