// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// endpointSocket is an endpoint in a directory of its own. Its name is short,
// because a socket's address is.
func endpointSocket(t *testing.T) Endpoint {
	t.Helper()
	dir, err := os.MkdirTemp("", "cmi") //nolint:usetesting // t.TempDir is too long for a socket's address
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return endpointOf(t, "unix://"+filepath.Join(dir, "cmi.sock"))
}

// endpointListen listens until the test ends.
func endpointListen(t *testing.T, e Endpoint) net.Listener {
	t.Helper()
	listener, err := Listen(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// endpointStale leaves the socket of a process that is gone.
func endpointStale(t *testing.T, path string) {
	t.Helper()
	listener, err := net.ListenUnix(networkUnix, &net.UnixAddr{Name: path, Net: networkUnix})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
}

// endpointFiles is what is in the endpoint's directory.
func endpointFiles(t *testing.T, e Endpoint) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(e.Address()))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func endpointWantFiles(t *testing.T, e Endpoint, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), endpointFiles(t, e)); diff != "" {
		t.Errorf("files beside the socket (-want +got):\n%s", diff)
	}
}

// endpointWantRefused listens and wants an error that says something.
func endpointWantRefused(t *testing.T, e Endpoint, kind errdefs.Kind, says ...string) {
	t.Helper()
	listener, err := Listen(t.Context(), e)
	if err == nil {
		listener.Close()
	}
	if !errdefs.Is(err, kind) {
		t.Errorf("got %v, want %s", err, kind)
		return
	}
	for _, part := range append(says, e.Address()) {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("got %v, want it to say %q", err, part)
		}
	}
}

// endpointServe runs a real server with a health service.
func endpointServe(t *testing.T, listener net.Listener, options ...grpc.ServerOption) {
	t.Helper()
	server := grpc.NewServer(options...)
	healthv1.RegisterHealthServer(server, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		// A short test may be over before the server began.
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("serve: %v", err)
		}
	})
}

// endpointCheck asks the health service, over a connection of its own.
func endpointCheck(t *testing.T, target string, options ...grpc.DialOption) error {
	t.Helper()
	conn, err := grpc.NewClient(target, append(options, grpc.WithNoProxy())...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	answer, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
	if err == nil && answer.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		return errors.New(answer.String())
	}
	return err
}
