// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package imagetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vmdk"
)

// rawSize is how much of a disk of the suite has content. It is no multiple of a
// grain and large enough for several reads.
const rawSize = 5*64<<10 + 4096

// digest is that of the manifest of the image of a number.
func digest(n int) string {
	sum := sha256.Sum256(fmt.Append(nil, "image ", n))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// keyOf is the key of the image of a number in a size.
func keyOf(n int, mebibytes int64) image.Key {
	return image.Key{Digest: digest(n), Size: mebibytes << 20}
}

// rawOf is what a disk holds. It has a hole, and its last byte is not zero.
func rawOf(key image.Key) []byte {
	seed := sha256.Sum256([]byte(key.String()))
	b := make([]byte, rawSize)
	_, _ = rand.NewChaCha8(seed).Read(b)
	clear(b[100<<10 : 200<<10])
	b[rawSize-1] = 1
	return b
}

// descriptionOf is what is said of a disk.
func descriptionOf(key image.Key) image.Description {
	return image.Description{
		ConfigDigest: "sha256:" + key.Digest[len(key.Digest)-64:],
		UsedBytes:    rawSize,
		Config: image.Config{
			Entrypoint: []string{"/bin/node", "--name=\"ü\n\""},
			Cmd:        []string{"agent", ""},
			Env:        []string{"PATH=/bin", "EMPTY="},
			WorkingDir: "/work dir",
			User:       "70001:5",
			StopSignal: "SIGQUIT",
			Volumes:    []string{"/etc/rancher", "/var/lib"},
		},
	}
}

// sources counts the calls of sources and what became of their contents.
type sources struct {
	calls atomic.Int32

	mu       sync.Mutex
	contents []*content
}

// source is how one source behaves. The zero value makes the content at once.
type source struct {
	// before is called at the beginning; its error is the source's.
	before func(ctx context.Context) error
	// read is called at the first read of the content, in either form.
	read func() error
	// progress is what the source reports.
	progress []image.Progress
}

// source returns an image.Source that behaves as s says.
func (f *fixture) source(s source) image.Source {
	return func(ctx context.Context, key image.Key, report image.Report) (image.Content, error) {
		f.made.calls.Add(1)
		if s.before != nil {
			if err := s.before(ctx); err != nil {
				return nil, err
			}
		}
		for _, p := range s.progress {
			if report != nil {
				report(p)
			}
		}
		c := &content{f: f, key: key, raw: rawOf(key), read: s.read}
		f.made.mu.Lock()
		defer f.made.mu.Unlock()
		f.made.contents = append(f.made.contents, c)
		return c, nil
	}
}

// plain makes the content at once.
func (f *fixture) plain() image.Source { return f.source(source{}) }

// never fails the test if it is called.
func (f *fixture) never() image.Source {
	return f.source(source{before: func(context.Context) error {
		f.Error("the source was called for a disk that is there")
		return errdefs.New(errdefs.Internal, "the source was called")
	}})
}

// wantAllClosed fails the test unless each content was closed once.
func (f *fixture) wantAllClosed() {
	f.Helper()
	f.made.mu.Lock()
	defer f.made.mu.Unlock()
	for i, c := range f.made.contents {
		if n := c.closed.Load(); n != 1 {
			f.Errorf("content %d of %d was closed %d times, want once", i+1, len(f.made.contents), n)
		}
	}
}

// content is an image.Content in memory that watches how it is used.
type content struct {
	f      *fixture
	key    image.Key
	raw    []byte
	read   func() error
	first  sync.Once
	failed error
	busy   atomic.Bool
	closed atomic.Int32
	packed []byte
}

// enter notes that a method is used, which must not be at the same time as another one.
func (c *content) enter(method string) (leave func()) {
	if c.closed.Load() > 0 {
		c.f.Errorf("%s of a content was called after Close", method)
	}
	if c.busy.Swap(true) {
		c.f.Errorf("%s of a content was called during another call: it is for one goroutine", method)
	}
	runtime.Gosched()
	return func() { c.busy.Store(false) }
}

// Description implements image.Content.
func (c *content) Description() image.Description {
	defer c.enter("Description")()
	return descriptionOf(c.key)
}

// Identity implements image.Content.
func (c *content) Identity() [16]byte {
	defer c.enter("Identity")()
	return [16]byte(c.raw[:16])
}

// Raw implements image.Content.
func (c *content) Raw() (io.ReaderAt, int64) {
	defer c.enter("Raw")()
	return reader{c, c.raw}, int64(len(c.raw))
}

// StreamOptimized implements image.Content.
func (c *content) StreamOptimized(ctx context.Context, report image.Report) (io.ReaderAt, int64, error) {
	defer c.enter("StreamOptimized")()
	if c.packed == nil {
		var file memory
		_, err := vmdk.WriteFile(ctx, &file, bytes.NewReader(c.raw), int64(len(c.raw)), vmdk.Options{Capacity: c.key.Size, Identity: [16]byte(c.raw[:16])})
		if err != nil {
			return nil, 0, err
		}
		c.packed = file.b
	}
	if report != nil {
		report(image.Progress{Stage: image.Compressing, Done: int64(len(c.raw)), Total: int64(len(c.raw))})
	}
	return reader{c, c.packed}, int64(len(c.packed)), nil
}

// Close implements image.Content.
func (c *content) Close() error {
	c.closed.Add(1)
	return nil
}

// reader reads a form of a content while that is open. Unlike the content, it may
// be used by several goroutines, as io.ReaderAt says.
type reader struct {
	c *content
	b []byte
}

// ReadAt implements io.ReaderAt.
func (r reader) ReadAt(b []byte, at int64) (int, error) {
	if r.c.closed.Load() > 0 {
		r.c.f.Error("a content was read after Close")
	}
	r.c.first.Do(func() {
		if r.c.read != nil {
			r.c.failed = r.c.read()
		}
	})
	if r.c.failed != nil {
		return 0, r.c.failed
	}
	return bytes.NewReader(r.b).ReadAt(b, at)
}

// memory is a file in memory.
type memory struct{ b []byte }

// WriteAt implements io.WriterAt.
func (m *memory) WriteAt(b []byte, at int64) (int, error) {
	if end := at + int64(len(b)); end > int64(len(m.b)) {
		_ = m.Truncate(end)
	}
	return copy(m.b[at:], b), nil
}

// Truncate implements vmdk.File.
func (m *memory) Truncate(size int64) error {
	longer := make([]byte, size)
	copy(longer, m.b)
	m.b = longer
	return nil
}
