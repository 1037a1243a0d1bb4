// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/onsi/gomega"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/cluster"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/process"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
)

// patience is how long anything may take. MCM needs 20 to 35 seconds to delete a
// machine; on a busy computer everything takes a few times as long.
const patience = 4 * time.Minute

// shared is what all tests share.
var shared struct {
	programs *stack.Programs
	cluster  *cluster.Cluster
}

func TestMain(m *testing.M) {
	// The tests wait most of the time, so there can be more of them than processors.
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, m)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// run makes what the tests share, runs them, and removes it again.
func run(ctx context.Context, m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "vch-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if shared.programs, err = stack.Build(ctx, os.Stderr, filepath.Join(dir, "bin"), os.Getenv("E2E_CONTROLPLANE_DIR")); err != nil {
		return 1, err
	}
	state := filepath.Join(dir, "cluster")
	if err := os.Mkdir(state, 0o700); err != nil {
		return 1, err
	}
	if shared.cluster, err = startCluster(ctx, state); err != nil {
		return 1, err
	}
	defer shared.cluster.Stop()
	return m.Run(), nil
}

// startCluster starts a control plane that knows machines.
func startCluster(ctx context.Context, dir string) (*cluster.Cluster, error) {
	crds, err := cluster.ReadManifests(shared.programs.CRDs)
	if err != nil {
		return nil, err
	}
	c, err := cluster.Start(ctx, cluster.Options{Programs: shared.programs.ControlPlane, Dir: dir})
	if err != nil {
		return nil, err
	}
	if err := c.Apply(ctx, crds...); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// ownCluster is a control plane of the test's own.
func ownCluster(t *testing.T) *cluster.Cluster {
	t.Helper()
	c, err := startCluster(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

// install makes an installation of the test's own, in the shared cluster unless the
// options name another one. When the test has failed, the
// ends of its logs are shown.
func install(t *testing.T, namespace string, options stack.Options) *stack.Stack {
	t.Helper()
	options.Programs = shared.programs
	if options.Cluster == nil {
		options.Cluster = shared.cluster
	}
	options.Dir, options.Namespace = t.TempDir(), namespace
	s, err := stack.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, p := range s.Processes() {
				t.Logf("the end of the log of %s:\n%s", p.Name(), process.Tail(p.LogFile(), 40))
			}
			for _, file := range s.KubeletLogs() { // of machines that still run: one that does not join among them
				content, err := os.ReadFile(file)
				t.Logf("the begin of the log of a kubelet, %s (%v):\n%s", file, err, content[:min(len(content), 4000)])
			}
		}
		s.Stop()
	})
	return s
}

// eventually repeats check until it passes. It gives up early when a program of
// the installation has ended.
func eventually(t *testing.T, s *stack.Stack, what string, check func(g gomega.Gomega)) {
	t.Helper()
	eventuallyEvery(t, s, 200*time.Millisecond, what, check)
}

// eventuallyEvery is eventually with an interval.
func eventuallyEvery(t *testing.T, s *stack.Stack, interval time.Duration, what string, check func(g gomega.Gomega)) {
	t.Helper()
	start := time.Now()
	gomega.NewWithT(t).Eventually(func(g gomega.Gomega) {
		if err := s.Err(); err != nil {
			gomega.StopTrying("a program has ended").Wrap(err).Now()
		}
		check(g)
	}).WithContext(t.Context()).WithTimeout(patience).WithPolling(interval).Should(gomega.Succeed(), what)
	t.Logf("%5.1f s until %s", time.Since(start).Seconds(), what)
}
