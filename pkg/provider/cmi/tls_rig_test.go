// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// tlsAuthority signs certificates.
type tlsAuthority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func tlsNewAuthority(t *testing.T) *tlsAuthority {
	t.Helper()
	key := tlsKey(t)
	template := tlsTemplate(t, "test CA")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tlsAuthority{cert: cert, key: key, pem: tlsPEM("CERTIFICATE", der)}
}

func tlsKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func tlsTemplate(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
}

func tlsPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// issue makes a certificate and its key. Names make it a server's; without, it is a client's.
func (a *tlsAuthority) issue(t *testing.T, change func(*x509.Certificate), names ...string) (certPEM, keyPEM []byte) {
	t.Helper()
	key := tlsKey(t)
	template := tlsTemplate(t, "leaf")
	template.DNSNames, template.KeyUsage = names, x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(names) > 0 {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return tlsPEM("CERTIFICATE", der), tlsPEM("PRIVATE KEY", keyDER)
}

// files writes a new certificate with key, and this CA as the one that is trusted, in a
// new directory.
func (a *tlsAuthority) files(t *testing.T, names ...string) TLSFiles {
	t.Helper()
	dir := t.TempDir()
	f := TLSFiles{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key"), CAFile: filepath.Join(dir, "ca.crt")}
	cert, key := a.issue(t, nil, names...)
	tlsWrite(t, f.CertFile, cert)
	tlsWrite(t, f.KeyFile, key)
	tlsWrite(t, f.CAFile, a.pem)
	return f
}

func tlsWrite(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// tlsServe runs a server with mutual TLS and returns its endpoint.
func tlsServe(t *testing.T, f TLSFiles) Endpoint {
	t.Helper()
	listener := endpointListen(t, endpointOf(t, "tcp://127.0.0.1:0"))
	e := endpointOf(t, "tcp://"+listener.Addr().String())
	creds, err := ServerCredentials(e, f, false)
	if err != nil {
		t.Fatal(err)
	}
	endpointServe(t, listener, grpc.Creds(creds))
	return e
}

// tlsCheck calls over a new connection, as a client with these files.
func tlsCheck(t *testing.T, e Endpoint, f TLSFiles) error {
	t.Helper()
	creds, err := ClientCredentials(e, f, false)
	if err != nil {
		t.Fatal(err)
	}
	return endpointCheck(t, e.Target(), grpc.WithTransportCredentials(creds))
}

func tlsWantUnavailable(t *testing.T, err error, says string) {
	t.Helper()
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want Unavailable that says %q", err, says)
	}
}
