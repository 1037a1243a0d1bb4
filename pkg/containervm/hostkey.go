// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// NewHostKey returns a fresh RSA key of 2048 bits, PKCS#1 in PEM. The tether
// refuses to start without a key that it can parse (VIC,
// cmd/tether/attach.go:129-134); releases of VIC know this form.
func NewHostKey() ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, errdefs.Wrap(errdefs.Internal, err, "generate the host key")
	}
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), nil
}
