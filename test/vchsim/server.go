// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"
)

// maxRequest limits a SOAP request; the largest legitimate one carries one VM's configuration.
const maxRequest = 64 << 20

// counters count what reached the server, whatever became of it.
type counters struct {
	mu       sync.Mutex
	requests int
	logins   int
	calls    map[string]int
	bytesOut int64
	bytesIn  int64
	// arrived, if set, is called when method arrives, once. after is how many requests
	// are to come before that; an empty method is any.
	method  string
	after   int
	arrived func()
	// handled is closed when that one has been handled.
	handled chan struct{}
}

// count counts a request and tells who waits for it; handled is to be called when it has been.
func (c *counters) count(method string) (handled func()) {
	f, done := c.counted(method)
	if f == nil {
		return func() {}
	}
	f()
	return func() { close(done) }
}

// counted counts and returns what is to be called, and closed afterwards.
func (c *counters) counted(method string) (arrived func(), handled chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.arrived != nil && (c.method == method || c.method == "" && method != "WaitForUpdatesEx") {
		if c.after--; c.after < 0 {
			arrived, c.arrived, handled = c.arrived, nil, c.handled
		}
	}
	if c.calls == nil {
		c.calls = map[string]int{}
	}
	c.requests++
	c.calls[method]++
	return arrived, handled
}

func (c *counters) answered(method string, header http.Header, bytesOut int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytesOut += int64(bytesOut)
	if strings.HasPrefix(method, "Login") && header.Get("Set-Cookie") != "" {
		c.logins++
	}
}

// Calls returns how often each method was called since the start or the last
// ResetCounters, failed calls and faults included. Requests to files count under
// their HTTP method and first path element.
func (s *Sim) Calls() map[string]int {
	s.counters.mu.Lock()
	defer s.counters.mu.Unlock()
	return maps.Clone(s.counters.calls)
}

// Requests returns the sum of Calls.
func (s *Sim) Requests() int {
	s.counters.mu.Lock()
	defer s.counters.mu.Unlock()
	return s.counters.requests
}

// Logins returns how many logins succeeded since the start or the last ResetCounters.
func (s *Sim) Logins() int {
	s.counters.mu.Lock()
	defer s.counters.mu.Unlock()
	return s.counters.logins
}

// BytesSent returns the size of all answers since the start or the last ResetCounters.
func (s *Sim) BytesSent() int64 {
	s.counters.mu.Lock()
	defer s.counters.mu.Unlock()
	return s.counters.bytesOut
}

// ResetCounters sets Calls, Requests, Logins, BytesSent and BytesReceived to zero.
func (s *Sim) ResetCounters() {
	s.counters.mu.Lock()
	defer s.counters.mu.Unlock()
	s.counters.calls, s.counters.requests, s.counters.logins, s.counters.bytesOut, s.counters.bytesIn = nil, 0, 0, 0, 0
}

// listen opens the port and prepares the certificate; serve starts to answer.
// vcsim's own NewServer is not used: it writes to settings that all its
// instances share, and its certificate is the same everywhere.
func (s *Sim) listen(ctx context.Context) (net.Listener, error) {
	host, _, err := net.SplitHostPort(s.options.Listen)
	if err != nil {
		return nil, fmt.Errorf("parse listen address %q: %w", s.options.Listen, err)
	}
	if s.changes.certificate, err = newCertificate(host); err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.options.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", s.options.Listen, err)
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return nil, errors.Join(fmt.Errorf("listen on %s: not a TCP address", s.options.Listen), l.Close())
	}
	shown := l.Addr().String()
	if addr.IP.IsUnspecified() {
		shown = net.JoinHostPort("127.0.0.1", fmt.Sprint(addr.Port))
	}
	s.service.RegisterSDK(s.registry, vim25.Path+"/vimService")
	s.service.Listen = &url.URL{
		Scheme: "https", Host: shown, Path: vim25.Path,
		User: url.UserPassword(s.options.Username, s.options.Password),
	}
	s.registry.SessionManager().ServiceHostName = shown
	s.registry.SessionManager().ValidLogin = s.validLogin
	s.service.ServeMux.HandleFunc(vim25.Path+"/vimServiceVersions.xml", s.service.ServiceVersions)
	s.service.ServeMux.HandleFunc(folderPrefix, s.serveFolder)
	s.service.ServeMux.HandleFunc(nfcPrefix, s.serveNFC)
	s.service.ServeMux.HandleFunc("/about", s.service.About)
	if err := s.host.listen(ctx, addr.IP); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (s *Sim) serve(l net.Listener) {
	config := &tls.Config{GetCertificate: s.getCertificate, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	var handler http.Handler = http.HandlerFunc(s.handle)
	if s.options.Wrap != nil {
		handler = s.options.Wrap(handler)
	}
	s.server = &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	s.running.Go(func() {
		// Serve ends when Close closes the listener, which is its only use.
		_ = s.server.Serve(tls.NewListener(l, config))
	})
}

func (s *Sim) handle(w http.ResponseWriter, r *http.Request) {
	method, err := requestMethod(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	defer s.counters.count(method)()
	if s.options.Latency > 0 {
		timer := time.NewTimer(s.options.Latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
	}
	if strings.Contains(method, " ") {
		// A copy: the server wants to find its own body again.
		r = r.WithContext(r.Context())
		r.Body = &received{r.Body, &s.counters}
	}
	switch kind := s.faults.strike(method, true); kind {
	case KindHTTP401, KindHTTP403, KindHTTP404, KindHTTP500, KindHTTP503, KindHTTP507:
		http.Error(w, "injected by the simulator", statusOf(kind))
	case KindHalf:
		s.half(w, r)
	case KindStall:
		s.stall(w, r)
	case KindCorrupt:
		r.Body = &corrupting{ReadCloser: r.Body}
		s.service.ServeMux.ServeHTTP(w, r)
	case KindConnectionReset:
		cut(w)
	case KindResponseLost:
		s.service.ServeMux.ServeHTTP(httptest.NewRecorder(), r)
		cut(w)
	default:
		counting := &countingWriter{ResponseWriter: w}
		s.service.ServeMux.ServeHTTP(counting, r)
		s.counters.answered(method, w.Header(), counting.n)
	}
}

// cut ends the connection without an answer, with a reset where the system allows it.
func cut(w http.ResponseWriter) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		return
	}
	conn, _, err := hijacker.Hijack()
	if err != nil {
		return
	}
	if t, ok := conn.(*tls.Conn); ok {
		if tcp, ok := t.NetConn().(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // without it the peer sees a clean end, not a reset
			_ = tcp.Close()
			return
		}
	}
	_ = conn.Close()
}

type countingWriter struct {
	http.ResponseWriter
	n int
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n += n
	return n, err
}

// requestMethod names the request: the SOAP method, or HTTP method and first
// path element. It leaves the body readable again.
func requestMethod(w http.ResponseWriter, r *http.Request) (string, error) {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if r.Method != http.MethodPost || "/"+first != vim25.Path {
		return r.Method + " /" + first, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		return "", fmt.Errorf("read request: %w", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	decoder := xml.NewDecoder(bytes.NewReader(body))
	inBody := false
	for {
		token, err := decoder.Token()
		if err != nil {
			return "", fmt.Errorf("parse request: %w", err)
		}
		if start, ok := token.(xml.StartElement); ok {
			if inBody {
				return start.Name.Local, nil
			}
			inBody = start.Name.Local == "Body"
		}
	}
}

// newContext is the identity under which code of this package takes vcsim's
// locks: one for each operation, never shared by goroutines.
func (s *Sim) newContext() *simulator.Context {
	return &simulator.Context{
		Context: context.Background(),
		Map:     s.registry,
		Session: &simulator.Session{ // vcsim's events name a user
			UserSession: types.UserSession{Key: "vchsim", UserName: "vchsim"},
			Registry:    simulator.NewRegistry(),
			Map:         s.registry,
		},
	}
}
