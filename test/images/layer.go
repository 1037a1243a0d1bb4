// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// Compression is how a layer's blob is compressed.
type Compression int

// The compressions that registries have.
const (
	Gzip Compression = iota
	Zstd
	None
)

// LayerOptions say how a layer is kept. The zero value is gzip, in memory.
type LayerOptions struct {
	Compression Compression
	// Fast compresses gzip with little effort, for large layers.
	Fast bool
	// Window is how many bytes Zstd looks back, a power of 2. Default and minimum 8 MiB.
	Window int
	// File is where the blob is kept, instead of in memory. It belongs to the layer
	// from then on; who removes it makes the layer unusable.
	File string
}

// Layer makes a layer of the entries, in their order, compressed with gzip. Nothing
// is added, so that missing parents stay missing.
func Layer(entries ...Entry) (v1.Layer, error) { return LayerWith(LayerOptions{}, entries...) }

// LayerWith is Layer with options.
func LayerWith(options LayerOptions, entries ...Entry) (v1.Layer, error) {
	return TarLayer(options, func(w io.Writer) error {
		archive := tar.NewWriter(w)
		for _, e := range entries {
			if err := e.write(archive); err != nil {
				return fmt.Errorf("entry %q: %w", e.Name, err)
			}
		}
		if err := archive.Close(); err != nil {
			return fmt.Errorf("end the archive: %w", err)
		}
		return nil
	})
}

// TarLayer makes a layer of what archive writes, which need not be an archive.
func TarLayer(options LayerOptions, archive func(io.Writer) error) (v1.Layer, error) {
	l := &layer{options: options}
	blob, err := l.create()
	if err != nil {
		return nil, err
	}
	compressed, plain := sha256.New(), sha256.New()
	counted := &counter{w: io.MultiWriter(blob, compressed)}
	packed, err := options.compress(counted)
	if err == nil {
		err = archive(io.MultiWriter(packed, plain))
		err = errors.Join(err, packed.Close())
	}
	if err := errors.Join(err, blob.Close()); err != nil {
		return nil, fmt.Errorf("make a layer: %w", err)
	}
	l.digest, l.diffID, l.size = sum(compressed), sum(plain), counted.n
	return l, nil
}

// layer is a layer whose blob is in memory or in a file.
type layer struct {
	options        LayerOptions
	memory         bytes.Buffer
	digest, diffID v1.Hash
	size           int64
}

func (l *layer) create() (io.WriteCloser, error) {
	if l.options.File == "" {
		return nopCloser{&l.memory}, nil
	}
	f, err := os.Create(l.options.File)
	if err != nil {
		return nil, fmt.Errorf("make the file of a layer: %w", err)
	}
	return f, nil
}

func (l *layer) Digest() (v1.Hash, error) { return l.digest, nil }

func (l *layer) DiffID() (v1.Hash, error) { return l.diffID, nil }

func (l *layer) Size() (int64, error) { return l.size, nil }

func (l *layer) MediaType() (types.MediaType, error) {
	switch l.options.Compression {
	case Zstd:
		return types.OCILayerZStd, nil
	case None:
		return types.OCIUncompressedLayer, nil
	default:
		return types.OCILayer, nil
	}
}

func (l *layer) Compressed() (io.ReadCloser, error) {
	if l.options.File == "" {
		return io.NopCloser(bytes.NewReader(l.memory.Bytes())), nil
	}
	f, err := os.Open(l.options.File)
	if err != nil {
		return nil, fmt.Errorf("open the file of a layer: %w", err)
	}
	return f, nil
}

func (l *layer) Uncompressed() (io.ReadCloser, error) {
	blob, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	switch l.options.Compression {
	case Zstd:
		var d *zstd.Decoder
		if d, err = zstd.NewReader(blob); err == nil {
			return readCloser{d, []io.Closer{d.IOReadCloser(), blob}}, nil
		}
	case None:
		return blob, nil
	default:
		var d *gzip.Reader
		if d, err = gzip.NewReader(blob); err == nil {
			return readCloser{d, []io.Closer{d, blob}}, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("read a layer: %w", err), blob.Close())
}

func (o LayerOptions) compress(w io.Writer) (io.WriteCloser, error) {
	switch o.Compression {
	case Zstd:
		// One goroutine: with more of them the bytes depend on their timing.
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(max(o.Window, 8<<20))) //nolint:wrapcheck // the caller does
	case None:
		return nopCloser{w}, nil
	default:
		level := gzip.DefaultCompression
		if o.Fast {
			level = gzip.BestSpeed
		}
		return gzip.NewWriterLevel(w, level) //nolint:wrapcheck // the caller does
	}
}

func sum(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err //nolint:wrapcheck // a writer's errors are its own
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// readCloser closes in order what a reader stands on.
type readCloser struct {
	io.Reader
	closers []io.Closer
}

func (r readCloser) Close() error {
	var err error
	for _, c := range r.closers {
		err = errors.Join(err, c.Close())
	}
	return err
}
