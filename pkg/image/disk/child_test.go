// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/disk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
)

// childEnv has the task of a process that is a child of a test.
const childEnv = "DISK_TEST_CHILD"

// task is what a child does.
type task struct {
	Reference, Dir string
	Size           int64
	// VMDK has it make the VMDK too.
	VMDK bool
	// HangAt is the stage at which it says so and then waits to be killed.
	HangAt image.Stage
	// FullAt is the stage from which on no file of it can grow.
	FullAt image.Stage
}

// outcome is what a child says at the end.
type outcome struct {
	Stages []stageCost
	// Used, VMDK and Peak are bytes: of the raw disk, of the VMDK, of memory.
	Used, VMDK, Peak int64
	Error            string
	Kind             errdefs.Kind
}

// stageCost is what a stage took.
type stageCost struct {
	Stage     image.Stage
	CPU, Wall time.Duration
}

func TestMain(m *testing.M) {
	if raw := os.Getenv(childEnv); raw != "" {
		os.Exit(child(raw))
	}
	os.Exit(m.Run())
}

// child is the main function of a child.
func child(raw string) int {
	var t task
	if err := json.Unmarshal([]byte(raw), &t); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	o := t.run(context.Background())
	o.Peak = peakMemory()
	if err := json.NewEncoder(os.Stdout).Encode(o); err != nil {
		return 2
	}
	return 0
}

func (t task) run(ctx context.Context) (o outcome) {
	var costs costs
	fail := func(err error) outcome {
		o.Error, o.Kind = err.Error(), errdefs.KindOf(err)
		return o
	}
	costs.enter(image.Resolving)
	img, err := resolve(ctx, t.Reference)
	if err != nil {
		return fail(err)
	}
	defer img.Close()
	report := func(p image.Progress) {
		costs.enter(p.Stage)
		if t.HangAt == p.Stage {
			fmt.Println("hangs")
			select {} // until it is killed
		}
		if t.FullAt == p.Stage {
			noRoom()
		}
	}
	content, err := disk.Source(img, disk.Options{Dir: t.Dir})(ctx, image.Key{Digest: img.Digest, Size: t.Size}, report)
	if err != nil {
		return fail(err)
	}
	_, o.Used = content.Raw()
	if t.VMDK {
		if _, o.VMDK, err = content.StreamOptimized(ctx, report); err != nil {
			return fail(errors.Join(err, content.Close()))
		}
	}
	if t.HangAt == image.Uploading {
		report(image.Progress{Stage: image.Uploading})
	}
	costs.enter("")
	o.Stages = costs.stages
	if err := content.Close(); err != nil {
		return fail(err)
	}
	return o
}

// noRoom lets files not grow, as on a disk that is full.
func noRoom() {
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		panic(err)
	}
	limit.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		panic(err)
	}
}

func resolve(ctx context.Context, reference string) (*registry.Image, error) {
	ref, err := registry.ParseReference(reference)
	if err != nil {
		return nil, err
	}
	return registry.Resolve(ctx, ref, registry.Options{Insecure: []string{ref.Registry}})
}

// costs measures stages.
type costs struct {
	stages []stageCost
	stage  image.Stage
	cpu    time.Duration
	wall   time.Time
}

// enter ends a stage when another one begins.
func (c *costs) enter(next image.Stage) {
	if next == c.stage {
		return
	}
	cpu, wall := processTime(), time.Now()
	if c.stage != "" {
		c.stages = append(c.stages, stageCost{c.stage, cpu - c.cpu, wall.Sub(c.wall)})
	}
	c.stage, c.cpu, c.wall = next, cpu, wall
}

func processTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// peakMemory is the most that was resident. What getrusage says would count that
// of the parent too, which the child is between fork and exec.
func peakMemory() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	panic("no VmHWM in /proc/self/status")
}

func (t task) command(ctx context.Context) *exec.Cmd {
	raw, err := json.Marshal(t)
	if err != nil {
		panic(err)
	}
	c := exec.CommandContext(ctx, os.Args[0])
	c.Env = append(os.Environ(), childEnv+"="+string(raw))
	return c
}

// inChild does a task in a process of its own.
func inChild(t testing.TB, work task) outcome {
	t.Helper()
	var stderr bytes.Buffer
	c := work.command(t.Context())
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("child: %v\n%s", err, stderr.String())
	}
	var o outcome
	if err := json.Unmarshal(out, &o); err != nil {
		t.Fatalf("child said %q: %v", out, err)
	}
	return o
}

// killAt does a task in a process that is killed at a stage.
func killAt(t testing.TB, work task) {
	t.Helper()
	c := work.command(t.Context())
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	killed := c.Process.Kill()
	_ = c.Wait() // it was killed
	if err := errors.Join(err, killed); err != nil || line != "hangs\n" {
		t.Fatalf("the child said %q: %v", line, err)
	}
}
