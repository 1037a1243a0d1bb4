// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
)

func TestGarbageOnTheSocketIsSurvived(t *testing.T) {
	t.Parallel()
	r := newRig(t, &stub{}, ServerOptions{})
	frames := func(frames ...string) string { return http2.ClientPreface + strings.Join(frames, "") }
	const settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for name, bytes := range map[string]string{
		"HTTP/1":                    "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"zeros":                     strings.Repeat("\x00", 1<<16),
		"random":                    strings.Repeat("\xde\xad\xbe\xef", 1<<14),
		"TLS":                       "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"no settings":               frames("\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x01"),
		"a frame of 16 MiB":         frames(settings, "\xff\xff\xff\x00\x00\x00\x00\x00\x01"),
		"data without a stream":     frames(settings, "\x00\x00\x01\x00\x00\x00\x00\x00\x01x"),
		"headers that are no HPACK": frames(settings, "\x00\x00\x04\x01\x04\x00\x00\x00\x01\xff\xff\xff\xff"),
		"an unknown frame":          frames(settings, "\x00\x00\x00\xee\xff\x7f\xff\xff\xff"),
	} {
		conn := r.dial()
		if _, err := conn.Write([]byte(bytes)); err != nil && !strings.Contains(err.Error(), "broken pipe") && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: %v", name, err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, conn) // what it answers does not matter
		r.works()
	}
}

func TestAConnectionThatSaysNothingIsClosed(t *testing.T) {
	t.Parallel()
	r := newRig(t, &stub{}, ServerOptions{})
	silent, half := r.dial(), r.dial()
	if _, err := half.Write([]byte(http2.ClientPreface[:12])); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for name, conn := range map[string]io.Reader{"silent": silent, "half a preface": half} {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = io.Copy(io.Discard, conn)
		}()
		awaitEnd(t, name, handshakeTimeout+5*time.Second, ended)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("closed after %s: honest clients may be slower", took)
	}
	r.works()
}

func TestHeadersThatAreTooLargeAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, &stub{}, ServerOptions{})
	client := r.machines()
	if _, err := rigStatus(rigContext(t), client, rigMachine); err != nil {
		t.Fatal(err)
	}
	_, err := rigStatus(metadata.AppendToOutgoingContext(rigContext(t), "x-large", strings.Repeat("y", 2*maxHeaderBytes)), client, rigMachine)
	if err == nil || status.Code(err) == codes.DeadlineExceeded || !strings.Contains(err.Error(), "header") {
		t.Errorf("got %.300v", err)
	}
	r.works()

	// A client that does not care what the server allows.
	conn := r.dial()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	var block strings.Builder
	encoder := hpack.NewEncoder(&block)
	for name, value := range map[string]string{
		":method": "POST", ":scheme": "http", ":path": "/cmi.v1.Machine/GetMachineStatus", ":authority": "x", "content-type": "application/grpc",
		"te": "trailers", "x-large": strings.Repeat("\x7f~", maxHeaderBytes),
	} {
		if err := encoder.WriteField(hpack.HeaderField{Name: name, Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	rest := block.String()
	err = errors.Join(framer.WriteSettings(), framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(rest[:16000]), EndStream: true}))
	for rest = rest[16000:]; err == nil && rest != ""; {
		n := min(len(rest), 16000)
		err = framer.WriteContinuation(1, n == len(rest), []byte(rest[:n]))
		rest = rest[n:]
	}
	if err != nil {
		t.Logf("the server has hung up: %v", err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(rigLimit)); err != nil {
		t.Fatal(err)
	}
	for refused := false; !refused; {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Logf("the server has hung up: %v", err)
			break
		}
		switch frame.(type) {
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			refused = true
		case *http2.DataFrame, *http2.HeadersFrame:
			t.Errorf("the server answers with %v", frame)
			refused = true
		}
	}
	r.works()
}

func TestAClientThatOpensManyStreamsDoesNotHinderOthers(t *testing.T) {
	t.Parallel()
	const most = 8
	r := newRig(t, &stub{}, ServerOptions{MaxConcurrentCalls: most})
	greedy := r.conn()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range most + 16 { // the limit of a connection
		// A stream whose request never comes: the server waits for the message.
		if _, err := greedy.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, "/cmi.v1.Machine/GetMachineStatus", grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
	}
	waiting, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	if _, err := rigStatus(waiting, cmiv1.NewMachineClient(greedy), rigMachine); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("one more stream of the same connection: %v", err)
	}
	r.works()
}

func TestOverTCPOnlyClientsWithACertificateAreServed(t *testing.T) {
	t.Parallel()
	ca, other := tlsNewAuthority(t), tlsNewAuthority(t)
	files := ca.files(t, "127.0.0.1")
	secured, err := ServerCredentials(endpointOf(t, "tcp://127.0.0.1:0"), files, false)
	if err != nil {
		t.Fatal(err)
	}
	d := &stub{}
	r := newRigAt(t, endpointOf(t, "tcp://127.0.0.1:0"), d, ServerOptions{Credentials: secured})
	r.server.Ready()

	good, err := ClientCredentials(r.endpoint, withName(ca.files(t), "127.0.0.1"), false)
	if err != nil {
		t.Fatal(err)
	}
	works := func(after string) {
		t.Helper()
		if _, err := rigStatus(rigContext(t), cmiv1.NewMachineClient(r.conn(grpc.WithTransportCredentials(good))), rigMachine); err != nil {
			t.Errorf("after %s: %v", after, err)
		}
	}
	works("the start")
	before := len(d.noted())
	stranger, err := ClientCredentials(r.endpoint, withName(other.files(t), "127.0.0.1"), false)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.pem)
	certPEM, keyPEM := other.issue(t, nil)
	foreignCert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	for name, shown := range map[string]credentials.TransportCredentials{
		"plain text":                insecure.NewCredentials(),
		"no certificate":            credentials.NewTLS(&tls.Config{RootCAs: roots}),
		"another CA's certificate":  credentials.NewTLS(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{foreignCert}}),
		"trust in another CA":       stranger,
		"a version that is too old": credentials.NewTLS(&tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS12}),
	} {
		conn := r.conn(grpc.WithTransportCredentials(shown))
		if _, err := rigStatus(rigContext(t), cmiv1.NewMachineClient(conn), rigMachine); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
		if got := len(d.noted()); got != before {
			t.Errorf("%s: the driver was called", name)
			before = got
		}
		works(name)
		before++
	}
}

func withName(f TLSFiles, name string) TLSFiles {
	f.ServerName = name
	return f
}
