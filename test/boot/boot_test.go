// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package boot_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/disk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/ext4"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vmdk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
)

const (
	// size is that of the disk.
	size = 1 << 30
	// runTime is how long a machine may run: some seconds, if nothing else does.
	runTime = 8 * time.Minute
)

// TestTheDiskOfAnImageBoots: with the flat disk, as an upload leaves it, and with
// a child of the imported one, as machines have it.
func TestTheDiskOfAnImageBoots(t *testing.T) {
	t.Parallel()
	guest := buildGuest(t)
	kernel := kernelDir(t)
	content := makeContent(t, guest)
	t.Run("flat", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		raw := writeFlat(t, dir, content)
		boot(t, kernel, guest, content.Description().Config, filepath.Join(dir, "disk.vmdk"), "vmdk")
		check(t, raw)
	})
	t.Run("child", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		parent, child, raw := filepath.Join(dir, "parent.vmdk"), filepath.Join(dir, "child"), filepath.Join(dir, "raw")
		writeImported(t, parent, content)
		run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "vmdk", "-b", parent, child)
		boot(t, kernel, guest, content.Description().Config, child, "qcow2")
		run(t, "qemu-img", "convert", "-O", "raw", child, raw)
		check(t, raw)
		untouched(t, parent, content)
	})
}

// buildGuest builds the program of the guest, which needs no library.
func buildGuest(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "guest")
	c := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", name, "./guest")
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build the guest: %v\n%s", err, out)
	}
	return name
}

// kernelDir is where the kernel is.
func kernelDir(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("BOOT_KERNEL_DIR"); dir != "" {
		return dir
	}
	c := exec.CommandContext(t.Context(), filepath.Join("..", "..", "hack", "kernel.sh"))
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("hack/kernel.sh: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// makeContent makes the disk of an image whose command is the guest's program.
func makeContent(t testing.TB, guest string) image.Content {
	t.Helper()
	base, err := images.Layer(
		images.Dir("usr/bin"), images.Symlink("bin", "usr/bin"), images.Executable("usr/bin/node", string(read(t, guest))),
		images.Dir("data"), images.File("data/image.txt", "from the lower layer"),
		images.Entry{Name: "srv/", Mode: 0o2750, UID: 7, GID: 8}, images.File("srv/doomed", "x"),
		images.Dir("srv/deep"), images.Entry{Name: "srv/deep/run", Mode: 0o4711, UID: 5, GID: 6, Content: "#!"},
		images.Symlink("srv/link", "deep/run"), images.Entry{Name: "srv/own", Mode: 0o600, UID: 7, GID: 9, Content: "of the image"},
	)
	if err != nil {
		t.Fatal(err)
	}
	upper, err := images.Layer(images.File("data/image.txt", "from the image"), images.Hardlink("usr/bin/start", "usr/bin/node"))
	if err != nil {
		t.Fatal(err)
	}
	img, err := images.Image(v1.Config{
		Entrypoint: []string{"/bin/start"}, Cmd: []string{"agent", "--now"},
		Env: []string{"GREETING=hello"}, WorkingDir: "/data",
	}, base, upper)
	if err != nil {
		t.Fatal(err)
	}
	server, err := images.Serve(images.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	name, err := server.Push("node:v1", img)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := registry.ParseReference(name)
	if err != nil {
		t.Fatal(err)
	}
	resolved, err := registry.Resolve(t.Context(), ref, registry.Options{Insecure: []string{server.Host()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(resolved.Close)
	content, err := disk.Source(resolved, disk.Options{Dir: t.TempDir()})(t.Context(), image.Key{Digest: resolved.Digest, Size: size}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := content.Close(); err != nil {
			t.Error(err)
		}
	})
	// Made here, since content is for one goroutine.
	if _, _, err := content.StreamOptimized(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return content
}

// writeFlat puts the disk into a directory as an upload does.
func writeFlat(t testing.TB, dir string, content image.Content) (raw string) {
	t.Helper()
	r, used := content.Raw()
	raw = filepath.Join(dir, "disk-flat.vmdk")
	write(t, raw, io.NewSectionReader(r, 0, used))
	if err := os.Truncate(raw, size); err != nil {
		t.Fatal(err)
	}
	descriptor, err := vmdk.Descriptor(vmdk.Flat{Capacity: size, Extent: "disk-flat.vmdk", Identity: content.Identity()})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "disk.vmdk"), strings.NewReader(string(descriptor)))
	return raw
}

func writeImported(t testing.TB, name string, content image.Content) {
	t.Helper()
	r, n, err := content.StreamOptimized(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	write(t, name, io.NewSectionReader(r, 0, n))
}

func write(t testing.TB, name string, r io.Reader) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// machine is a virtual machine of an image.
type machine struct {
	// kernel is the kernel's directory, guest the guest's program.
	kernel, guest string
	config        image.Config
	// command is what runs, by default the image's.
	command []string
	// drives are the disks.
	drives []drive
	mounts []mount
}

type drive struct{ file, format string }

// mount is a volume, as the guest reads it.
type mount struct {
	Label, Path string
	Copy        bool
}

// boot runs a machine with the root disk to its end, and looks at what the command said.
func boot(t *testing.T, kernel, guest string, config image.Config, file, format string) {
	t.Helper()
	said, console := machine{kernel: kernel, guest: guest, config: config, drives: []drive{{file, format}}}.run(t)
	want := []string{"args=/bin/start agent --now", "env=hello", "dir=/data", "user=0", "root=rw", "read=from the image", "done=true"}
	if !slices.Equal(said, want) {
		t.Errorf("the command said %q, want %q; the console:\n%s", said, want, console)
	}
}

// run runs the machine to its end. It returns what the command said, and all that
// was on the console.
func (m machine) run(t *testing.T) (said []string, console string) {
	t.Helper()
	initrd := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(initrd, m.initial(t), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), runTime)
	defer cancel()
	args := []string{
		"-machine", "pc", "-accel", "tcg", "-cpu", "max", "-m", "256", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", filepath.Join(m.kernel, "vmlinuz"), "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1", "-device", "pvscsi",
	}
	for i, d := range m.drives {
		args = append(args, "-device", fmt.Sprintf("scsi-hd,drive=d%d", i), "-drive", fmt.Sprintf("if=none,id=d%d,file=%s,format=%s", i, d.file, d.format))
	}
	begin := time.Now()
	out, err := exec.CommandContext(ctx, program(t, "qemu-system-x86_64", "qemu-system-x86"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu: %v\n%s", err, out)
	}
	t.Logf("the machine ran for %.1f s", time.Since(begin).Seconds())
	for line := range strings.Lines(string(out)) {
		if line, ok := strings.CutPrefix(strings.TrimSpace(line), "command: "); ok {
			said = append(said, line)
		}
	}
	return said, string(out)
}

// initial makes the initial file system of the machine.
func (m machine) initial(t testing.TB) []byte {
	t.Helper()
	var i initramfs
	for _, dir := range []string{"dev", "proc", "sys", "root", "modules"} {
		i.add(dir, typeDir|0o755, nil, 0, 0)
	}
	i.add("dev/console", typeChar|0o600, nil, consoleMajor, consoleMinor)
	i.add("init", typeFile|0o755, read(t, m.guest), 0, 0)
	if m.command == nil {
		m.command = slices.Concat(m.config.Entrypoint, m.config.Cmd)
	}
	work := map[string]any{
		"Label": ext4.DefaultLabel, "Env": m.config.Env, "Dir": m.config.WorkingDir, "Command": m.command, "Mounts": m.mounts,
	}
	var loaded []string
	for _, file := range modules(t, m.kernel, "vmw_pvscsi", "sd_mod") {
		name := "modules/" + filepath.Base(file)
		i.add(name, typeFile|0o644, read(t, file), 0, 0)
		loaded = append(loaded, "/"+name)
	}
	work["Modules"] = loaded
	raw, err := json.Marshal(work)
	if err != nil {
		t.Fatal(err)
	}
	i.add("work.json", typeFile|0o644, raw, 0, 0)
	return i.end()
}

// check looks at the disk from outside: what the guest wrote is there.
func check(t testing.TB, raw string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), program(t, "e2fsck", "e2fsprogs"), "-fn", raw).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	f, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	filesystem, err := ext4.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	if err := filesystem.Walk(t.Context(), func(e *ext4.Entry) error {
		if strings.HasPrefix(e.Path, "data/new/") && e.IsRegular() && e.Size == 40_000 {
			files++
		}
		if e.Path != "data/image.txt" {
			return nil
		}
		files++
		text, err := io.ReadAll(filesystem.Content(e))
		if string(text) != "written by the guest" {
			t.Errorf("the guest's file has %q", text)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if files != 201 {
		t.Errorf("%d of the 201 files that the guest wrote are there", files)
	}
}

// untouched fails the test when a parent changed.
func untouched(t testing.TB, parent string, content image.Content) {
	t.Helper()
	r, n, err := content.StreamOptimized(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, n)
	if _, err := r.ReadAt(want, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if got := read(t, parent); string(got) != string(want) {
		t.Error("the parent of a child disk was written to")
	}
}

// program returns where a program is. It is missed rather than skipped: the
// scripts that run tests install it.
func program(t testing.TB, name, debianPackage string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	path := filepath.Join("/usr/sbin", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is missing, install the Debian package %s: hack/prerequisites.sh does", name, debianPackage)
	}
	return path
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), program(t, name, "qemu-utils"), args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, fmt.Sprint(args), err, out)
	}
}
