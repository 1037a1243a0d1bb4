// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// start makes a world that ends with the test.
func start(t *testing.T, options vchsim.Options) *vchsim.Sim {
	t.Helper()
	options.Dir = t.TempDir()
	sim, err := vchsim.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	return sim
}

// login returns a client that trusts nothing but the Sim's certificate.
func login(t *testing.T, sim *vchsim.Sim) *govmomi.Client {
	t.Helper()
	client, err := connect(t.Context(), sim, sim.Username, sim.Password)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Logout(context.WithoutCancel(t.Context())) })
	return client
}

func connect(ctx context.Context, sim *vchsim.Sim, username, password string) (*govmomi.Client, error) {
	u, err := url.Parse(sim.URL())
	if err != nil {
		return nil, err
	}
	s := soap.NewClient(u, false)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(sim.CACert())
	s.DefaultTransport().TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	vim, err := vim25.NewClient(ctx, s)
	if err != nil {
		return nil, err
	}
	client := &govmomi.Client{Client: vim, SessionManager: session.NewManager(vim)}
	return client, client.Login(ctx, url.UserPassword(username, password))
}

func TestTheWorldStartsServesAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	sim := start(t, vchsim.Options{})
	client := login(t, sim)
	if got := client.ServiceContent.About.ApiType; got != "VirtualCenter" {
		t.Errorf("api type %q", got)
	}
	for _, f := range sim.Files() {
		t.Log(f)
	}
	for _, vm := range sim.VMs() {
		t.Log(vm.Name, vm.Folder, vm.UUID, vm.On, vm.VMX, vm.Mark)
	}
}
