// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"crypto/sha1" //nolint:gosec // vCenter and govc show SHA-1 thumbprints; they compare one known certificate
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const (
	sha1Size      = sha1.Size
	dialTimeout   = 15 * time.Second
	tcpKeepAlive  = 30 * time.Second
	maxIdleForAll = 5 * time.Minute
)

// certPool parses a CA bundle.
func certPool(bundle []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(bundle) {
		return nil, errdefs.New(errdefs.InvalidArgument, "secret key %s holds no PEM certificate that can be parsed (-----BEGIN CERTIFICATE-----)", v1alpha1.SecretCABundle)
	}
	return pool, nil
}

// configureTransport sets trust and connection limits of one session's transport.
func configureTransport(t *http.Transport, to *target, connections int) error {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case to.thumbprint != nil:
		cfg.InsecureSkipVerify = true // VerifyConnection compares the thumbprint instead
		cfg.VerifyConnection = func(state tls.ConnectionState) error { return verifyThumbprint(to, state) }
	case to.Insecure:
		cfg.InsecureSkipVerify = true // asked for
	case len(to.CABundle) > 0:
		pool, err := certPool(to.CABundle)
		if err != nil {
			return err
		}
		cfg.RootCAs = pool
	}
	t.TLSClientConfig = cfg
	// govmomi's own dialer ignores the context.
	t.DialTLSContext = nil
	t.DialContext = (&net.Dialer{Timeout: dialTimeout, KeepAlive: tcpKeepAlive}).DialContext
	t.TLSHandshakeTimeout = dialTimeout
	t.MaxIdleConnsPerHost = connections
	t.IdleConnTimeout = maxIdleForAll
	return nil
}

func verifyThumbprint(to *target, state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errdefs.New(errdefs.FailedPrecondition, "vCenter %s sent no certificate", to.host())
	}
	leaf := state.PeerCertificates[0]
	sum256 := sha256.Sum256(leaf.Raw)
	have := sum256[:]
	if len(to.thumbprint) == sha1Size {
		sum1 := sha1.Sum(leaf.Raw) //nolint:gosec // see the import
		have = sum1[:]
	}
	if subtle.ConstantTimeCompare(have, to.thumbprint) == 1 {
		return nil
	}
	return errdefs.New(errdefs.FailedPrecondition, "the certificate of vCenter %s has the thumbprint %s, but secret key %s says %s: somebody stands between, or the certificate was renewed; if that is so, correct the key",
		to.host(), colons(have), v1alpha1.SecretThumbprint, colons(to.thumbprint))
}

// untrusted says what to do about a certificate that could not be verified.
func untrusted(err *tls.CertificateVerificationError) string {
	if len(err.UnverifiedCertificates) == 0 {
		return "the certificate is not trusted"
	}
	sum := sha256.Sum256(err.UnverifiedCertificates[0].Raw)
	return fmt.Sprintf("the certificate is not trusted; its SHA-256 thumbprint is %s: if that is vCenter's, set secret key %s to it, or %s to the certificates that sign it",
		colons(sum[:]), v1alpha1.SecretThumbprint, v1alpha1.SecretCABundle)
}

// colons writes a thumbprint as vCenter shows it.
func colons(sum []byte) string {
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}
