// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package datastore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// errStalled is the cause with which a transfer that stands still is ended.
var errStalled = errors.New("the transfer stood still")

// errReplaced is what the transport reads from a body that is out of use.
var errReplaced = errors.New("the request was repeated or has ended")

// stalled says that a transfer was ended for its standing still.
type stalled struct{ limit time.Duration }

// Error names the limit.
func (e *stalled) Error() string { return fmt.Sprintf("no byte was moved for %s", e.limit) }

// quiet ends a transfer that moves nothing.
type quiet struct {
	clock  clock.PassiveClock
	cancel context.CancelCauseFunc
	mu     sync.Mutex
	last   time.Time
}

// watch returns a context that ends with errStalled when nothing is moved for too
// long. stop frees what it needs.
func (f *Files) watch(ctx context.Context) (context.Context, *quiet) {
	watched, cancel := context.WithCancelCause(ctx)
	q := &quiet{clock: f.o.Clock, cancel: cancel, last: f.o.Clock.Now()}
	timer := f.o.Clock.NewTimer(f.o.Stall)
	go func() {
		defer timer.Stop()
		for {
			select {
			case <-watched.Done():
				return
			case <-timer.C():
			}
			left := f.o.Stall - q.since()
			if left <= 0 {
				cancel(errStalled)
				return
			}
			timer.Reset(left)
		}
	}()
	return watched, q
}

func (q *quiet) stop() { q.cancel(nil) }

func (q *quiet) since() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.clock.Since(q.last)
}

func (q *quiet) moved() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last = q.clock.Now()
}

// noticed is a reader whose every byte is noticed.
type noticed struct {
	io.Reader
	quiet *quiet
}

// Read reads and notices.
func (n *noticed) Read(p []byte) (int, error) {
	k, err := n.Reader.Read(p)
	if k > 0 {
		n.quiet.moved()
	}
	return k, err
}

// upload is the content of a request that may be sent more than once. The
// transport may go on reading a body after the request has ended or while the
// next attempt is under way; only the newest body reads from the content.
type upload struct {
	from     io.ReaderAt
	size     int64
	quiet    *quiet
	progress func(done int64)

	mu     sync.Mutex
	newest *body // nil once the request has ended
	sent   int64
	broken error
}

// attach makes the upload the body of a request.
func (u *upload) attach(req *http.Request) {
	if u.size == 0 {
		req.Body = http.NoBody
		return
	}
	req.ContentLength = u.size
	req.Body = u.begin()
	req.GetBody = func() (io.ReadCloser, error) { return u.begin(), nil }
	if u.size >= askFirst {
		req.Header.Set("Expect", "100-continue")
		// Or the transport would send the content to somebody who has refused it, so
		// that the connection can be used again.
		req.Close = true
	}
}

func (u *upload) begin() *body {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.newest, u.sent, u.broken = &body{of: u}, 0, nil
	return u.newest
}

// end makes sure that the content is not used any more, and returns how much of
// it was sent and what went wrong with reading it.
func (u *upload) end() (sent int64, broken error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.newest = nil
	return u.sent, u.broken
}

// body is the content for one attempt.
type body struct{ of *upload }

// Read is called by the transport.
func (b *body) Read(p []byte) (int, error) {
	u := b.of
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.newest != b {
		return 0, errReplaced
	}
	if u.sent == u.size {
		return 0, io.EOF
	}
	n, err := u.from.ReadAt(p[:min(int64(len(p)), u.size-u.sent)], u.sent)
	u.sent += int64(n)
	if n > 0 {
		u.quiet.moved()
		if u.progress != nil {
			u.progress(u.sent)
		}
	}
	switch {
	case err == io.EOF && u.sent < u.size:
		u.broken = io.ErrUnexpectedEOF
		return n, u.broken
	case err != nil && err != io.EOF:
		u.broken = err
		return n, err
	}
	return n, nil
}

// Close does nothing: the content belongs to the caller.
func (b *body) Close() error { return nil }
