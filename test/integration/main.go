// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Command integration runs MCM's integration framework (test/integration/controller)
// twice: with the driver as a part of the machine-controller, and with the driver
// as a process of its own. Each run has a control plane and a simulated vCenter
// of its own, and they run at the same time, since they wait most of it.
//
// The framework ends processes of certain names, wherever they come from, and
// serves on fixed ports. So each run is in a private PID and network namespace,
// made by unshare; for users other than root, in a user namespace too. What needs
// the network or the build cache happens before.
//
// hack/integration.sh calls it. It ends with exit code 0 only if all ten specs ran
// and passed in both runs.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
)

func main() {
	inside := flag.String("inside", "", "used by the program itself: what to run, as JSON, when it is in the namespaces")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, *inside)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, inside string) error {
	if inside != "" {
		var s specification
		if err := json.Unmarshal([]byte(inside), &s); err != nil {
			return fmt.Errorf("decode what to run: %w", err)
		}
		return s.runInside(ctx)
	}
	bin, err := os.MkdirTemp("", "vch-integration-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	return errors.Join(buildAndEnter(ctx, bin), os.RemoveAll(bin))
}

// suite is the compiled test of the package controller.
const suite = "controller.test"

// specification says what happens in the namespaces.
type specification struct {
	Programs *stack.Programs
	// Name stands for the run.
	Name string
	// Sidecar makes the driver a process of its own.
	Sidecar bool
	// Dir is an existing directory for all that the run needs. It is removed afterwards.
	Dir string
}

func buildAndEnter(ctx context.Context, bin string) error {
	programs, err := stack.Build(ctx, os.Stderr, bin, os.Getenv("E2E_CONTROLPLANE_DIR"))
	if err != nil {
		return err
	}
	compile := exec.CommandContext(ctx, "go", "test", "-c", "-tags=integration", "-o", programs.Path(suite), "./test/integration/controller")
	compile.Dir, compile.Stdout, compile.Stderr = programs.Root, os.Stderr, os.Stderr
	if err := compile.Run(); err != nil {
		return fmt.Errorf("compile the suite: %w", err)
	}
	flags, err := namespaces(ctx)
	if err != nil {
		return err
	}
	runs := []specification{{Name: "in-process"}, {Name: "sidecar", Sidecar: true}}
	for i := range runs {
		runs[i].Programs = programs
		if runs[i].Dir, err = tempDir(bin, runs[i].Name); err != nil {
			return err
		}
	}
	errs := make([]error, len(runs))
	var all sync.WaitGroup
	out := &shared{to: os.Stdout}
	for i := range runs {
		all.Go(func() { errs[i] = enter(ctx, flags, runs[i], out) })
	}
	all.Wait()
	for i := range runs { // the last lines are the two results
		errs[i] = errors.Join(errs[i], runs[i].count())
	}
	return errors.Join(errs...)
}

// namespaces finds the flags with which unshare makes the namespaces: without the
// right to do so, a user namespace gives it, if the system lets users have one.
func namespaces(ctx context.Context) ([]string, error) {
	flags := []string{"--net", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL"}
	var refusals []error
	for _, flags := range [][]string{flags, append(flags, "--map-root-user")} {
		out, err := exec.CommandContext(ctx, "unshare", append(flags, "true")...).CombinedOutput()
		if err == nil {
			return flags, nil
		}
		refusals = append(refusals, fmt.Errorf("unshare %s: %w: %s", strings.Join(flags, " "), err, strings.TrimSpace(string(out))))
	}
	return nil, fmt.Errorf("this system allows neither private namespaces nor user namespaces: %w", errors.Join(refusals...))
}

// enter runs the specification in namespaces and waits for its end. When this process
// dies, so does everything in them.
func enter(ctx context.Context, flags []string, s specification, out *shared) error {
	encoded, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode what to run: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	lines := &prefixed{prefix: s.Name + ": ", to: out}
	defer lines.flush()
	runtime.LockOSThread() // the parent-death signal is tied to this thread
	defer runtime.UnlockOSThread()
	command := exec.CommandContext(context.WithoutCancel(ctx), "unshare", slices.Concat(flags, []string{self, "--inside=" + string(encoded)})...)
	command.Env = append(os.Environ(), "TMPDIR="+s.Dir)
	command.Stdout, command.Stderr = lines, lines
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return fmt.Errorf("%s: start unshare: %w", s.Name, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = command.Process.Kill() }) // an error means that it has ended
	defer stop()
	if err := command.Wait(); err != nil {
		return errors.Join(fmt.Errorf("%s: in the private namespaces (unshare): %w", s.Name, err), ctx.Err())
	}
	return nil
}

// tempDir makes a directory in another one, with which it is removed.
func tempDir(in, name string) (string, error) {
	dir := filepath.Join(in, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a directory: %w", err)
	}
	return dir, nil
}
