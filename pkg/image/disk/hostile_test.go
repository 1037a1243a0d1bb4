// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/disk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
)

// blob makes a layer whose blob is what is given, its digests right.
func blob(t testing.TB, content []byte) images.ImageLayer {
	t.Helper()
	l, err := images.TarLayer(images.LayerOptions{Compression: images.None}, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// packed is a gzip of a valid layer.
func packed(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: "a", Size: 5, Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// holes is an archive of one file that is said to have so many bytes, all of them
// a hole.
func holes(t testing.TB, size int64) []byte {
	t.Helper()
	sparse := fmt.Sprintf("22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n%s", record("GNU.sparse.name", "bomb")+record("GNU.sparse.realsize", fmt.Sprint(size)))
	chart := fmt.Sprintf("1\n%d\n0\n", size)
	var b bytes.Buffer
	header := func(kind byte, name, content string) {
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(512), Mode: 0o644, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}); err != nil {
			t.Fatal(err)
		}
		h := b.Bytes()[b.Len()-512:]
		h[156] = kind
		copy(h[124:136], fmt.Sprintf("%011o\x00", max(len(content), 0)))
		copy(h[148:156], "        ")
		sum := 0
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
		b.WriteString(content)
		b.Write(make([]byte, (512-len(content)%512)%512))
	}
	header('x', "PaxHeader", sparse)
	header('0', "bomb", chart+strings.Repeat("\x00", 512-len(chart)))
	b.Write(make([]byte, 1024))
	return b.Bytes()
}

// record is one of an extended header.
func record(key, value string) string {
	n := len(key) + len(value) + 3
	for len(fmt.Sprint(n))+len(key)+len(value)+3 != n {
		n = len(fmt.Sprint(n)) + len(key) + len(value) + 3
	}
	return fmt.Sprintf("%d %s=%s\n", n, key, value)
}

// TestHostileImagesAreRefused: with an error that says why, and nothing left.
func TestHostileImagesAreRefused(t *testing.T) {
	t.Parallel()
	good := packed(t)
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 0xff
	many := make([]images.Entry, disk.MaxEntries+1)
	for i := range many {
		many[i] = images.File("same", "")
	}
	for name, tc := range map[string]struct {
		layer images.ImageLayer
		says  string
	}{
		"a blob that ends too early":               {blob(t, good[:len(good)-20]), "unpack layer sha256:"},
		"a blob with a wrong byte":                 {blob(t, flipped), "unpack layer sha256:"},
		"a blob that is no archive":                {blob(t, bytes.Repeat([]byte("no archive"), 1000)), "layer sha256:"},
		"an archive that ends within a file":       {blob(t, append(tarHeader(t, "a", 5000), "short"...)), "layer sha256:"},
		"a path out of the root":                   {layer(t, images.File("../../etc/shadow", "x")), "../../etc/shadow"},
		"a path out of the root in the middle":     {layer(t, images.Dir("a"), images.File("a/../../b", "x")), "a/../../b"},
		"a hard link out of the root":              {layer(t, images.Hardlink("shadow", "../etc/shadow")), "../etc/shadow"},
		"a hard link to a file of the host":        {layer(t, images.Hardlink("shadow", "/etc/shadow")), "/etc/shadow"},
		"a loop of symbolic links":                 {layer(t, images.Symlink("a", "b"), images.Symlink("b", "a"), images.File("a/file", "x")), "a/file"},
		"a file where the guest needs a directory": {layer(t, images.File("proc", "x")), "/proc"},
		"a hole of 10 GB":                          {blob(t, holes(t, 10_000_000_000)), "rootDisk.size"},
		"more entries than there may be":           {layer(t, many...), fmt.Sprint(disk.MaxEntries)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			temp := t.TempDir()
			c, err := source(t.Context(), t, serve(t, images.Config{}, tc.layer), disk.Options{Dir: temp}, gib, nil)
			if err == nil {
				t.Fatal(c.Close())
			}
			if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%s error: %v, want one with %q", errdefs.KindOf(err), err, tc.says)
			}
			nothingIn(t, temp)
		})
	}
}

func tarHeader(t testing.TB, name string, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestARegistryThatLiesIsNotBelieved: the registry's errors keep their kind.
func TestARegistryThatLiesIsNotBelieved(t *testing.T) {
	t.Parallel()
	for effect, want := range map[images.Effect]errdefs.Kind{
		images.Corrupt: errdefs.FailedPrecondition, images.Truncate: errdefs.Unavailable, images.Fail: errdefs.Unavailable,
	} {
		server, ref := serveIn(t, images.Config{}, layer(t, images.File("a", strings.Repeat("a", 1000))))
		parsed, err := registry.ParseReference(ref)
		if err != nil {
			t.Fatal(err)
		}
		img, err := registry.Resolve(t.Context(), parsed, registry.Options{Insecure: []string{server.Host()}, Attempts: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(img.Close)
		server.Inject(images.Fault{Match: images.Blob(""), Effect: effect, At: 10})
		temp := t.TempDir()
		if _, err := disk.Source(img, disk.Options{Dir: temp})(context.WithoutCancel(t.Context()), keyOf(img, gib), nil); !errdefs.Is(err, want) {
			t.Errorf("%d: %s error: %v, want %s", effect, errdefs.KindOf(err), err, want)
		}
		nothingIn(t, temp)
	}
}

// TestAbsoluteLinksStayInTheImage: they mean the image's root, as in a chroot.
func TestAbsoluteLinksStayInTheImage(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	c := makeContent(t, serve(t, images.Config{},
		layer(t, images.Dir("etc"), images.Symlink("up", "/../../../etc"), images.File("/etc/absolute", "1"), images.File("up/through", "2")),
		layer(t, images.Hardlink("/linked", "/etc/absolute"))), disk.Options{Dir: temp}, gib, nil)
	defer closeContent(t, c, temp)
	raw, _ := c.Raw()
	for path, want := range map[string]string{"etc/absolute": "1", "etc/through": "2", "linked": "1"} {
		if got := contentOf(t, raw, path); got != want {
			t.Errorf("%s has %q, want %q", path, got, want)
		}
	}
}

// repeated is a part of an archive again and again.
type repeated struct {
	part  []byte
	times int
}

func (r repeated) writeTo(w io.Writer) error {
	for range r.times {
		if _, err := w.Write(r.part); err != nil {
			return err
		}
	}
	return nil
}

// TestBombsAtFullSize: what is small in a registry and large unpacked costs little
// memory and time, and zeroes little room.
func TestBombsAtFullSize(t *testing.T) {
	withoutRace(t)
	for name, tc := range map[string]struct {
		head []byte
		rest repeated
		size int64
		says string
	}{
		"10 GB of zeroes":                        {tarHeader(t, "zeroes", 10_000_000_000), repeated{make([]byte, 10_000_000), 1000}, gib, "uncompressed"},
		"1 GB of zeroes on a disk that has room": {tarHeader(t, "zeroes", 1_000_000_000), repeated{make([]byte, 10_000_000), 100}, 2 * gib, ""},
		"10 million entries":                     {nil, repeated{bytes.Repeat(tarHeader(t, "file", 0), 10_000), 1000}, gib, "uncompressed"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := images.TarLayer(images.LayerOptions{Compression: images.Zstd}, func(w io.Writer) error {
				if _, err := w.Write(tc.head); err != nil {
					return err
				}
				if err := tc.rest.writeTo(w); err != nil {
					return err
				}
				_, err := w.Write(make([]byte, 1024))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			temp := t.TempDir()
			o := inChild(t, task{Reference: serve(t, images.Config{}, l), Dir: temp, Size: tc.size})
			nothingIn(t, temp)
			if o.Peak > 128<<20 || o.Used > 64<<20 {
				t.Errorf("%d MiB of memory, %d MiB on the disk", o.Peak>>20, o.Used>>20)
			}
			if (o.Error == "") != (tc.says == "") || !strings.Contains(o.Error, tc.says) || o.Error != "" && o.Kind != errdefs.InvalidArgument {
				t.Errorf("%s error: %s", o.Kind, o.Error)
			}
			t.Log(o.Peak>>20, o.Stages, o.Error)
		})
	}
}
