// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net"
	"sync"

	"github.com/vmware/govmomi/vim25/types"
)

// changes are what an administrator changes while vCenter runs.
type changes struct {
	mu          sync.Mutex
	certificate tls.Certificate
	newPassword string // empty: that of the options
}

// SetPassword changes the password that logs in. Sessions live on, as in vCenter.
func (s *Sim) SetPassword(password string) {
	s.changes.mu.Lock()
	defer s.changes.mu.Unlock()
	s.changes.newPassword = password
}

func (s *Sim) password() string {
	s.changes.mu.Lock()
	defer s.changes.mu.Unlock()
	if s.changes.newPassword != "" {
		return s.changes.newPassword
	}
	return s.Password
}

func (s *Sim) validLogin(login *types.Login) bool {
	return login.UserName == s.Username && login.Password == s.password()
}

// Certificate is one that vCenter can have. It signs itself.
type Certificate struct{ of tls.Certificate }

// PEM is what a client must trust.
func (c Certificate) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.of.Certificate[0]})
}

// NewCertificate makes one for the address of vCenter, which does not have it yet.
func (s *Sim) NewCertificate() (Certificate, error) {
	host, _, err := net.SplitHostPort(s.options.Listen)
	if err != nil {
		return Certificate{}, fmt.Errorf("parse listen address %q: %w", s.options.Listen, err)
	}
	certificate, err := newCertificate(host)
	return Certificate{certificate}, err
}

// SetCertificate gives vCenter another certificate. New connections, CACert, Thumbprint
// and Secret have it; open connections live on.
func (s *Sim) SetCertificate(certificate Certificate) {
	s.changes.mu.Lock()
	defer s.changes.mu.Unlock()
	s.changes.certificate = certificate.of
}

func (s *Sim) certificate() tls.Certificate {
	s.changes.mu.Lock()
	defer s.changes.mu.Unlock()
	return s.changes.certificate
}

func (s *Sim) getCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	certificate := s.certificate()
	return &certificate, nil
}

// SessionList returns the sessions that are logged in. CallCount is 1 for a session that
// nobody has used since its login.
func (s *Sim) SessionList() []types.UserSession { return s.sessions() }
