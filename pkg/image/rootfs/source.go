// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const bufferSize = 64 << 10

// source is what a layer is read from: buffered, ended by the context, bounded,
// and seeking over what nobody reads where the layer can.
type source struct {
	read   io.Reader
	seek   io.Seeker // nil when the layer cannot
	buffer *bufio.Reader
	pos    int64
	budget *budget
	// err is what reading failed with, to tell a broken disk from a broken tar.
	err error
}

// budget is how many bytes all layers together may still have.
type budget struct{ left, limit int64 }

func (b *budget) spend(n int64) error {
	if b.left -= n; b.left < 0 {
		return errdefs.New(errdefs.ResourceExhausted, "the layers have more than %d bytes uncompressed", b.limit)
	}
	return nil
}

// readerFunc is a function as a reader.
type readerFunc func([]byte) (int, error)

// Read calls the function.
func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// withContext is a reader that ends with ctx, between two calls of the other.
func withContext(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

func newSource(ctx context.Context, r io.Reader, b *budget) *source {
	s := &source{budget: b, read: withContext(ctx, r)}
	if seeker, ok := r.(io.Seeker); ok {
		// Some readers, of pipes for one, have the method but cannot.
		if _, err := seeker.Seek(0, io.SeekCurrent); err == nil {
			s.seek = seeker
		}
	}
	s.buffer = bufio.NewReaderSize(readerFunc(func(p []byte) (int, error) {
		n, err := s.read.Read(p)
		if err != nil && !errors.Is(err, io.EOF) {
			s.err = err
		}
		return n, err
	}), bufferSize)
	return s
}

// Read reads and counts.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.buffer.Read(p)
	s.pos += int64(n)
	if over := s.budget.spend(int64(n)); over != nil {
		s.err = over
		return n, over
	}
	return n, err
}

// Seek skips forward, all that archive/tar wants.
func (s *source) Seek(offset int64, whence int) (int64, error) {
	if s.seek == nil || whence != io.SeekCurrent || offset < 0 {
		return 0, errors.ErrUnsupported
	}
	if err := s.budget.spend(offset); err != nil {
		s.err = err
		return 0, err
	}
	buffered := min(offset, int64(s.buffer.Buffered()))
	if _, err := s.buffer.Discard(int(buffered)); err != nil {
		return 0, err
	}
	if beyond := offset - buffered; beyond > 0 {
		if _, err := s.seek.Seek(beyond, io.SeekCurrent); err != nil {
			s.err = err
			return 0, err
		}
	}
	s.pos += offset
	return s.pos, nil
}

// next returns the next header, or io.EOF.
func next(tr *tar.Reader) (*tar.Header, error) {
	h, err := tr.Next()
	if errors.Is(err, tar.ErrInsecurePath) {
		return h, nil // every name is judged here, more strictly
	}
	return h, err
}

// openLayer opens a layer for reading. The caller closes it.
func openLayer(ctx context.Context, l Layer, b *budget) (*source, io.Closer, error) {
	r, err := l.Open(ctx)
	if err != nil {
		return nil, nil, failed(ctx, err, "open layer %s", l.Name)
	}
	return newSource(ctx, r, b), r, nil
}

// readFailed says what reading a layer's tar failed with: the layer could not be
// read, or what was read is no tar.
func (s *source) readFailed(ctx context.Context, err error, format string, args ...any) error {
	if s.err != nil {
		return failed(ctx, s.err, format, args...)
	}
	return errdefs.Wrap(errdefs.InvalidArgument, err, format, args...)
}

// failed gives an error of a disk or a network its kind, unless it has one.
func failed(ctx context.Context, err error, format string, args ...any) error {
	if ctxErr := ctx.Err(); ctxErr != nil {
		return errdefs.Wrap(errdefs.KindOf(ctxErr), ctxErr, format, args...)
	}
	kind := errdefs.KindOf(err)
	switch {
	case kind != errdefs.Unknown:
	default:
		kind = errdefs.Unavailable
	}
	return errdefs.Wrap(kind, err, format, args...)
}

// refused adds to an error with a kind what it is about.
func refused(err error, format string, args ...any) error {
	return errdefs.Wrap(errdefs.KindOf(err), err, "%s", fmt.Sprintf(format, args...))
}
