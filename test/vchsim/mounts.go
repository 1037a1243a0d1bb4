// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/ext4"
)

const (
	// Diary is the file on volumes that GuestOptions.Diary speaks of.
	Diary = "machines"
	// maxRead is how much of one file is read from a volume.
	maxRead = 64 << 20
)

// Mount is a volume that a guest has mounted. It is a copy.
type Mount struct {
	// Volume is the name under which the VM's configuration has it.
	Volume string
	// Disk is the datastore path of the disk, Source the URL of what is no disk.
	Disk, Source string
	// Mode is what the configuration says of options.
	Mode string
	// Data says that the directory for data is mounted, not the root of the disk, which
	// has lost+found.
	Data bool
	// Copied says that the volume was empty and got what the image has there.
	Copied bool
	// Forgets says that what is written to the disk is lost when the VM is powered off.
	Forgets bool

	copyNew bool
}

// local returns the file that a datastore path stands for. The caller holds no VM's lock.
func (s *Sim) local(file string) string {
	if s.places.vsan {
		s.calls.files.Lock() // see there
		defer s.calls.files.Unlock()
	}
	return s.localPath(file)
}

// flatOf returns the file with a mounted disk's content: of a disk that forgets, a
// copy once the guest has written.
func (s *Sim) flatOf(inside *guest, m Mount, write bool) (string, error) {
	flat := extentOf(s.local(m.Disk))
	if flat == "" {
		return "", fmt.Errorf("disk %s has no content", m.Disk)
	}
	if !m.Forgets {
		return flat, nil
	}
	copied := filepath.Join(s.redoDir(inside.vm), m.Volume)
	_, err := os.Stat(copied)
	switch {
	case err == nil:
		return copied, nil
	case !write:
		return flat, nil
	}
	if err := os.MkdirAll(filepath.Dir(copied), 0o700); err != nil {
		return "", fmt.Errorf("copy disk %s: %w", m.Disk, err)
	}
	return copied, copySparse(flat, copied)
}

// redoDir holds what a VM wrote on disks that forget.
func (s *Sim) redoDir(vm ref) string { return filepath.Join(s.dir, "redo", vm.Value) }

// forget deletes what a VM wrote on disks that forget.
func (s *Sim) forget(vm ref) {
	_ = os.RemoveAll(s.redoDir(vm)) // what stays is removed with the world
}

// mountAll does what the tether does with the mounts, which are in the order of
// their paths (lib/tether/tether.go:317-373). root is the root disk's parent.
func (s *Sim) mountAll(inside *guest, mounts map[string]Mount, root string) error {
	for _, at := range slices.Sorted(maps.Keys(mounts)) {
		m := mounts[at]
		if m.Disk == "" || inside.isOff() {
			continue
		}
		if err := s.mount(inside, at, &m, root); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.Volume, at, err)
		}
		mounts[at] = m
	}
	s.guests.mu.Lock()
	inside.mounts = mounts
	s.guests.mu.Unlock()
	if !inside.options.Diary {
		return nil
	}
	for at, m := range mounts {
		if m.Disk == "" || inside.isOff() {
			continue
		}
		old, err := s.readMounted(inside, at+"/"+Diary)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := s.writeMounted(inside, at+"/"+Diary, append(old, inside.machine+"\n"...)); err != nil {
			return err
		}
	}
	return nil
}

// mount mounts one disk: the directory there gets owner and permissions of the mount
// point, and the image's content if it is empty (lib/tether/ops_linux.go:866-1048).
func (s *Sim) mount(inside *guest, at string, m *Mount, root string) error {
	s.guests.disk.Lock()
	defer s.guests.disk.Unlock()
	flat, err := s.flatOf(inside, *m, false)
	if err != nil {
		return err
	}
	volume := readRoot(flat)
	if volume == nil || volume.broken != "" {
		return errors.New("the disk has no file system")
	}
	m.Data = volume.isDir(volumeData)
	source, err := openRoot(extentOf(s.local(root)))
	if source == nil || err != nil {
		return err
	}
	defer source.Close() //nolint:errcheck // it was only read
	point, err := source.follow(at)
	if err != nil || !source.isDir(point) {
		return nil // a mount point that the image lacks is made
	}
	changes, err := newDebugfs(s.dir)
	if err != nil {
		return err
	}
	m.Copied = m.copyNew && volume.isEmpty(m.base())
	err = source.copyTo(changes, point, m.base(), volume.files[m.base()], m.Copied)
	if changes.script.Len() > 0 {
		if flat, err = s.flatOf(inside, *m, true); err != nil {
			return errors.Join(err, os.RemoveAll(changes.dir))
		}
	}
	return errors.Join(err, changes.close(flat))
}

// base is the directory on the disk that is mounted.
func (m *Mount) base() string {
	if m.Data {
		return volumeData
	}
	return "."
}

func (r *rootFS) isEmpty(dir string) bool {
	for name := range r.files {
		if name != "." && path.Dir(name) == dir && path.Base(name) != "lost+found" {
			return false
		}
	}
	return true
}

// sourceDisk is an image's disk of which files are copied.
type sourceDisk struct {
	*rootFS
	*os.File
	content *ext4.Filesystem
}

// openRoot opens a disk with its content; nil if it has none.
func openRoot(flat string) (*sourceDisk, error) {
	root := readRoot(flat)
	if root == nil || root.broken != "" {
		return nil, nil //nolint:nilnil // nothing to copy
	}
	f, err := os.Open(flat)
	if err != nil {
		return nil, fmt.Errorf("open the root disk: %w", err)
	}
	content, err := ext4.Open(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &sourceDisk{root, f, content}, nil
}

// copyTo has owner and permissions of a directory copied to another one that has had
// old, and if all is set, everything in it.
func (d *sourceDisk) copyTo(changes *debugfs, from, to string, old rootFile, all bool) error {
	return d.content.Walk(context.Background(), func(e *ext4.Entry) error {
		if e.Path == from && (old.mode != e.Mode || old.uid != e.UID || old.gid != e.GID) {
			changes.own("/"+to, e.Mode, e.UID, e.GID)
		}
		rest, ok := strings.CutPrefix(e.Path, from+"/")
		if !ok || !all {
			return nil
		}
		name := path.Join("/", to, rest)
		switch {
		case e.IsDir():
			changes.mkdir(name)
		case e.IsRegular():
			changes.write(name, d.content.Content(e))
		case e.IsSymlink():
			changes.symlink(name, e.Target)
		default:
			return nil // devices are no part of this
		}
		changes.own(name, e.Mode, e.UID, e.GID)
		return changes.err
	})
}

// Mounted returns what the running guest of a VM has mounted, by path. The VM is
// called by its name or by that of its machine.
func (s *Sim) Mounted(vm string) map[string]Mount {
	inside := s.insideOf(vm)
	if inside == nil {
		return nil
	}
	s.guests.mu.Lock()
	defer s.guests.mu.Unlock()
	return maps.Clone(inside.mounts)
}

// insideOf returns the running guest of a VM, called as in Mounted.
func (s *Sim) insideOf(name string) *guest {
	var r ref
	if vm, ok := s.Machine(name); ok {
		r = vm.Ref
	} else if i := slices.IndexFunc(s.VMs(), func(vm VM) bool { return vm.Name == name }); i >= 0 {
		r = s.VMs()[i].Ref
	}
	s.guests.mu.Lock()
	defer s.guests.mu.Unlock()
	if inside := s.guests.running[r]; inside != nil && inside.up {
		return inside
	}
	return nil
}

// WriteVolume writes a file as the process in a VM would, called as in Mounted: at an
// absolute path below one of its mounted disks. Directories are made. Root owns it all.
func (s *Sim) WriteVolume(vm, file string, content []byte) error {
	inside := s.insideOf(vm)
	if inside == nil {
		return errdefs.New(errdefs.FailedPrecondition, "write %s: no guest runs in %s", file, vm)
	}
	return s.writeMounted(inside, file, content)
}

// ReadMounted reads a file as the process in a VM would. One that is not there is os.ErrNotExist.
func (s *Sim) ReadMounted(vm, file string) ([]byte, error) {
	inside := s.insideOf(vm)
	if inside == nil {
		return nil, errdefs.New(errdefs.FailedPrecondition, "read %s: no guest runs in %s", file, vm)
	}
	return s.readMounted(inside, file)
}

// ReadVolume reads a file from the disk of a volume, by the path that it has below
// wherever the volume is mounted. One that is not there is os.ErrNotExist.
func (s *Sim) ReadVolume(disk, file string) ([]byte, error) {
	s.guests.disk.Lock()
	defer s.guests.disk.Unlock()
	return readExt4(extentOf(s.local(disk)), file)
}

// below finds the mount that has a file, and the file's path in it.
func (s *Sim) below(inside *guest, file string) (m Mount, rest string, err error) {
	s.guests.mu.Lock()
	defer s.guests.mu.Unlock()
	file = path.Clean(file)
	for at := path.Dir(file); ; at = path.Dir(at) {
		if m, ok := inside.mounts[at]; ok && m.Disk != "" {
			return m, strings.TrimPrefix(file[len(at):], "/"), nil
		}
		if at == path.Dir(at) {
			return m, "", errdefs.New(errdefs.InvalidArgument, "%s has mounted no disk above %s", inside.machine, file)
		}
	}
}

func (s *Sim) writeMounted(inside *guest, file string, content []byte) error {
	m, rest, err := s.below(inside, file)
	if err != nil {
		return err
	}
	s.guests.disk.Lock()
	defer s.guests.disk.Unlock()
	flat, err := s.flatOf(inside, m, true)
	if err != nil {
		return err
	}
	volume := readRoot(flat)
	if volume == nil || volume.broken != "" {
		return fmt.Errorf("write %s: disk %s has no file system", file, m.Disk)
	}
	changes, err := newDebugfs(s.dir)
	if err != nil {
		return err
	}
	at := m.base()
	elements := strings.Split(rest, "/")
	for _, dir := range elements[:len(elements)-1] {
		at = path.Join(at, dir)
		if _, ok := volume.files[at]; !ok {
			changes.mkdir("/" + at)
		}
	}
	at = path.Join(at, path.Base(rest))
	if _, ok := volume.files[at]; ok {
		changes.remove("/" + at)
	}
	changes.write("/"+at, bytes.NewReader(content))
	changes.own("/"+at, typeRegular|0o644, 0, 0)
	return changes.close(flat)
}

func (s *Sim) readMounted(inside *guest, file string) ([]byte, error) {
	m, rest, err := s.below(inside, file)
	if err != nil {
		return nil, err
	}
	s.guests.disk.Lock()
	defer s.guests.disk.Unlock()
	flat, err := s.flatOf(inside, m, false)
	if err != nil {
		return nil, err
	}
	return readExt4(flat, rest)
}

// readExt4 reads a file below what a guest mounts of a disk.
func readExt4(flat, file string) (text []byte, err error) {
	f, err := os.Open(flat)
	if err != nil {
		return nil, fmt.Errorf("open the disk of a volume: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	filesystem, err := ext4.Open(f)
	if err != nil {
		return nil, err
	}
	files := map[string]ext4.Entry{}
	if err := filesystem.Walk(context.Background(), func(e *ext4.Entry) error {
		files[e.Path] = *e
		return nil
	}); err != nil {
		return nil, err
	}
	name := path.Join(".", file)
	if data, ok := files[volumeData]; ok && data.IsDir() {
		name = path.Join(volumeData, file)
	}
	e, ok := files[name]
	if !ok || !e.IsRegular() {
		return nil, fmt.Errorf("read %s of a volume: %w", file, os.ErrNotExist)
	}
	text, err = io.ReadAll(io.LimitReader(filesystem.Content(&e), maxRead))
	if err != nil {
		return nil, fmt.Errorf("read %s of a volume: %w", file, err)
	}
	return text, nil
}
