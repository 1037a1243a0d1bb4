// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider/cmi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/fake"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/process"
)

// socket is an endpoint in a directory of its own.
func socket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mc") //nolint:usetesting // a test's own directory has too long a name for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return "unix://" + filepath.Join(dir, "cmi.sock")
}

func TestFlagsOfTwoPlacesDoNotFitTogether(t *testing.T) {
	t.Parallel()
	at := "--cmi-endpoint=" + socket(t)
	for name, tc := range map[string]struct {
		args []string
		want []string
	}{
		"an endpoint of no kind":        {[]string{"--cmi-endpoint=nowhere"}, []string{"--cmi-endpoint", "nowhere"}},
		"a password in the endpoint":    {[]string{"--cmi-endpoint=tcp://u:p@h:1"}, []string{"--cmi-endpoint"}},
		"no time to start":              {[]string{at, "--cmi-startup-timeout=0s"}, []string{"--cmi-startup-timeout"}},
		"insecure alone":                {[]string{"--cmi-insecure"}, []string{"--cmi-insecure", "without --cmi-endpoint"}},
		"a certificate alone":           {[]string{"--cmi-tls-cert-file=x"}, []string{"--cmi-tls-cert-file", "without --cmi-endpoint"}},
		"a key alone":                   {[]string{"--cmi-tls-key-file=x"}, []string{"--cmi-tls-key-file"}},
		"a CA alone":                    {[]string{"--cmi-tls-ca-file=x"}, []string{"--cmi-tls-ca-file"}},
		"a server name alone":           {[]string{"--cmi-tls-server-name=x"}, []string{"--cmi-tls-server-name"}},
		"a time alone, and a name":      {[]string{"--cmi-startup-timeout=1s", "--cmi-tls-server-name=x"}, []string{"--cmi-startup-timeout", "--cmi-tls-server-name"}},
		"requests to vCenter elsewhere": {[]string{at, "--vcenter-max-concurrent-requests=3"}, []string{"--vcenter-max-concurrent-requests", "--cmi-endpoint"}},
		"time for vCenter elsewhere":    {[]string{at, "--vcenter-request-timeout=3s"}, []string{"--vcenter-request-timeout", "--cmi-endpoint"}},
		"TCP without TLS":               {[]string{"--cmi-endpoint=tcp://127.0.0.1:1"}, []string{"TLS"}},
		"insecure far away":             {[]string{"--cmi-endpoint=tcp://192.0.2.1:1", "--cmi-insecure"}, []string{"loopback"}},
		"TLS for a socket":              {[]string{at, "--cmi-tls-cert-file=x"}, []string{"unix socket"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := run(t.Context(), append([]string{"--target-kubeconfig=none", "--control-kubeconfig=/nowhere"}, tc.args...), &bytes.Buffer{}, prometheus.NewRegistry())
			for _, want := range tc.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got error %v, want one with %q", err, want)
				}
			}
		})
	}
}

// fails runs the command in a process of its own, since metrics are registered once
// in a process, and returns its last line. It must end with code 1.
func fails(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	self := exec.CommandContext(ctx, os.Args[0], args...)
	self.Env = append(os.Environ(), asMain+"=1")
	out, _ := self.CombinedOutput()
	if code := self.ProcessState.ExitCode(); code != 1 {
		t.Errorf("%v: code %d\n%s", args, code, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

func TestWithoutADriverTheStartFailsInTime(t *testing.T) {
	t.Parallel()
	at := socket(t)
	began := time.Now()
	last := fails(t, "--cmi-endpoint="+at, "--cmi-startup-timeout=2s", "--target-kubeconfig=none", "--control-kubeconfig=/nowhere")
	if !strings.Contains(last, at) || !strings.Contains(last, "no such file") {
		t.Errorf("got %q, want a line that names %s and the last answer", last, at)
	}
	if took := time.Since(began); took < 2*time.Second || took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestWhatIsNoDriverIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	at := socket(t)
	e, err := cmi.ParseEndpoint(at)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := cmi.Listen(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	other := grpc.NewServer()
	cmiv1.RegisterMachineServer(other, cmiv1.UnimplementedMachineServer{})
	go other.Serve(listener)
	defer other.Stop()
	began := time.Now()
	last := fails(t, "--cmi-endpoint="+at, "--target-kubeconfig=none", "--control-kubeconfig=/nowhere")
	if !strings.Contains(last, at) || !strings.Contains(last, "no CMI driver") {
		t.Errorf("got %q", last)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

// await waits until the process has said something.
func await(ctx context.Context, t *testing.T, out *process.Output, want string) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !strings.Contains(out.String(), want) {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("it does not say %q:\n%s", want, out)
		}
	}
}

// controller starts the command with a driver at an endpoint.
func controller(ctx context.Context, t *testing.T, api, at string) (self *exec.Cmd, log *process.Output, health string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	log = &process.Output{}
	self = exec.CommandContext(ctx, os.Args[0], "--control-kubeconfig="+kubeconfig(t, api), "--target-kubeconfig=none",
		"--address=127.0.0.1", fmt.Sprintf("--port=%d", port), "--leader-elect=true", "--cmi-endpoint="+at)
	self.Env = append(os.Environ(), asMain+"=1")
	self.Stderr = log
	if err := self.Start(); err != nil {
		t.Fatal(err)
	}
	return self, log, fmt.Sprintf("http://127.0.0.1:%d/healthz", port)
}

func TestSIGTERMEndsTheWaitForTheDriverWithCodeZero(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	self, log, _ := controller(ctx, t, "http://127.0.0.1:1", socket(t))
	await(ctx, t, log, "Waiting for the driver")
	began := time.Now()
	if err := self.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := self.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, log)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the end took %s", took)
	}
}

func TestTheControllerStartsWhenItsDriverIsReadyAndEndsOnSIGTERM(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	api := httptest.NewServer(http.NotFoundHandler())
	defer api.Close()
	at := socket(t)
	self, log, health := controller(ctx, t, api.URL, at)
	await(ctx, t, log, "Waiting for the driver")

	e, err := cmi.ParseEndpoint(at)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := cmi.Listen(ctx, e)
	if err != nil {
		t.Fatal(err)
	}
	server, err := cmi.NewServer(provider.NewMachinePlugin(fake.New(), provider.Options{}), cmi.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	defer func() {
		stopping, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		server.Stop(stopping)
	}()
	server.Ready()
	waitHealthy(ctx, t, health)
	if err := self.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := self.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, log)
	}
	if !strings.Contains(log.String(), "The driver is ready") {
		t.Errorf("the log does not name the driver:\n%s", log)
	}
}
