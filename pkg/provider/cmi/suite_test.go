// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider/cmi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider/providertest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/world"
)

// limit is for what takes milliseconds.
const limit = 30 * time.Second

func TestDriverConforms(t *testing.T) {
	RegisterFailHandler(Fail)
	providertest.Calls("over a socket", overSocket)
	providertest.Life("over a socket, in memory", overSocket, inMemory, 50)
	providertest.Life("over a socket, on vSphere", overSocket, onVSphere, 20)
	providertest.Controller("over a socket, in memory", overSocket, inMemory)
	RunSpecs(t, "Driver over a socket")
}

func inMemory(t testing.TB) spitest.Harness { return world.NewFake(t) }

func onVSphere(t testing.TB) spitest.Harness { return world.New(t, vchsim.Options{}) }

// overSocket puts a client, a unix socket and a server before the driver.
func overSocket(backend spi.PluginSPI, options provider.Options, logger logr.Logger) provider.Driver {
	GinkgoHelper()
	endpoint, err := cmi.ParseEndpoint("unix://" + filepath.Join(GinkgoT().TempDir(), "cmi.sock"))
	Expect(err).NotTo(HaveOccurred())
	serve(endpoint, provider.NewMachinePlugin(backend, options), cmi.ServerOptions{Logger: logger, CallTimeout: options.CallTimeout})

	client, err := cmi.NewDriver(cmi.DriverOptions{Endpoint: endpoint, CallTimeout: options.CallTimeout})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(client.Close)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	Expect(client.Wait(ctx)).To(Succeed())
	return client
}

// serve starts a server that ends with the spec.
func serve(endpoint cmi.Endpoint, driver provider.Driver, options cmi.ServerOptions) {
	GinkgoHelper()
	server, err := cmi.NewServer(driver, options)
	Expect(err).NotTo(HaveOccurred())
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	listener, err := cmi.Listen(ctx, endpoint)
	Expect(err).NotTo(HaveOccurred())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	DeferCleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		server.Stop(ctx)
		Eventually(served).WithTimeout(limit).Should(Receive(BeNil()))
	})
	server.Ready()
}
