// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"fmt"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
)

// large makes an image of so many MB.
func large(t testing.TB, megabytes int) []images.ImageLayer {
	t.Helper()
	layers, err := images.Large(t.TempDir(), megabytes)
	if err != nil {
		t.Fatal(err)
	}
	return layers
}

// serve puts an image into a registry of its own and returns the reference.
func serve(t testing.TB, config images.Config, layers ...images.ImageLayer) string {
	t.Helper()
	_, ref := serveIn(t, config, layers...)
	return ref
}

func serveIn(t testing.TB, config images.Config, layers ...images.ImageLayer) (*images.Registry, string) {
	t.Helper()
	img, err := images.Image(config, layers...)
	if err != nil {
		t.Fatal(err)
	}
	r, err := images.Serve(images.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	ref, err := r.Push("test/image:v1", img)
	if err != nil {
		t.Fatal(err)
	}
	return r, ref
}

// BenchmarkSource measures images from a registry on loopback to content, each
// stage in CPU seconds and seconds of a process of its own. The registry's CPU is
// not in it.
func BenchmarkSource(b *testing.B) {
	for _, megabytes := range []int{200, 1000} {
		b.Run(fmt.Sprintf("%dMB", megabytes), func(b *testing.B) {
			ref := serve(b, images.Config{}, large(b, megabytes)...)
			var sum outcome
			cpu := map[string]float64{}
			for b.Loop() {
				o := inChild(b, task{Reference: ref, Dir: b.TempDir(), Size: 8 << 30, VMDK: true})
				if o.Error != "" {
					b.Fatal(o.Error)
				}
				for _, s := range o.Stages {
					cpu[string(s.Stage)+"-cpu-s"] += s.CPU.Seconds()
					cpu[string(s.Stage)+"-s"] += s.Wall.Seconds()
				}
				sum.Used, sum.VMDK, sum.Peak = o.Used, o.VMDK, max(sum.Peak, o.Peak)
			}
			for unit, seconds := range cpu {
				b.ReportMetric(seconds/float64(b.N), unit)
			}
			b.ReportMetric(float64(sum.Used)/1e6, "used-MB")
			b.ReportMetric(float64(sum.VMDK)/1e6, "vmdk-MB")
			b.ReportMetric(float64(sum.Peak)/(1<<20), "peak-MiB")
		})
	}
}
