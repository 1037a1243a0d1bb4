// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/soap"
)

// esx is the host that takes the contents of imported disks: an address and a
// certificate of its own, which is known by its thumbprint alone.
type esx struct {
	certificate tls.Certificate
	listener    net.Listener
	server      *http.Server
}

// listen opens the host's port, on the address of the vCenter.
func (e *esx) listen(ctx context.Context, vcenter net.IP) (err error) {
	if vcenter.IsUnspecified() {
		vcenter = net.IPv4(127, 0, 0, 1)
	}
	if e.certificate, err = newCertificate("esx.vchsim.invalid"); err != nil {
		return err
	}
	if e.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(vcenter.String(), "0")); err != nil {
		return fmt.Errorf("listen as a host: %w", err)
	}
	return nil
}

// serveHost answers what a host is asked.
func (s *Sim) serveHost() {
	config := &tls.Config{Certificates: []tls.Certificate{s.host.certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	s.host.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, nfcPrefix) {
			http.NotFound(w, r)
			return
		}
		s.handle(w, r)
	})}
	s.running.Go(func() {
		// Serve ends when Close closes the listener, which is its only use.
		_ = s.host.server.Serve(tls.NewListener(s.host.listener, config))
	})
}

// importHost is the host in the addresses that disks are sent to.
func (s *Sim) importHost() string {
	if s.options.ImportHost != "" {
		return s.options.ImportHost
	}
	return s.host.listener.Addr().String()
}

func (s *Sim) importThumbprint() string {
	if s.options.ImportHost != "" {
		return ""
	}
	return soap.ThumbprintSHA1(s.host.certificate.Leaf)
}
