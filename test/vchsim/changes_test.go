// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim_test

import (
	"context"
	"crypto/x509"
	"net/url"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// trusting logs in with a password, if the vCenter's certificate is trusted by a PEM.
func trusting(ctx context.Context, t *testing.T, sim *vchsim.Sim, password string, pem []byte) error {
	t.Helper()
	at, err := url.Parse(sim.URL())
	if err != nil {
		t.Fatal(err)
	}
	transport := soap.NewClient(at, false)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport.DefaultTransport().TLSClientConfig.RootCAs = roots
	vim, err := vim25.NewClient(ctx, transport)
	if err != nil {
		return err
	}
	client := &govmomi.Client{Client: vim, SessionManager: session.NewManager(vim)}
	return client.Login(ctx, url.UserPassword(sim.Username, password))
}

func TestThePasswordCanChange(t *testing.T) {
	t.Parallel()
	sim, err := vchsim.Start(t.Context(), vchsim.Options{Dir: t.TempDir(), NoForeign: true})
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	if err := trusting(t.Context(), t, sim, sim.Password, sim.CACert()); err != nil {
		t.Fatal(err)
	}
	sim.SetPassword("another")
	if err := trusting(t.Context(), t, sim, sim.Password, sim.CACert()); err == nil {
		t.Error("the old password logs in")
	}
	if err := trusting(t.Context(), t, sim, "another", sim.CACert()); err != nil {
		t.Error(err)
	}
	if sessions := sim.SessionList(); len(sessions) != 2 || string(sim.Secret()["vspherePassword"]) != "another" {
		t.Errorf("sessions %v, secret %q", sessions, sim.Secret())
	}
}

func TestTheCertificateCanChange(t *testing.T) {
	t.Parallel()
	sim, err := vchsim.Start(t.Context(), vchsim.Options{Dir: t.TempDir(), NoForeign: true})
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	before := sim.CACert()
	renewed, err := sim.NewCertificate()
	if err != nil {
		t.Fatal(err)
	}
	if err := trusting(t.Context(), t, sim, sim.Password, before); err != nil {
		t.Errorf("the new certificate is there before it was set: %v", err)
	}
	sim.SetCertificate(renewed)
	if err := trusting(t.Context(), t, sim, sim.Password, before); err == nil {
		t.Error("the old certificate is trusted")
	}
	if err := trusting(t.Context(), t, sim, sim.Password, sim.CACert()); err != nil {
		t.Error(err)
	}
	if string(sim.CACert()) != string(renewed.PEM()) {
		t.Error("CACert is not the new one")
	}
}
