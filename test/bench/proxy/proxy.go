// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package proxy stands between a client and a vCenter, counts what passes and
// makes it slow.
//
// It speaks HTTPS on loopback with a certificate of its own and passes each request
// on as it is. Requests are named as test/vchsim names them, so that both counts can
// be compared. The delay is added once to each request, before it is passed on: it
// stands for the round trip of a network. Connections and handshakes are not
// delayed, which flatters clients that connect often.
package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

// maxRequest limits a SOAP request that is read to learn its name.
const maxRequest = 64 << 20

// Counts are what passed since the start or the last Take.
type Counts struct {
	// Calls is the number of requests by name: the SOAP method, or HTTP method and first path element.
	Calls map[string]int
	// RequestBytes and ResponseBytes are sizes of bodies, without HTTP's headers and TLS.
	RequestBytes, ResponseBytes int64
	// Connections is how many were opened, Delays how many requests were delayed.
	Connections, Delays int
	// Logins are those that succeeded, Logouts likewise.
	Logins, Logouts int
	// Sessions is how many are open now, Peak the most that were open at once.
	Sessions, Peak int
}

// Total is the number of all requests.
func (c Counts) Total() (n int) {
	for _, count := range c.Calls {
		n += count
	}
	return n
}

// Options of a Proxy.
type Options struct {
	// Target is the https URL of the vCenter, Trust the PEM certificates that sign its own.
	Target string
	Trust  []byte
	// Sleep waits, unless ctx ends first. Default: a timer.
	Sleep func(ctx context.Context, d time.Duration) error
}

// Proxy is a running proxy. Close it. Safe for concurrent use.
type Proxy struct {
	sleep     func(context.Context, time.Duration) error
	address   string
	authority []byte
	server    *http.Server
	transport *http.Transport
	running   sync.WaitGroup

	mu     sync.Mutex
	counts Counts
	delay  time.Duration
}

// Start listens on a free port of the loopback interface.
func Start(ctx context.Context, o Options) (*Proxy, error) {
	target, err := url.Parse(o.Target)
	if err != nil {
		return nil, fmt.Errorf("parse target: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(o.Trust) {
		return nil, fmt.Errorf("no certificate to trust %s by", target.Host)
	}
	certificate, authority, err := newCertificate()
	if err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	p := &Proxy{sleep: o.Sleep, address: l.Addr().String(), authority: authority, transport: &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 256,
		DisableCompression:  true, // what the client asked for is passed on
	}}
	if p.sleep == nil {
		p.sleep = sleep
	}
	forward := &httputil.ReverseProxy{
		Transport: p.transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
		},
		ErrorLog: log.New(io.Discard, "", 0), // clients are told, by 502
	}
	p.server = &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.handle(w, r, forward) }),
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				p.update(func(c *Counts) { c.Connections++ })
			}
		},
	}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	p.running.Go(func() {
		// Serve ends when Close closes the listener, which is its only use.
		_ = p.server.Serve(tls.NewListener(l, config))
	})
	return p, nil
}

// Address is host and port.
func (p *Proxy) Address() string { return p.address }

// CABundle is the PEM certificate that the proxy's own is signed with.
func (p *Proxy) CABundle() []byte { return p.authority }

// SetDelay changes what is added to requests that arrive from now on.
func (p *Proxy) SetDelay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Take returns what was counted and begins anew; open sessions stay open.
func (p *Proxy) Take() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.counts
	taken.Calls = maps.Clone(p.counts.Calls)
	p.counts = Counts{Sessions: taken.Sessions, Peak: taken.Sessions}
	return taken
}

// Close ends the proxy and all connections.
func (p *Proxy) Close() {
	_ = p.server.Close() // nothing is lost that anybody waits for
	p.running.Wait()
	p.transport.CloseIdleConnections()
}

func (p *Proxy) update(change func(*Counts)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.counts)
}

func (p *Proxy) handle(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	method, err := requestName(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	delay := p.delay
	p.mu.Unlock()
	if delay > 0 {
		if err := p.sleep(r.Context(), delay); err != nil {
			return // the client is gone
		}
		p.update(func(c *Counts) { c.Delays++ })
	}
	p.update(func(c *Counts) {
		if c.Calls == nil {
			c.Calls = map[string]int{}
		}
		c.Calls[method]++
		c.RequestBytes += max(r.ContentLength, 0)
	})
	forward.ServeHTTP(&counter{w, p, method}, r)
}

// session follows logins and logouts, as soon as they are answered.
func (p *Proxy) session(method string, status int, header http.Header) {
	switch {
	case status != http.StatusOK:
	case strings.HasPrefix(method, "Login") && header.Get("Set-Cookie") != "":
		p.update(func(c *Counts) {
			c.Logins++
			c.Sessions++
			c.Peak = max(c.Peak, c.Sessions)
		})
	case method == "Logout":
		p.update(func(c *Counts) {
			c.Logouts++
			c.Sessions--
		})
	}
}

// counter counts an answer before the client has it, so that nothing is missing when
// the client is done.
type counter struct {
	http.ResponseWriter
	proxy  *Proxy
	method string
}

func (c *counter) WriteHeader(status int) {
	c.proxy.session(c.method, status, c.Header())
	c.ResponseWriter.WriteHeader(status)
}

func (c *counter) Write(b []byte) (int, error) {
	c.proxy.update(func(counts *Counts) { counts.ResponseBytes += int64(len(b)) })
	return c.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// requestName names the request and leaves its body readable again.
func requestName(w http.ResponseWriter, r *http.Request) (string, error) {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if r.Method != http.MethodPost || first != "sdk" {
		return r.Method + " /" + first, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		return "", fmt.Errorf("read request: %w", err)
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	decoder := xml.NewDecoder(bytes.NewReader(body))
	for inBody := false; ; {
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

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
