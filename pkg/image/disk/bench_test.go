// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
)

// program is content like that of programs: half of it compresses.
type program struct {
	random *rand.ChaCha8
	at     int
}

func newProgram(seed int) io.Reader {
	return &program{random: rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})}
}

// Read implements io.Reader.
func (p *program) Read(b []byte) (int, error) {
	const code = "call push mov rax rbx lea test jmp ret xor add sub cmp je jne nop"
	for done := 0; done < len(b); {
		n := min(len(code)-p.at%len(code), len(b)-done)
		if p.at/len(code)%2 == 0 {
			_, _ = p.random.Read(b[done : done+n]) // never fails
		} else {
			copy(b[done:], code[p.at%len(code):][:n])
		}
		done += n
		p.at += n
	}
	return len(b), nil
}

// large makes an image of so many MB of programs in three layers, as those of
// nodes are: few large files and many small ones.
func large(t testing.TB, megabytes int) []images.ImageLayer {
	t.Helper()
	dir := t.TempDir()
	var layers []images.ImageLayer
	for n := range 3 {
		entries := []images.Entry{images.Dir("usr"), images.Dir("usr/bin"), images.Dir("usr/lib")}
		left := int64(megabytes) * 1_000_000 / 3
		for i := 0; left > 0; i++ {
			name, size := fmt.Sprintf("usr/lib/l%d/%d/module-%d.so", n, i%50, i), int64(20_000)
			if i%100 == 0 {
				name, size = fmt.Sprintf("usr/bin/program-%d-%d", n, i), 8_000_000
			}
			size = min(size, left)
			left -= size
			entries = append(entries, images.Entry{
				Name: name, Mode: 0o755, Size: size, Open: func() io.Reader { return newProgram(n<<16 | i) },
			})
		}
		layer, err := images.LayerWith(images.LayerOptions{Fast: true, File: filepath.Join(dir, fmt.Sprint(n))}, entries...)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, layer)
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
