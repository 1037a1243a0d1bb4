// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const (
	sectorSize = 512
	// MaxCapacity is the largest disk that vSphere knows.
	MaxCapacity = 62 << 40
	// geometry is what every disk of more than 4 GiB has. No guest looks at it.
	heads, sectorsOfTrack, maxCylinders = 255, 63, 65535
	// hardwareVersion is what hosts since ESXi 5.0 know. The version of a VM
	// that uses the disk counts, not this.
	hardwareVersion = 8
)

// Identity tells a disk's content from another's. It must not be zero, and is best
// derived from what the disk is made of.
type Identity [16]byte

// contentID is the short form, which changes when a disk is written to. Two values
// have a meaning of their own.
func (id Identity) contentID() uint32 {
	cid := binary.BigEndian.Uint32(id[12:])
	if cid >= 0xfffffffe {
		cid &= 0x7fffffff
	}
	return cid
}

// Flat says what Descriptor describes.
type Flat struct {
	// Capacity is the size of the disk in bytes, a multiple of 512.
	Capacity int64
	// Extent is the name of the file with the raw disk, which is in the same directory.
	Extent string
	// Identity is that of the content.
	Identity Identity
	// Thin says that the datastore allocates blocks when they are written.
	Thin bool
}

// Descriptor returns the descriptor of a flat disk without a parent, to be put
// beside the raw disk as <name>.vmdk.
func Descriptor(flat Flat) ([]byte, error) {
	if err := check(flat.Capacity, flat.Identity); err != nil {
		return nil, err
	}
	bad := func(r rune) bool { return r == '"' || r == '/' || r == '\\' || unicode.IsControl(r) }
	if flat.Extent == "" || !utf8.ValidString(flat.Extent) || strings.ContainsFunc(flat.Extent, bad) {
		return nil, errdefs.New(errdefs.InvalidArgument, "the extent of a disk is the file %q: it must be a plain name without quotes", flat.Extent)
	}
	return description(flat, "vmfs", "VMFS"), nil
}

func check(capacity int64, id Identity) error {
	switch {
	case capacity <= 0 || capacity%sectorSize != 0 || capacity > MaxCapacity:
		return errdefs.New(errdefs.InvalidArgument, "the capacity of a disk is %d bytes: it must be a multiple of 512, and at most 62 TiB", capacity)
	case id == Identity{}:
		return errdefs.New(errdefs.InvalidArgument, "the identity of a disk is zero: it must tell its content from others")
	}
	return nil
}

// description encodes a descriptor.
func description(flat Flat, kind, extent string) []byte {
	sectors := flat.Capacity / sectorSize
	const cylinder = heads * sectorsOfTrack
	cylinders := min((sectors+cylinder-1)/cylinder, maxCylinders)
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Disk DescriptorFile")
	line("version=1")
	line("encoding=\"UTF-8\"")
	line("CID=%08x", flat.Identity.contentID())
	line("parentCID=ffffffff") // no parent
	line("createType=%q\n", kind)
	line("# Extent description")
	line("RW %d %s \"%s\"\n", sectors, extent, flat.Extent)
	line("# The Disk Data Base")
	line("#DDB\n")
	line("ddb.adapterType = \"lsilogic\"")
	line("ddb.geometry.cylinders = \"%d\"", cylinders)
	line("ddb.geometry.heads = \"%d\"", heads)
	line("ddb.geometry.sectors = \"%d\"", sectorsOfTrack)
	line("ddb.longContentID = \"%x%08x\"", flat.Identity[:12], flat.Identity.contentID())
	if flat.Thin {
		line("ddb.thinProvisioned = \"1\"")
	}
	line("ddb.virtualHWVersion = \"%d\"", hardwareVersion)
	return []byte(b.String())
}
