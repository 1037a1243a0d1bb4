// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"archive/tar"
	"path"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// cleanName returns a name of a tar as a path below the root without a slash at
// either end; the root is "". Leading slashes mean the root, as everywhere.
func cleanName(raw string) (string, error) {
	if raw == "" {
		return "", errdefs.New(errdefs.InvalidArgument, "it has no name")
	}
	depth := 0
	for part := range strings.SplitSeq(raw, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return "", errdefs.New(errdefs.InvalidArgument, `".." leaves the root of the image`)
			}
		default:
			depth++
		}
	}
	return strings.TrimPrefix(path.Clean("/"+raw), "/"), nil
}

const (
	whiteoutPrefix = ".wh."
	aufsPrefix     = ".wh..wh."
	opaqueMarker   = ".wh..wh..opq"
)

// marker says what a clean name has to do with whiteouts.
type marker int

const (
	markNone   marker = iota
	markHide          // the path without the prefix is hidden
	markOpaque        // the directory that it is in is opaque
	markIgnore        // bookkeeping of AUFS, which old tools packed
)

// markerOf reads the marker of a clean name, and gives the name of what it hides.
func markerOf(name string) (marker, string, error) {
	if !strings.Contains(name, whiteoutPrefix) {
		return markNone, name, nil
	}
	dir, base := path.Split(name)
	for part := range strings.SplitSeq(dir, "/") {
		if strings.HasPrefix(part, aufsPrefix) {
			return markIgnore, "", nil
		}
		if strings.HasPrefix(part, whiteoutPrefix) {
			return markNone, "", errdefs.New(errdefs.InvalidArgument, "a directory cannot be called %q, which hides files", part)
		}
	}
	switch {
	case base == opaqueMarker:
		return markOpaque, strings.TrimSuffix(dir, "/"), nil
	case strings.HasPrefix(base, aufsPrefix):
		return markIgnore, "", nil
	case !strings.HasPrefix(base, whiteoutPrefix):
		return markNone, name, nil
	}
	switch hidden := base[len(whiteoutPrefix):]; hidden {
	case "", ".", "..":
		return markNone, "", errdefs.New(errdefs.InvalidArgument, "it hides no file")
	default:
		return markHide, dir + hidden, nil
	}
}

// split cuts a clean name into its directory and its last part.
func split(name string) (dir, base string) {
	dir, base = path.Split(name)
	return strings.TrimSuffix(dir, "/"), base
}

// target returns where a symbolic link points to.
func (t *tree) target(i *inode) string {
	return string(t.texts.get(uint32(i.data>>16), int(i.data&0xffff))) //nolint:gosec // as newSymlink packs it
}

// newSymlink returns the data of a symbolic link's inode.
func (t *tree) newSymlink(target string) (uint64, error) {
	switch {
	case target == "":
		return 0, errdefs.New(errdefs.InvalidArgument, "the symbolic link points to nothing")
	case len(target) > maxPath:
		return 0, errdefs.New(errdefs.InvalidArgument, "the symbolic link's target has %d bytes, a file system takes %d", len(target), maxPath)
	}
	if err := t.charge(len(target)); err != nil {
		return 0, err
	}
	return uint64(t.texts.add(target))<<16 | uint64(len(target)), nil
}

// walk returns the directory at a path from a directory on, with symbolic links
// followed as in a chroot, or 0 when there is none. With mode make, what is missing
// is made, and what a lower layer has there that is no directory gives way. Of the
// layer itself it does not, and for layer 0 nothing does.
func (t *tree) walk(from uint32, rest string, layer uint16, mode walkMode) (uint32, error) {
	dir, hops := from, 0
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		if t.steps++; t.steps > stepsPerEntry*t.opts.MaxEntries {
			return 0, errdefs.New(errdefs.ResourceExhausted, "the paths of the layers have more than %d parts, symbolic links followed",
				stepsPerEntry*t.opts.MaxEntries)
		}
		switch part {
		case "", ".":
			continue
		case "..":
			dir = t.nodes.at(dir).parent
			continue
		}
		n := t.lookup(dir, part)
		if n == 0 {
			if mode == look {
				return 0, nil
			}
			made, err := t.mkdir(dir, part, 0, layer)
			if err != nil {
				return 0, err
			}
			dir = made
			continue
		}
		switch i := t.inodeOf(n); {
		case i.kind == tar.TypeDir:
			dir = n
		case i.kind == tar.TypeSymlink:
			target := t.target(i)
			if hops++; hops > maxHops {
				return 0, errdefs.New(errdefs.InvalidArgument, "more than %d symbolic links to follow", maxHops)
			}
			if target[0] == '/' {
				dir = rootNode
			}
			rest = target + "/" + rest
			t.steps += len(rest) / 64 // copying is work too
		case mode == look:
			return 0, nil
		case layer == 0 || t.nodes.at(n).layer == layer:
			return 0, errdefs.New(errdefs.InvalidArgument, "/%s is no directory but %s", t.path(n), kindName(i.kind))
		default:
			made, err := t.mkdir(dir, part, n, layer)
			if err != nil {
				return 0, err
			}
			dir = made
		}
	}
	return dir, nil
}

// walkMode says what walk does about a directory that is missing.
type walkMode int

const (
	look walkMode = iota
	create
)

// kindName is how errors call a type.
func kindName(kind uint8) string {
	switch kind {
	case tar.TypeReg:
		return "a regular file"
	case tar.TypeDir:
		return "a directory"
	case tar.TypeSymlink:
		return "a symbolic link"
	case tar.TypeChar, tar.TypeBlock:
		return "a device"
	case tar.TypeFifo:
		return "a fifo"
	default:
		return "of an unknown type"
	}
}
