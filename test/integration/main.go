// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Command integration runs MCM's integration framework (test/integration/controller)
// on a control plane and a simulated vCenter of its own.
//
// The framework ends processes of certain names, wherever they come from, and
// serves on fixed ports. So everything runs in a private PID and network
// namespace, made by unshare; for users other than root, in a user namespace too.
// What needs the network or the build cache happens before.
//
// hack/integration.sh calls it. It ends with exit code 0 only if all ten specs ran
// and passed.
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
	"strings"
	"syscall"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
)

func main() {
	inside := flag.String("inside", "", "used by the program itself: what was built, as JSON, when it runs in the namespaces")
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
		var programs stack.Programs
		if err := json.Unmarshal([]byte(inside), &programs); err != nil {
			return fmt.Errorf("decode what was built: %w", err)
		}
		return runInside(ctx, &programs)
	}
	bin, err := os.MkdirTemp("", "vch-integration-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	return errors.Join(buildAndEnter(ctx, bin), os.RemoveAll(bin))
}

// suite is the compiled test of the package controller.
const suite = "controller.test"

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
	encoded, err := json.Marshal(programs)
	if err != nil {
		return fmt.Errorf("encode what was built: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	flags, err := namespaces(ctx)
	if err != nil {
		return err
	}
	return enter(ctx, append(flags, self, "--inside="+string(encoded)))
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

// enter runs unshare and waits for it. When this process dies, so does everything
// in the namespaces.
func enter(ctx context.Context, args []string) error {
	runtime.LockOSThread() // the parent-death signal is tied to this thread
	defer runtime.UnlockOSThread()
	command := exec.CommandContext(context.WithoutCancel(ctx), "unshare", args...)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return fmt.Errorf("start unshare: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = command.Process.Kill() }) // an error means that it has ended
	defer stop()
	if err := command.Wait(); err != nil {
		return errors.Join(fmt.Errorf("in the private namespaces (unshare): %w", err), ctx.Err())
	}
	return nil
}

// tempDir makes a directory beside what was built; it is removed with that.
func tempDir(programs *stack.Programs, name string) (string, error) {
	dir := filepath.Join(programs.Bin, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a directory: %w", err)
	}
	return dir, nil
}
