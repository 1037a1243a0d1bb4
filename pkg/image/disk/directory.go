// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const (
	// Prefix is what the names of temporary directories begin with.
	Prefix = "vch-image-disk-"
	// lockName is the file in a directory that its owner has locked. It is the first
	// one made and the last one removed, so that a directory without it is empty.
	lockName = "lock"
)

// directory is a temporary directory, locked while its process lives.
type directory struct {
	path string
	lock *os.File
}

// newDirectory makes a directory in parent, after removing those of the dead.
func newDirectory(parent string) (*directory, error) {
	if parent == "" {
		return nil, errdefs.New(errdefs.FailedPrecondition, "no directory for temporary files is given: one that exists is needed")
	}
	removeDead(parent)
	for {
		d, err := claim(parent)
		if err != nil {
			return nil, errdefs.Wrap(errdefs.FailedPrecondition, err, "the directory %s for temporary files must exist and be writable", parent)
		}
		if d != nil {
			return d, nil
		}
	}
}

// claim makes and locks a directory. It returns nil when another process, which
// looked after the directory was made and before it was locked, takes it for dead.
func claim(parent string) (*directory, error) {
	dir, err := os.MkdirTemp(parent, Prefix+"*")
	if err != nil {
		return nil, err
	}
	name := filepath.Join(dir, lockName)
	lock, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // in the directory that was asked for
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	// Where locks are unknown nobody else gets one either.
	if got, err := tryLock(lock); err == nil && !got || !same(lock, name) {
		_ = lock.Close() // whoever has the lock removes it
		return nil, nil
	}
	return &directory{path: dir, lock: lock}, nil
}

// same reports whether an open file still has its name.
func same(f *os.File, name string) bool {
	a, errOpen := f.Stat()
	b, errName := os.Lstat(name)
	return errOpen == nil && errName == nil && os.SameFile(a, b)
}

// removeDead removes the directories of processes that have died. What cannot be
// removed stays: it is in nobody's way.
func removeDead(parent string) {
	entries, _ := os.ReadDir(parent) // the one that is wanted says what is wrong
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && e.IsDir() && strings.HasPrefix(e.Name(), Prefix) && own(info) {
			removeIfDead(filepath.Join(parent, e.Name()))
		}
	}
}

func removeIfDead(dir string) {
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR, 0) //nolint:gosec // in the directory that was asked for
	if errors.Is(err, fs.ErrNotExist) {
		_ = os.Remove(dir) // nobody can lose anything: it is empty
		return
	}
	if err != nil {
		return
	}
	d := directory{path: dir, lock: lock}
	if got, err := tryLock(lock); err != nil || !got {
		_ = lock.Close() // it was only looked at
		return
	}
	_ = d.remove() // the next one tries again
}

// remove removes the directory and everything in it. Doing it again is no error.
func (d *directory) remove() error {
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if e.Name() != lockName {
			errs = append(errs, os.RemoveAll(filepath.Join(d.path, e.Name())))
		}
	}
	// The lock goes last, and is held until then.
	if err := errors.Join(errs...); err != nil {
		return errdefs.Wrap(errdefs.Internal, errors.Join(err, d.lock.Close()), "remove temporary files")
	}
	err = os.RemoveAll(d.path)
	return errdefs.Wrap(errdefs.Internal, errors.Join(err, d.lock.Close()), "remove temporary files")
}

// file is an open file, with a name only where it must have one.
type file struct{ *os.File }

// newFile makes a file in the directory.
func (d *directory) newFile(name string) (*file, error) {
	f, err := os.OpenFile(filepath.Join(d.path, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // in the directory that was asked for
	if err != nil {
		return nil, errdefs.Wrap(errdefs.FailedPrecondition, err, "make a temporary file")
	}
	_ = os.Remove(f.Name()) // where open files cannot be removed, it goes with the directory
	return &file{f}, nil
}

// close closes the file, if there is one.
func (f *file) close() error {
	if f == nil {
		return nil
	}
	return errdefs.Wrap(errdefs.Internal, f.Close(), "close a temporary file")
}
