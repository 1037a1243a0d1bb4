// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package ext4_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/ext4"
)

const mib = 1 << 20

var (
	made  = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	built = time.Date(2025, 1, 2, 3, 4, 5, 678900000, time.UTC)
	uuid  = [16]byte{0x5f, 0x0e, 0x3b, 0x1a, 0x01, 0x02, 0x43, 0x04, 0x85, 6, 7, 8, 9, 10, 11, 12}
)

// file is an entry of an archive.
type file struct {
	tar.Header
	content []byte
}

func regular(name, content string) file {
	return file{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, ModTime: built}, []byte(content)}
}

func dir(name string) file {
	return file{tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755, ModTime: built}, nil}
}

func symlink(name, target string) file {
	return file{tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777, ModTime: built}, nil}
}

func hardlink(name, target string) file {
	return file{tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}, nil}
}

func device(name string, kind byte, major, minor int64) file {
	return file{tar.Header{Name: name, Typeflag: kind, Devmajor: major, Devminor: minor, Mode: 0o600, ModTime: built}, nil}
}

func (f file) owned(uid, gid int) file {
	f.Uid, f.Gid = uid, gid
	return f
}

func (f file) mode(mode int64) file {
	f.Mode = mode
	return f
}

func (f file) xattr(name, value string) file {
	records := map[string]string{"SCHILY.xattr." + name: value}
	for k, v := range f.PAXRecords {
		records[k] = v
	}
	f.PAXRecords = records
	return f
}

func archive(t testing.TB, files ...file) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		f.Size = int64(len(f.content))
		f.Format = tar.FormatPAX
		if err := w.WriteHeader(&f.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func options(size int64) ext4.Options { return ext4.Options{Size: size, UUID: uuid, Time: made} }

// write makes a filesystem in a file that is as long as the disk.
func write(t testing.TB, tarball io.Reader, opts ext4.Options) (string, ext4.Result) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	result, err := ext4.Write(context.Background(), tarball, f, opts)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != result.UsedBytes || result.Size != opts.Size {
		t.Errorf("the file has %d bytes, the result is %+v", info.Size(), result)
	}
	if err := f.Truncate(opts.Size); err != nil {
		t.Fatal(err)
	}
	return name, result
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

// fsck fails the test if e2fsck finds anything to complain about.
func fsck(t testing.TB, disk string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program(t, "e2fsck", "e2fsprogs"), "-fn", disk).CombinedOutput()
	if err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	if strings.Contains(string(out), "WARNING") || strings.Contains(string(out), "IGNORED") {
		t.Errorf("e2fsck is not content:\n%s", out)
	}
}

// debugfs returns what debugfs answers to a request.
func debugfs(t testing.TB, disk, request string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), program(t, "debugfs", "e2fsprogs"), "-R", request, disk)
	command.Env = append(command.Environ(), "TZ=UTC", "DEBUGFS_PAGER=cat")
	out, err := command.Output()
	if err != nil {
		t.Fatalf("debugfs %s: %v", request, err)
	}
	return string(out)
}

// item is what a test compares of an entry.
type item struct {
	Mode         uint32
	UID, GID     uint32
	Links        int
	Size         int64
	Digest       string
	Target       string
	Major, Minor uint32
	Modified     time.Time
	Xattrs       map[string]string
}

func digest(content string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(content)))[:16] }

// tree reads everything that is on a disk, by path.
func tree(t testing.TB, disk string) (*ext4.Filesystem, map[string]item) {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	fs, err := ext4.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]item{}
	err = fs.Walk(t.Context(), func(e *ext4.Entry) error {
		i := item{Mode: e.Mode, UID: e.UID, GID: e.GID, Links: e.Links, Target: e.Target, Major: e.Major, Minor: e.Minor, Modified: e.Modified}
		for name, value := range e.Xattrs {
			if i.Xattrs == nil {
				i.Xattrs = map[string]string{}
			}
			i.Xattrs[name] = string(value)
		}
		if e.IsRegular() {
			i.Size = e.Size
			hash := sha256.New()
			if _, err := io.Copy(hash, fs.Content(e)); err != nil {
				return err
			}
			i.Digest = fmt.Sprintf("%x", hash.Sum(nil))[:16]
		}
		if _, found := all[e.Path]; found {
			t.Errorf("%s is there twice", e.Path)
		}
		all[e.Path] = i
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fs, all
}

// base is what every filesystem has, with the number of directories in the root.
func base(rootLinks int) map[string]item {
	return map[string]item{
		".":          {Mode: 0o40755, Links: rootLinks, Modified: made},
		"lost+found": {Mode: 0o40700, Links: 2, Modified: made},
	}
}

func differs(t testing.TB, want, got map[string]item) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the tree differs (- what it should be, + what is there):\n%s", diff)
	}
}

// acl is an ACL as programs see it: for its owner, a user, the group, and others.
var acl = strings.Join([]string{
	"\x02\x00\x00\x00",
	"\x01\x00\x06\x00\xff\xff\xff\xff",
	"\x02\x00\x04\x00\xe9\x03\x00\x00",
	"\x04\x00\x04\x00\xff\xff\xff\xff",
	"\x10\x00\x04\x00\xff\xff\xff\xff",
	"\x20\x00\x00\x00\xff\xff\xff\xff",
}, "")

// capability is what setcap cap_net_raw=ep leaves.
const capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func trickyFiles() []file {
	long := strings.Repeat("n", 255)
	return []file{
		dir("etc"), regular("etc/hostname", ""), // injected, and replaced below
		dir("./etc/").mode(0o750).owned(3, 4),
		regular("etc/hostname", "node\n").mode(0o600),
		regular("usr/bin/ping", strings.Repeat("ping", 5000)).mode(0o4755).xattr("security.capability", capability),
		hardlink("usr/bin/ping4", "usr/bin/ping"),
		hardlink("/usr/bin/ping6", "/usr/bin/ping"),
		symlink("bin", "usr/bin"),
		symlink("s59", strings.Repeat("a", 59)), symlink("s60", strings.Repeat("b", 60)),
		symlink("s4095", strings.Repeat("c/", 2047)+"d").xattr("security.selinux", strings.Repeat("s", 200)),
		device("dev/null", tar.TypeChar, 1, 3).mode(0o666),
		device("dev/sda", tar.TypeBlock, 8, 0),
		device("dev/big", tar.TypeBlock, 259, 300000),
		device("run/fifo", tar.TypeFifo, 0, 0),
		regular("home/big-owner", "mine").owned(70001, 70002),
		regular(long+"/"+long+"/"+long, "long names"),
		regular("xattrs", "x").xattr("user.a", "1").xattr("user.empty", "").xattr("trusted.overlay.opaque", "y").
			xattr("security.selinux", "system_u:object_r:bin_t:s0\x00").xattr("security.ima", strings.Repeat("i", 300)).
			xattr("user.long", strings.Repeat("v", 2500)).xattr("user."+strings.Repeat("k", 200), "v").
			xattr("com.apple.provenance", "dropped"),
		dir("var/log/journal").mode(0o2755).xattr("system.posix_acl_access", acl).xattr("system.posix_acl_default", acl),
		regular("zeroes", strings.Repeat("\x00", 3*mib)),
		regular("holes", strings.Repeat("\x00", 600<<10)+"data"+strings.Repeat("\x00", 900<<10)+"end"),
		regular("replaced", strings.Repeat("old", 100000)),
		regular("replaced", "new").xattr("user.new", "1"),
		regular("became-link", strings.Repeat("old", 1000)),
		hardlink("became-link", "etc/hostname"),
		regular("kept-by-link", "kept"), hardlink("other-name", "kept-by-link"), regular("kept-by-link", "fresh"),
		regular("tmp", "").mode(0o644),
		dir("sticky").mode(0o1777),
		{tar.Header{Name: "old", Typeflag: tar.TypeReg, Mode: 0o644, ModTime: time.Date(1950, 1, 1, 0, 0, 0, 500, time.UTC)}, nil},
		{tar.Header{Name: "late", Typeflag: tar.TypeReg, Mode: 0o644, ModTime: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}, nil},
	}
}

func trickyTree() map[string]item {
	long := strings.Repeat("n", 255)
	at := func(i item) item {
		i.Modified = built
		return i
	}
	madeDir := func(links int) item { return item{Mode: 0o40755, Links: links, Modified: made} }
	content := func(mode uint32, links int, content string) item {
		return at(item{Mode: 0o100000 | mode, Links: links, Size: int64(len(content)), Digest: digest(content)})
	}
	ping := content(0o4755, 3, strings.Repeat("ping", 5000))
	ping.Xattrs = map[string]string{"security.capability": capability}
	hostname := content(0o600, 2, "node\n")
	owner := content(0o644, 1, "mine")
	owner.UID, owner.GID = 70001, 70002
	xattrs := content(0o644, 1, "x")
	xattrs.Xattrs = map[string]string{
		"user.a": "1", "user.empty": "", "trusted.overlay.opaque": "y", "security.selinux": "system_u:object_r:bin_t:s0\x00",
		"security.ima": strings.Repeat("i", 300), "user.long": strings.Repeat("v", 2500), "user." + strings.Repeat("k", 200): "v",
	}
	replaced := content(0o644, 1, "new")
	replaced.Xattrs = map[string]string{"user.new": "1"}
	want := map[string]item{
		"etc": at(item{Mode: 0o40750, Links: 2, UID: 3, GID: 4}), "etc/hostname": hostname, "became-link": hostname,
		"usr": madeDir(3), "usr/bin": madeDir(2), "usr/bin/ping": ping, "usr/bin/ping4": ping, "usr/bin/ping6": ping,
		"bin":   at(item{Mode: 0o120777, Links: 1, Target: "usr/bin"}),
		"s59":   at(item{Mode: 0o120777, Links: 1, Target: strings.Repeat("a", 59)}),
		"s60":   at(item{Mode: 0o120777, Links: 1, Target: strings.Repeat("b", 60)}),
		"s4095": at(item{Mode: 0o120777, Links: 1, Target: strings.Repeat("c/", 2047) + "d", Xattrs: map[string]string{"security.selinux": strings.Repeat("s", 200)}}),
		"dev":   madeDir(2), "dev/null": at(item{Mode: 0o20666, Links: 1, Major: 1, Minor: 3}),
		"dev/sda": at(item{Mode: 0o60600, Links: 1, Major: 8}), "dev/big": at(item{Mode: 0o60600, Links: 1, Major: 259, Minor: 300000}),
		"run": madeDir(2), "run/fifo": at(item{Mode: 0o10600, Links: 1}),
		"home": madeDir(2), "home/big-owner": owner,
		long: madeDir(3), long + "/" + long: madeDir(2), long + "/" + long + "/" + long: content(0o644, 1, "long names"),
		"xattrs": xattrs,
		"var":    madeDir(3), "var/log": madeDir(3),
		"var/log/journal": at(item{Mode: 0o42755, Links: 2, Xattrs: map[string]string{"system.posix_acl_access": acl, "system.posix_acl_default": acl}}),
		"zeroes":          content(0o644, 1, strings.Repeat("\x00", 3*mib)),
		"holes":           content(0o644, 1, strings.Repeat("\x00", 600<<10)+"data"+strings.Repeat("\x00", 900<<10)+"end"),
		"replaced":        replaced, "kept-by-link": content(0o644, 1, "fresh"), "other-name": content(0o644, 1, "kept"),
		"tmp": content(0o644, 1, ""), "sticky": at(item{Mode: 0o41777, Links: 2}),
		"old":  {Mode: 0o100644, Links: 1, Digest: digest(""), Modified: time.Date(1950, 1, 1, 0, 0, 0, 500, time.UTC)},
		"late": {Mode: 0o100644, Links: 1, Digest: digest(""), Modified: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)},
	}
	for path, i := range base(11) {
		want[path] = i
	}
	return want
}

func TestATrickyTreeComesBackAsItWas(t *testing.T) {
	t.Parallel()
	disk, result := write(t, archive(t, trickyFiles()...), options(64*mib))
	fsck(t, disk)
	_, got := tree(t, disk)
	differs(t, trickyTree(), got)
	if result.DroppedXattrs != 1 || result.Entries == 0 {
		t.Errorf("the result is %+v", result)
	}
}

func TestDebugfsSeesTheSame(t *testing.T) {
	t.Parallel()
	disk, _ := write(t, archive(t, trickyFiles()...), options(64*mib))
	for request, wanted := range map[string][]string{
		"stat /usr/bin/ping":             {"Mode:  04755", "Links: 3", "security.capability (20)", "Size: 20000"},
		"stat /home/big-owner":           {"User: 70001", "Group: 70002"},
		"stat /dev/big":                  {"Type: block special", "259:300000"},
		"stat /dev/null":                 {"Type: character special", "01:03"},
		"stat /s60":                      {"Type: symlink", "Size: 60"},
		"stat /s59":                      {"Fast link dest: \"" + strings.Repeat("a", 59) + "\""},
		"stat /late":                     {"2100"},
		"stat /zeroes":                   {"Size: 3145728", "Blockcount: 0"},
		"cat /etc/hostname":              {"node\n"},
		"ea_get /xattrs user.a":          {"1"},
		"ea_get -V /xattrs security.ima": {strings.Repeat("i", 300)},
		"ea_get -V /xattrs user." + strings.Repeat("k", 200): {"v"},
		"ls -l /": {"lost+found", "sticky", "kept-by-link"},
		"stats": {
			"Filesystem volume name:   containerfs", "Filesystem UUID:          5f0e3b1a-0102-4304-8506-0708090a0b0c", "has_journal", "dir_index", "Filesystem state:         clean",
			"Journal inode:            8", "Filesystem created:       Wed Mar  4 05:06:07 2026",
		},
	} {
		got := debugfs(t, disk, request)
		for _, want := range wanted {
			if !strings.Contains(got, want) {
				t.Errorf("debugfs %s has not %q:\n%s", request, want, got)
			}
		}
	}
}

func TestTheSameInputGivesTheSameBytes(t *testing.T) {
	t.Parallel()
	var sums []string
	for range 3 {
		disk, _ := write(t, archive(t, trickyFiles()...), options(64*mib))
		content, err := os.ReadFile(disk)
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, digest(string(content)))
	}
	if len(slices.Compact(sums)) != 1 {
		t.Errorf("the digests are %v", sums)
	}
}
