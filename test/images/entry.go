// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package images

import (
	"archive/tar"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
)

// NoPermissions is an Entry's Mode without any permission.
const NoPermissions = -1

// Entry is one entry of a layer's archive. Names are written as they are.
type Entry struct {
	Name string
	// Type is one of the types of archive/tar. 0 is a directory if Name ends in a
	// slash, otherwise a regular file.
	Type byte
	// Mode are the permissions with setuid, setgid and sticky, as chmod has them
	// (04755). 0 is 0755 for a directory, 0777 for a symbolic link, 0644 for the rest.
	Mode     int64
	UID, GID int
	// Content is what a regular file has. Longer files have Size bytes of what Open
	// returns instead.
	Content string
	Open    func() io.Reader
	Size    int64
	// Target is where a link leads.
	Target string
	// Major and Minor are the numbers of a device.
	Major, Minor int64
	// Xattrs are extended attributes; the bytes may be any.
	Xattrs map[string]string
	// Time is when it was modified. The zero value is Epoch.
	Time time.Time
}

// Epoch is the time of entries and images that say nothing else.
func Epoch() time.Time { return time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC) }

// Dir is a directory.
func Dir(name string) Entry {
	return Entry{Name: strings.TrimSuffix(name, "/") + "/", Type: tar.TypeDir}
}

// File is a regular file that everybody may read.
func File(name, content string) Entry { return Entry{Name: name, Type: tar.TypeReg, Content: content} }

// Executable is a regular file that everybody may execute.
func Executable(name, content string) Entry {
	return Entry{Name: name, Type: tar.TypeReg, Content: content, Mode: 0o755}
}

// Symlink is a symbolic link.
func Symlink(name, target string) Entry {
	return Entry{Name: name, Type: tar.TypeSymlink, Target: target}
}

// Hardlink is another name of the file that target names from the root.
func Hardlink(name, target string) Entry {
	return Entry{Name: name, Type: tar.TypeLink, Target: target}
}

// Device is a device: of characters (tar.TypeChar) or blocks (tar.TypeBlock).
func Device(name string, kind byte, major, minor int64) Entry {
	return Entry{Name: name, Type: kind, Major: major, Minor: minor}
}

// Fifo is a named pipe.
func Fifo(name string) Entry { return Entry{Name: name, Type: tar.TypeFifo} }

// Whiteout hides what lower layers have under a name.
func Whiteout(name string) Entry {
	dir, base := path.Split(name)
	return File(dir+".wh."+base, "")
}

// Opaque hides what lower layers have in a directory.
func Opaque(dir string) Entry { return File(strings.TrimSuffix(dir, "/")+"/.wh..wh..opq", "") }

func (e Entry) header() *tar.Header {
	h := &tar.Header{
		Name: e.Name, Typeflag: e.Type, Linkname: e.Target, Mode: e.Mode, Uid: e.UID, Gid: e.GID,
		Devmajor: e.Major, Devminor: e.Minor, ModTime: e.Time, Format: tar.FormatPAX,
	}
	if h.Typeflag == 0 {
		h.Typeflag = tar.TypeReg
		if strings.HasSuffix(h.Name, "/") {
			h.Typeflag = tar.TypeDir
		}
	}
	switch {
	case e.Mode == NoPermissions:
		h.Mode = 0
	case e.Mode != 0:
	case h.Typeflag == tar.TypeDir:
		h.Mode = 0o755
	case h.Typeflag == tar.TypeSymlink:
		h.Mode = 0o777
	default:
		h.Mode = 0o644
	}
	if e.Time.IsZero() {
		h.ModTime = Epoch()
	}
	for key, value := range e.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+key] = value
	}
	if h.Typeflag == tar.TypeReg {
		h.Size = int64(len(e.Content))
		if e.Open != nil {
			h.Size = e.Size
		}
	}
	return h
}

func (e Entry) write(archive *tar.Writer) error {
	h := e.header()
	if err := archive.WriteHeader(h); err != nil {
		return fmt.Errorf("write its header: %w", err)
	}
	if h.Size == 0 {
		return nil
	}
	var content io.Reader = strings.NewReader(e.Content)
	if e.Open != nil {
		content = e.Open()
	}
	if _, err := io.CopyN(archive, content, h.Size); err != nil {
		return fmt.Errorf("write its content: %w", err)
	}
	return nil
}
