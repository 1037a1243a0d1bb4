// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const (
	dialTimeout  = 15 * time.Second
	idleTimeout  = 30 * time.Second
	maxHeaders   = 64 << 10
	maxRedirects = 10
	maxErrorBody = 32 << 10
)

// client sends the requests of one pull. Hosts that are listed as insecure have
// connections of their own.
type client struct {
	secure, insecure *http.Transport
	trusts           func(host string) bool // whatever its certificate, and with http
	scrub            *scrubber
}

func newClient(caBundle []byte, stall time.Duration, scrub *scrubber) (*client, error) {
	verified := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(caBundle) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(caBundle) {
			return nil, errdefs.New(errdefs.InvalidArgument, "CA bundle: holds no PEM certificate that can be parsed (-----BEGIN CERTIFICATE-----)")
		}
		verified.RootCAs = pool
	}
	unverified := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // listed as insecure
	return &client{secure: newTransport(verified, stall), insecure: newTransport(unverified, stall), scrub: scrub}, nil
}

func newTransport(config *tls.Config, stall time.Duration) *http.Transport {
	return &http.Transport{
		// No Proxy: that would be read from the environment.
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  stall,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaders,
		MaxIdleConnsPerHost:    maxParallel,
		ReadBufferSize:         64 << 10,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: stall, PingTimeout: dialTimeout}, // or dead ones would be used again
		DisableCompression:     true,                                                                // digests are of what is sent
	}
}

func (c *client) close() {
	c.secure.CloseIdleConnections()
	c.insecure.CloseIdleConnections()
}

// RoundTrip sends a request of the registry's client library, which has signed it.
func (c *client) RoundTrip(req *http.Request) (*http.Response, error) {
	trusted := c.trusts(req.URL.Host)
	if req.URL.Scheme != "https" && (req.URL.Scheme != "http" || !trusted) {
		return nil, &plainError{host: clean(req.URL.Host, maxText), scheme: clean(req.URL.Scheme, 16)}
	}
	var query url.Values
	if first := origin(req); first.URL.Host != req.URL.Host {
		if err := reachableByAll(first.URL, req.URL); err != nil {
			return nil, err
		}
		query = req.URL.Query()
		// Neither net/http nor the library should have copied it; that they do not is
		// nothing to rely on. What the other host gave us for itself is different.
		req = req.Clone(req.Context())
		if req.Header.Get("Authorization") == first.Header.Get("Authorization") {
			req.Header.Del("Authorization")
		}
		req.Header.Del("Cookie")
		req.Header.Del("Referer") // may have the signature of the URL before
	}
	c.scrub.learn(req.Header.Get("Authorization"), query)
	sender := c.secure
	if trusted {
		sender = c.insecure
	}
	resp, err := sender.RoundTrip(req)
	if err == nil && resp.StatusCode >= http.StatusBadRequest {
		// The library takes a longer text for another error, and forgets the status.
		resp.Body = limitedBody{io.LimitReader(resp.Body, maxErrorBody), resp.Body}
	}
	return resp, err
}

// limitedBody ends early.
type limitedBody struct {
	io.Reader
	io.Closer
}

// origin is the request that a request is a consequence of, by redirects.
func origin(req *http.Request) *http.Request {
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
	}
	return req
}

// checkRedirect ends loops.
func checkRedirect(_ *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return faultf(errdefs.FailedPrecondition, "%s redirects more than %d times", clean(via[0].URL.Host, maxText), maxRedirects)
	}
	return nil
}

// reachableByAll does not let a registry make us ask what listens on this machine
// or answers on its link alone, where clouds keep their secrets. Storage on private
// networks is usual.
func reachableByAll(from, to *url.URL) error {
	ip, _ := netip.ParseAddr(to.Hostname()) // names are not looked up here
	if !ip.IsValid() || to.Hostname() == from.Hostname() {
		return nil
	}
	if ip = ip.Unmap(); ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast() {
		return faultf(errdefs.FailedPrecondition, "%s redirects to %s, which is an address that only we can reach", clean(from.Host, maxText), ip)
	}
	return nil
}
