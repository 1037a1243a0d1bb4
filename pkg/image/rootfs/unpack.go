// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Blob is one layer of an image as a registry gives it: a tar, or one compressed
// with gzip or zstd, which its first bytes tell.
type Blob struct {
	// DiffID is the digest of the uncompressed tar, from the image's configuration,
	// such as "sha256:" and 64 hex digits.
	DiffID string
	// Open opens the blob. It is called once. A Read that hangs is ended by closing.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Unpacked holds the layers of an image, uncompressed. Close frees them.
type Unpacked struct {
	files []*tempFile
}

// maxWindow bounds what a zstd decoder remembers. Layers need 8 MiB; only the
// "ultra" levels of the zstd program may want more.
const maxWindow = 32 << 20

// Unpack decompresses each blob once into a temporary file in dir and verifies
// its diff ID. Files are unlinked as soon as they are open where the system can,
// so that not even a killed process leaves any; otherwise Close removes them.
// After an error nothing is left, and nothing is to be closed. Long runs of zeroes
// become holes, which take no room.
//
// Errors name the layer: InvalidArgument for one that is corrupt or another than
// its diff ID says, ResourceExhausted when all together have more than
// opts.MaxBytes or the disk is full, Unavailable when a blob cannot be read.
func Unpack(ctx context.Context, dir string, blobs []Blob, opts Options) (*Unpacked, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	u := &Unpacked{files: make([]*tempFile, len(blobs))}
	total := &atomic.Int64{}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(opts.Parallel)
	for i, blob := range blobs {
		group.Go(func() error {
			file, err := unpack(groupCtx, dir, blob, total, opts.MaxBytes)
			u.files[i] = file
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return u, nil
}

// Layers returns the layers in the order of the blobs. They can be opened until
// Close, also several times at once.
func (u *Unpacked) Layers() []Layer {
	layers := make([]Layer, len(u.files))
	for i, f := range u.files {
		layers[i] = Layer{Name: f.name, Open: func(context.Context) (io.ReadCloser, error) {
			return struct {
				*io.SectionReader
				io.Closer
			}{io.NewSectionReader(f.file, 0, f.size), io.NopCloser(nil)}, nil
		}}
	}
	return layers
}

// Bytes returns how many bytes the layers have together.
func (u *Unpacked) Bytes() int64 {
	sum := int64(0)
	for _, f := range u.files {
		sum += f.size
	}
	return sum
}

// Close frees the files. Calling it again does nothing.
func (u *Unpacked) Close() error {
	var errs []error
	for _, f := range u.files {
		if f != nil {
			errs = append(errs, f.close())
		}
	}
	u.files = nil
	return errors.Join(errs...)
}

// tempFile is an open file, with a name in the file system only where it must.
type tempFile struct {
	name string // of the layer
	file *os.File
	size int64
	path string // to remove, or ""
}

func newTempFile(dir, layer string) (*tempFile, error) {
	f, err := os.CreateTemp(dir, ".layer-*")
	if err != nil {
		return nil, err
	}
	t := &tempFile{name: layer, file: f}
	if os.Remove(f.Name()) != nil {
		t.path = f.Name() // some systems keep open files
	}
	return t, nil
}

func (t *tempFile) close() error {
	err := t.file.Close()
	if t.path != "" {
		err = errors.Join(err, os.Remove(t.path))
	}
	return errdefs.Wrap(errdefs.Internal, err, "free the temporary file of layer %s", t.name)
}

// unpack decompresses one blob.
func unpack(ctx context.Context, dir string, blob Blob, total *atomic.Int64, limit int64) (_ *tempFile, err error) {
	sum, want, err := parseDigest(blob.DiffID)
	if err != nil {
		return nil, err
	}
	r, err := blob.Open(ctx)
	if err != nil {
		return nil, failed(ctx, err, "open layer %s", blob.DiffID)
	}
	// A read from a network may hang: closing ends it.
	stop := context.AfterFunc(ctx, func() { _ = r.Close() })
	defer func() {
		if stop() {
			_ = r.Close() // all of it was read and verified, or the error is known
		}
	}()
	file, err := newTempFile(dir, blob.DiffID)
	if err != nil {
		return nil, failed(ctx, err, "make a temporary file in %s for layer %s", dir, blob.DiffID)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.close())
		}
	}()
	in := &compressed{r: r}
	plain, done, err := decompress(bufio.NewReaderSize(withContext(ctx, in), bufferSize))
	if err != nil {
		return nil, in.failed(ctx, err, blob)
	}
	defer done()
	buffer := make([]byte, 4*bufferSize)
	for {
		n, readErr := plain.Read(buffer)
		if total.Add(int64(n)) > limit {
			return nil, errdefs.New(errdefs.ResourceExhausted, "unpack layer %s: the layers have more than %d bytes uncompressed", blob.DiffID, limit)
		}
		// Zeroes become holes: they could be many, and cost nothing in a blob.
		if !isZero(buffer[:n]) {
			if _, err := file.file.WriteAt(buffer[:n], file.size); err != nil {
				return nil, failed(ctx, err, "write layer %s into %s", blob.DiffID, dir)
			}
		}
		_, _ = sum.Write(buffer[:n]) // a hash takes everything
		file.size += int64(n)
		if errors.Is(readErr, io.EOF) {
			break
		}
		if readErr != nil {
			return nil, in.failed(ctx, readErr, blob)
		}
	}
	if err := file.file.Truncate(file.size); err != nil {
		return nil, failed(ctx, err, "write layer %s into %s", blob.DiffID, dir)
	}
	if got := sum.Sum(nil); !bytes.Equal(got, want) {
		return nil, errdefs.New(errdefs.InvalidArgument, "unpack layer %s: its content has another digest, %x", blob.DiffID, got)
	}
	return file, nil
}

// isZero reports whether all bytes are 0: the first is, and each equals the next.
func isZero(b []byte) bool { return len(b) == 0 || b[0] == 0 && bytes.Equal(b[:len(b)-1], b[1:]) }

// compressed remembers that it was the blob that could not be read.
type compressed struct {
	r   io.Reader
	err error
}

// Read reads.
func (c *compressed) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

func (c *compressed) failed(ctx context.Context, err error, blob Blob) error {
	switch {
	case c.err != nil || ctx.Err() != nil:
		return failed(ctx, errors.Join(c.err), "read layer %s", blob.DiffID)
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return errdefs.Wrap(errdefs.ResourceExhausted, err, "unpack layer %s: it needs a window of more than %d bytes", blob.DiffID, maxWindow)
	}
	return errdefs.Wrap(errdefs.InvalidArgument, err, "unpack layer %s", blob.DiffID)
}

// decompress returns what a blob holds, and what frees the decoder.
func decompress(r *bufio.Reader) (io.Reader, func(), error) {
	// A blob that is shorter is no compressed one.
	start, err := r.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(start, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, nil, err
		}
		return z, func() {}, nil
	case bytes.Equal(start, []byte{0x28, 0xb5, 0x2f, 0xfd}),
		len(start) == 4 && start[0]&0xf0 == 0x50 && bytes.Equal(start[1:], []byte{0x2a, 0x4d, 0x18}): // a skippable frame
		// Not concurrent: the layers are, and its memory is bounded so.
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return r, func() {}, nil
}

// parseDigest returns a hash and the sum that it must have.
func parseDigest(digest string) (hash.Hash, []byte, error) {
	algorithm, text, _ := strings.Cut(digest, ":")
	want, err := hex.DecodeString(text)
	switch {
	case err == nil && algorithm == "sha256" && len(want) == sha256.Size:
		return sha256.New(), want, nil
	case err == nil && algorithm == "sha512" && len(want) == sha512.Size:
		return sha512.New(), want, nil
	}
	return nil, nil, errdefs.New(errdefs.InvalidArgument, "diff ID %q of a layer, want sha256:<64 hex digits> or sha512:<128 hex digits>", clip(digest))
}
