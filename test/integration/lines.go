// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"sync"
)

// shared is a writer that several write to.
type shared struct {
	mu sync.Mutex
	to io.Writer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.to.Write(p)
}

// prefixed writes whole lines, each with a prefix, so that one can tell whose they
// are. It leaves empty ones out.
type prefixed struct {
	prefix string
	to     io.Writer
	rest   []byte // a line that has no end yet
}

func (w *prefixed) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		line, rest, found := bytes.Cut(w.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		w.rest = rest
		if err := w.line(line); err != nil {
			return len(p), err
		}
	}
}

func (w *prefixed) line(line []byte) error {
	if len(bytes.TrimSpace(line)) == 0 {
		return nil
	}
	_, err := w.to.Write(append(append([]byte(w.prefix), line...), '\n'))
	return err
}

// flush writes what has no line end.
func (w *prefixed) flush() {
	_ = w.line(w.rest) // a terminal that is gone
	w.rest = nil
}
