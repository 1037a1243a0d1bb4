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
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version"
)

// asMain makes the test binary behave as the command, so that signals can be tried.
const asMain = "MACHINE_CONTROLLER_TEST_AS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestVersionIsPrintedAndNothingStarted(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"--version", "--control-kubeconfig=/nowhere"}, &out, prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.HasPrefix(got, version.Name+" v") || strings.Count(got, "\n") != 1 {
		t.Errorf("--version printed %q, want one line with name and version", got)
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"an unknown flag":              {[]string{"--nonsense"}, "nonsense"},
		"an argument":                  {[]string{"start"}, `"start"`},
		"no concurrency":               {[]string{"--vcenter-max-concurrent-requests=0"}, "--vcenter-max-concurrent-requests"},
		"no time for a request":        {[]string{"--vcenter-request-timeout=0s"}, "--vcenter-request-timeout"},
		"no time for a call":           {[]string{"--driver-call-timeout=-1s"}, "--driver-call-timeout"},
		"MCM's own check":              {[]string{"--target-kubeconfig=none"}, "--control-kubeconfig"},
		"a kubeconfig that is missing": {[]string{"--target-kubeconfig=none", "--control-kubeconfig=/nowhere"}, "/nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := run(t.Context(), tc.args, &bytes.Buffer{}, prometheus.NewRegistry())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestSIGTERMEndsTheControllerWithCodeZero(t *testing.T) {
	t.Parallel()
	api := httptest.NewServer(http.NotFoundHandler())
	defer api.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var log bytes.Buffer
	self := exec.CommandContext(ctx, os.Args[0], "--control-kubeconfig="+kubeconfig(t, api.URL), "--target-kubeconfig=none",
		"--address=127.0.0.1", fmt.Sprintf("--port=%d", port), "--leader-elect=true")
	self.Env = append(os.Environ(), asMain+"=1")
	self.Stderr = &log
	if err := self.Start(); err != nil {
		t.Fatal(err)
	}
	waitHealthy(ctx, t, fmt.Sprintf("http://127.0.0.1:%d/healthz", port))
	if err := self.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := self.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, log.String())
	}
	for _, want := range []string{"Starting", "Signal received"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, log.String())
		}
	}
}

func kubeconfig(t *testing.T, server string) string {
	t.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: server}
	config.Contexts["c"] = &clientcmdapi.Context{Cluster: "c"}
	config.CurrentContext = "c"
	name := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, name); err != nil {
		t.Fatal(err)
	}
	return name
}

// waitHealthy waits until MCM's HTTP server answers.
func waitHealthy(ctx context.Context, t *testing.T, url string) {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if response, err := http.DefaultClient.Do(req); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("%s has not answered: %v", url, ctx.Err())
		}
	}
}
