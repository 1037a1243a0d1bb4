// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/disk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/ext4"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
)

const gib = 1 << 30

// TestATrickyImageIsOnItsDisk compares file by file, and has programs of others
// judge the disk.
func TestATrickyImageIsOnItsDisk(t *testing.T) {
	t.Parallel()
	compareTricky(t, 1000)
}

// TestATrickyImageAtFullSize is the same with many files.
func TestATrickyImageAtFullSize(t *testing.T) {
	withoutRace(t)
	compareTricky(t, 100_000)
}

func compareTricky(t *testing.T, many int) {
	f := tricky(many)
	var layers []images.ImageLayer
	for i, entries := range f.layers {
		layer, err := images.LayerWith(images.LayerOptions{Compression: images.Compression(i % 3), Fast: true}, entries...)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, layer)
	}
	temp := t.TempDir()
	content := makeContent(t, serve(t, images.Config{Volumes: f.volumes}, layers...), disk.Options{Dir: temp}, 2*gib, nil)
	raw, vmdk := filepath.Join(t.TempDir(), "raw"), filepath.Join(t.TempDir(), "vmdk")
	r, used := content.Raw()
	save(t, raw, r, used)
	r, n, err := content.StreamOptimized(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	save(t, vmdk, r, n)
	if err := os.Truncate(raw, 2*gib); err != nil {
		t.Fatal(err)
	}
	closeContent(t, content, temp)

	compareTree(t, f, raw)
	run(t, "e2fsck", "e2fsprogs", "-fn", raw)
	compareDebugfs(t, f, raw)
	run(t, "qemu-img", "qemu-utils", "check", "-f", "vmdk", vmdk)
	run(t, "qemu-img", "qemu-utils", "compare", "-f", "raw", "-F", "vmdk", raw, vmdk)
}

// makeContent makes a disk; the caller closes it.
func makeContent(t testing.TB, reference string, o disk.Options, size int64, report image.Report) image.Content {
	t.Helper()
	content, err := source(t.Context(), t, reference, o, size, report)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func source(ctx context.Context, t testing.TB, reference string, o disk.Options, size int64, report image.Report) (image.Content, error) {
	t.Helper()
	img, err := resolve(t.Context(), reference)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(img.Close)
	return disk.Source(img, o)(ctx, keyOf(img, size), report)
}

func keyOf(img *registry.Image, size int64) image.Key {
	return image.Key{Digest: img.Digest, Size: size}
}

// closeContent closes it, and fails the test if something stays.
func closeContent(t testing.TB, content image.Content, temp string) {
	t.Helper()
	for range 2 { // again is no error
		if err := content.Close(); err != nil {
			t.Error(err)
		}
	}
	nothingIn(t, temp)
}

func nothingIn(t testing.TB, dir string) {
	t.Helper()
	if names := filesIn(t, dir); len(names) > 0 {
		t.Errorf("these stayed: %q", names)
	}
}

// filesIn are the names in a directory and below.
func filesIn(t testing.TB, dir string) (names []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if path != dir {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return names
}

func save(t testing.TB, name string, r io.ReaderAt, size int64) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := io.Copy(f, io.NewSectionReader(r, 0, size)); err != nil || n != size {
		t.Fatalf("%d of %d bytes: %v", n, size, err)
	}
}

// item is what is compared of a path.
type item struct {
	Type         byte
	Mode         int64
	UID, GID     int
	Size         int64
	Digest       string
	Target       string
	Major, Minor int64
	Xattrs       map[string]string
	Time         time.Time
}

func itemOf(e images.Entry) item {
	i := item{
		Type: e.Type, Mode: e.Mode, UID: e.UID, GID: e.GID, Target: e.Target, Major: e.Major, Minor: e.Minor, Xattrs: e.Xattrs, Time: e.Time.UTC(),
	}
	switch e.Type {
	case 0:
		i.Type = tar.TypeDir
	case tar.TypeReg:
		i.Size, i.Digest = int64(len(e.Content)), digest(strings.NewReader(e.Content))
	case tar.TypeSymlink:
		i.Size = int64(len(e.Target))
	}
	switch {
	case e.Mode == images.NoPermissions:
		i.Mode = 0
	case e.Mode != 0:
	case i.Type == tar.TypeDir:
		i.Mode = 0o755
	case i.Type == tar.TypeSymlink:
		i.Mode = 0o777
	default:
		i.Mode = 0o644
	}
	return i
}

func digest(r io.Reader) string {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

// itemOn is what a disk has.
func itemOn(filesystem *ext4.Filesystem, e *ext4.Entry) item {
	types := map[uint32]byte{
		0o100000: tar.TypeReg, 0o040000: tar.TypeDir, 0o120000: tar.TypeSymlink, 0o020000: tar.TypeChar, 0o060000: tar.TypeBlock, 0o010000: tar.TypeFifo,
	}
	i := item{
		Type: types[e.Mode&0o170000], Mode: int64(e.Mode & 0o7777), UID: int(e.UID), GID: int(e.GID), Target: e.Target,
		Major: int64(e.Major), Minor: int64(e.Minor), Time: e.Modified.UTC(),
	}
	if e.IsRegular() {
		i.Digest = digest(filesystem.Content(e))
	}
	if !e.IsDir() {
		i.Size = e.Size
	}
	for name, value := range e.Xattrs {
		if i.Xattrs == nil {
			i.Xattrs = map[string]string{}
		}
		i.Xattrs[name] = string(value)
	}
	return i
}

// compareTree compares every path.
func compareTree(t testing.TB, f *fixture, raw string) {
	t.Helper()
	file, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	filesystem, err := ext4.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	if filesystem.Label != "containerfs" || !filesystem.Writable || filesystem.JournalBytes == 0 {
		t.Errorf("the file system is %+v", filesystem)
	}
	seen := 0
	inodes := map[uint32][]string{}
	counts := map[uint32]int{}
	if err := filesystem.Walk(t.Context(), func(e *ext4.Entry) error {
		name := strings.TrimPrefix(e.Path, "./")
		if name == "." {
			name = ""
		}
		want, ok := f.want[name]
		if !ok {
			t.Errorf("%q is on the disk", name)
			return nil
		}
		seen++
		expected, got := itemOf(want), itemOn(filesystem, e)
		if want.Time.IsZero() {
			got.Time = expected.Time
		}
		if diff := cmp.Diff(expected, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", name, diff)
		}
		if !e.IsDir() {
			inodes[e.Inode] = append(inodes[e.Inode], name)
			counts[e.Inode] = e.Links
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if seen != len(f.want) {
		t.Errorf("%d of %d paths are on the disk", seen, len(f.want))
	}
	var links [][]string
	for inode, names := range inodes {
		if counts[inode] != len(names) {
			t.Errorf("%q have %d links", names, counts[inode])
		}
		if len(names) > 1 {
			slices.Sort(names)
			links = append(links, names)
		}
	}
	slices.SortFunc(links, slices.Compare)
	slices.SortFunc(f.links, slices.Compare)
	if diff := cmp.Diff(f.links, links); diff != "" {
		t.Errorf("what is one file (-want +got):\n%s", diff)
	}
}

// compareDebugfs asks debugfs about the paths whose names it can be given.
func compareDebugfs(t testing.TB, f *fixture, raw string) {
	t.Helper()
	type stat struct{ Type, Mode, User, Group string }
	kinds := map[byte]string{
		tar.TypeReg: "regular", tar.TypeDir: "directory", tar.TypeSymlink: "symlink", tar.TypeChar: "character special", tar.TypeBlock: "block special", tar.TypeFifo: "FIFO",
	}
	var names []string
	var commands strings.Builder
	for name := range f.paths() {
		if !utf8.ValidString(name) || strings.Contains(name, "\n") || len(name) > 250 {
			continue
		}
		names = append(names, name)
		fmt.Fprintf(&commands, "stat \"/%s\"\n", name)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte(commands.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	out := run(t, "debugfs", "e2fsprogs", "-f", script, raw)
	pattern := regexp.MustCompile(`Type: (.*?) +Mode: +(\d+)`)
	owner := regexp.MustCompile(`User: +(\d+) +Group: +(-?\d+)`)
	var got []stat
	scanner := bufio.NewScanner(strings.NewReader(out))
	for scanner.Scan() {
		if m := pattern.FindStringSubmatch(scanner.Text()); m != nil {
			got = append(got, stat{Type: m[1], Mode: m[2]})
		}
		if m := owner.FindStringSubmatch(scanner.Text()); m != nil && len(got) > 0 {
			got[len(got)-1].User, got[len(got)-1].Group = m[1], m[2]
		}
	}
	if len(got) != len(names) {
		t.Fatalf("debugfs tells of %d paths, not of %d:\n%s", len(got), len(names), out)
	}
	for i, name := range names {
		e := itemOf(f.want[name])
		want := stat{kinds[e.Type], fmt.Sprintf("0%03o", e.Mode), fmt.Sprint(int32(e.UID)), fmt.Sprint(int32(e.GID))} // it has signs
		if diff := cmp.Diff(want, got[i]); diff != "" {
			t.Errorf("debugfs says of %q (-want +got):\n%s", name, diff)
		}
	}
	for _, asked := range []struct{ what, want string }{
		{"ea_get -x /attr/cap security.capability", "01 00 00 02 00 20"},
		{"ea_get -x /links/of-deleted security.capability", "01 00 00 02 00 20"},
		{"stat /attr/block", "259:1048575"},
		{"stat /links/one", "Links: 3"},
		{"cat /links/of-replaced", "before"},
		{"cat /names/" + strings.Repeat("n", 255), "long"},
		{"stat /names/short", `Fast link dest: "sssss`},
		{"ea_get -V /attr/large user.large", strings.Repeat("v", 3000)},
	} {
		if out := run(t, "debugfs", "e2fsprogs", "-R", asked.what, raw); !strings.Contains(out, asked.want) {
			t.Errorf("debugfs says to %s: %q, want %q", asked.what, out, asked.want)
		}
	}
}

// run runs a program, which is missed rather than skipped: the scripts that run
// tests install it.
func run(t testing.TB, name, debianPackage string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = filepath.Join("/usr/sbin", name)
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("%s is missing, install the Debian package %s: hack/prerequisites.sh does", name, debianPackage)
		}
	}
	c := exec.CommandContext(t.Context(), path, args...)
	c.Env = append(os.Environ(), "DEBUGFS_PAGER=cat", "PAGER=cat", "LC_ALL=C")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}
