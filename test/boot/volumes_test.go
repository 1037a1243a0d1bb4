// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package boot_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/ext4"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/vmdk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// TestVolumesOutliveMachines: two machines of one image have the same two volumes,
// one after the other. The first finds one of them over what the image has there, which it
// gets, and the other where the image has nothing.
func TestVolumesOutliveMachines(t *testing.T) {
	t.Parallel()
	guest := buildGuest(t)
	kernel := kernelDir(t)
	content := makeContent(t, guest)
	config := content.Description().Config
	volumes := []string{makeVolume(t, "data", 1<<30, false), makeVolume(t, "cache", 8<<20, true)}
	mounts := []mount{{volume.Label("data"), "/srv", true}, {volume.Label("cache"), "/var/cache/new", true}}

	for _, c := range []struct {
		name string
		init []string
		said []string
	}{
		{"first", []string{"3 labels of 3 disks", "copied 5: /srv", "copied 0: /var/cache/new"}, []string{
			"/srv is ext4 noatime=true", "/srv 42750 7:8",
			"/srv/deep 40755 0:0", "/srv/deep/run 104711 5:6 #!", "/srv/doomed 100644 0:0 x",
			"/srv/link 120777 0:0 -> deep/run", "/srv/own 100600 7:9 of the image",
			"/var/cache/new is ext4 noatime=true", "/var/cache/new 40755 0:0", "done",
		}},
		{"second", []string{"3 labels of 3 disks", "full: /srv", "full: /var/cache/new"}, []string{
			"/srv is ext4 noatime=true", "/srv 42750 7:8",
			"/srv/deep 40755 0:0", "/srv/deep/run 104711 5:6 #!", "/srv/first 100600 0:8 written by first",
			"/srv/link 120777 0:0 -> deep/run", "/srv/own 100600 7:9 of the image",
			"/var/cache/new is ext4 noatime=true", "/var/cache/new 40755 0:0", "/var/cache/new/first 100600 0:0 written by first", "done",
		}},
	} {
		dir := t.TempDir()
		root := writeFlat(t, dir, content)
		said, console := machine{
			kernel: kernel, guest: guest, config: config,
			command: []string{"/bin/start", "volumes", c.name, "/srv", "/var/cache/new"},
			drives:  []drive{{volumes[0], "vmdk"}, {filepath.Join(dir, "disk.vmdk"), "vmdk"}, {volumes[1], "vmdk"}},
			mounts:  mounts,
		}.run(t)
		if diff := cmp.Diff(c.said, said); diff != "" {
			t.Errorf("the %s machine said (-want +got):\n%s\nthe console:\n%s", c.name, diff, console)
		}
		for _, line := range c.init {
			if !strings.Contains(console, "init: "+line) {
				t.Errorf("the init of the %s machine did not say %q:\n%s", c.name, line, console)
			}
		}
		checkClean(t, root)
		for _, v := range volumes {
			checkClean(t, strings.TrimSuffix(v, ".vmdk")+"-flat.vmdk")
		}
	}
	for i, v := range volumes {
		names := inVolume(t, strings.TrimSuffix(v, ".vmdk")+"-flat.vmdk")
		if !names["lost+found"] || !names[".vic.vol.data/first"] || !names[".vic.vol.data/second"] || names[".vic.vol.data/doomed"] || names["first"] {
			t.Errorf("volume %s has %v", mounts[i].Path, names)
		}
	}
}

// makeVolume has the store of volumes make one on a simulated datastore, and returns
// the file of its disk. On vSAN it is imported, elsewhere uploaded.
func makeVolume(t *testing.T, name string, capacity int64, vsan bool) string {
	t.Helper()
	sim, err := vchsim.Start(t.Context(), vchsim.Options{NoForeign: true, VSAN: vsan, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	pool := vcenter.NewPool(vcenter.Options{})
	defer func() {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := pool.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	secret, err := vcenter.ConfigFromSecret(sim.Secret())
	if err != nil {
		t.Fatal(err)
	}
	client, err := pool.Client(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	host, err := vch.Find(t.Context(), client, v1alpha1.VirtualContainerHost{Datacenter: sim.Datacenter, Name: sim.VCHName})
	if err != nil {
		t.Fatal(err)
	}
	store := vmdk.New(vmdk.Options{Client: client, Host: host, Label: vchsim.DefaultStore, Location: host.VolumeStores[vchsim.DefaultStore]})
	if _, err := store.Create(t.Context(), volume.Request{Name: name, Capacity: capacity}); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(sim.Dir(), "datastores", "*", "*", "volumes", name, name+".vmdk"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the volume's disk is in %v: %v", found, err)
	}
	return found[0]
}

// inVolume returns the names in a file system.
func inVolume(t *testing.T, flat string) map[string]bool {
	t.Helper()
	f, err := os.Open(flat)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	filesystem, err := ext4.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	if err := filesystem.Walk(t.Context(), func(e *ext4.Entry) error {
		names[e.Path] = true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return names
}

func checkClean(t *testing.T, raw string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), program(t, "e2fsck", "e2fsprogs"), "-fn", raw).CombinedOutput(); err != nil {
		t.Errorf("e2fsck of %s: %v\n%s", raw, err, out)
	}
}
