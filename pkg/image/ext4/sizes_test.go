// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package ext4_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/ext4"
)

func TestEverySizeIsAFilesystem(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	for _, size := range []int64{
		8 * mib, 100 * mib, 127 * mib, 128 * mib, 129 * mib, 130 * mib, 131 * mib, 256 * mib, 257 * mib, 258 * mib, 259 * mib,
		gib, 10 * gib, 60 * gib, 60*gib + mib, 1 << 40, 2 << 40,
	} {
		t.Run(fmt.Sprintf("%d MiB", size/mib), func(t *testing.T) {
			t.Parallel()
			opts := options(size)
			opts.Label = "sixteen-bytes-ok"
			disk, result := write(t, archive(t, regular("etc/motd", "welcome\n")), opts)
			fsck(t, disk)
			fs, got := tree(t, disk)
			want := base(4)
			want["etc"] = item{Mode: 0o40755, Links: 2, Modified: made}
			want["etc/motd"] = item{Mode: 0o100644, Links: 1, Size: 8, Digest: digest("welcome\n"), Modified: built}
			differs(t, want, got)
			journal := int64(16 * mib)
			if size < 128*mib {
				journal = 4 * mib
			}
			if fs.Label != opts.Label || fs.UUID != uuid || !fs.Writable || fs.JournalBytes != journal {
				t.Errorf("the filesystem is %+v", fs)
			}
			if lost := size - fs.Size; lost < 0 || lost > 3*mib {
				t.Errorf("the filesystem has %d of %d bytes", fs.Size, size)
			}
			if fs.FreeBytes != result.FreeBytes || fs.Inodes != result.Inodes || fs.FreeInodes != result.FreeInodes || fs.FreeInodes != fs.Inodes-13 {
				t.Errorf("the result is %+v, the filesystem is %+v", result, fs)
			}
			// Descriptors, directories, bitmaps, and a block each of the journal and of inodes.
			if limit := size/gib*256 + 64<<10; result.UsedBytes > limit {
				t.Errorf("%d bytes were written, more than %d", result.UsedBytes, limit)
			}
			if overhead := size - result.FreeBytes; overhead > size/50+journal+4*mib {
				t.Errorf("%d bytes are free, %d are not", result.FreeBytes, overhead)
			}
		})
	}
}

func TestAnEmptyArchiveMakesAVolume(t *testing.T) {
	t.Parallel()
	for name, tarball := range map[string]io.Reader{"no bytes at all": strings.NewReader(""), "no entries": archive(t)} {
		disk, _ := write(t, tarball, options(100*mib))
		fsck(t, disk)
		_, got := tree(t, disk)
		t.Log(name)
		differs(t, base(3), got)
	}
}

func TestTheRootTakesTheAttributesOfTheArchive(t *testing.T) {
	t.Parallel()
	disk, _ := write(t, archive(t, dir("./").mode(0o711).owned(5, 6).xattr("user.root", "yes"), dir("lost+found").mode(0o755)), options(8*mib))
	fsck(t, disk)
	_, got := tree(t, disk)
	differs(t, map[string]item{
		".":          {Mode: 0o40711, UID: 5, GID: 6, Links: 3, Modified: built, Xattrs: map[string]string{"user.root": "yes"}},
		"lost+found": {Mode: 0o40755, Links: 2, Modified: built},
	}, got)
}

// stream yields an archive that is made while it is read.
func stream(t *testing.T, files func(w *tar.Writer) error) io.Reader {
	t.Helper()
	r, w := io.Pipe()
	t.Cleanup(func() { r.Close() })
	go func() {
		tw := tar.NewWriter(w)
		err := files(tw)
		if err == nil {
			err = tw.Close()
		}
		w.CloseWithError(err)
	}()
	return r
}

func put(w *tar.Writer, name string, size int64, content io.Reader) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: size, ModTime: built}); err != nil {
		return err
	}
	_, err := io.CopyN(w, content, size)
	return err
}

// pattern yields bytes of which no run is zero, and which differ from place to place.
type pattern struct {
	block []byte
	at    int
}

func newPattern() *pattern {
	// Its length has no factor in common with those that matter.
	block := bytes.Repeat([]byte("the quick brown fox jumps over "), 1<<20/31)
	return &pattern{block: block}
}

func (p *pattern) Read(b []byte) (int, error) {
	n := copy(b, p.block[p.at:])
	p.at = (p.at + n) % len(p.block)
	return n, nil
}

type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func TestAHundredThousandSmallFilesFitInALittleMemory(t *testing.T) {
	t.Parallel()
	const files = 100_000
	disk, result := write(t, stream(t, func(w *tar.Writer) error {
		for i := range files {
			// A thousand directories, and one that has half of all files.
			name := fmt.Sprintf("many/%05d", i)
			if i%2 == 0 {
				name = fmt.Sprintf("dir%03d/sub/%d", i%1000, i)
			}
			if err := put(w, name, int64(len(name)), strings.NewReader(name)); err != nil {
				return err
			}
		}
		return nil
	}), options(1<<30))
	fsck(t, disk)
	names, samples := 0, 0
	walk(t, disk, func(fs *ext4.Filesystem, e *ext4.Entry) error {
		names++
		if !e.IsRegular() || names%20 != 0 {
			return nil
		}
		samples++
		return sameContent(fs.Content(e), strings.NewReader(e.Path))
	})
	if names != files+1003 || samples < files/25 || result.FreeInodes < 5000 {
		t.Errorf("%d names are there, %d were looked at, the result is %+v", names, samples, result)
	}
}

// More inodes than data: the inode tables of groups behind the data are in the prefix.
func TestEmptyFilesTakeInodesOnly(t *testing.T) {
	t.Parallel()
	const files = 33_000
	tarball := func() io.Reader {
		return stream(t, func(w *tar.Writer) error {
			for i := range files {
				if err := put(w, fmt.Sprintf("f%d", i), 0, nil); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for _, size := range []int64{135 * mib, 2 << 30} {
		disk, result := write(t, tarball(), options(size))
		fsck(t, disk)
		names := 0
		walk(t, disk, func(*ext4.Filesystem, *ext4.Entry) error {
			names++
			return nil
		})
		if names != files+2 || result.FreeInodes < 1000 {
			t.Errorf("%d names are there, the result is %+v", names, result)
		}
	}
}

func TestADirectoryMayHaveMoreSubdirectoriesThanLinks(t *testing.T) {
	t.Parallel()
	const dirs = 65_100
	disk, _ := write(t, stream(t, func(w *tar.Writer) error {
		for i := range dirs {
			if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("d/%d/", i), Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
				return err
			}
		}
		return nil
	}), options(2<<30))
	fsck(t, disk)
	names, links := 0, 0
	walk(t, disk, func(_ *ext4.Filesystem, e *ext4.Entry) error {
		names++
		if e.Path == "d" {
			links = e.Links
		}
		return nil
	})
	if links != 1 || names != dirs+3 {
		t.Errorf("%d names are there, the directory has %d links", names, links)
	}
}

// walk calls visit for all names on a disk.
func walk(t *testing.T, disk string, visit func(*ext4.Filesystem, *ext4.Entry) error) {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fs, err := ext4.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := fs.Walk(t.Context(), func(e *ext4.Entry) error { return visit(fs, e) }); err != nil {
		t.Fatal(err)
	}
}

// entry yields a header and a file's content, without a copy of it.
func entry(t *testing.T, name string, size int64, content io.Reader) io.Reader {
	t.Helper()
	var b bytes.Buffer
	header := tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: size, ModTime: built}
	if err := tar.NewWriter(&b).WriteHeader(&header); err != nil {
		t.Fatal(err)
	}
	return io.MultiReader(&b, io.LimitReader(content, size), bytes.NewReader(make([]byte, (512-size%512)%512)))
}

func TestLargeFilesHaveExtentTrees(t *testing.T) {
	t.Parallel()
	// More than four extents of 128 MiB; more extents than one block of a tree
	// has, and than fit below the inode with one level.
	const zero, data, holes = int64(5<<30) + 12345, 520 * mib, 1400
	scattered := func() io.Reader {
		var parts []io.Reader
		for i := range holes {
			parts = append(parts, strings.NewReader(fmt.Sprintf("%08d", i)), io.LimitReader(zeroes{}, 512<<10-8))
		}
		return io.MultiReader(parts...)
	}
	disk, result := write(t, io.MultiReader(
		entry(t, "zeroes", zero, zeroes{}),
		entry(t, "data", data, newPattern()),
		entry(t, "holes", holes*512<<10, scattered()),
		bytes.NewReader(make([]byte, 1024)),
	), options(10<<30))
	fsck(t, disk)
	if limit := int64(data + holes*256<<10 + 10*mib); result.UsedBytes > limit {
		t.Errorf("%d bytes were written, more than %d", result.UsedBytes, limit)
	}
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fs, err := ext4.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	err = fs.Walk(t.Context(), func(e *ext4.Entry) error {
		switch e.Path {
		case "zeroes":
			if e.Size != zero || e.Blocks != 0 {
				t.Errorf("%s has %d bytes in %d blocks", e.Path, e.Size, e.Blocks)
			}
		case "data":
			if err := sameContent(fs.Content(e), io.LimitReader(newPattern(), data)); err != nil {
				return err
			}
		case "holes":
			if err := sameContent(fs.Content(e), scattered()); err != nil {
				return err
			}
		default:
			return nil
		}
		seen++
		return nil
	})
	if err != nil || seen != 3 {
		t.Errorf("%d files are there, or %v", seen, err)
	}
}

func sameContent(got, want io.Reader) error {
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := 0; ; at += len(a) {
		n, errA := io.ReadFull(got, a)
		m, errB := io.ReadFull(want, b)
		if n != m || !bytes.Equal(a[:n], b[:m]) {
			return fmt.Errorf("the content differs behind %d bytes", at)
		}
		if n < len(a) {
			return errors.Join(unexpected(errA), unexpected(errB))
		}
	}
}

// unexpected leaves the errors out that an end is.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

func discard(t *testing.T, tarball io.Reader, opts ext4.Options) error {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = ext4.Write(t.Context(), tarball, f, opts)
	return err
}

func TestADiskThatIsTooSmallSaysWhatWouldDo(t *testing.T) {
	t.Parallel()
	for name, tarball := range map[string]func() io.Reader{
		"one large file": func() io.Reader { return archive(t, regular("f", strings.Repeat("x", 40*mib))) },
		"only zeroes":    func() io.Reader { return archive(t, regular("f", strings.Repeat("\x00", 60*mib))) },
		"many inodes": func() io.Reader {
			return stream(t, func(w *tar.Writer) error {
				for i := range 20_000 {
					if err := put(w, fmt.Sprintf("f%d", i), 0, nil); err != nil {
						return err
					}
				}
				return nil
			})
		},
		"nothing": func() io.Reader { return archive(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := discard(t, tarball(), options(3*mib))
			var tooSmall *ext4.TooSmallError
			if !errors.As(err, &tooSmall) || !errdefs.Is(err, errdefs.InvalidArgument) || tooSmall.AtLeast || tooSmall.Size != 3*mib {
				t.Fatalf("the error is %v", err)
			}
			if want := fmt.Sprintf("at least %d MiB, this one has 3 MiB", tooSmall.Need/mib); !strings.Contains(err.Error(), want) {
				t.Errorf("the error %q does not say %q", err, want)
			}
			disk, _ := write(t, tarball(), options(tooSmall.Need))
			fsck(t, disk)
			if err := discard(t, tarball(), options(tooSmall.Need-mib)); !errors.As(err, &tooSmall) {
				t.Errorf("one MiB less gives %v", err)
			}
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func (f faulty) Truncate(int64) error { return nil }
