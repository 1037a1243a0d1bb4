// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	upstream "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// blobs keeps blobs of all repositories, in a directory or in memory. It is what
// the library's server asks, and serves them itself.
type blobs struct {
	dir    string
	mu     sync.Mutex
	memory map[string][]byte
}

func newBlobs(dir string) *blobs { return &blobs{dir: dir, memory: map[string][]byte{}} }

// blob is one that is open.
type blob struct {
	io.ReadSeeker
	io.Closer
}

func (b *blobs) open(h v1.Hash) (blob, error) {
	if b.dir != "" {
		f, err := os.Open(b.file(h))
		if errors.Is(err, os.ErrNotExist) {
			return blob{}, upstream.ErrNotFound
		}
		if err != nil {
			return blob{}, fmt.Errorf("open blob: %w", err)
		}
		return blob{f, f}, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	content, ok := b.memory[h.String()]
	if !ok {
		return blob{}, upstream.ErrNotFound
	}
	return blob{bytes.NewReader(content), io.NopCloser(nil)}, nil
}

func (b *blobs) file(h v1.Hash) string { return filepath.Join(b.dir, h.Algorithm+"-"+h.Hex) }

// put stores a blob, whole or not at all. Its digest is believed.
func (b *blobs) put(h v1.Hash, content io.ReadCloser) error {
	err := b.keep(h, content)
	if err = errors.Join(err, content.Close()); err != nil {
		return fmt.Errorf("store blob %s: %w", h, err)
	}
	return nil
}

func (b *blobs) keep(h v1.Hash, content io.Reader) error {
	if b.dir == "" {
		all, err := io.ReadAll(content)
		if err != nil {
			return err //nolint:wrapcheck // put does
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.memory[h.String()] = all
		return nil
	}
	f, err := os.CreateTemp(b.dir, "upload-")
	if err != nil {
		return err //nolint:wrapcheck // put does
	}
	_, err = io.Copy(f, content)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), b.file(h))
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// Get is for the library's server.
func (b *blobs) Get(_ context.Context, _ string, h v1.Hash) (io.ReadCloser, error) { return b.open(h) }

// Stat is for the library's server.
func (b *blobs) Stat(_ context.Context, _ string, h v1.Hash) (int64, error) {
	content, err := b.open(h)
	if err != nil {
		return 0, err
	}
	defer content.Close() //nolint:errcheck // it was only read
	return content.Seek(0, io.SeekEnd)
}

// Put is for the library's server, which verifies the digest.
func (b *blobs) Put(_ context.Context, _ string, h v1.Hash, content io.ReadCloser) error {
	return b.put(h, content)
}

// serve answers GET and HEAD, byte ranges of all forms included.
func (b *blobs) serve(w http.ResponseWriter, request *http.Request, digest string) {
	h, err := v1.NewHash(digest)
	if err != nil {
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", err.Error())
		return
	}
	content, err := b.open(h)
	if errors.Is(err, upstream.ErrNotFound) {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "no blob has this digest")
		return
	}
	if err != nil {
		refuse(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
		return
	}
	defer content.Close() //nolint:errcheck // it was only read
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", digest)
	http.ServeContent(w, request, "", time.Time{}, content)
}
