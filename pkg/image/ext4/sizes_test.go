// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package ext4_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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
			// One inode table, and descriptors and a few bitmaps.
			if limit := size/gib*256 + 3*mib; result.UsedBytes > limit {
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

// What is counted to say what size would do must end, too.
func TestABombIsGivenUp(t *testing.T) {
	t.Parallel()
	bombs := map[string]io.Reader{
		"files without end": stream(t, func(w *tar.Writer) error {
			for i := 0; ; i++ {
				if err := put(w, fmt.Sprintf("f%d", i), 64*mib, zeroes{}); err != nil {
					return err
				}
			}
		}),
		"one file of 4 EiB": stream(t, func(w *tar.Writer) error { return put(w, "f", 1<<62, zeroes{}) }),
	}
	for name, bomb := range bombs {
		err := discard(t, bomb, options(16*mib))
		var tooSmall *ext4.TooSmallError
		if !errors.As(err, &tooSmall) || !tooSmall.AtLeast || !strings.Contains(err.Error(), "more than 1088 MiB, this one has 16 MiB") {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
	opts := options(1 << 40)
	opts.MaxEntries = 1000
	err := discard(t, stream(t, func(w *tar.Writer) error {
		for i := 0; ; i++ {
			if err := put(w, fmt.Sprintf("f%d", i), 0, nil); err != nil {
				return err
			}
		}
	}), opts)
	if !errdefs.Is(err, errdefs.ResourceExhausted) || !strings.Contains(err.Error(), "more than 1000 entries") {
		t.Errorf("entries without end: the error is %v", err)
	}
	// Names that are long.
	err = discard(t, stream(t, func(w *tar.Writer) error {
		for i := 0; ; i++ {
			if err := put(w, fmt.Sprintf("%0200d", i), 0, nil); err != nil {
				return err
			}
		}
	}), opts)
	if !errdefs.Is(err, errdefs.ResourceExhausted) || !strings.Contains(err.Error(), "take more than 100000 bytes") {
		t.Errorf("long names without end: the error is %v", err)
	}
	// One entry that makes many directories.
	if err := discard(t, archive(t, regular(strings.Repeat("d/", 1500)+"f", "")), opts); !errdefs.Is(err, errdefs.ResourceExhausted) {
		t.Errorf("directories without end: the error is %v", err)
	}
}

func TestBadEntriesAreNamed(t *testing.T) {
	t.Parallel()
	for want, files := range map[string][]file{
		`archive entry "../etc/passwd": the path "../etc/passwd" leads out of the archive`:      {regular("../etc/passwd", "x")},
		`archive entry "a/../../b": the path "a/../../b" leads out of the archive`:              {regular("a/../../b", "x")},
		`archive entry "l": the path "../x" leads out of the archive`:                           {hardlink("l", "../x")},
		`archive entry "l": it is a hard link to "nowhere", which does not come before it`:      {hardlink("l", "nowhere")},
		`archive entry "l": it is a hard link to "d", which is a directory`:                     {dir("d"), hardlink("l", "d")},
		`archive entry "d": a directory has this name already`:                                  {dir("d"), regular("d", "x")},
		`archive entry "f/": a file has this name already`:                                      {regular("f", "x"), dir("f/")},
		`archive entry "f/x": "f" is not a directory`:                                           {symlink("f", "/tmp"), regular("f/x", "x")},
		`archive entry ".": it names the root, which must be a directory`:                       {symlink(".", "x")},
		`archive entry "c": its device is 4096:0: numbers go up to 4095:1048575`:                {device("c", tar.TypeChar, 4096, 0)},
		`archive entry "f": its extended attribute "user.x" with 5000 bytes has no room`:        {regular("f", "").xattr("user.x", strings.Repeat("x", 5000))},
		`is not one that Linux allows`:                                                          {regular("f", "").xattr("user."+strings.Repeat("x", 255), "x")},
		`archive entry "f": its extended attribute "system.posix_acl_access": it is not an ACL`: {regular("f", "").xattr("system.posix_acl_access", "x")},
		`archive entry "s": it is a symbolic link to nothing`:                                   {symlink("s", "")},
		`archive entry "s": its target has 4096 bytes, more than the 4095 that Linux allows`:    {symlink("s", strings.Repeat("x", 4096))},
		`has 256 bytes, more than 255`:                                                          {regular(strings.Repeat("n", 256), "")},
		`has 5001 bytes, more than the 4095 that Linux allows`:                                  {regular(strings.Repeat("n/", 2500)+"f", "")},
	} {
		err := discard(t, archive(t, files...), options(64*mib))
		if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, it should be %s", err, want)
		}
	}
}

func TestBrokenArchivesAreInvalid(t *testing.T) {
	t.Parallel()
	whole := archive(t, regular("f", strings.Repeat("x", 100_000))).Bytes()
	unavailable := errdefs.New(errdefs.Unavailable, "the registry is gone")
	for name, tc := range map[string]struct {
		tarball io.Reader
		kind    errdefs.Kind
	}{
		"cut off in a header":  {bytes.NewReader(whole[:100]), errdefs.InvalidArgument},
		"cut off in a file":    {bytes.NewReader(whole[:50_000]), errdefs.InvalidArgument},
		"no archive":           {strings.NewReader(strings.Repeat("not a tar", 1000)), errdefs.InvalidArgument},
		"an unknown error":     {io.MultiReader(bytes.NewReader(whole[:50_000]), failing{errors.New("broken")}), errdefs.Unavailable},
		"an error with a kind": {io.MultiReader(bytes.NewReader(whole[:50_000]), failing{unavailable}), errdefs.Unavailable},
		"denied":               {failing{errdefs.New(errdefs.PermissionDenied, "no")}, errdefs.PermissionDenied},
	} {
		if err := discard(t, tc.tarball, options(64*mib)); !errdefs.Is(err, tc.kind) {
			t.Errorf("%s: the error is %v of the kind %s, which should be %s", name, err, errdefs.KindOf(err), tc.kind)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*ext4.Options){
		"the size of a disk is 0 bytes":       func(o *ext4.Options) { o.Size = 0 },
		"the size of a disk is 1048577 bytes": func(o *ext4.Options) { o.Size = mib + 1 },
		"at most 2 TiB":                       func(o *ext4.Options) { o.Size = 2<<40 + mib },
		`the label "seventeen-bytes--" of a`:  func(o *ext4.Options) { o.Label = "seventeen-bytes--" },
		"the UUID of a filesystem is zero":    func(o *ext4.Options) { o.UUID = [16]byte{} },
		"the limit of entries is -1":          func(o *ext4.Options) { o.MaxEntries = -1 },
	} {
		opts := options(64 * mib)
		change(&opts)
		if err := discard(t, archive(t), opts); !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, it should say %s", err, want)
		}
	}
}

// faulty is a file whose writes fail behind a number of bytes.
type faulty struct {
	limit int64
	err   error
}

func (f faulty) Truncate(int64) error { return nil }
func (f faulty) WriteAt(b []byte, at int64) (int, error) {
	if at+int64(len(b)) > f.limit {
		return 0, f.err
	}
	return len(b), nil
}

func TestAFullPlaceIsToldFromABrokenOne(t *testing.T) {
	t.Parallel()
	tarball := archive(t, regular("f", strings.Repeat("x", 10*mib))).Bytes()
	for err, kind := range map[error]errdefs.Kind{syscall.ENOSPC: errdefs.ResourceExhausted, syscall.EIO: errdefs.Internal} {
		for _, limit := range []int64{0, 3 * mib, 11 * mib} {
			_, got := ext4.Write(t.Context(), bytes.NewReader(tarball), faulty{limit, err}, options(64*mib))
			if !errdefs.Is(got, kind) || !errors.Is(got, err) {
				t.Errorf("%v behind %d bytes gives %v", err, limit, got)
			}
		}
	}
}

func TestWriteEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	endless := stream(t, func(w *tar.Writer) error {
		if err := put(w, "first", 1, newPattern()); err != nil {
			return err
		}
		cancel()
		return put(w, "endless", 1<<39, newPattern())
	})
	_, err := ext4.Write(ctx, endless, faulty{limit: 1 << 40}, options(1<<40))
	if !errdefs.Is(err, errdefs.Canceled) || !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}
