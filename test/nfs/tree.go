// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"github.com/go-git/go-billy/v5"
)

// tree is a directory as go-nfs wants it. Unlike those of its libraries it makes no
// directories that nobody asked for, never replaces one, and knows what went wrong.
// One call at a time uses it.
type tree struct {
	root *os.Root
	// procedure is that of the call, failed the last error in it.
	procedure string
	failed    error
}

var (
	_ billy.Filesystem = (*tree)(nil)
	_ billy.Change     = (*tree)(nil)
)

func newTree(dir string) (*tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &tree{root: root}, nil
}

func (t *tree) begin(procedure string) { t.procedure, t.failed = procedure, nil }

// cause is the status for what went wrong in the call; 0 if nothing did.
func (t *tree) cause() Status {
	errno, ok := errors.AsType[syscall.Errno](t.failed)
	if !ok {
		return 0
	}
	// The numbers of NFS are those of an old Unix, which most are today.
	switch errno {
	case syscall.ENOTEMPTY:
		return NOTEMPTY
	case syscall.EDQUOT:
		return DQUOT
	case syscall.ENAMETOOLONG:
		return NAMETOOLONG
	case syscall.EPERM, syscall.ENOENT, syscall.EACCES, syscall.EEXIST, syscall.EXDEV, syscall.ENOTDIR, syscall.EISDIR,
		syscall.EINVAL, syscall.EFBIG, syscall.ENOSPC, syscall.EROFS:
		return Status(errno)
	default:
		return 0
	}
}

func (t *tree) keep(err error) error {
	t.failed = err
	return err
}

func clean(name string) string { return path.Clean(cmp.Or(name, ".")) }

func (t *tree) Join(elements ...string) string { return path.Join(elements...) }
func (t *tree) Root() string                   { return t.root.Name() }

func (t *tree) Chroot(string) (billy.Filesystem, error) { return nil, billy.ErrNotSupported }

func (t *tree) TempFile(string, string) (billy.File, error) { return nil, billy.ErrNotSupported }

func (t *tree) Create(name string) (billy.File, error) {
	return t.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
}

func (t *tree) Open(name string) (billy.File, error) { return t.OpenFile(name, os.O_RDONLY, 0) }

func (t *tree) OpenFile(name string, flag int, mode os.FileMode) (billy.File, error) {
	f, err := t.root.OpenFile(clean(name), flag, mode.Perm())
	if err != nil {
		return nil, t.keep(err)
	}
	return &openFile{File: f, name: name}, nil
}

// Stat and Lstat are asked for all the time, and tell no more than that something is there.
func (t *tree) Stat(name string) (os.FileInfo, error)  { return t.info(os.Stat(t.path(name))) }
func (t *tree) Lstat(name string) (os.FileInfo, error) { return t.info(os.Lstat(t.path(name))) }

func (t *tree) path(name string) string { return path.Join(t.root.Name(), path.Clean("/"+name)) }

func (t *tree) info(info os.FileInfo, err error) (os.FileInfo, error) { return info, t.keep(err) }

func (t *tree) Rename(from, to string) error {
	return t.keep(t.root.Rename(clean(from), clean(to)))
}

// Remove is for files or for directories, as the call is.
func (t *tree) Remove(name string) error {
	info, err := t.root.Lstat(clean(name))
	switch {
	case err != nil:
		return t.keep(err)
	case info.IsDir() && t.procedure == "REMOVE":
		return t.keep(syscall.EISDIR)
	case !info.IsDir() && t.procedure == "RMDIR":
		return t.keep(syscall.ENOTDIR)
	}
	return t.keep(t.root.Remove(clean(name)))
}

func (t *tree) ReadDir(name string) ([]os.FileInfo, error) {
	entries, err := fs.ReadDir(t.root.FS(), clean(name))
	if err != nil {
		return nil, t.keep(err)
	}
	var infos []os.FileInfo
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, t.keep(err)
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// MkdirAll makes one directory, as MKDIR does.
func (t *tree) MkdirAll(name string, mode os.FileMode) error {
	return t.keep(t.root.Mkdir(clean(name), mode.Perm()))
}

func (t *tree) Symlink(target, link string) error { return t.keep(t.root.Symlink(target, clean(link))) }

func (t *tree) Readlink(link string) (string, error) {
	target, err := t.root.Readlink(clean(link))
	return target, t.keep(err)
}

func (t *tree) Chmod(name string, mode os.FileMode) error {
	return t.keep(t.root.Chmod(clean(name), mode.Perm()))
}

// Lchown and Chown do nothing: who runs a test need not be allowed to.
func (t *tree) Lchown(string, int, int) error { return nil }
func (t *tree) Chown(string, int, int) error  { return nil }

func (t *tree) Chtimes(name string, atime, mtime time.Time) error {
	return t.keep(t.root.Chtimes(clean(name), atime, mtime))
}

// openFile is an open file that has the name by which it was asked for.
type openFile struct {
	*os.File
	name string
}

func (f *openFile) Name() string  { return f.name }
func (f *openFile) Lock() error   { return nil }
func (f *openFile) Unlock() error { return nil }
