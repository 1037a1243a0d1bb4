// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package runs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/rs/zerolog/log"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/chaos"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/cluster"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/process"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
)

// Variables that hack/chaos.sh sets. The first says what to run: short, long, soak, or drill.
const (
	mode     = "CHAOS_MODE"
	seed     = "CHAOS_SEED"
	machines = "CHAOS_MACHINES"
	minutes  = "CHAOS_MINUTES"
	seconds  = "CHAOS_SECONDS"
	kinds    = "CHAOS_KINDS"
	nodes    = "CHAOS_NODES"
	restart  = "CHAOS_RESTART"
	out      = "CHAOS_OUT"
)

// TestMain keeps toxiproxy from telling what each connection does.
func TestMain(m *testing.M) {
	log.Logger = zerolog.Nop()
	os.Exit(m.Run())
}

// world starts a control plane and an installation of the test's own.
func world(t *testing.T, join bool) *chaos.World {
	t.Helper()
	ctx := t.Context()
	programs, err := stack.Build(ctx, os.Stderr, t.TempDir(), os.Getenv("E2E_CONTROLPLANE_DIR"))
	if err != nil {
		t.Fatal(err)
	}
	crds, err := cluster.ReadManifests(programs.CRDs)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cluster.Start(ctx, cluster.Options{Programs: programs.ControlPlane, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	if err := c.Apply(ctx, crds...); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	w, err := chaos.Start(ctx, chaos.Options{Programs: programs, Cluster: c, Dir: dir, Namespace: "chaos", Join: join, Log: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Stop()
		if t.Failed() {
			for _, name := range []string{stack.MCM, stack.MachineController, stack.VCHDriver} {
				t.Logf("the end of the log of %s:\n%s", name, process.Tail(filepath.Join(dir, name+".log"), 60))
			}
			keepLogs(t, dir)
		}
	})
	return w
}

// keepLogs copies the programs' logs to where the caller wants them.
func keepLogs(t *testing.T, dir string) {
	t.Helper()
	to := os.Getenv(out)
	if to == "" {
		return
	}
	logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, file := range logs {
		content, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(filepath.Join(to, filepath.Base(file)), content, 0o600)
		}
		if err != nil {
			t.Logf("keep %s: %v", file, err)
		}
	}
}

// logger prints at once, so that one sees how far a long run is.
func logger(t *testing.T) func(string, ...any) {
	t.Helper()
	var mu sync.Mutex
	return func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(os.Stderr, "chaos: %s %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
	}
}

// short are the kinds of the short run: those after which MCM tries again in seconds. After
// the others it may wait 3 or 10 minutes, because of the code of the driver's error, see
// docs/chaos.md. Among them is certificate-changed, even when all is done in the right
// order: a call that began with the old Secret and meets the new certificate ends with
// FailedPrecondition. So did five deletions with seed 2 on a busy computer.
func short() []string {
	return []string{
		"latency", "jitter", "slow-bandwidth", "slicer", "resets", "half-open", "refused", "vcenter-restarted",
		"http-503-storm", "task-in-progress", "host-lost", "answers-lost", "sessions-killed", "password-rotated",
		"kill-driver", "kill-machine-controller", "kill-mcm", "freeze-driver",
	}
}

// patience is longer than the 10 minutes that MCM waits after some errors, so that a busy
// computer makes a run slower and never fail.
const patience = 15 * time.Minute

// shortSeed has kinds of all lanes, and most of them.
const shortSeed = 7

func TestNothingIsLostInAShortChaos(t *testing.T) {
	if is := os.Getenv(mode); is != "" && is != "short" {
		t.Skip(mode + " is " + is)
	}
	const count, length = 10, 55 * time.Second
	of, err := chaos.Named(short()...)
	if err != nil {
		t.Fatal(err)
	}
	plan := chaos.NewPlan(number(t, seed, shortSeed), of, count, length, 0)
	if planned := plan.Names(); len(planned) < len(short())-2 {
		t.Errorf("only %d kinds of %d: %v", len(planned), len(short()), planned)
	}
	// Of connections that are refused, of dead programs and the like no request comes.
	run(t, world(t, false), chaos.RunOptions{Plan: plan, Machines: count, For: length, Met: 8, Patience: patience})
}

func TestNothingIsLostInALongChaos(t *testing.T) {
	if os.Getenv(mode) != "long" {
		t.Skip("make chaos runs it")
	}
	recorded(t, strings.Fields(os.Getenv(kinds)), 200, 10, 0)
}

// soak are the kinds of a soak: they leave the programs running, since what is killed
// cannot leak, and MCM tries again soon after them, so that machines go on coming and going.
func soak() []string {
	return append(slices.DeleteFunc(short(), func(name string) bool { return strings.HasPrefix(name, "kill-") }),
		"cut-answers", "soap-truncated", "soap-garbage", "html-page", "http-500-burst", "concurrent-access", "tasks-cancelled",
		"calls-cut", "guests-slow", "guests-deaf")
}

func TestNothingGrowsInASoak(t *testing.T) {
	if os.Getenv(mode) != "soak" {
		t.Skip("make chaos CHAOS_MODE=soak runs it")
	}
	names := strings.Fields(os.Getenv(kinds))
	if len(names) == 0 {
		names = soak()
	}
	r, samples := recorded(t, names, 50, 30, 8*time.Second)
	if err := chaos.Flat(samples, r.Begun, r.Over); err != nil {
		t.Error(err)
	}
}

// recorded makes a run of which samples are kept.
func recorded(t *testing.T, names []string, count, length uint64, calm time.Duration) (*chaos.Report, []chaos.Sample) {
	t.Helper()
	of, err := chaos.Named(names...)
	if err != nil {
		t.Fatal(err)
	}
	o := chaos.RunOptions{
		Machines: int(number(t, machines, count)), For: time.Duration(number(t, minutes, length)) * time.Minute,
		Restart: os.Getenv(restart) != "", Patience: 2 * patience, Interval: 5 * time.Second,
	}
	o.Plan = chaos.NewPlan(number(t, seed, uint64(time.Now().Unix())), of, o.Machines, o.For, calm)
	var mu sync.Mutex
	var samples []chaos.Sample
	o.Record = func(s chaos.Sample) {
		mu.Lock()
		defer mu.Unlock()
		samples = append(samples, s)
	}
	r := run(t, world(t, os.Getenv(nodes) != ""), o)
	mu.Lock()
	defer mu.Unlock()
	write(t, samples)
	return r, samples
}

func run(t *testing.T, w *chaos.World, o chaos.RunOptions) *chaos.Report {
	t.Helper()
	fmt.Fprint(os.Stderr, o.Plan.String())
	r, err := w.Run(t.Context(), o)
	fmt.Fprintf(os.Stderr, "chaos: seed %d, %d kinds, %d of them met requests, recovery %.1f s, removal %.1f s, %d requests, %d logins, sessions %+v, started again %v\nbefore %+v, %+v\nafter  %+v, %+v\n",
		o.Plan.Seed, len(o.Plan.Names()), len(r.Met), r.Recovery.Seconds(), r.Removal.Seconds(), r.Requests, r.Logins, r.Sessions, r.Revived, r.Before, r.Held, r.After, r.Left)
	if err != nil {
		t.Errorf("seed %d: %v", o.Plan.Seed, err)
	}
	return r
}

func TestDrill(t *testing.T) {
	if os.Getenv(mode) != "drill" {
		t.Skip("make chaos CHAOS_MODE=drill runs it")
	}
	of, err := chaos.Named(strings.Fields(os.Getenv(kinds))...)
	if err != nil {
		t.Fatal(err)
	}
	o := chaos.DrillOptions{Kinds: of, Machines: int(number(t, machines, 4)), For: time.Duration(number(t, seconds, 20)) * time.Second, Patience: 75 * time.Second}
	err = world(t, false).Drill(t.Context(), o, func(outcome chaos.Outcome) {
		took := fmt.Sprintf("%.0f s", outcome.Recovery.Seconds())
		if outcome.Waited != nil {
			took = fmt.Sprintf("not within %s: %v", o.Patience, outcome.Waited)
		}
		fmt.Fprintf(os.Stderr, "drill | %s | %s | %s\n", outcome.Kind.Name, strings.Join(outcome.Codes, ", "), took)
	})
	if err != nil {
		t.Error(err)
	}
}

// write puts the samples into the directory that was named.
func write(t *testing.T, samples []chaos.Sample) {
	t.Helper()
	dir := os.Getenv(out)
	if dir == "" || len(samples) < 2 {
		return
	}
	for name, content := range map[string]func(*os.File) error{
		"chaos.csv":            func(f *os.File) error { return chaos.WriteCSV(f, samples) },
		"chaos-memory.svg":     func(f *os.File) error { return chaos.WriteMemory(f, samples) },
		"chaos-goroutines.svg": func(f *os.File) error { return chaos.WriteGoroutines(f, samples) },
		"chaos-sessions.svg":   func(f *os.File) error { return chaos.WriteSessions(f, samples) },
	} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if err := content(f); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// number reads a variable.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
