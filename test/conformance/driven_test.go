// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package conformance_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider/cmi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
)

// newWorld makes the world of one test.
type newWorld func(*testing.T) spitest.Harness

// driven is a world whose implementation is a driver on top of the world's own.
type driven struct {
	spitest.Harness

	// build makes a driver, and ends the one before it.
	build func(below spi.PluginSPI) provider.Driver

	mu     sync.Mutex
	below  spi.PluginSPI
	driver provider.Driver
}

// SPI returns the same driver until a fault with Kill has struck.
func (d *driven) SPI() spi.PluginSPI {
	d.mu.Lock()
	defer d.mu.Unlock()
	if below := d.Harness.SPI(); d.driver == nil || d.below != below {
		d.below, d.driver = below, d.build(below)
	}
	return backend{d.driver}
}

// Inject makes fault strike below the driver. The driver dies with its backend.
func (d *driven) Inject(fault spitest.Fault) (heal func() bool) {
	inner := d.Harness.Inject(fault)
	return func() bool {
		struck := inner()
		if fault.Kill && struck {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.driver = nil
		}
		return struck
	}
}

// inProcess puts the driver into the caller's process.
func inProcess(newBelow newWorld) newWorld {
	return func(t *testing.T) spitest.Harness {
		return &driven{Harness: newBelow(t), build: func(below spi.PluginSPI) provider.Driver {
			return provider.NewMachinePlugin(below, provider.Options{})
		}}
	}
}

// overSocket puts the driver behind a unix socket. All sockets are in one
// directory, since the names of subtests are longer than a socket's path may be.
func overSocket(t *testing.T, newBelow newWorld) newWorld {
	t.Helper()
	dir := t.TempDir()
	var last atomic.Int64
	return func(t *testing.T) spitest.Harness {
		below := newBelow(t)
		s := newService(t, filepath.Join(dir, fmt.Sprintf("%d.sock", last.Add(1))))
		return &driven{Harness: below, build: s.serve}
	}
}

// service is a socket with servers, one after the other, and one client that
// outlives them.
type service struct {
	testing.TB
	endpoint cmi.Endpoint
	client   *cmi.Driver
	stop     func()
}

func newService(t *testing.T, socket string) *service {
	t.Helper()
	endpoint, err := cmi.ParseEndpoint("unix://" + socket)
	if err != nil {
		t.Fatal(err)
	}
	client, err := cmi.NewDriver(cmi.DriverOptions{Endpoint: endpoint})
	if err != nil {
		t.Fatal(err)
	}
	s := &service{TB: t, endpoint: endpoint, client: client, stop: func() {}}
	t.Cleanup(func() {
		s.stop()
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// serve ends the server that is there, as abruptly as a server can end without
// its process, and starts one for another backend in its place.
func (s *service) serve(below spi.PluginSPI) provider.Driver {
	s.Helper()
	s.stop()
	server, err := cmi.NewServer(provider.NewMachinePlugin(below, provider.Options{}), cmi.ServerOptions{})
	if err != nil {
		s.Fatal(err)
	}
	listener, err := cmi.Listen(s.Context(), s.endpoint)
	if err != nil {
		s.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	s.stop = sync.OnceFunc(func() {
		atOnce, cancel := context.WithCancel(context.Background())
		cancel()
		server.Stop(atOnce)
		if err := <-served; err != nil {
			s.Errorf("serve on %s: %v", s.endpoint, err)
		}
	})
	server.Ready()
	ctx, cancel := context.WithTimeout(s.Context(), 30*time.Second)
	defer cancel()
	if err := s.client.Wait(ctx); err != nil {
		s.Fatal(err)
	}
	return s.client
}
