// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const (
	bufferSize = 256 << 10
	// progressStep is how much comes between two calls of Progress.
	progressStep = 1 << 20
	// steps is how often a blob that moves on may begin to count attempts again.
	steps = 32
)

// DownloadOptions says how layers are downloaded. The zero value does it with the
// defaults.
type DownloadOptions struct {
	// Parallel is how many blobs are transferred at once. Default 3, at most 16.
	Parallel int
	// Progress is told how many bytes of how many there are, after every MiB or so
	// and at the end. It goes back when a transfer has to begin anew. Calls do not
	// overlap, and hold up the transfer while they last.
	Progress func(done, total int64)
}

// Download writes the blobs of the layers into files in dir and returns their
// names, one for each layer, the lowest first. Layers of one digest share a file.
// Digests and sizes are verified; a file has its name only when it is whole.
//
// The directory must be there, and be for this call alone. After an error nothing
// of it is left in it; otherwise the files are the caller's.
func (i *Image) Download(ctx context.Context, dir string, opts DownloadOptions) (files []string, err error) {
	if opts.Parallel == 0 {
		opts.Parallel = defaultParallel
	}
	if opts.Parallel < 0 || opts.Parallel > maxParallel {
		return nil, errdefs.New(errdefs.InvalidArgument, "download %s: Parallel is %d: want 1 to %d", i.Reference, opts.Parallel, maxParallel)
	}
	d := &download{pull: i.pull, dir: dir, total: i.Size(), progress: opts.Progress}
	blobs := i.blobs()
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(opts.Parallel)
	// The largest first: they would be what the others wait for.
	digests := slices.SortedFunc(maps.Keys(blobs), func(a, b string) int {
		if blobs[a] != blobs[b] {
			return int(max(min(blobs[b]-blobs[a], 1), -1))
		}
		return strings.Compare(a, b)
	})
	for _, digest := range digests {
		group.Go(func() error { return d.blob(groupCtx, digest, blobs[digest]) })
	}
	if err := group.Wait(); err != nil {
		for _, digest := range digests {
			_ = os.Remove(d.file(digest)) // most were never made
		}
		if ctxErr := ctx.Err(); ctxErr != nil {
			err = &fault{kind: errdefs.KindOf(ctxErr), text: ctxErr.Error(), err: ctxErr}
		}
		return nil, i.pull.finish(err)
	}
	for _, l := range i.Layers {
		files = append(files, d.file(l.Digest))
	}
	return files, nil
}

// download is one call of Download.
type download struct {
	*pull
	dir      string
	progress func(done, total int64)

	mu                    sync.Mutex
	done, reported, total int64
}

func (d *download) file(digest string) string {
	return filepath.Join(d.dir, strings.ReplaceAll(digest, ":", "-"))
}

// advance counts bytes, which are negative when they have to come again.
func (d *download) advance(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done += n
	if d.progress != nil && (n < 0 || d.done-d.reported >= progressStep || d.done == d.total) {
		d.reported = d.done
		d.progress(d.done, d.total)
	}
}

// blob downloads a blob into a file with a temporary name and renames it.
func (d *download) blob(ctx context.Context, digest string, size int64) (err error) {
	want, err := v1.NewHash(digest)
	if err != nil {
		return faultf(errdefs.Internal, "digest %q", digest)
	}
	f, err := os.CreateTemp(d.dir, "part-*")
	if err != nil {
		return diskFault(err)
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	h, err := v1.Hasher(want.Algorithm)
	if err != nil {
		return faultf(errdefs.Internal, "digest %q", digest)
	}
	t := &transfer{download: d, want: want, size: size, file: f, hash: h, buffer: make([]byte, bufferSize)}
	if err := d.each(ctx, "the layer "+digest, func(s *source) error { return t.from(ctx, s) }); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return diskFault(err)
	}
	if err := os.Rename(f.Name(), d.file(digest)); err != nil {
		return diskFault(err)
	}
	return nil
}

// diskFault is an error of the directory, with the file's name and without its path.
func diskFault(err error) *fault {
	cause := err
	if e, ok := errors.AsType[*os.PathError](err); ok {
		cause = e.Err
	} else if e, ok := errors.AsType[*os.LinkError](err); ok {
		cause = e.Err
	}
	f := faultf(errdefs.FailedPrecondition, "write a layer to the temporary directory: %s", cause)
	if errdefs.Is(err, errdefs.ResourceExhausted) {
		f.kind = errdefs.ResourceExhausted // a full disk
	}
	f.local = true
	return f
}

// transfer brings one blob into one file, by as many requests as it takes.
type transfer struct {
	*download
	want   v1.Hash
	size   int64
	file   *os.File
	hash   hash.Hash
	buffer []byte
	offset int64
	// whole is set when the source cannot go on in the middle.
	whole bool
}

// from asks a source until everything is there. Attempts count again from the
// first when there was progress, so that a bad line does not end what moves on.
func (t *transfer) from(ctx context.Context, s *source) error {
	t.whole = false
	mark, attempt := t.offset, 0
	for {
		err := t.request(ctx, s)
		if err == nil {
			return nil
		}
		f, ok := errors.AsType[*fault](err)
		if !ok {
			return err
		}
		if attempt++; t.offset > mark+t.size/steps {
			mark, attempt = t.offset, 1
		}
		// Wrong content is asked for once more, and not downloaded again and again.
		if !f.retry || attempt >= t.Attempts || f.kind == errdefs.FailedPrecondition && attempt >= 2 {
			f.retry = false // has been tried again
			return f
		}
		if err := t.pause(ctx, attempt, f); err != nil {
			return err
		}
	}
}

// again forgets everything that came.
func (t *transfer) again() error {
	t.advance(-t.offset)
	t.offset = 0
	t.hash.Reset()
	if err := t.file.Truncate(0); err != nil {
		return diskFault(err)
	}
	if _, err := t.file.Seek(0, io.SeekStart); err != nil {
		return diskFault(err)
	}
	return nil
}

// request asks once for what is missing.
func (t *transfer) request(ctx context.Context, s *source) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var moved atomic.Int64
	go t.watch(ctx, cancel, &moved)
	if t.whole && t.offset > 0 {
		if err := t.again(); err != nil {
			return err
		}
	}
	header := http.Header{}
	if t.offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", t.offset, t.size-1)) // some want to know the end
	}
	resp, err := s.get(ctx, readingBlob, t.want.String(), header, http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable)
	if err != nil {
		return stalled(ctx, s, err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode == http.StatusPartialContent && t.continues(resp.Header.Get("Content-Range")):
	case resp.StatusCode != http.StatusOK && t.whole:
		return passing("%s gives a part of %s and was asked for all", s.name, t.want)
	case resp.StatusCode != http.StatusOK:
		t.whole = true
		return t.request(ctx, s)
	case t.offset > 0:
		if err := t.again(); err != nil {
			return err
		}
	}
	if n := resp.ContentLength; n >= 0 && n != t.size-t.offset {
		return broken("%s has %d bytes of %s, the manifest says %d", s.name, t.offset+n, t.want, t.size)
	}
	if err := t.copy(ctx, s, resp.Body, &moved); err != nil {
		return stalled(ctx, s, err)
	}
	return t.verify(s)
}

// continues reports whether a Content-Range begins where the file ends.
func (t *transfer) continues(header string) bool {
	var first, last, total int64
	n, err := fmt.Sscanf(header, "bytes %d-%d/%d", &first, &last, &total)
	return err == nil && n == 3 && first == t.offset && t.offset > 0 && last == t.size-1 && total == t.size
}

// copy writes what comes until its end, and not more than there should be.
func (t *transfer) copy(ctx context.Context, s *source, body io.Reader, moved *atomic.Int64) error {
	for {
		n, err := body.Read(t.buffer)
		if n > 0 {
			if t.offset+int64(n) > t.size {
				if err := t.again(); err != nil {
					return err
				}
				return broken("%s gives more for %s than the %d bytes that the manifest says", s.name, t.want, t.size)
			}
			if _, err := t.file.Write(t.buffer[:n]); err != nil {
				return diskFault(err)
			}
			_, _ = t.hash.Write(t.buffer[:n]) // never fails
			t.offset += int64(n)
			moved.Add(int64(n))
			t.advance(int64(n))
		}
		if errors.Is(err, io.EOF) || err != nil && t.offset == t.size {
			return nil
		}
		if err != nil {
			return s.faultOf(ctx, readingBlob, err)
		}
	}
}

// verify reports whether everything is there and is what it should be.
func (t *transfer) verify(s *source) error {
	if t.offset < t.size {
		return passing("%s ends after %d of the %d bytes of %s", s.name, t.offset, t.size, t.want)
	}
	if got := hex.EncodeToString(t.hash.Sum(nil)); got != t.want.Hex {
		if err := t.again(); err != nil {
			return err
		}
		return broken("%s gives a layer of digest %s:%s for %s", s.name, t.want.Algorithm, got, t.want)
	}
	return nil
}

// errStalled is why a request was ended whose connection is there but dead.
type errStalled struct{}

// Error says so.
func (errStalled) Error() string { return "nothing came for too long" }

// watch ends a request when nothing comes. The wait for an answer is the
// connection's matter.
func (t *transfer) watch(ctx context.Context, cancel context.CancelCauseFunc, moved *atomic.Int64) {
	timer := t.Clock.NewTimer(t.Stall)
	defer timer.Stop()
	last := int64(-1)
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C():
			now := moved.Load()
			if now == last {
				cancel(errStalled{})
				return
			}
			last = now
			timer.Reset(t.Stall)
		}
	}
}

// stalled tells the end of a request that came to nothing from that of the work.
func stalled(ctx context.Context, s *source, err error) error {
	if errors.Is(context.Cause(ctx), errStalled{}) {
		return passing("%s stopped in the middle of a layer", s.name)
	}
	return err
}
