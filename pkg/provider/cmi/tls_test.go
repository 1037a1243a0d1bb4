// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

func TestBothSidesShowACertificate(t *testing.T) {
	t.Parallel()
	ca := tlsNewAuthority(t)
	e := tlsServe(t, ca.files(t, "driver.example.com"))
	client := ca.files(t)
	if err := tlsCheck(t, e, client); err != nil {
		t.Error(err)
	}
	client.ServerName = "driver.example.com"
	if err := tlsCheck(t, e, client); err != nil {
		t.Errorf("with the server's name: %v", err)
	}
	client.ServerName = "other.example.com"
	tlsWantUnavailable(t, tlsCheck(t, e, client), "driver.example.com, not other.example.com")
}

func TestAClientThatIsNotKnownIsRefused(t *testing.T) {
	t.Parallel()
	ca, other := tlsNewAuthority(t), tlsNewAuthority(t)
	e := tlsServe(t, ca.files(t, "localhost"))
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)

	if err := endpointCheck(t, e.Target(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool}))); status.Code(err) != codes.Unavailable {
		t.Errorf("without a certificate: %v, want Unavailable", err)
	}
	if err := endpointCheck(t, e.Target(), grpc.WithTransportCredentials(insecure.NewCredentials())); status.Code(err) != codes.Unavailable {
		t.Errorf("without TLS: %v, want Unavailable", err)
	}
	stranger := other.files(t)
	tlsWrite(t, stranger.CAFile, ca.pem)
	if err := tlsCheck(t, e, stranger); status.Code(err) != codes.Unavailable {
		t.Errorf("with a certificate of another CA: %v, want Unavailable", err)
	}
	for name, change := range map[string]func(*x509.Certificate){
		"expired":  func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) },
		"server's": func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
	} {
		f := ca.files(t)
		cert, key := ca.issue(t, change)
		tlsWrite(t, f.CertFile, cert)
		tlsWrite(t, f.KeyFile, key)
		if err := tlsCheck(t, e, f); status.Code(err) != codes.Unavailable {
			t.Errorf("with an %s certificate: %v, want Unavailable", name, err)
		}
	}
}

// tlsHandshake shakes hands without gRPC and returns what the server says.
func tlsHandshake(t *testing.T, e Endpoint, config *tls.Config) error {
	t.Helper()
	dialer := tls.Dialer{Config: config}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := dialer.DialContext(ctx, e.Network(), e.Address())
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1)) // in TLS 1.3 the server refuses after the client's handshake
	return err
}

func TestTheServerSaysWhyItRefuses(t *testing.T) {
	t.Parallel()
	ca, other := tlsNewAuthority(t), tlsNewAuthority(t)
	e := tlsServe(t, ca.files(t, "localhost"))
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	pair := func(a *tlsAuthority) *tls.Certificate {
		cert, err := tls.X509KeyPair(a.issue(t, nil))
		if err != nil {
			t.Fatal(err)
		}
		return &cert
	}
	with := func(cert *tls.Certificate, change func(*tls.Config)) *tls.Config {
		config := &tls.Config{
			RootCAs: pool, NextProtos: []string{"h2"},
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
		}
		change(config)
		return config
	}
	known := pair(ca)
	for want, config := range map[string]*tls.Config{
		"":                              with(known, func(*tls.Config) {}),
		"certificate required":          with(new(tls.Certificate), func(*tls.Config) {}),
		"unknown certificate authority": with(pair(other), func(*tls.Config) {}),
		"protocol version":              with(known, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }),
		"no application protocol":       with(known, func(c *tls.Config) { c.NextProtos = []string{"h3"} }),
	} {
		err := tlsHandshake(t, e, config)
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestAClientRefusesAServerThatIsNotKnown(t *testing.T) {
	t.Parallel()
	ca, other := tlsNewAuthority(t), tlsNewAuthority(t)
	client := ca.files(t)
	tlsWantUnavailable(t, tlsCheck(t, tlsServe(t, other.files(t, "localhost")), client), "unknown authority")

	pair, err := tls.X509KeyPair(ca.issue(t, nil, "localhost"))
	if err != nil {
		t.Fatal(err)
	}
	listener := endpointListen(t, endpointOf(t, "tcp://127.0.0.1:0"))
	endpointServe(t, listener, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}, MaxVersion: tls.VersionTLS12})))
	tlsWantUnavailable(t, tlsCheck(t, endpointOf(t, "tcp://"+listener.Addr().String()), client), "protocol version")
}

func TestRenewedFilesAreUsedByTheNextConnection(t *testing.T) {
	t.Parallel()
	before, after := tlsNewAuthority(t), tlsNewAuthority(t)
	server, client := before.files(t, "localhost"), before.files(t)
	e := tlsServe(t, server)
	creds, err := ClientCredentials(e, client, false)
	if err != nil {
		t.Fatal(err)
	}
	check := func() error {
		return endpointCheck(t, e.Target(), grpc.WithTransportCredentials(creds))
	}
	renew := func(a *tlsAuthority, f TLSFiles, names ...string) {
		cert, key := a.issue(t, nil, names...)
		tlsWrite(t, f.CertFile, cert)
		tlsWrite(t, f.KeyFile, key)
		tlsWrite(t, f.CAFile, a.pem)
	}
	if err := check(); err != nil {
		t.Fatal(err)
	}
	renew(after, server, "localhost")
	tlsWantUnavailable(t, check(), "unknown authority")
	renew(after, client)
	if err := check(); err != nil {
		t.Errorf("after both were renewed: %v", err)
	}
	renew(before, client)
	tlsWrite(t, client.CAFile, after.pem)
	if err := check(); status.Code(err) != codes.Unavailable {
		t.Errorf("with the certificate of the former CA: %v, want Unavailable", err)
	}
	renew(after, client)
	// A server whose files are broken for a moment refuses and recovers.
	tlsWrite(t, server.KeyFile, nil)
	if err := check(); status.Code(err) != codes.Unavailable {
		t.Errorf("while the server has no key: %v, want Unavailable", err)
	}
	renew(after, server, "localhost")
	if err := os.Remove(client.KeyFile); err != nil {
		t.Fatal(err)
	}
	tlsWantUnavailable(t, check(), client.KeyFile)
	renew(after, client)
	if err := check(); err != nil {
		t.Errorf("after all were renewed: %v", err)
	}
}

func TestAHandshakeEndsWithItsConnectionWhenFilesAreBroken(t *testing.T) {
	t.Parallel()
	ca := tlsNewAuthority(t)
	e := endpointOf(t, "tcp://127.0.0.1:1")
	f := ca.files(t, "localhost")
	server, err := ServerCredentials(e, f, false)
	if err != nil {
		t.Fatal(err)
	}
	client, err := ClientCredentials(e, f, false)
	if err != nil {
		t.Fatal(err)
	}
	tlsWrite(t, f.CAFile, nil)
	for name, shake := range map[string]func(net.Conn) error{
		"server": func(conn net.Conn) error { _, _, err := server.ServerHandshake(conn); return err },
		"client": func(conn net.Conn) error {
			_, _, err := client.ClientHandshake(t.Context(), "localhost", conn)
			return err
		},
	} {
		near, far := net.Pipe()
		if err := far.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if err := shake(near); !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), f.CAFile) {
			t.Errorf("%s: %v, want InvalidArgument with the file", name, err)
		}
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: the connection stays open: %v", name, err)
		}
	}
}

// tlsPeers remembers the certificates of its clients.
type tlsPeers struct {
	*health.Server
	seen chan *x509.Certificate
}

func (p tlsPeers) Check(ctx context.Context, in *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	if from, ok := peer.FromContext(ctx); ok {
		if info, ok := from.AuthInfo.(credentials.TLSInfo); ok {
			p.seen <- info.State.PeerCertificates[0]
		}
	}
	return p.Server.Check(ctx, in)
}

func TestAServerSeesWhoCallsOverTLS13(t *testing.T) {
	t.Parallel()
	ca := tlsNewAuthority(t)
	listener := endpointListen(t, endpointOf(t, "tcp://127.0.0.1:0"))
	e := endpointOf(t, "tcp://"+listener.Addr().String())
	creds, err := ServerCredentials(e, ca.files(t, "localhost"), false)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(creds))
	peers := tlsPeers{Server: health.NewServer(), seen: make(chan *x509.Certificate, 1)}
	healthv1.RegisterHealthServer(server, peers)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	client := ca.files(t)
	if err := tlsCheck(t, e, client); err != nil {
		t.Fatal(err)
	}
	sent, err := os.ReadFile(client.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	if seen := <-peers.seen; !bytes.Equal(tlsPEM("CERTIFICATE", seen.Raw), sent) {
		t.Errorf("the server saw %s", seen.Subject)
	}
}

func TestUnixSocketsAndInsecureLoopbackHaveNoTLS(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		endpoint      string
		allowInsecure bool
	}{{DefaultEndpoint, false}, {DefaultEndpoint, true}, {"tcp://127.0.0.1:8443", true}, {"tcp://[::1]:8443", true}, {"tcp://localhost:8443", true}} {
		for side, get := range tlsSides() {
			creds, err := get(endpointOf(t, tc.endpoint), TLSFiles{}, tc.allowInsecure)
			if err != nil || creds.Info().SecurityProtocol != "insecure" {
				t.Errorf("%s of %s: %v, %v", side, tc.endpoint, creds, err)
			}
		}
	}
}

func tlsSides() map[string]func(Endpoint, TLSFiles, bool) (credentials.TransportCredentials, error) {
	return map[string]func(Endpoint, TLSFiles, bool) (credentials.TransportCredentials, error){"server": ServerCredentials, "client": ClientCredentials}
}

func TestContradictionsAreRefusedAndNameWhatIsWrong(t *testing.T) {
	t.Parallel()
	all := TLSFiles{CertFile: "cert", KeyFile: "key", CAFile: "ca"}
	for _, tc := range []struct {
		endpoint      string
		files         TLSFiles
		allowInsecure bool
		says          string
	}{
		{DefaultEndpoint, all, false, "leave out the certificate file, key file, CA file"},
		{DefaultEndpoint, TLSFiles{CAFile: "ca"}, true, "leave out the CA file"},
		{"tcp://driver:1", TLSFiles{}, true, "not a loopback address"},
		{"tcp://driver:1", all, true, "not a loopback address"},
		{"tcp://0.0.0.0:1", TLSFiles{}, true, "not a loopback address"},
		{"tcp://127.0.0.1:1", TLSFiles{KeyFile: "key"}, true, "also the key file"},
		{"tcp://127.0.0.1:1", TLSFiles{}, false, "the certificate file, key file, CA file must be given"},
		{"tcp://driver:1", TLSFiles{CertFile: "cert", KeyFile: "key"}, false, "the CA file must be given"},
		{"tcp://driver:1", TLSFiles{KeyFile: "key", CAFile: "ca"}, false, "the certificate file must be given"},
	} {
		for side, get := range tlsSides() {
			_, err := get(endpointOf(t, tc.endpoint), tc.files, tc.allowInsecure)
			if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), tc.endpoint) {
				t.Errorf("%s of %s: %v, want InvalidArgument that says %q", side, tc.endpoint, err, tc.says)
			}
		}
	}
	for _, text := range []string{"tcp://:8443", "tcp://driver:0"} {
		if _, err := ClientCredentials(endpointOf(t, text), all, false); !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), "the host and the port") {
			t.Errorf("%s: %v, want that a client needs host and port", text, err)
		}
	}
	if _, err := ServerCredentials(endpointOf(t, "tcp://:1"), TLSFiles{}, true); !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), "not a loopback") {
		t.Errorf("all addresses: %v, want that they are no loopback", err)
	}
	named := all
	named.ServerName = "driver"
	if _, err := ServerCredentials(endpointOf(t, "tcp://driver:1"), named, false); !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), "server name") {
		t.Errorf("server name: %v, want that it is for clients", err)
	}
	if _, err := ClientCredentials(endpointOf(t, "tcp://localhost:1"), TLSFiles{ServerName: "driver"}, true); !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), "also the server name") {
		t.Errorf("server name without TLS: %v, want that it contradicts", err)
	}
}

func TestWrongFilesAreAnErrorAtOnceThatNamesThem(t *testing.T) {
	t.Parallel()
	ca := tlsNewAuthority(t)
	_, otherKey := ca.issue(t, nil)
	_, key := ca.issue(t, nil)
	// Cut off in the middle of a line.
	broken := ca.pem[:len(ca.pem)/2]
	for name, tc := range map[string]struct {
		content []byte
		file    func(TLSFiles) string
		kind    errdefs.Kind
		says    string
	}{
		"no certificate":    {nil, tlsCertFile, errdefs.NotFound, "certificate file is missing"},
		"no key":            {nil, tlsKeyFile, errdefs.NotFound, "key file is missing"},
		"no CA":             {nil, tlsCAFile, errdefs.NotFound, "CA file is missing"},
		"another's key":     {otherKey, tlsKeyFile, errdefs.InvalidArgument, "does not match"},
		"a key cut off":     {key[:len(key)/2], tlsKeyFile, errdefs.InvalidArgument, "key file"},
		"key for cert":      {key, tlsCertFile, errdefs.InvalidArgument, "certificate file"},
		"key for CA":        {key, tlsCAFile, errdefs.InvalidArgument, "is a PRIVATE KEY, not a CERTIFICATE"},
		"an empty CA file":  {[]byte{}, tlsCAFile, errdefs.InvalidArgument, "no PEM certificate"},
		"a CA cut off":      {broken, tlsCAFile, errdefs.InvalidArgument, "of 1 PEM blocks one is cut off"},
		"a second CA cut":   {append(bytes.Clone(ca.pem), broken...), tlsCAFile, errdefs.InvalidArgument, "of 2 PEM blocks one is cut off"},
		"a first CA cut":    {append(append(bytes.Clone(broken), '\n'), ca.pem...), tlsCAFile, errdefs.InvalidArgument, "of 2 PEM blocks one is cut off"},
		"a CA that is none": {tlsPEM("CERTIFICATE", []byte("no DER")), tlsCAFile, errdefs.InvalidArgument, "parse certificate 1"},
	} {
		f := ca.files(t)
		file := tc.file(f)
		if tc.content == nil {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		} else {
			tlsWrite(t, file, tc.content)
		}
		for side, get := range tlsSides() {
			_, err := get(endpointOf(t, "tcp://driver:1"), f, false)
			if !errdefs.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), file) {
				t.Errorf("%s, %s: %v, want %s that names %s and says %q", name, side, err, tc.kind, file, tc.says)
			}
			tlsWantNoKey(t, err, key, otherKey)
		}
	}
}

func tlsCertFile(f TLSFiles) string { return f.CertFile }
func tlsKeyFile(f TLSFiles) string  { return f.KeyFile }
func tlsCAFile(f TLSFiles) string   { return f.CAFile }

// tlsWantNoKey wants no line of a key in an error.
func tlsWantNoKey(t *testing.T, err error, keys ...[]byte) {
	t.Helper()
	for _, key := range keys {
		for line := range strings.Lines(string(key)) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-----") && err != nil && strings.Contains(err.Error(), line) {
				t.Errorf("a line of a key is shown: %v", err)
			}
		}
	}
}

func TestACopyOfCredentialsHasItsOwnServerName(t *testing.T) {
	t.Parallel()
	ca := tlsNewAuthority(t)
	e := tlsServe(t, ca.files(t, "driver"))
	f := ca.files(t)
	f.ServerName = "driver"
	creds, err := ClientCredentials(e, f, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := creds.Info(); got.SecurityProtocol != "tls" {
		t.Errorf("info: %+v", got)
	}
	other := creds.Clone()
	if err := other.OverrideServerName("other"); err != nil { //nolint:staticcheck // gRPC's interface still has it
		t.Fatal(err)
	}
	if err := endpointCheck(t, e.Target(), grpc.WithTransportCredentials(creds)); err != nil {
		t.Error(err)
	}
	tlsWantUnavailable(t, endpointCheck(t, e.Target(), grpc.WithTransportCredentials(other)), "driver, not other")
}
