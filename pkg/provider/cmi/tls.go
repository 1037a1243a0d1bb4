// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// TLSFiles names the PEM files of one side of a TCP endpoint, where each side
// must show a certificate.
type TLSFiles struct {
	// CertFile holds this side's certificate, followed by those between it and its CA.
	CertFile string
	// KeyFile holds the certificate's private key, not encrypted.
	KeyFile string
	// CAFile holds the certificates that sign the other side's certificate. Nobody else
	// is believed, the system's roots neither.
	CAFile string
	// ServerName is the name that the server's certificate must bear, if it is not the
	// endpoint's host. Only clients have it.
	ServerName string
}

// ServerCredentials says how a server protects an endpoint.
//
// A unix socket is protected by its mode, so files are an error. TCP has mutual
// TLS, version 1.3: all three files are needed. Only on a loopback address, and only
// if allowInsecure says so, files may and must be missing, and there is no TLS.
//
// The files are read here, so that a wrong one is an error at once, and again at
// every handshake: who renews a certificate only replaces the files. Errors are
// InvalidArgument or, for what the file system refuses, of another kind; they
// name the file and never show what is in it.
func ServerCredentials(e Endpoint, f TLSFiles, allowInsecure bool) (credentials.TransportCredentials, error) {
	if f.ServerName != "" {
		return nil, errdefs.New(errdefs.InvalidArgument, "endpoint %s: a server name (%s) is for clients; a server has the names of its certificate", e, f.ServerName)
	}
	return newCredentials(e, f, allowInsecure, TLSFiles.serverConfig)
}

// ClientCredentials says how a client protects a connection to an endpoint; the
// rules are those of ServerCredentials. The endpoint must have a host and a port.
func ClientCredentials(e Endpoint, f TLSFiles, allowInsecure bool) (credentials.TransportCredentials, error) {
	if e.network == networkTCP && (e.host() == "" || strings.HasSuffix(e.address, ":0")) {
		return nil, errdefs.New(errdefs.InvalidArgument, "endpoint %s: a client needs the host and the port of the server", e)
	}
	return newCredentials(e, f, allowInsecure, TLSFiles.clientConfig)
}

func newCredentials(e Endpoint, f TLSFiles, allowInsecure bool, config func(TLSFiles) (*tls.Config, error)) (credentials.TransportCredentials, error) {
	missing, given := f.fields()
	switch {
	case e.network == "":
		return nil, errdefs.New(errdefs.InvalidArgument, "credentials: there is no endpoint; %s", rightEndpoints)
	case e.network == networkUnix && len(given) > 0:
		return nil, errdefs.New(errdefs.InvalidArgument, "endpoint %s is a unix socket, which has no TLS: leave out the %s, or use tcp://host:port", e, strings.Join(given, ", "))
	case e.network == networkUnix:
		return insecure.NewCredentials(), nil
	case allowInsecure && !e.Loopback():
		return nil, errdefs.New(errdefs.InvalidArgument, "endpoint %s is not a loopback address: without TLS everybody on the way could read credentials; give certificate, key and CA instead of insecure", e)
	case allowInsecure && len(given) > 0:
		return nil, errdefs.New(errdefs.InvalidArgument, "endpoint %s: insecure means no TLS, but there is also the %s; leave out one of the two", e, strings.Join(given, ", "))
	case allowInsecure:
		return insecure.NewCredentials(), nil
	case len(missing) > 0:
		return nil, errdefs.New(errdefs.InvalidArgument, "endpoint %s needs TLS on both sides: the %s must be given", e, strings.Join(missing, ", "))
	}
	if _, err := config(f); err != nil {
		return nil, err
	}
	return &reloading{files: f, config: config}, nil
}

const (
	fieldCert = "certificate file"
	fieldKey  = "key file"
	fieldCA   = "CA file"
	fieldName = "server name"
)

// fields names the fields that are missing and those that are given. A server name
// is never missing.
func (f TLSFiles) fields() (missing, given []string) {
	for _, field := range []struct{ name, value string }{
		{fieldCert, f.CertFile}, {fieldKey, f.KeyFile}, {fieldCA, f.CAFile}, {fieldName, f.ServerName},
	} {
		switch {
		case field.value != "":
			given = append(given, field.name)
		case field.name != fieldName:
			missing = append(missing, field.name)
		}
	}
	return missing, given
}

func (f TLSFiles) serverConfig() (*tls.Config, error) {
	cert, pool, err := f.load()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{cert},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    pool,
		// A client that comes back shows its certificate again: the CA may be another.
		SessionTicketsDisabled: true,
	}, nil
}

func (f TLSFiles) clientConfig() (*tls.Config, error) {
	cert, pool, err := f.load()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Without a look at which CAs the server names: if ours is none of them, the
		// server shall say that it refuses our certificate, not that there is none.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
		RootCAs:              pool,
	}, nil
}

// load reads the files.
func (f TLSFiles) load() (tls.Certificate, *x509.CertPool, error) {
	cert, err := f.keyPair()
	if errdefs.Is(err, errdefs.InvalidArgument) {
		// They may have been replaced between the two reads.
		cert, err = f.keyPair()
	}
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pool, err := f.pool()
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return cert, pool, nil
}

func (f TLSFiles) keyPair() (tls.Certificate, error) {
	certPEM, err := readFile(fieldCert, f.CertFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	keyPEM, err := readFile(fieldKey, f.KeyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, errdefs.Wrap(errdefs.InvalidArgument, err, "%s %s and %s %s must be a certificate and its private key, in PEM and not encrypted", fieldCert, f.CertFile, fieldKey, f.KeyFile)
	}
	return cert, nil
}

// pool reads the CA file. A block that is no certificate is an error, as a CA that is
// left out silently is found at the first handshake only.
func (f TLSFiles) pool() (*x509.CertPool, error) {
	rest, err := readFile(fieldCA, f.CAFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	blocks := bytes.Count(rest, []byte("-----BEGIN "))
	if blocks == 0 {
		return nil, errdefs.New(errdefs.InvalidArgument, "%s %s holds no PEM certificate (-----BEGIN CERTIFICATE-----)", fieldCA, f.CAFile)
	}
	for n := 1; n <= blocks; n++ {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		switch {
		case block == nil:
			return nil, errdefs.New(errdefs.InvalidArgument, "%s %s: of %d PEM blocks one is cut off or malformed", fieldCA, f.CAFile, blocks)
		case block.Type != "CERTIFICATE":
			return nil, errdefs.New(errdefs.InvalidArgument, "%s %s: PEM block %d is a %s, not a CERTIFICATE", fieldCA, f.CAFile, n, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errdefs.Wrap(errdefs.InvalidArgument, err, "%s %s: parse certificate %d", fieldCA, f.CAFile, n)
		}
		pool.AddCert(cert)
	}
	return pool, nil
}

// readFile reads a file; an error names the field and, as the file system does, the path.
func readFile(field, name string) ([]byte, error) {
	content, err := os.ReadFile(name) //nolint:gosec // the operator's choice
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errdefs.Wrap(errdefs.NotFound, err, "the %s is missing", field)
	}
	return content, onFile(err, "read the %s", field)
}

// reloading is TLS with files that are read at every handshake.
type reloading struct {
	files  TLSFiles
	config func(TLSFiles) (*tls.Config, error)
}

// ClientHandshake reads the files and talks to the server.
func (r *reloading) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config, err := r.config(r.files)
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	if r.files.ServerName != "" {
		authority = r.files.ServerName
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, conn)
}

// ServerHandshake reads the files and talks to the client.
func (r *reloading) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config, err := r.config(r.files)
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return credentials.NewTLS(config).ServerHandshake(conn)
}

// Info describes TLS.
func (r *reloading) Info() credentials.ProtocolInfo {
	return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13}).Info()
}

// Clone returns a copy.
func (r *reloading) Clone() credentials.TransportCredentials {
	clone := *r
	return &clone
}

// OverrideServerName is the older way to say TLSFiles.ServerName. gRPC wants the
// method and does not call it.
func (r *reloading) OverrideServerName(name string) error {
	r.files.ServerName = name
	return nil
}
