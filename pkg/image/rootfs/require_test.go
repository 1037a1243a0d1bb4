// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootfs_test

import (
	"archive/tar"
	"maps"
	"strings"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/rootfs"
)

func TestAContainerVMFindsWhatItNeeds(t *testing.T) {
	t.Parallel()
	empty := map[string]string{
		".tether": "dir 777", "etc": "dir 755", "lib": "dir 755", "lib/modules": "dir 755", "proc": "dir 555", "run": "dir 755", "sys": "dir 555",
		"etc/hostname": "file ", "etc/hosts": "file ", "etc/resolv.conf": "file ", "etc/mtab": "symlink /proc/mounts",
	}
	for name, tc := range map[string]struct {
		image   []entry
		without []string          // of what an empty image gets
		with    map[string]string // what there is beside or instead
	}{
		"in an empty image": {},
		"in one that has all, which is kept": {
			image: []entry{
				dir("etc/", 0o700), dir("proc/", 0o700), dir("sys/", 0o700), dir("run/", 0o1777), dir(".tether/", 0o700), dir("lib/modules/", 0o700),
				file("etc/hostname", "h"), file("etc/hosts", "127.0.0.1"), file("etc/resolv.conf", "nameserver"), file("etc/mtab", "/dev/sda /"), file("run/x", "1"),
			},
			with: map[string]string{
				"etc": "dir 700", "proc": "dir 700", "sys": "dir 700", "run": "dir 1777", ".tether": "dir 700", "lib/modules": "dir 700", "run/x": "file 1",
				"etc/hostname": "file h", "etc/hosts": "file 127.0.0.1", "etc/resolv.conf": "file nameserver", "etc/mtab": "file /dev/sda /",
			},
		},
		"in a merged-usr image": {
			image:   []entry{dir("usr/lib/", 0o711), symlink("lib", "usr/lib")},
			without: []string{"lib/modules"},
			with:    map[string]string{"usr": "dir 755", "usr/lib": "dir 711", "usr/lib/modules": "dir 755", "lib": "symlink usr/lib"},
		},
		"in a merged-usr image without its usr": {
			image:   []entry{symlink("lib", "/usr/lib")},
			without: []string{"lib/modules"},
			with:    map[string]string{"usr": "dir 755", "usr/lib": "dir 755", "usr/lib/modules": "dir 755", "lib": "symlink /usr/lib"},
		},
		"in one whose run is elsewhere": {
			image:   []entry{symlink("run", "var/run")},
			without: []string{"run"},
			with:    map[string]string{"var": "dir 755", "var/run": "dir 755", "run": "symlink var/run"},
		},
		"in one whose resolv.conf is made by a service": {
			image: []entry{symlink("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")},
			with: map[string]string{
				"etc/resolv.conf": "symlink ../run/systemd/resolve/stub-resolv.conf",
				"run/systemd":     "dir 755", "run/systemd/resolve": "dir 755", "run/systemd/resolve/stub-resolv.conf": "file ",
			},
		},
		"in one whose hosts is another file": {
			image: []entry{symlink("etc/hosts", "hosts.1"), symlink("etc/hosts.1", "/etc/hosts.2"), file("etc/hosts.2", "x")},
			with:  map[string]string{"etc/hosts": "symlink hosts.1", "etc/hosts.1": "symlink /etc/hosts.2", "etc/hosts.2": "file x"},
		},
		"in one whose files are symbolic links into what the kernel makes": {
			image: []entry{symlink("etc/hostname", "/proc/sys/kernel/hostname"), symlink("etc/hosts", "../dev/null")},
		},
		"in one whose files are symbolic links to themselves": {
			image: []entry{symlink("etc/hostname", "hostname"), symlink("etc/hosts", "../etc/resolv.conf"), symlink("etc/resolv.conf", "hosts")},
			// The first of the two that is looked at becomes a file, and the other leads there.
			with: map[string]string{"etc/resolv.conf": "symlink hosts"},
		},
		"in one whose file is a symbolic link to a directory": {
			image: []entry{symlink("etc/hosts", "/etc"), symlink("etc/hostname", "..")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := maps.Clone(empty)
			for _, gone := range tc.without {
				delete(want, gone)
			}
			maps.Copy(want, tc.with)
			expect(t, want, flatten(t, rootfs.Options{Require: rootfs.ContainerVM(), ModTime: unix(1700000000, 0)}, pack(t, tc.image...)))
		})
	}
}

func TestWhatAContainerVMCannotUseIsRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		image []entry
		says  string
	}{
		"a file for a directory":     {[]entry{file("proc", "x")}, "/proc, which a container VM needs: /proc is no directory but a regular file"},
		"a file on the way":          {[]entry{file("lib", "x")}, "/lib/modules, which a container VM needs: /lib is no directory"},
		"a directory for a file":     {[]entry{dir("etc/hosts/", 0o755)}, "/etc/hosts, which a container VM needs: must be a regular file, but in the image it is a directory"},
		"a device for a file":        {[]entry{{Header: tar.Header{Typeflag: tar.TypeChar, Name: "etc/hosts"}}}, "it is a device"},
		"a fifo for a file":          {[]entry{{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "etc/hosts"}}}, "it is a fifo"},
		"a circle for a directory":   {[]entry{symlink("sys", "sys")}, "/sys, which a container VM needs: more than 40 symbolic links"},
		"a circle above a directory": {[]entry{symlink("lib", "lib")}, "/lib/modules, which a container VM needs: more than 40 symbolic links"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := rootfs.NewPlan(t.Context(), layersOf(pack(t, tc.image...)), rootfs.Options{Require: rootfs.ContainerVM()})
			if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("kind %q: %v, want %q", errdefs.KindOf(err), err, tc.says)
			}
		})
	}
}

func TestWhatIsMadeHasTheGivenTime(t *testing.T) {
	t.Parallel()
	at := unix(1700000000, 0)
	for name, f := range flatten(t, rootfs.Options{Require: rootfs.ContainerVM(), ModTime: at}) {
		if !f.ModTime.Equal(at) {
			t.Errorf("%s is of %s", name, f.ModTime)
		}
	}
}
