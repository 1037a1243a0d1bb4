// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	imagedisk "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/disk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/ext4"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vmdk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
)

// putDisk puts a flat disk of 64 MiB with the entries on it onto the datastore.
func putDisk(t *testing.T, sim *Sim, name, label string, entries ...images.Entry) string {
	t.Helper()
	layer, err := images.Layer(entries...)
	must(t, err)
	archive, err := layer.Uncompressed()
	must(t, err)
	defer archive.Close()
	file := "[" + Datastore + "] images/" + name + ".vmdk"
	flat, err := os.Create(sim.localPath(flatFile(file)))
	must(t, err)
	defer flat.Close()
	const size = 64 << 20
	_, err = ext4.Write(t.Context(), archive, flat, ext4.Options{Size: size, Label: label, UUID: [16]byte{1}, Time: images.Epoch()})
	must(t, err)
	must(t, flat.Truncate(size))
	text, err := vmdk.Descriptor(vmdk.Flat{Capacity: size, Extent: filepath.Base(flat.Name()), Identity: vmdk.Identity{1}})
	must(t, err)
	_, err = sim.putFile(file, string(text))
	must(t, err)
	return file
}

// someImage is a small system.
func someImage() []images.Entry {
	return []images.Entry{
		images.Dir("usr"), images.Dir("usr/bin"), images.Dir("etc"), images.Dir("data"),
		images.Symlink("bin", "usr/bin"), images.Symlink("sh", "/bin/../bin/./busy"), images.Symlink("loop", "loop"),
		images.Symlink("usr/bin/up", "../../../../usr/bin/busy"),
		images.Executable("usr/bin/busy", "#!"), images.File("usr/bin/text", "x"),
		images.File("etc/passwd.real", "root:x:0:0\nbob:x:7:7\nbroken\n"), images.Symlink("etc/passwd", "passwd.real"),
		images.File("etc/group", "wheel:x:0:\n"),
	}
}

func TestAGuestLooksForWhatItRunsOnItsRootDisk(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	root := sim.disks.load(sim.localPath(putDisk(t, sim, "a", containerLabel, someImage()...)))
	if root == nil || root.broken != "" {
		t.Fatalf("the disk is %+v", root)
	}
	for _, c := range []struct{ path, dir, user, group, want string }{
		{path: "/usr/bin/busy"},
		{path: "/bin/busy", dir: "/"},
		{path: "/sh", dir: "/data", user: "bob", group: "wheel"},
		{path: "/bin/up", user: "12345", group: "6"},
		{path: "busy", user: "root"},
		{path: "./busy", dir: "/bin"},
		{path: "../usr/bin/busy", dir: "/data"},
		{path: "/bin/k3s", want: "stat /bin/k3s: no such file or directory"},
		{path: "/etc/passwd/x", want: "stat /etc/passwd/x: not a directory"},
		{path: "/loop", want: "stat /loop: too many levels of symbolic links"},
		{path: "/bin/text", want: "permission denied"},
		{path: "/bin", want: "permission denied"},
		{path: "text", want: "text: no such executable in PATH"},
		{path: "", want: ": no such executable in PATH"},
		{path: "./busy", dir: "/data", want: "stat /data/./busy: no such file or directory"},
		{path: "/bin/busy", dir: "/none", want: "chdir /none: no such file or directory"},
		{path: "/bin/busy", dir: "/etc/group", want: "chdir /etc/group: no such file or directory"},
		{path: "/bin/busy", user: "eve", want: "unable to find user eve: no matching entries in passwd file"},
		{path: "/bin/busy", user: "-1", want: "unable to find user -1: no matching entries in passwd file"},
		{path: "/bin/busy", group: "staff", want: "unable to find group staff: no matching entries in group file"},
	} {
		m := typical(t, sim)
		m.root = root
		id := m.keys[commonID]
		m.keys[sessionKey(id, "cmd/Path")], m.keys[sessionKey(id, "cmd/Dir")] = c.path, c.dir
		m.keys[sessionKey(id, "User")], m.keys[sessionKey(id, "Group")] = c.user, c.group
		m.keys[sessionKey(id, "cmd/Env")], m.keys[sessionKey(id, "cmd/Env~")] = "1", "PATH=/none:/bin|PATH=/usr/bin"
		v := m.boot()
		if want := map[bool]fate{true: runs, false: fails}[c.want == ""]; v.fate != want || v.why != c.want {
			t.Errorf("%+v: fate %d, %q", c, v.fate, v.why)
		}
	}
}

func TestADiskWithoutTheRightFileSystemDoesNotBoot(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	for name, c := range map[string]struct{ disk, want string }{
		"another label": {putDisk(t, sim, "b", "data", someImage()...), `that of the root disk is "data"`},
		"junk": {func() string {
			file := putDisk(t, sim, "c", containerLabel)
			must(t, os.WriteFile(sim.localPath(flatFile(file)), bytes.Repeat([]byte("junk"), 10_000), 0o600))
			return file
		}(), "no file system"},
	} {
		m := typical(t, sim)
		m.root = sim.disks.load(sim.localPath(c.disk))
		if v := m.boot(); v.fate != hangs || !strings.Contains(v.why, c.want) {
			t.Errorf("%s: fate %d, %q", name, v.fate, v.why)
		}
	}
	if root := sim.disks.load(sim.localPath(ImageDisk)); root != nil {
		t.Errorf("the disk without content is %+v", root)
	}
}

func TestADiskIsReadAgainOnlyWhenItHasChanged(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	disk := sim.localPath(putDisk(t, sim, "a", containerLabel, someImage()...))
	first := sim.disks.load(disk)
	if again := sim.disks.load(disk); again != first {
		t.Error("it was read again")
	}
	later := time.Now().Add(time.Hour)
	putDisk(t, sim, "a", containerLabel, images.Executable("new", "#!"))
	must(t, os.Chtimes(sim.localPath(flatFile("["+Datastore+"] images/a.vmdk")), later, later))
	if changed := sim.disks.load(disk); changed == first || changed.executable("/new") != "" {
		t.Errorf("the changed disk is %+v", changed)
	}
	must(t, os.Remove(disk))
	if gone := sim.disks.load(disk); gone != nil {
		t.Errorf("the removed disk is %+v", gone)
	}
}

func TestAMachineSaysWhyItsImageDoesNotStart(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	file := putDisk(t, sim, "a", containerLabel, someImage()...)
	spec := machineSpec(t, sim, "a")
	for _, d := range spec.DeviceChange {
		if d, ok := d.GetVirtualDeviceConfigSpec().Device.(*types.VirtualDisk); ok {
			d.Backing.(*types.VirtualDiskFlatVer2BackingInfo).Parent.FileName = file
		}
	}
	vm, err := create(t.Context(), sim, client, spec)
	must(t, err)
	must(t, run(t.Context(), vm.PowerOn))
	is := until(t, vm, isOff, sim)
	if want := "stat /bin/sh: no such file or directory"; is.Started != want || sim.GuestReports()[is.Name] != want {
		t.Errorf("it started %q, and reports %v", is.Started, sim.GuestReports())
	}
}

func TestTheNodeImageIsARootDiskThatGuestsTake(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true, Registry: &images.Options{}})
	ref, err := registry.ParseReference(sim.NodeImage())
	must(t, err)
	img, err := registry.Resolve(t.Context(), ref, registry.Options{Insecure: []string{sim.Registry().Host()}})
	must(t, err)
	defer img.Close()
	const size = 64 << 20
	content, err := imagedisk.Source(img, imagedisk.Options{Dir: t.TempDir()})(t.Context(), image.Key{Digest: img.Digest, Size: size}, nil)
	must(t, err)
	defer content.Close()
	raw, used := content.Raw()
	text, err := vmdk.Descriptor(vmdk.Flat{Capacity: size, Extent: "a-flat.vmdk", Identity: content.Identity()})
	must(t, err)
	file, err := sim.putFile("["+Datastore+"] images/a.vmdk", string(text))
	must(t, err)
	must(t, writeSparse(sim.localPath(flatFile(file)), raw, used, func(at int64) (int64, error) { return at, nil }))

	m := typical(t, sim)
	m.root = sim.disks.load(sim.localPath(file))
	config := content.Description().Config
	id := m.keys[commonID]
	m.keys[sessionKey(id, "cmd/Path")], m.keys[sessionKey(id, "cmd/Dir")] = config.Entrypoint[0], config.WorkingDir
	m.keys[sessionKey(id, "User")], m.keys[sessionKey(id, "cmd/Env~")] = config.User, strings.Join(config.Env, "|")
	m.keys[sessionKey(id, "cmd/Env")] = fmt.Sprint(len(config.Env) - 1)
	if v := m.boot(); m.root == nil || v.fate != runs {
		t.Errorf("fate %d, %q", v.fate, v.why)
	}
	for _, needed := range []string{"sh", "base64", "chmod", "mkdir", "rm", "k3s"} {
		m.keys[sessionKey(id, "cmd/Path")] = needed
		if v := m.boot(); v.fate != runs {
			t.Errorf("%s: fate %d, %q", needed, v.fate, v.why)
		}
	}
}

func TestAWorldCanHaveARegistryWithTheNodeImage(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]*images.Options{
		"open":   {},
		"closed": {TLS: true, Username: "puller", Password: "secret", Token: true},
	} {
		sim := start(t, Options{NoForeign: true, Registry: o})
		spec, secret := sim.ImageSpec(), sim.Secret()
		v1alpha1.SetDefaults(spec)
		if err := v1alpha1.Validate(spec).ToAggregate(); err != nil {
			t.Errorf("%s: its spec is not valid: %v", name, err)
		}
		if spec.Image != sim.NodeImage() || !strings.HasPrefix(spec.Image, sim.Registry().Host()+"/") {
			t.Errorf("%s: the image is %q", name, spec.Image)
		}
		if o.TLS != (sim.RegistryCA() != nil) || o.TLS != (spec.Registries.CABundle != "") || o.TLS != (secret[v1alpha1.SecretDockerConfig] != nil) {
			t.Errorf("%s: CA %d bytes, registries %+v, secret %d", name, len(sim.RegistryCA()), spec.Registries, len(secret))
		}
		if o.TLS {
			continue
		}
		answer, err := http.Get("http://" + sim.Registry().Host() + "/v2/node/manifests/v1")
		must(t, err)
		body, err := io.ReadAll(answer.Body)
		must(t, err)
		must(t, answer.Body.Close())
		if manifest, err := v1.ParseManifest(bytes.NewReader(body)); err != nil || len(manifest.Layers) != 2 {
			t.Errorf("%s: %v %s", name, err, body)
		}
		sim.Close()
		if conn, err := net.Dial("tcp", sim.Registry().Host()); err == nil {
			t.Errorf("%s: the registry outlives the world at %s", name, conn.RemoteAddr())
		}
	}
	none := start(t, Options{NoForeign: true})
	if none.Registry() != nil || none.NodeImage() != "" || none.RegistryCA() != nil {
		t.Error(fmt.Sprint(none.Registry()), none.NodeImage(), none.RegistryCA())
	}
}

func flatFile(disk string) string { return strings.TrimSuffix(disk, ".vmdk") + "-flat.vmdk" }
