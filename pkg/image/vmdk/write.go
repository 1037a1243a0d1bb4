// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"

	"github.com/klauspost/compress/zlib"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// DefaultLevel is the compression level: higher ones are many times slower and
// save a few percent.
const DefaultLevel = 1

// Options say what disk is made.
type Options struct {
	// Capacity is the size of the disk in bytes, a multiple of 512.
	Capacity int64
	// Identity is that of the content.
	Identity Identity
	// Level is the compression level from 1 to 9; DefaultLevel if 0.
	Level int
}

// Result says what was made.
type Result struct {
	// Bytes is the length of the VMDK.
	Bytes int64
	// Grains is how many grains of 64 KiB have content.
	Grains int64
}

// File is where WriteFile writes to; *os.File is one.
type File interface {
	io.WriterAt
	// Truncate sets the length; what is added reads as zeroes.
	Truncate(size int64) error
}

// WriteFile makes a streamOptimized VMDK in file from the first size bytes of a
// raw disk; the rest of the disk is zero. Tables are in front. Whatever file held
// before is lost. The header is written last, so that a file that was cut off is
// not taken for a disk.
//
// Errors are InvalidArgument when the options are wrong, ResourceExhausted when
// file's place is full or the VMDK would exceed 2 TiB; errors of raw keep their
// kind. It ends when ctx does.
func WriteFile(ctx context.Context, file File, raw io.ReaderAt, size int64, opts Options) (Result, error) {
	opts, err := opts.complete(size)
	if err != nil {
		return Result{}, err
	}
	if err := file.Truncate(0); err != nil {
		return Result{}, writeError(err)
	}
	directory := make([]uint32, tablesOf(opts.Capacity))
	directoryAt := uint64(descriptorAt + descriptorSpace)
	tablesAt := directoryAt + uint64(sectorsOf(int64(4*len(directory))))                              //nolint:gosec // not negative
	overhead := tablesAt + uint64(tablesOf(size))*tableSectors                                        //nolint:gosec // not negative
	c := newCompressor(&appender{file: file, at: int64(overhead) * sectorSize}, overhead, opts.Level) //nolint:gosec // at most a few GiB
	err = c.compress(ctx, raw, size, func(index int64, table []uint32) error {
		at := tablesAt + uint64(index)*tableSectors                                 //nolint:gosec // not negative
		directory[index] = uint32(at)                                               //nolint:gosec // before the data
		if _, err := file.WriteAt(words(table), int64(at)*sectorSize); err != nil { //nolint:gosec // before the data
			return writeError(err)
		}
		return nil
	})
	if err != nil {
		return Result{}, err
	}
	if err := c.write(marker(0, markerEnd)); err != nil {
		return Result{}, err
	}
	for _, part := range []struct {
		at      uint64
		content []byte
	}{
		{directoryAt, words(directory)},
		{descriptorAt, embedded(opts)},
		{0, newHeader(opts.Capacity, directoryAt, overhead).encode()},
	} {
		if _, err := file.WriteAt(part.content, int64(part.at)*sectorSize); err != nil { //nolint:gosec // before the data
			return Result{}, writeError(err)
		}
	}
	return c.result(), nil
}

// WriteStream makes a streamOptimized VMDK from the first size bytes of a raw
// disk, in one pass, with the tables behind what they tell and a footer. Otherwise
// it does what WriteFile does.
func WriteStream(ctx context.Context, w io.Writer, raw io.ReaderAt, size int64, opts Options) (Result, error) {
	opts, err := opts.complete(size)
	if err != nil {
		return Result{}, err
	}
	c := newCompressor(w, 0, opts.Level)
	front := append(newHeader(opts.Capacity, atEnd, streamOverhead).encode(), embedded(opts)...)
	if err := c.write(append(front, make([]byte, streamOverhead*sectorSize-len(front))...)); err != nil {
		return Result{}, err
	}
	directory := make([]uint32, tablesOf(opts.Capacity))
	err = c.compress(ctx, raw, size, func(index int64, table []uint32) error {
		if err := c.write(marker(tableSectors, markerTable)); err != nil {
			return err
		}
		directory[index] = uint32(c.sector) //nolint:gosec // write checks it
		return c.write(words(table))
	})
	if err != nil {
		return Result{}, err
	}
	encoded := words(directory)
	if err := c.write(marker(uint64(len(encoded)/sectorSize), markerDirectory)); err != nil {
		return Result{}, err
	}
	directoryAt := c.sector
	for _, part := range [][]byte{
		encoded,
		marker(1, markerFooter),
		newHeader(opts.Capacity, directoryAt, streamOverhead).encode(),
		marker(0, markerEnd),
	} {
		if err := c.write(part); err != nil {
			return Result{}, err
		}
	}
	return c.result(), nil
}

func (o Options) complete(size int64) (Options, error) {
	if o.Level == 0 {
		o.Level = DefaultLevel
	}
	if err := check(o.Capacity, o.Identity); err != nil {
		return o, err
	}
	switch {
	case size < 0 || size > o.Capacity:
		return o, errdefs.New(errdefs.InvalidArgument, "a disk of %d bytes is made from %d bytes: these must fit", o.Capacity, size)
	case o.Level < 1 || o.Level > 9:
		return o, errdefs.New(errdefs.InvalidArgument, "the compression level is %d: it goes from 1 to 9", o.Level)
	}
	return o, nil
}

// embedded is the descriptor in the space it has.
func embedded(opts Options) []byte {
	b := make([]byte, descriptorSpace*sectorSize)
	copy(b, description(Flat{Capacity: opts.Capacity, Identity: opts.Identity, Extent: "disk.vmdk"}, "streamOptimized", "SPARSE"))
	return b
}

// appender writes one piece behind the other.
type appender struct {
	file File
	at   int64
}

// Write implements io.Writer.
func (a *appender) Write(b []byte) (int, error) {
	n, err := a.file.WriteAt(b, a.at)
	a.at += int64(n)
	return n, err
}

// compressor writes the grains of a disk.
type compressor struct {
	w io.Writer
	// sector is where it is in the file.
	sector uint64
	grains int64
	level  int
	grain  bytes.Buffer
}

func newCompressor(w io.Writer, sector uint64, level int) *compressor {
	return &compressor{w: w, sector: sector, level: level}
}

func (c *compressor) result() Result {
	return Result{Bytes: int64(c.sector) * sectorSize, Grains: c.grains} //nolint:gosec // at most 2 TiB
}

// write appends whole sectors.
func (c *compressor) write(b []byte) error {
	next := c.sector + uint64(len(b)/sectorSize)
	if next > math.MaxUint32 {
		return errdefs.New(errdefs.ResourceExhausted, "the VMDK would exceed the 2 TiB that its tables can address")
	}
	if _, err := c.w.Write(b); err != nil {
		return writeError(err)
	}
	c.sector = next
	return nil
}

// compress writes all grains of the first size bytes that are not zero, and calls
// done with every grain table that is not empty.
func (c *compressor) compress(ctx context.Context, raw io.ReaderAt, size int64, done func(index int64, table []uint32) error) error {
	z, err := zlib.NewWriterLevel(&c.grain, c.level)
	if err != nil {
		return errdefs.Wrap(errdefs.Internal, err, "compressing with level %d", c.level)
	}
	// Some grains at once: reading is cheaper in large pieces.
	buf := make([]byte, 16*grainSize)
	table := make([]uint32, tableEntries)
	empty := true
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return errdefs.Wrap(errdefs.KindOf(err), err, "compressing a disk")
		}
		piece := buf[:min(int64(len(buf)), size-at)]
		if err := readFull(raw, piece, at); err != nil {
			return err
		}
		// The last grain is compressed whole, even if the disk ends within it.
		clear(buf[len(piece):])
		for from := 0; from < len(piece); from += grainSize {
			grain := buf[from : from+grainSize]
			if isZero(grain) {
				continue
			}
			index := (at + int64(from)) / grainSize
			table[index%tableEntries] = uint32(c.sector) //nolint:gosec // write checks it
			empty = false
			if err := c.writeGrain(z, uint64(index)*grainSectors, grain); err != nil {
				return err
			}
		}
		at += int64(len(piece))
		if (at%tableSpan == 0 || at == size) && !empty {
			if err := done((at-1)/tableSpan, table); err != nil {
				return err
			}
			clear(table)
			empty = true
		}
	}
	return nil
}

// writeGrain compresses one grain, which belongs to a sector of the disk.
func (c *compressor) writeGrain(z *zlib.Writer, sector uint64, grain []byte) error {
	c.grain.Reset()
	c.grain.Write(make([]byte, grainHeader))
	z.Reset(&c.grain)
	if _, err := z.Write(grain); err != nil {
		return errdefs.Wrap(errdefs.Internal, err, "compressing sector %d of a disk", sector)
	}
	if err := z.Close(); err != nil {
		return errdefs.Wrap(errdefs.Internal, err, "compressing sector %d of a disk", sector)
	}
	compressed := c.grain.Len() - grainHeader
	if rest := c.grain.Len() % sectorSize; rest != 0 {
		c.grain.Write(make([]byte, sectorSize-rest))
	}
	b := c.grain.Bytes()
	binary.LittleEndian.PutUint64(b[0:], sector)
	binary.LittleEndian.PutUint32(b[8:], uint32(compressed)) //nolint:gosec // little more than a grain
	c.grains++
	return c.write(b)
}

// isZero reports whether all bytes are 0: the first is, and each equals the next.
func isZero(b []byte) bool { return b[0] == 0 && bytes.Equal(b[:len(b)-1], b[1:]) }

// readFull reads all of b.
func readFull(raw io.ReaderAt, b []byte, at int64) error {
	n, err := raw.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	kind := errdefs.KindOf(err)
	switch {
	case errors.Is(err, io.EOF):
		kind, err = errdefs.InvalidArgument, io.ErrUnexpectedEOF
	case kind == errdefs.Unknown:
		kind = errdefs.Unavailable
	}
	return errdefs.Wrap(kind, err, "reading a disk from %d", at)
}

// writeError gives an error of what is written to its kind, if it has none.
func writeError(err error) error {
	kind := errdefs.KindOf(err)
	switch {
	case kind != errdefs.Unknown:
	default:
		kind = errdefs.Internal
	}
	return errdefs.Wrap(kind, err, "writing a VMDK")
}
