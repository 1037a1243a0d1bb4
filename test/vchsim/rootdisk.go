// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/ext4"
)

// containerLabel is the label by which the boot script finds the root disk.
const containerLabel = "containerfs"

const (
	// contentBegin is how much of a disk must have something for the disk to have content.
	contentBegin = 4096
	// maxUserFile is how much of /etc/passwd and /etc/group is read.
	maxUserFile = 1 << 20
	// maxLinks is how many symbolic links Linux follows in one path.
	maxLinks = 40
)

// rootDisks are the contents of the image disks that machines were started from.
// A disk is read once, and again when its files have changed.
type rootDisks struct {
	mu    sync.Mutex
	disks map[string]*rootDisk
}

// rootDisk is one image disk, by its descriptor's path.
type rootDisk struct {
	mu      sync.Mutex
	flat    string
	version [2]fileVersion // of the descriptor and of the extent
	content *rootFS
}

type fileVersion struct {
	size     int64
	modified time.Time
}

func versionOf(file string) fileVersion {
	info, err := os.Stat(file)
	if err != nil {
		return fileVersion{size: -1}
	}
	return fileVersion{info.Size(), info.ModTime()}
}

// rootFS is what a guest can know of its root file system.
type rootFS struct {
	// broken says why there is no file system; the rest is empty then.
	broken string
	label  string
	files  map[string]rootFile // by path from the root; the root is "."
	// users and groups are the names in /etc/passwd and /etc/group.
	users, groups map[string]bool
}

type rootFile struct {
	mode     uint32
	uid, gid uint32
	target   string
}

// rootOf returns what is on a root disk whose content is in file.
func (s *Sim) rootOf(file string) *rootFS {
	return s.disks.load(s.local(file))
}

// rootParent returns where the content of the root disk is, which is the last parent's.
func rootParent(devices object.VirtualDeviceList) string {
	for _, d := range devices.SelectByType((*types.VirtualDisk)(nil)) {
		disk, ok := d.GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		if !ok || disk.Parent == nil {
			continue
		}
		parent := disk.Parent
		for parent.Parent != nil {
			parent = parent.Parent
		}
		return parent.FileName
	}
	return ""
}

// volumeOf returns what is on a disk that may change at any time.
func (s *Sim) volumeOf(file string) *rootFS {
	local := s.local(file)
	s.guests.disk.Lock()
	defer s.guests.disk.Unlock()
	return readRoot(extentOf(local))
}

// ownDisks returns the disks that stand on no other.
func ownDisks(devices object.VirtualDeviceList) (files []string) {
	for _, d := range devices.SelectByType((*types.VirtualDisk)(nil)) {
		if disk, ok := d.GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok && disk.Parent == nil {
			files = append(files, disk.FileName)
		}
	}
	return files
}

// load returns what is on a disk; nil if it has no content, as the disks that a
// world is made with.
func (r *rootDisks) load(descriptor string) *rootFS {
	r.mu.Lock()
	disk := r.disks[descriptor]
	if disk == nil {
		if r.disks == nil {
			r.disks = map[string]*rootDisk{}
		}
		disk = &rootDisk{}
		r.disks[descriptor] = disk
	}
	r.mu.Unlock()

	disk.mu.Lock()
	defer disk.mu.Unlock()
	version := [2]fileVersion{versionOf(descriptor), versionOf(disk.flat)}
	if disk.flat != "" && version == disk.version {
		return disk.content
	}
	disk.flat = extentOf(descriptor)
	disk.version = [2]fileVersion{versionOf(descriptor), versionOf(disk.flat)}
	disk.content = readRoot(disk.flat)
	return disk.content
}

// extentOf returns the file of a flat disk's one extent, or "" if that is no such disk.
func extentOf(descriptor string) string {
	text, err := os.ReadFile(descriptor)
	if err != nil {
		return ""
	}
	all := regexp.MustCompile(extentPattern).FindAllSubmatch(text, -1)
	if len(all) != 1 {
		return ""
	}
	return filepath.Join(filepath.Dir(descriptor), filepath.Base(string(all[0][3])))
}

// readRoot reads the names of a file system; nil if the disk has no content.
func readRoot(flat string) *rootFS {
	f, err := os.Open(flat)
	if err != nil {
		return nil
	}
	defer f.Close() //nolint:errcheck // it was only read
	begin := make([]byte, contentBegin)
	if n, err := f.ReadAt(begin, 0); n == 0 || bytes.Equal(begin[:n], make([]byte, n)) {
		_ = err // a short file is a short disk
		return nil
	}
	content, err := ext4.Open(f)
	if err != nil {
		return &rootFS{broken: err.Error()}
	}
	if !content.Writable {
		return &rootFS{broken: "the file system cannot be written"}
	}
	root := &rootFS{label: content.Label, files: map[string]rootFile{}}
	entries := map[string]*ext4.Entry{}
	err = content.Walk(context.Background(), func(e *ext4.Entry) error {
		root.files[e.Path] = rootFile{e.Mode, e.UID, e.GID, e.Target}
		if e.IsRegular() && path.Dir(e.Path) == "etc" {
			kept := *e
			entries[e.Path] = &kept
		}
		return nil
	})
	if err != nil {
		return &rootFS{broken: err.Error()}
	}
	names := func(file string) map[string]bool {
		found, err := root.follow(file)
		if err != nil || entries[found] == nil {
			return nil
		}
		// What cannot be read has no names.
		text, _ := io.ReadAll(io.LimitReader(content.Content(entries[found]), maxUserFile))
		return firstFields(string(text))
	}
	root.users, root.groups = names("/etc/passwd"), names("/etc/group")
	return root
}

func firstFields(text string) map[string]bool {
	names := map[string]bool{}
	for line := range strings.Lines(text) {
		if name, _, ok := strings.Cut(line, ":"); ok && name != "" {
			names[name] = true
		}
	}
	return names
}

// follow resolves a path as Linux does, from the root and with symbolic links. The
// error is the text of Linux's.
func (r *rootFS) follow(name string) (string, error) {
	at, rest, links := ".", strings.Split(name, "/"), 0
	for len(rest) > 0 {
		element := rest[0]
		rest = rest[1:]
		switch element {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		if !r.isDir(at) {
			return "", fmt.Errorf("not a directory")
		}
		next := path.Join(at, element)
		file, ok := r.files[next]
		if !ok {
			return "", fmt.Errorf("no such file or directory")
		}
		if file.mode&typeMask != typeSymlink {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("too many levels of symbolic links")
		}
		if strings.HasPrefix(file.target, "/") {
			at = "."
		}
		rest = append(strings.Split(file.target, "/"), rest...)
	}
	return at, nil
}

// Types of files, as Linux has them in st_mode.
const (
	typeMask    = 0o170000
	typeSymlink = 0o120000
	typeDir     = 0o040000
	typeRegular = 0o100000
)

func (r *rootFS) isDir(file string) bool { return r.files[file].mode&typeMask == typeDir }

// executable says what the tether says of a file that it cannot execute.
func (r *rootFS) executable(name string) string {
	file, err := r.follow(name)
	if err != nil {
		return fmt.Sprintf("stat %s: %v", name, err)
	}
	if r.isDir(file) || r.files[file].mode&0o111 == 0 {
		return "permission denied"
	}
	return ""
}
