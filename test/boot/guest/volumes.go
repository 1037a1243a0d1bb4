// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// volumeData is the directory of a volume that is mounted instead of its root (VIC,
// pkg/vsphere/disk/disk.go:47-48).
const volumeData = ".vic.vol.data"

// mount is one volume, as VIC's configuration of a container has it.
type mount struct {
	Label, Path string
	// Copy says that an empty volume gets what the image has there.
	Copy bool
}

// labels waits until there are as many labels as disks, as VIC's boot script does
// (isos/bootstrap/bootstrap): with a disk that has none it would wait for ever.
func labels() (map[string]string, error) {
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return nil, fmt.Errorf("mount /sys: %w", err)
	}
	var found map[string]string
	for begin := time.Now(); time.Since(begin) < waiting; time.Sleep(20 * time.Millisecond) {
		entries, err := os.ReadDir("/sys/block")
		if err != nil {
			return nil, err
		}
		found = map[string]string{}
		disks := 0
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "loop") || strings.HasPrefix(e.Name(), "ram") {
				continue
			}
			disks++
			label, err := labelOf("/dev/" + e.Name())
			if err == nil && label != "" {
				found[label] = "/dev/" + e.Name()
			}
		}
		if disks > 0 && len(found) == disks {
			fmt.Printf("init: %d labels of %d disks\n", len(found), disks)
			return found, nil
		}
	}
	return nil, fmt.Errorf("there are other disks than those with the labels %v", found)
}

// mountVolumes does what VIC's init does with volumes (lib/tether/tether.go:317-373,
// lib/tether/ops_linux.go:825-1048). disks are by label.
func mountVolumes(disks map[string]string, mounts []mount) error {
	slices.SortFunc(mounts, func(a, b mount) int { return strings.Compare(a.Path, b.Path) })
	for _, m := range mounts {
		if err := m.mount(disks[m.Label]); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.Label, m.Path, err)
		}
	}
	for _, m := range mounts {
		if !m.Copy {
			continue
		}
		if err := m.fill(); err != nil {
			return fmt.Errorf("fill %s: %w", m.Path, err)
		}
	}
	return nil
}

func (m mount) target() string { return filepath.Join("/root", m.Path) }

// mount mounts the disk aside and its data directory in place, which gets owner and
// permissions of the mount point, if there is one.
func (m mount) mount(device string) error {
	if device == "" {
		return errors.New("no disk has that label")
	}
	var before unix.Stat_t
	existed := unix.Stat(m.target(), &before) == nil
	aside := filepath.Join("/bind", m.Label)
	for _, dir := range []string{m.target(), aside} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount(device, aside, "ext4", unix.MS_NOATIME, ""); err != nil {
		return err
	}
	source := filepath.Join(aside, volumeData)
	if err := unix.Mount(source, m.target(), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", source, err)
	}
	if !existed {
		return nil
	}
	if err := os.Chown(m.target(), int(before.Uid), int(before.Gid)); err != nil {
		return err
	}
	return unix.Chmod(m.target(), before.Mode&0o7777)
}

// fill copies what the image has below the mount point, if the volume is empty.
func (m mount) fill() error {
	entries, err := os.ReadDir(m.target())
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return e.Name() == "lost+found" })
	if len(entries) > 0 {
		fmt.Println("init: full:", m.Path)
		return nil
	}
	const hidden = "/hidden"
	if err := os.MkdirAll(hidden, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(filepath.Dir(m.target()), hidden, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	count, err := copyTree(filepath.Join(hidden, filepath.Base(m.Path)), m.target())
	fmt.Printf("init: copied %d: %s\n", count, m.Path)
	return errors.Join(err, unix.Unmount(hidden, unix.MNT_DETACH))
}

// copyTree copies what is in a directory, with owners, permissions and times.
func copyTree(from, to string) (count int, err error) {
	err = filepath.WalkDir(from, func(name string, _ fs.DirEntry, err error) error {
		if err != nil || name == from {
			return err
		}
		count++
		target := filepath.Join(to, strings.TrimPrefix(name, from))
		var s unix.Stat_t
		if err := unix.Lstat(name, &s); err != nil {
			return err
		}
		switch s.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			err = os.Mkdir(target, 0o700)
		case unix.S_IFLNK:
			var link string
			if link, err = os.Readlink(name); err == nil {
				err = os.Symlink(link, target)
			}
		default:
			err = copyFile(name, target)
		}
		if err != nil {
			return err
		}
		if err := os.Lchown(target, int(s.Uid), int(s.Gid)); err != nil {
			return err
		}
		if s.Mode&unix.S_IFMT != unix.S_IFLNK {
			if err := unix.Chmod(target, s.Mode&0o7777); err != nil {
				return err
			}
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, target, []unix.Timespec{s.Atim, s.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
	})
	return count, err
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it was only read
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func unmountVolumes(mounts []mount) (err error) {
	for _, m := range slices.Backward(mounts) {
		err = errors.Join(err, unix.Unmount(m.target(), 0), unix.Unmount(filepath.Join("/bind", m.Label), 0))
	}
	return err
}

// useVolumes is the command of a machine with volumes. It tells what it finds at
// each, removes a file that the image has, and leaves one of its own.
func useVolumes(name string, dirs []string) error {
	mounted, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		for line := range strings.Lines(string(mounted)) {
			if f := strings.Fields(line); len(f) > 3 && f[1] == dir {
				options := strings.Split(f[3], ",")
				fmt.Printf("command: %s is %s noatime=%t\n", dir, f[2], slices.Contains(options, "noatime"))
			}
		}
		if err := tell(dir); err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(dir, "doomed")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("written by "+name), 0o600); err != nil {
			return err
		}
	}
	fmt.Println("command: done")
	return nil
}

// tell tells what is in a directory, with types, permissions and owners.
func tell(dir string) error {
	return filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var s unix.Stat_t
		if err := unix.Lstat(name, &s); err != nil {
			return err
		}
		line := fmt.Sprintf("command: %s %o %d:%d", name, s.Mode, s.Uid, s.Gid)
		switch s.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			line += " -> " + target
		case unix.S_IFREG:
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			line += " " + string(text)
		}
		fmt.Println(line)
		return nil
	})
}
