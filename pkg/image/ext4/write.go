// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package ext4

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const (
	mib = 1 << 20
	// MaxSize is the largest disk that Write makes.
	MaxSize = 2 << 40
	// DefaultLabel is the label by which a container VM finds its root disk.
	DefaultLabel = "containerfs"
	// DefaultMaxEntries bounds the memory that Write uses: some 250 bytes for an entry.
	DefaultMaxEntries = 400_000
)

// Options say what filesystem Write makes.
type Options struct {
	// Size is the size of the disk in bytes: a multiple of 1 MiB, up to MaxSize.
	Size int64
	// Label is the label of at most 16 bytes; DefaultLabel if empty.
	Label string
	// UUID is the identity of the filesystem, which must not be zero. Write
	// makes none up, so that it can be derived from what is written.
	UUID [16]byte
	// Time is when the filesystem and what is not in the archive were made.
	Time time.Time
	// MaxEntries bounds the entries of the archive together with directories that
	// it lacks, 100 bytes for the names and attributes of each, and with all this
	// the memory that is used; DefaultMaxEntries if 0.
	MaxEntries int
}

// Result says what Write made.
type Result struct {
	// Size is the size of the disk in bytes.
	Size int64
	// UsedBytes is the length of the prefix that was written, a multiple of
	// 4096. The file has this length; the rest of the disk is zeroes.
	UsedBytes int64
	// FreeBytes is what the filesystem has left for files.
	FreeBytes int64
	// Inodes and FreeInodes are how many files there can be, and how many more.
	Inodes, FreeInodes int64
	// Entries is how many entries the archive has, with directories that it lacks.
	Entries int
	// DroppedXattrs counts extended attributes that were left out since Linux
	// keeps none of their namespace, like those of other systems.
	DroppedXattrs int
}

// File is where a filesystem is written to; *os.File is one.
type File interface {
	io.WriterAt
	// Truncate sets the length; what is added reads as zeroes.
	Truncate(size int64) error
}

// TooSmallError says that an archive does not fit on the disk that was asked for.
type TooSmallError struct {
	// Size is the size that was asked for, Need the smallest that fits, in bytes.
	Size, Need int64
	// AtLeast says that counting was given up: even Need is too small.
	AtLeast bool
}

// Error says what would fit.
func (e *TooSmallError) Error() string {
	more := "at least"
	if e.AtLeast {
		more = "more than"
	}
	return fmt.Sprintf("the content needs a disk of %s %d MiB, this one has %d MiB", more, e.Need/mib, e.Size/mib)
}

// Write makes an ext4 filesystem in file from the tar archive that archive
// yields, which may be empty. Whatever file held before is lost; its length
// becomes Result.UsedBytes. An entry replaces an earlier one of its name, except
// that a directory and a file cannot replace each other; directories that are
// missing are made. Runs of zeroes become holes in files, but the disk must be
// large enough to hold them.
//
// Errors are InvalidArgument when the options or the archive are wrong, with the
// entry, or when the disk is too small, then with a *TooSmallError in the chain;
// ResourceExhausted when there are too many entries or file's place is full;
// errors of archive keep their kind. When it fails, or ctx ends, file holds
// nothing of use.
func Write(ctx context.Context, archive io.Reader, file File, opts Options) (Result, error) {
	opts, err := opts.complete()
	if err != nil {
		return Result{}, err
	}
	if err := file.Truncate(0); err != nil {
		return Result{}, writeError(err)
	}
	w := newWriter(ctx, file, opts)
	if err := w.addArchive(archive); err != nil {
		return Result{}, err
	}
	return w.finish()
}

func (o Options) complete() (Options, error) {
	if o.Label == "" {
		o.Label = DefaultLabel
	}
	if o.MaxEntries == 0 {
		o.MaxEntries = DefaultMaxEntries
	}
	switch {
	case o.Size <= 0 || o.Size%mib != 0 || o.Size > MaxSize:
		return o, errdefs.New(errdefs.InvalidArgument, "the size of a disk is %d bytes: it must be a multiple of 1 MiB, and at most 2 TiB", o.Size)
	case len(o.Label) > 16:
		return o, errdefs.New(errdefs.InvalidArgument, "the label %q of a filesystem has %d bytes: ext4 has room for 16", o.Label, len(o.Label))
	case o.UUID == [16]byte{}:
		return o, errdefs.New(errdefs.InvalidArgument, "the UUID of a filesystem is zero: every one needs its own")
	case o.MaxEntries < 0:
		return o, errdefs.New(errdefs.InvalidArgument, "the limit of entries is %d: it must not be negative", o.MaxEntries)
	}
	return o, nil
}

// writeError gives an error of the file that is written its kind.
func writeError(err error) error {
	kind := errdefs.KindOf(err)
	if kind == errdefs.Unknown {
		kind = errdefs.Internal
	}
	return errdefs.Wrap(kind, err, "writing the filesystem")
}

// output appends to the file, in large pieces.
type output struct {
	ctx   context.Context //nolint:containedctx // lives as long as one call of Write
	file  File
	buf   []byte
	start int64
	// discard makes it count only. It is set when the disk has turned out to be
	// too small, to learn what size would do.
	discard bool
}

func newOutput(ctx context.Context, file File) *output {
	return &output{ctx: ctx, file: file, buf: make([]byte, 0, 1<<20)}
}

// block is the number of the block that is written next.
func (o *output) block() uint32 {
	return uint32((o.start + int64(len(o.buf))) / blockSize) //nolint:gosec // bounded by the limits of Write
}

func (o *output) write(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), cap(o.buf)-len(o.buf))
		o.buf = append(o.buf, b[:n]...)
		b = b[n:]
		if len(o.buf) == cap(o.buf) {
			if err := o.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// pad fills the block up.
func (o *output) pad() error {
	if rest := len(o.buf) % blockSize; rest != 0 {
		return o.write(make([]byte, blockSize-rest))
	}
	return nil
}

func (o *output) flush() error {
	if err := o.ctx.Err(); err != nil {
		return writeError(err)
	}
	if !o.discard && len(o.buf) > 0 {
		if _, err := o.file.WriteAt(o.buf, o.start); err != nil {
			return writeError(err)
		}
	}
	o.start += int64(len(o.buf))
	o.buf = o.buf[:0]
	return nil
}
