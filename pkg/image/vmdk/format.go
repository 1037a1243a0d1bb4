// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import "encoding/binary"

const (
	magic = 0x564d444b
	// version is the only one that hosts import streamOptimized disks of.
	version = 3
	// flagNewlines says that the header has characters by which damage of a
	// transfer as text shows; the others that grains are compressed, and that
	// each says where it belongs.
	flagNewlines, flagCompressed, flagMarkers = 1, 1 << 16, 1 << 17

	deflate = 1

	grainSize       = 64 << 10
	grainSectors    = grainSize / sectorSize
	tableEntries    = 512
	tableSize       = 4 * tableEntries
	tableSectors    = tableSize / sectorSize
	tableSpan       = tableEntries * grainSize
	descriptorAt    = 1
	descriptorSpace = 20
	// streamOverhead is where data begins when the tables are at the end.
	streamOverhead = 128
	// atEnd is where the grain directory is said to be if the footer knows.
	atEnd = 1<<64 - 1
	// grainHeader is what precedes the compressed data of a grain.
	grainHeader = 12
)

// Types of markers, which stand between grains.
const (
	markerEnd       = 0
	markerTable     = 1
	markerDirectory = 2
	markerFooter    = 3
)

// header is the first sector, and the footer.
type header struct {
	capacity, grainSectors        uint64
	descriptorAt, descriptorSpace uint64
	directory, overhead           uint64
	version, flags, tableEntries  uint32
	compression                   uint16
}

func newHeader(capacity int64, directory, overhead uint64) header {
	return header{
		capacity: uint64(capacity / sectorSize), grainSectors: grainSectors, //nolint:gosec // not negative
		descriptorAt: descriptorAt, descriptorSpace: descriptorSpace,
		directory: directory, overhead: overhead,
		version: version, flags: flagNewlines | flagCompressed | flagMarkers, tableEntries: tableEntries,
		compression: deflate,
	}
}

func (h header) encode() []byte {
	b := make([]byte, sectorSize)
	le := binary.LittleEndian
	le.PutUint32(b[0:], magic)
	le.PutUint32(b[4:], h.version)
	le.PutUint32(b[8:], h.flags)
	le.PutUint64(b[12:], h.capacity)
	le.PutUint64(b[20:], h.grainSectors)
	le.PutUint64(b[28:], h.descriptorAt)
	le.PutUint64(b[36:], h.descriptorSpace)
	le.PutUint32(b[44:], h.tableEntries)
	le.PutUint64(b[56:], h.directory)
	le.PutUint64(b[64:], h.overhead)
	copy(b[73:], "\n \r\n")
	le.PutUint16(b[77:], h.compression)
	return b
}

// decodeHeader reads a header; ok is false if there is none.
func decodeHeader(b []byte) (h header, ok bool) {
	le := binary.LittleEndian
	if len(b) < sectorSize || le.Uint32(b) != magic {
		return header{}, false
	}
	return header{
		version: le.Uint32(b[4:]), flags: le.Uint32(b[8:]), capacity: le.Uint64(b[12:]), grainSectors: le.Uint64(b[20:]),
		descriptorAt: le.Uint64(b[28:]), descriptorSpace: le.Uint64(b[36:]), tableEntries: le.Uint32(b[44:]),
		directory: le.Uint64(b[56:]), overhead: le.Uint64(b[64:]), compression: le.Uint16(b[77:]),
	}, true
}

// marker encodes a marker, which announces a number of sectors of a kind.
func marker(sectors uint64, kind uint32) []byte {
	b := make([]byte, sectorSize)
	binary.LittleEndian.PutUint64(b[0:], sectors)
	binary.LittleEndian.PutUint32(b[12:], kind)
	return b
}

// sectorsOf is how many sectors bytes take.
func sectorsOf(bytes int64) int64 { return (bytes + sectorSize - 1) / sectorSize }

// tablesOf is how many grain tables a disk, or a prefix of it, has.
func tablesOf(bytes int64) int64 { return (bytes + tableSpan - 1) / tableSpan }

// words encodes 32-bit numbers, padded to whole sectors.
func words(numbers []uint32) []byte {
	b := make([]byte, 0, sectorsOf(int64(4*len(numbers)))*sectorSize)
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return b[:cap(b)]
}
