// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package ext4

import (
	"archive/tar"
	"bufio"
	"errors"
	"io"
	"math"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// addArchive puts all entries of a tar archive into the filesystem.
func (w *writer) addArchive(archive io.Reader) error {
	t := tar.NewReader(bufio.NewReaderSize(archive, 1<<18))
	for {
		if err := w.ctx.Err(); err != nil {
			return writeError(err)
		}
		header, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return w.archiveError(err)
		}
		if header.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := w.countEntry(); err != nil {
			return err
		}
		if err := w.add(header, t); err != nil {
			return err
		}
	}
}

// archiveError gives an error of the archive its kind. What tar itself finds
// wrong is the archive's fault, anything else that of what it is read from.
func (w *writer) archiveError(err error) error {
	kind := errdefs.KindOf(err)
	switch {
	case errors.Is(err, tar.ErrHeader), errors.Is(err, tar.ErrFieldTooLong), errors.Is(err, io.ErrUnexpectedEOF):
		kind = errdefs.InvalidArgument
	case kind == errdefs.Unknown:
		kind = errdefs.Unavailable
	}
	return errdefs.Wrap(kind, err, "reading the archive behind entry %d", w.entries)
}

// add puts one entry into the filesystem; content follows its header.
func (w *writer) add(header *tar.Header, content io.Reader) error {
	elements, err := splitPath(header.Name, header.Name)
	if err != nil {
		return err
	}
	if header.Typeflag == tar.TypeLink {
		return w.addLink(header, elements)
	}
	n, err := newNodeOf(header)
	if err != nil {
		return err
	}
	number, err := w.place(header.Name, elements, n)
	if err != nil {
		return err
	}
	if err := w.addXattrs(header, number); err != nil {
		return err
	}
	switch n.mode & typeMask {
	case typeRegular:
		return w.addContent(number, header.Name, header.Size, content)
	case typeSymlink:
		return w.addTarget(number, header.Name, header.Linkname)
	}
	return nil
}

// newNodeOf returns what a header says of an inode.
func newNodeOf(header *tar.Header) (node, error) {
	fail := func(format string, args ...any) (node, error) {
		return node{}, entryError(header.Name, format, args...)
	}
	n := node{mode: uint16(header.Mode & 0o7777)}
	switch header.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		n.mode |= typeRegular
	case tar.TypeDir:
		n.mode |= typeDir
	case tar.TypeSymlink:
		n.mode = typeSymlink | 0o777
	case tar.TypeChar:
		n.mode |= typeChar
	case tar.TypeBlock:
		n.mode |= typeBlock
	case tar.TypeFifo:
		n.mode |= typeFifo
	default:
		return fail("its type %q is not one that a filesystem knows", header.Typeflag)
	}
	if header.Uid < 0 || int64(header.Uid) > math.MaxUint32 || header.Gid < 0 || int64(header.Gid) > math.MaxUint32 {
		return fail("its owner is %d:%d: numbers go from 0 to %d", header.Uid, header.Gid, uint32(math.MaxUint32))
	}
	n.uid, n.gid = uint32(header.Uid), uint32(header.Gid)
	if header.Typeflag == tar.TypeChar || header.Typeflag == tar.TypeBlock {
		const maxMajor, maxMinor = 1<<12 - 1, 1<<20 - 1
		if header.Devmajor < 0 || header.Devmajor > maxMajor || header.Devminor < 0 || header.Devminor > maxMinor {
			return fail("its device is %d:%d: numbers go up to %d:%d", header.Devmajor, header.Devminor, maxMajor, maxMinor)
		}
		n.major, n.minor = uint32(header.Devmajor), uint32(header.Devminor)
	}
	n.mtime = newStamp(header.ModTime)
	n.atime, n.ctime = n.mtime, n.mtime
	if !header.AccessTime.IsZero() {
		n.atime = newStamp(header.AccessTime)
	}
	if !header.ChangeTime.IsZero() {
		n.ctime = newStamp(header.ChangeTime)
	}
	return n, nil
}

// place gives an inode its name. A directory that exists gets new attributes,
// a file that exists is replaced.
func (w *writer) place(what string, elements []string, n node) (uint32, error) {
	if len(elements) == 0 {
		if !n.isDir() {
			return 0, entryError(what, "it names the root, which must be a directory")
		}
		w.changeDirectory(rootInode, n)
		return rootInode, nil
	}
	parent, err := w.directoryOf(what, elements[:len(elements)-1])
	if err != nil {
		return 0, err
	}
	name := elements[len(elements)-1]
	existing, found := w.dirs[parent].children[name]
	switch {
	case !found:
	case w.node(existing).isDir() && n.isDir():
		w.changeDirectory(existing, n)
		return existing, nil
	case w.node(existing).isDir():
		return 0, entryError(what, "a directory has this name already")
	case n.isDir():
		return 0, entryError(what, "a file has this name already")
	default:
		w.unlink(parent, name)
	}
	return w.addChild(parent, name, n), nil
}

// changeDirectory replaces the attributes of a directory, not what is in it.
func (w *writer) changeDirectory(number uint32, n node) {
	old := w.node(number)
	if old.xattrs != 0 {
		w.free = append(w.free, run{old.xattrs, 1})
	}
	delete(w.attributes, number)
	n.links = old.links
	*old = n
}

// addLink gives a file that exists one more name.
func (w *writer) addLink(header *tar.Header, elements []string) error {
	target, err := splitPath(header.Name, header.Linkname)
	if err != nil {
		return err
	}
	number, found := w.find(target)
	switch {
	case !found:
		return entryError(header.Name, "it is a hard link to %q, which does not come before it", short(header.Linkname))
	case w.node(number).isDir():
		return entryError(header.Name, "it is a hard link to %q, which is a directory", short(header.Linkname))
	case w.node(number).links >= maxLinks:
		return entryError(header.Name, "it is a hard link to %q, which has %d names already", short(header.Linkname), maxLinks)
	case len(elements) == 0:
		return entryError(header.Name, "it names the root, which must be a directory")
	}
	parent, err := w.directoryOf(header.Name, elements[:len(elements)-1])
	if err != nil {
		return err
	}
	name := elements[len(elements)-1]
	existing, found := w.dirs[parent].children[name]
	switch {
	case !found:
	case existing == number:
		return nil
	case w.node(existing).isDir():
		return entryError(header.Name, "a directory has this name already")
	default:
		w.unlink(parent, name)
	}
	w.link(parent, name, number)
	return nil
}

// find returns the inode of a path, without following links.
func (w *writer) find(elements []string) (uint32, bool) {
	number := uint32(rootInode)
	for _, element := range elements {
		dir := w.dirs[number]
		if dir == nil {
			return 0, false
		}
		child, found := dir.children[element]
		if !found {
			return 0, false
		}
		number = child
	}
	return number, true
}

// addTarget gives a symbolic link its target.
func (w *writer) addTarget(number uint32, name, target string) error {
	switch {
	case target == "":
		return entryError(name, "it is a symbolic link to nothing")
	case len(target) > maxPath:
		return entryError(name, "its target has %d bytes, more than the %d that Linux allows", len(target), maxPath)
	case strings.ContainsRune(target, 0):
		return entryError(name, "its target %q has a zero byte", short(target))
	}
	n := w.node(number)
	n.size = int64(len(target))
	if len(target) < inlineSize {
		w.inline[number] = []byte(target)
		w.kept += len(target)
		return nil
	}
	if err := w.reserve(1); err != nil {
		return err
	}
	n.first = w.out.block()
	n.blocks++
	if err := w.out.write([]byte(target)); err != nil {
		return err
	}
	return w.out.pad()
}
