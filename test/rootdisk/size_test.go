// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootdisk_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// maxMemory is the most that a process may have whatever the image's size, in bytes.
const maxMemory = 128 << 20

// cost is what it takes to bring an image from a registry to a datastore.
type cost struct {
	// cpu is the processor time of the process that does it, and nothing else.
	cpu time.Duration
	// memory is the most that it had at any time, uploaded what it sent, used the part
	// of the disk that has content; all in bytes.
	memory, uploaded, used int64
}

// bring fetches an image of so many MB in a process of its own.
func bring(t testing.TB, megabytes int) cost {
	t.Helper()
	s := newSite(t, vchsim.Options{NoForeign: true})
	layers, err := images.Large(t.TempDir(), megabytes)
	if err != nil {
		t.Fatal(err)
	}
	img, err := images.Image(images.Config{Entrypoint: []string{"/usr/bin/program-0-0"}}, layers...)
	if err != nil {
		t.Fatal(err)
	}
	if s.reference, err = s.registry.Push("large:v1", img); err != nil {
		t.Fatal(err)
	}
	file := s.victimFile(t.TempDir(), 8<<30, "")
	s.sim.ResetCounters()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), victimVariable+"="+file)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("fetch the image in another process: %v", err)
	}
	var r result
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("it said %q: %v", out, err)
	}
	return cost{
		cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), memory: peak(t, r.Status),
		uploaded: s.sim.BytesReceived(), used: r.Disk.UsedBytes,
	}
}

// peak is the most memory that a process had. What wait4 says counts that of the
// parent as well, until the program began.
func peak(t testing.TB, status string) int64 {
	t.Helper()
	for line := range strings.Lines(status) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	t.Fatalf("no VmHWM in %q", status)
	return 0
}

// Not with the race detector, which has memory of its own.
func TestAnImageTakesLittleMemoryAndIsSentOnceAtFullSize(t *testing.T) {
	c := bring(t, 200)
	t.Logf("200 MB: %+v", c)
	if c.memory > maxMemory {
		t.Errorf("the process had %d MiB, at most %d are allowed", c.memory>>20, maxMemory>>20)
	}
	if c.uploaded > c.used+c.used/20 {
		t.Errorf("%d bytes were sent, the disk uses %d", c.uploaded, c.used)
	}
	if c.used < 200_000_000 {
		t.Errorf("the disk uses only %d bytes: this test measures something else", c.used)
	}
}

func BenchmarkFromTheRegistryToTheDatastore(b *testing.B) {
	for name, megabytes := range map[string]int{"200MB": 200, "1GB": 1000} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				c := bring(b, megabytes)
				b.ReportMetric(c.cpu.Seconds(), "cpu-s/op")
				b.ReportMetric(float64(c.memory>>20), "MiB-peak")
				b.ReportMetric(float64(c.uploaded)/float64(c.used), "sent/used")
			}
		})
	}
}

// victimFile writes what another process is to do.
func (s *site) victimFile(dir string, size int64, stage image.Stage) (file string) {
	s.Helper()
	spec := s.spec()
	content, err := json.Marshal(victim{
		Secret: s.sim.Secret(), VCH: spec.VCH, Reference: spec.Image, Size: size,
		Insecure: spec.Registries.Insecure, Dir: dir, Stage: stage,
	})
	if err != nil {
		s.Fatal(err)
	}
	file = filepath.Join(s.TempDir(), "victim.json")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		s.Fatal(err)
	}
	return file
}
