// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package images_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/rootfs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
)

// everything is a layer with an entry of each kind.
func everything() []images.Entry {
	return []images.Entry{
		images.Dir("d"),
		{Name: "sticky/", Mode: 0o1777, UID: 70001, GID: 70002},
		images.File("d/file", "content"),
		images.Executable("d/program", "#!/bin/sh\n"),
		{Name: "secret", Mode: images.NoPermissions, Content: "x", Xattrs: map[string]string{"security.capability": "\x01\x00\x00\x02="}},
		{Name: "zeroes", Size: 100_000, Open: func() io.Reader { return zeroes{} }},
		images.Symlink("d/soft", "file"),
		images.Hardlink("hard", "d/file"),
		images.Device("tty", tar.TypeChar, 4, 64),
		images.Fifo("pipe"),
		images.Whiteout("d/gone"),
		images.Opaque("d"),
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestALayerHasItsEntriesInEveryCompressionAndPlace(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]images.LayerOptions{
		"gzip":           {},
		"gzip in a file": {Fast: true, File: filepath.Join(t.TempDir(), "a")},
		"zstd":           {Compression: images.Zstd},
		"none in a file": {Compression: images.None, File: filepath.Join(t.TempDir(), "b")},
	} {
		layer, err := images.LayerWith(options, everything()...)
		if err != nil {
			t.Fatal(err)
		}
		again, err := images.LayerWith(images.LayerOptions{Compression: options.Compression, Fast: options.Fast}, everything()...)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := digestOf(t, layer), digestOf(t, again); a != b {
			t.Errorf("%s: the same entries have digests %s and %s", name, a, b)
		}
		if options.Compression == images.Gzip { // the library knows no other
			if err := validate.Layer(layer); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		want := []string{
			"d/ 5 755 0:0 0 ", "sticky/ 5 1777 70001:70002 0 ", "d/file 0 644 0:0 7 ", "d/program 0 755 0:0 10 ",
			"secret 0 0 0:0 1 ", "zeroes 0 644 0:0 100000 ", "d/soft 2 777 0:0 0 file", "hard 1 644 0:0 0 d/file",
			"tty 3 644 0:0 0 ", "pipe 6 644 0:0 0 ", "d/.wh.gone 0 644 0:0 0 ", "d/.wh..wh..opq 0 644 0:0 0 ",
		}
		if diff := cmp.Diff(want, entries(t, layer)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func digestOf(t *testing.T, of interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	h, err := of.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

func entries(t *testing.T, layer v1.Layer) []string {
	t.Helper()
	r, err := layer.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []string
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, describe(h))
	}
}

func TestAnEntryThatIsWrongIsNamed(t *testing.T) {
	t.Parallel()
	_, err := images.Layer(images.Entry{Name: "short", Size: 10, Open: func() io.Reader { return bytes.NewReader(nil) }})
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte(`"short"`)) {
		t.Error(err)
	}
}

func TestTheNodeIsAlwaysTheSame(t *testing.T) {
	t.Parallel()
	var digests [2]string
	for i := range digests {
		node, err := images.Node()
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(node); err != nil {
			t.Error(err)
		}
		digests[i] = digestOf(t, node)
	}
	if digests[0] != digests[1] {
		t.Errorf("its digests are %v", digests)
	}
}

func TestTheNodeIsARootFileSystem(t *testing.T) {
	t.Parallel()
	node, err := images.Node()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := node.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var opened []rootfs.Layer
	for _, l := range layers {
		opened = append(opened, rootfs.Layer{Name: digestOf(t, l), Open: opener(l)})
	}
	var flat bytes.Buffer
	if _, err := rootfs.Flatten(t.Context(), opened, &flat, rootfs.Options{Require: rootfs.ContainerVM()}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	found := map[string]string{}
	for archive := tar.NewReader(&flat); ; {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		found[h.Name] = describe(h)
		if h.Name == "usr/bin/simulated" {
			write(t, filepath.Join(dir, "simulated"), archive)
		}
	}
	for name, want := range map[string]string{
		"usr/bin/k3s":           "usr/bin/k3s 1 0 0:0 0 usr/bin/simulated",
		"usr/bin/sh":            "usr/bin/sh 2 777 0:0 0 simulated",
		"usr/bin/from-the-base": "",
		"etc/passwd":            "etc/passwd 0 644 0:0 71 ",
	} {
		if found[name] != want {
			t.Errorf("%s is %q, want %q", name, found[name], want)
		}
	}
	runs(t, filepath.Join(dir, "simulated"))
}

// runs starts the node's program, which says what it is and waits.
func runs(t *testing.T, program string) {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("the node is for linux/amd64")
	}
	cmd := exec.CommandContext(t.Context(), program)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	const want = "simulated node: nothing runs in here\n"
	said := make([]byte, len(want))
	if _, err := io.ReadFull(out, said); err != nil || string(said) != want {
		t.Errorf("it says %q, %v", said, err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: interrupt" {
		t.Errorf("it ended with %v", err)
	}
}

func write(t *testing.T, file string, content io.Reader) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, content); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
