// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package images

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Effect is what a Fault does to a request.
type Effect int

const (
	// Fail answers with Fault.Status instead of content.
	Fail Effect = iota
	// Stall sends At bytes of the content and then nothing, until the fault is
	// removed; then it goes on as if nothing had been.
	Stall
	// Truncate sends At bytes of the content and then cuts the connection.
	Truncate
	// Corrupt sends the byte at At with all bits turned round.
	Corrupt
)

// Fault makes requests go wrong.
type Fault struct {
	// Match says which requests it meets; nil is all. It must be quick.
	Match func(*http.Request) bool
	// Times is how many of them it meets; 0 is all.
	Times int
	// Effect is what becomes of them. At counts bytes of the answer's body; an
	// answer that is shorter is left as it is, except that Stall and Truncate with 0
	// meet it before its header.
	Effect Effect
	At     int64
	// Status is Fail's status; 0 is 503. Header is added to its answer.
	Status int
	Header http.Header
}

// Request matches requests of a method ("" is all) whose path contains part.
func Request(method, part string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return (method == "" || r.Method == method) && strings.Contains(r.URL.Path, part)
	}
}

// Blob matches downloads of a blob; "" is all of them.
func Blob(digest string) func(*http.Request) bool {
	return Request(http.MethodGet, "/blobs/"+digest)
}

// faults are those that are in force, the oldest first.
type faults struct {
	mu     sync.Mutex
	active []*fault
}

type fault struct {
	Fault
	left    int
	removed chan struct{}
}

// Inject puts a fault in force, from the next request on. Of several that match,
// the one that came first counts. remove takes it away, and lets go of what it
// stalls; it may be called more than once.
func (r *Registry) Inject(f Fault) (remove func()) {
	mine := &fault{Fault: f, left: f.Times, removed: make(chan struct{})}
	r.faults.mu.Lock()
	defer r.faults.mu.Unlock()
	r.faults.active = append(r.faults.active, mine)
	return sync.OnceFunc(func() {
		r.faults.drop(mine)
		close(mine.removed)
	})
}

func (f *faults) drop(gone *fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.active = slices.DeleteFunc(f.active, func(a *fault) bool { return a == gone })
}

func (f *faults) find(request *http.Request) *fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, a := range f.active {
		if a.Match != nil && !a.Match(request) {
			continue
		}
		if a.left--; a.left == 0 {
			f.active = slices.Delete(f.active, i, i+1)
		}
		return a
	}
	return nil
}

// strike lets a fault meet a request. It returns the writer for the answer, and
// whether there is still something to answer.
func (f *faults) strike(w http.ResponseWriter, request *http.Request, closed <-chan struct{}) (http.ResponseWriter, bool) {
	met := f.find(request)
	switch {
	case met == nil:
		return w, true
	case met.Effect == Fail:
		status := met.Status
		if status == 0 {
			status = http.StatusServiceUnavailable
		}
		for key, values := range met.Header {
			w.Header()[key] = values
		}
		refuse(w, status, "INJECTED", "injected by the test")
		return w, false
	}
	faulty := &faultyWriter{ResponseWriter: w, fault: met, request: request, closed: closed}
	if met.At == 0 && met.Effect != Corrupt {
		return faulty, faulty.strike() == nil
	}
	return faulty, true
}

// faultyWriter lets a fault meet the body of an answer.
type faultyWriter struct {
	http.ResponseWriter
	fault   *fault
	request *http.Request
	closed  <-chan struct{}
	sent    int64
	done    bool
}

func (w *faultyWriter) Write(p []byte) (int, error) {
	at := w.fault.At - w.sent
	if w.done || at < 0 || at >= int64(len(p)) {
		return w.pass(p)
	}
	if w.fault.Effect == Corrupt {
		w.done = true
		p = slices.Clone(p)
		p[at] ^= 0xff
		return w.pass(p)
	}
	n, err := w.pass(p[:at])
	if err != nil {
		return n, err
	}
	if err := w.strike(); err != nil {
		return n, err
	}
	rest, err := w.pass(p[at:])
	return n + rest, err
}

func (w *faultyWriter) pass(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.sent += int64(n)
	return n, err //nolint:wrapcheck // a writer's errors are its own
}

// Unwrap lets http.ResponseController find the connection.
func (w *faultyWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

var errCut = errors.New("the connection was cut by the test")

// strike stalls until the answer may go on, or cuts the connection.
func (w *faultyWriter) strike() error {
	w.done = true
	control := http.NewResponseController(w.ResponseWriter)
	// What was written so far should arrive; a connection that is gone does not matter.
	if w.sent > 0 {
		_ = control.Flush()
	}
	if w.fault.Effect == Stall {
		select {
		case <-w.fault.removed:
			return nil
		case <-w.request.Context().Done():
		case <-w.closed:
		}
	}
	if conn, _, err := control.Hijack(); err == nil {
		_ = conn.Close()
	}
	return errCut
}
