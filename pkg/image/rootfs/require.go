// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"archive/tar"
	"path"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Required is a path that the flattened tree must have.
type Required struct {
	// Name is the path without a leading slash.
	Name string
	// Type is tar.TypeDir, tar.TypeReg or tar.TypeSymlink.
	Type byte
	// Mode is its permissions when it has to be made; user and group are 0.
	Mode uint16
	// Target is where a symbolic link points to.
	Target string
}

// ContainerVM returns what the guest of a container VM expects on its root disk:
// places to mount file systems on, and files to mount its own over.
func ContainerVM() []Required {
	return []Required{
		{Name: ".tether", Type: tar.TypeDir, Mode: 0o777},
		{Name: "etc", Type: tar.TypeDir, Mode: 0o755},
		{Name: "lib/modules", Type: tar.TypeDir, Mode: 0o755},
		{Name: "proc", Type: tar.TypeDir, Mode: 0o555},
		{Name: "run", Type: tar.TypeDir, Mode: 0o755},
		{Name: "sys", Type: tar.TypeDir, Mode: 0o555},
		{Name: "etc/hostname", Type: tar.TypeReg, Mode: 0o644},
		{Name: "etc/hosts", Type: tar.TypeReg, Mode: 0o644},
		{Name: "etc/resolv.conf", Type: tar.TypeReg, Mode: 0o644},
		{Name: "etc/mtab", Type: tar.TypeSymlink, Mode: 0o777, Target: "/proc/mounts"},
	}
}

// require makes a required path, unless the image has it in a form that works,
// symbolic links followed. Nothing with content is replaced: a directory where a
// file must be, or a file where a directory must be, is refused.
func (t *tree) require(r Required, index int) error {
	in, base := split(r.Name)
	if r.Type == tar.TypeDir {
		return t.requireDir(r, index)
	}
	dir, err := t.walk(rootNode, in, 0, create)
	if err != nil {
		return err
	}
	n := t.lookup(dir, base)
	if r.Type == tar.TypeSymlink {
		if n != 0 {
			return nil
		}
		data, err := t.newSymlink(r.Target)
		if err != nil {
			return err
		}
		return t.placeRequired(dir, base, inode{kind: tar.TypeSymlink, data: data, index: uint32(index)}) //nolint:gosec // a small number
	}
	if n != 0 && t.inodeOf(n).kind == tar.TypeSymlink {
		toDir, toBase, err := t.follow(n)
		if err != nil && !errdefs.Is(err, errdefs.InvalidArgument) {
			return err
		}
		if err == nil {
			if end := t.lookup(toDir, toBase); end != 0 {
				return nil // follow ends at a regular file or at nothing
			}
			dir, base = toDir, toBase
		}
		n = 0 // a link that leads nowhere has no content to lose
	}
	switch {
	case n == 0:
		return t.placeRequired(dir, base, inode{kind: tar.TypeReg, index: uint32(index)}) //nolint:gosec // a small number
	case t.inodeOf(n).kind != tar.TypeReg:
		return errdefs.New(errdefs.InvalidArgument, "must be a regular file, but in the image it is %s", kindName(t.inodeOf(n).kind))
	}
	return nil
}

func (t *tree) placeRequired(dir uint32, base string, i inode) error {
	i.names = 1
	number, err := t.newInode(i)
	if err != nil {
		return err
	}
	return t.put(dir, base, number, 0)
}

// requireDir makes a directory where there is none.
func (t *tree) requireDir(r Required, index int) error {
	n, err := t.walk(rootNode, r.Name, 0, look)
	if err != nil || n != 0 {
		return err
	}
	if n, err = t.walk(rootNode, r.Name, 0, create); err != nil {
		return err
	}
	t.inodeOf(n).index = uint32(index) //nolint:gosec // a small number
	t.dirOf(n).mode = r.Mode
	return nil
}

// follow returns where a symbolic link ends: a directory and a name in it, which
// is a regular file or does not exist. It is an InvalidArgument when a file cannot
// be there, or not when the guest runs: it mounts its own file systems over some.
func (t *tree) follow(n uint32) (dir uint32, base string, err error) {
	for range maxHops {
		target := t.target(t.inodeOf(n))
		dir = t.nodes.at(n).parent
		if target[0] == '/' {
			dir = rootNode
		}
		whole := strings.TrimPrefix(path.Clean("/"+t.path(dir)+"/"+target), "/")
		top, _, _ := strings.Cut(whole, "/")
		in, last := path.Split(target)
		if top == "dev" || top == "proc" || top == "sys" || last == "" || last == "." || last == ".." {
			return 0, "", errdefs.New(errdefs.InvalidArgument, "no file can be at %q", clip(target))
		}
		if dir, err = t.walk(dir, in, 0, create); err != nil {
			return 0, "", err
		}
		switch n = t.lookup(dir, last); {
		case n == 0, t.inodeOf(n).kind == tar.TypeReg:
			return dir, last, nil
		case t.inodeOf(n).kind != tar.TypeSymlink:
			return 0, "", errdefs.New(errdefs.InvalidArgument, "%q is %s", clip(target), kindName(t.inodeOf(n).kind))
		}
	}
	return 0, "", errdefs.New(errdefs.InvalidArgument, "more than %d symbolic links to follow", maxHops)
}
