// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// capacities are those that tests of contents make.
func capacities() map[string]int64 {
	const gib = 1 << 30
	return map[string]int64{
		"8Mi": volume.MinCapacity, "9Mi": 9 << 20, "127Mi": 127 << 20, "129Mi": 129 << 20, "1Gi": gib, "10Gi": 10 * gib, "100Gi+1Mi": 100*gib + 1<<20, "2Ti": volume.MaxCapacity,
	}
}

// run runs a program that must be there and must not complain.
func run(t *testing.T, program, debianPackage string, args ...string) string {
	t.Helper()
	file, err := exec.LookPath(program)
	if err != nil {
		file = filepath.Join("/usr/sbin", program)
	}
	if _, err := os.Stat(file); err != nil {
		t.Fatalf("%s is missing, install the Debian package %s: hack/prerequisites.sh does", program, debianPackage)
	}
	out, err := exec.CommandContext(t.Context(), file, args...).CombinedOutput()
	if err != nil || strings.Contains(string(out), "WARNING") {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
	return string(out)
}

// TestVolumesAreCleanFileSystems asks the tools of others about what lies on the datastore.
func TestVolumesAreCleanFileSystems(t *testing.T) {
	t.Parallel()
	for kind, options := range map[string]vchsim.Options{"VMFS": {}, "vSAN": {VSAN: true}} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, vchsim.FastStore, options)
			uuids := map[string]bool{}
			for name, capacity := range capacities() {
				if options.VSAN && capacity > 10<<30 {
					continue // the simulator unpacks the whole disk
				}
				name = "v" + strings.ReplaceAll(name, "+", "_")
				if _, err := w.store().Create(t.Context(), volume.Request{Name: name, Capacity: capacity}); err != nil {
					t.Fatal(err)
				}
				uuid := w.wantClean(name, capacity)
				if uuids[uuid] {
					t.Errorf("two volumes have the UUID %s", uuid)
				}
				uuids[uuid] = true
			}
		})
	}
}

// wantClean fails the test unless a volume is an empty file system, and returns its UUID.
func (w *world) wantClean(name string, capacity int64) string {
	w.Helper()
	t := w.T
	flat := w.local("volumes", name, name+"-flat.vmdk")
	run(t, "e2fsck", "e2fsprogs", "-fn", flat)
	debugfs := func(request string) string { return run(t, "debugfs", "e2fsprogs", "-R", request, flat) }
	stats := debugfs("stats -h")
	for _, want := range []string{"Filesystem volume name:   " + volume.Label(name) + "\n", "Filesystem state:         clean", "has_journal"} {
		if !strings.Contains(stats, want) {
			t.Errorf("%s: %q is not in\n%s", name, want, stats)
		}
	}
	found := regexp.MustCompile(`Filesystem UUID: +(\S+)`).FindStringSubmatch(stats)
	if found == nil || strings.HasPrefix(found[1], "00000000") {
		t.Fatalf("%s has no UUID:\n%s", name, stats)
	}
	var names []string
	for line := range strings.Lines(debugfs("ls -p /")) {
		if fields := strings.Split(strings.TrimSpace(line), "/"); len(fields) > 5 {
			names = append(names, strings.Join(fields[2:6], " "))
		}
	}
	want := []string{"040755 0 0 .", "040755 0 0 ..", "040700 0 0 lost+found", "040755 0 0 .vic.vol.data"}
	if fmt.Sprint(names) != fmt.Sprint(want) {
		t.Errorf("%s has %q, want %q", name, names, want)
	}
	for line := range strings.Lines(debugfs("ls -p /.vic.vol.data")) {
		if fields := strings.Split(strings.TrimSpace(line), "/"); len(fields) > 5 && fields[5] != "." && fields[5] != ".." {
			t.Errorf("%s has %s in its data", name, fields[5])
		}
	}
	var info struct {
		Format string `json:"format"`
		Size   int64  `json:"virtual-size"`
	}
	text := run(t, "qemu-img", "qemu-utils", "info", "--output=json", "-f", "vmdk", w.local("volumes", name, name+".vmdk"))
	if err := json.Unmarshal([]byte(text), &info); err != nil || info.Format != "vmdk" || info.Size != capacity {
		t.Errorf("%s: qemu-img says %s, %v, want %d bytes", name, text, err, capacity)
	}
	return found[1]
}

// TestLittleIsSent: of whatever capacity.
func TestLittleIsSent(t *testing.T) {
	t.Parallel()
	for name, capacity := range capacities() {
		content, err := makeContent(t.Context(), "data", capacity, time.Unix(1e9, 0))
		if err != nil {
			t.Fatal(err)
		}
		_, packed, err := content.Stream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		const gib = 1 << 30
		t.Logf("%s: %d bytes have content, %d packed", name, content.Used, packed)
		if most := 64<<10 + capacity/gib*256; content.Used > most {
			t.Errorf("%s: %d bytes have content, at most %d should", name, content.Used, most)
		}
		if most := 16<<10 + capacity/gib*256; packed > most {
			t.Errorf("%s: %d bytes are sent to be imported, at most %d should", name, packed, most)
		}
	}
}

func TestMemoryIsAFile(t *testing.T) {
	t.Parallel()
	m := &memory{}
	if _, err := m.WriteAt([]byte("abc"), 2); err != nil {
		t.Fatal(err)
	}
	if err := m.Truncate(4); err != nil {
		t.Fatal(err)
	}
	if err := m.Truncate(6); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 8)
	n, err := m.ReadAt(b, 1)
	if string(b[:n]) != "\x00ab\x00\x00" || err != io.EOF { //nolint:errorlint // it is returned as it is
		t.Errorf("%q, %v", b[:n], err)
	}
	if n, err := m.ReadAt(b[:2], 4); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := m.ReadAt(b, 6); n != 0 || err != io.EOF { //nolint:errorlint // it is returned as it is
		t.Errorf("%d, %v", n, err)
	}
}
