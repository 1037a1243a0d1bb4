// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Disk is a streamOptimized VMDK that is read. It reads as the raw disk. It is
// not for concurrent use.
type Disk struct {
	// Capacity is the size of the disk in bytes.
	Capacity int64
	// Descriptor is the text inside the VMDK.
	Descriptor string

	r         io.ReaderAt
	size      int64
	directory []byte
	// table and grain are what was used last, with their numbers.
	table      []byte
	tableIndex int64
	grain      []byte
	grainIndex int64
}

// Open reads what a streamOptimized VMDK of size bytes says of itself, whether its
// tables are in front or at the end. Input of any kind is answered with
// InvalidArgument, within bounded time and memory.
func Open(r io.ReaderAt, size int64) (*Disk, error) {
	d := &Disk{r: r, size: size, tableIndex: -1, grainIndex: -1}
	h, err := d.header(0)
	if err != nil {
		return nil, err
	}
	if h.directory == atEnd {
		mark, err := d.read(size/sectorSize-3, 1)
		if err != nil {
			return nil, err
		}
		if binary.LittleEndian.Uint32(mark[12:]) != markerFooter {
			return nil, invalid("it has neither tables in front nor a footer")
		}
		footer, err := d.header(size/sectorSize - 2)
		if err != nil {
			return nil, err
		}
		if footer.capacity != h.capacity {
			return nil, invalid("header and footer differ")
		}
		h = footer
	}
	d.Capacity = int64(h.capacity) * sectorSize                 //nolint:gosec // checked with the header
	text, err := d.read(int64(h.descriptorAt), descriptorSpace) //nolint:gosec // read checks it
	if err != nil {
		return nil, err
	}
	d.Descriptor = strings.TrimRight(string(text), "\x00")
	if !strings.Contains(d.Descriptor, "createType=\"streamOptimized\"") {
		return nil, invalid("its descriptor has not the type streamOptimized")
	}
	d.directory, err = d.read(int64(h.directory), sectorsOf(4*tablesOf(d.Capacity))) //nolint:gosec // read checks it
	if err != nil {
		return nil, err
	}
	return d, nil
}

func invalid(format string, args ...any) error {
	return errdefs.Wrap(errdefs.InvalidArgument, fmt.Errorf(format, args...), "reading a VMDK")
}

// header reads a header that says what this package understands.
func (d *Disk) header(sector int64) (header, error) {
	b, err := d.read(sector, 1)
	if err != nil {
		return header{}, err
	}
	h, ok := decodeHeader(b)
	want := newHeader(0, h.directory, h.overhead)
	want.capacity = h.capacity
	switch {
	case !ok:
		return header{}, invalid("it has no header at sector %d", sector)
	case h != want || !bytes.Equal(b[73:77], []byte("\n \r\n")):
		return header{}, invalid("it is not streamOptimized of version %d as it is made here", version)
	case h.capacity == 0 || h.capacity > MaxCapacity/sectorSize:
		return header{}, invalid("it has a capacity of %d sectors", h.capacity)
	}
	return h, nil
}

// read reads sectors, all of which must be in the file.
func (d *Disk) read(sector, sectors int64) ([]byte, error) {
	if sector < 0 || sectors > d.size/sectorSize || sector > d.size/sectorSize-sectors {
		return nil, invalid("something is in %d sectors from %d of %d", sectors, sector, d.size/sectorSize)
	}
	b := make([]byte, sectors*sectorSize)
	if n, err := d.r.ReadAt(b, sector*sectorSize); n < len(b) {
		kind := errdefs.KindOf(err)
		switch {
		case errors.Is(err, io.EOF):
			kind = errdefs.InvalidArgument
		case kind == errdefs.Unknown:
			kind = errdefs.Unavailable
		}
		return nil, errdefs.Wrap(kind, err, "reading a VMDK at sector %d", sector)
	}
	return b, nil
}

// ReadAt implements io.ReaderAt for the raw disk.
func (d *Disk) ReadAt(b []byte, at int64) (int, error) {
	if at < 0 {
		return 0, errdefs.New(errdefs.InvalidArgument, "reading a disk at %d", at)
	}
	done := 0
	for done < len(b) {
		if at >= d.Capacity {
			return done, io.EOF
		}
		grain, err := d.grainAt(at / grainSize)
		if err != nil {
			return done, err
		}
		end := min(grainSize, d.Capacity-at/grainSize*grainSize)
		var n int
		if grain == nil {
			n = min(len(b)-done, int(end-at%grainSize))
			clear(b[done : done+n])
		} else {
			n = copy(b[done:], grain[at%grainSize:end])
		}
		done += n
		at += int64(n)
	}
	return done, nil
}

// Next returns where the first grain at or behind an offset is that is in the file:
// what is between them reads as zero. It is Capacity if there is none.
func (d *Disk) Next(at int64) (int64, error) {
	for index := max(0, at) / grainSize; index*grainSize < d.Capacity; {
		sector, err := d.place(index)
		switch {
		case err != nil:
			return 0, err
		case sector != 0:
			return max(at, index*grainSize), nil
		case d.table == nil:
			index = (index/tableEntries + 1) * tableEntries
		default:
			index++
		}
	}
	return d.Capacity, nil
}

// grainAt returns the content of a grain, nil if it is zero.
func (d *Disk) grainAt(index int64) ([]byte, error) {
	if index == d.grainIndex {
		return d.grain, nil
	}
	sector, err := d.place(index)
	if err != nil {
		return nil, err
	}
	d.grainIndex = -1
	d.grain = nil
	if sector != 0 {
		if d.grain, err = d.readGrain(index, sector); err != nil {
			return nil, err
		}
	}
	d.grainIndex = index
	return d.grain, nil
}

// place returns the sector where a grain is, 0 if there is none.
func (d *Disk) place(index int64) (int64, error) {
	le := binary.LittleEndian
	if table := index / tableEntries; table != d.tableIndex {
		d.tableIndex = -1
		d.table = nil
		if at := int64(le.Uint32(d.directory[4*table:])); at != 0 {
			var err error
			if d.table, err = d.read(at, tableSectors); err != nil {
				return 0, err
			}
		}
		d.tableIndex = table
	}
	if d.table == nil {
		return 0, nil
	}
	return int64(le.Uint32(d.table[4*(index%tableEntries):])), nil
}

// readGrain decompresses one grain.
func (d *Disk) readGrain(index, sector int64) ([]byte, error) {
	first, err := d.read(sector, 1)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	belongs, size := le.Uint64(first), int64(le.Uint32(first[8:]))
	if belongs != uint64(index)*grainSectors || size > 2*grainSize { //nolint:gosec // not negative
		return nil, invalid("the grain %d is not at sector %d", index, sector)
	}
	b, err := d.read(sector, sectorsOf(grainHeader+size))
	if err != nil {
		return nil, err
	}
	z, err := zlib.NewReader(bytes.NewReader(b[grainHeader : grainHeader+size]))
	if err != nil {
		return nil, invalid("grain %d: %w", index, err)
	}
	grain := make([]byte, grainSize)
	if _, err := io.ReadFull(z, grain); err != nil {
		return nil, invalid("grain %d: %w", index, err)
	}
	// Reading on verifies the checksum.
	if n, err := z.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		return nil, invalid("grain %d has more than 64 KiB, or a wrong checksum", index)
	}
	return grain, nil
}
