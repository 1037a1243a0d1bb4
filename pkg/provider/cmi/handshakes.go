// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"net"
	"sync"
	"time"
)

// handshakes are the connections that have not become gRPC's yet. The end of a
// server waits for them, before it tells the others: a client that connects and
// says nothing would hold it up for handshakeTimeout. So they are closed.
type handshakes struct {
	mu    sync.Mutex
	ended bool
	open  map[*shaking]struct{}
}

// listener is l with its connections watched.
func (h *handshakes) listener(l net.Listener) net.Listener { return shakingListener{l, h} }

// end closes those that are there and those that come.
func (h *handshakes) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	for conn := range h.open {
		_ = conn.Close() // nothing was said over it
	}
}

func (h *handshakes) begin(conn *shaking) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		_ = conn.Close()
		return
	}
	if h.open == nil {
		h.open = map[*shaking]struct{}{}
	}
	h.open[conn] = struct{}{}
}

func (h *handshakes) done(conn *shaking) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, conn)
}

type shakingListener struct {
	net.Listener

	all *handshakes
}

func (l shakingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	watched := &shaking{Conn: conn, all: l.all}
	l.all.begin(watched)
	return watched, nil
}

// shaking is a connection that may be in its handshake: gRPC gives it a deadline
// for that and takes the deadline away afterwards, also when it has failed.
type shaking struct {
	net.Conn

	all *handshakes
}

// SetDeadline sets the connection's deadline; none means that the handshake is over.
func (s *shaking) SetDeadline(t time.Time) error {
	if t.IsZero() {
		s.all.done(s)
	}
	return s.Conn.SetDeadline(t)
}
