// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/process"
)

func start(t *testing.T, script string) *process.Process {
	t.Helper()
	p, err := process.Start(t.Context(), process.Command{Name: "shell", Path: "/bin/sh", Args: []string{"-c", script}, LogDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(0) })
	return p
}

// printed waits until the log has a line and returns it.
func printed(t *testing.T, p *process.Process) string {
	t.Helper()
	var line string
	err := p.WaitReady(t.Context(), func(context.Context) error {
		line = p.Tail(1)
		if line == "" {
			return errors.New("nothing printed yet")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func exists(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestStopEndsAProgramThatObeys(t *testing.T) {
	t.Parallel()
	p := start(t, `trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done`)
	printed(t, p)
	p.Stop(time.Minute)
	if got := p.Tail(1); got != "bye" {
		t.Errorf("last line is %q, want the answer to the signal", got)
	}
	p.Stop(time.Minute)
}

func TestStopKillsAProgramThatDoesNotObey(t *testing.T) {
	t.Parallel()
	p := start(t, `trap '' TERM; echo up; while :; do sleep 0.05; done`)
	printed(t, p)
	p.Stop(100 * time.Millisecond)
	if exists(p.PID()) {
		t.Error("the program still runs")
	}
}

func TestWhatAProgramLeavesBehindIsEndedWithIt(t *testing.T) {
	t.Parallel()
	p := start(t, `sleep 600 & echo $!`)
	<-p.Done()
	child, err := strconv.Atoi(p.Tail(1))
	if err != nil {
		t.Fatal(err)
	}
	// The orphan is reaped by init, or stays a zombie where nobody does that.
	for deadline := time.Now().Add(10 * time.Second); exists(child) && !zombie(child); {
		if time.Now().After(deadline) {
			t.Fatalf("child %d still runs", child)
		}
	}
}

func zombie(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(stat), ") Z ")
}

func TestWaitingEndsWhenTheProgramDoes(t *testing.T) {
	t.Parallel()
	p := start(t, `echo no disk left; exit 3`)
	err := p.WaitReady(t.Context(), func(context.Context) error { return errors.New("not yet") })
	for _, want := range []string{"shell ended", "exit status 3", "no disk left"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	p := start(t, `sleep 600`)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	notYet := errors.New("not yet")
	err := p.WaitReady(ctx, func(context.Context) error { return notYet })
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, notYet) {
		t.Errorf("error %v, want the deadline and the last answer", err)
	}
}

func TestAMissingProgramIsAnError(t *testing.T) {
	t.Parallel()
	_, err := process.Start(t.Context(), process.Command{Name: "ghost", Path: "/does/not/exist", LogDir: t.TempDir()})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want that the program does not exist", err)
	}
}

// TestProgramsDieWithTheirParent runs itself as the parent, which is killed.
func TestProgramsDieWithTheirParent(t *testing.T) {
	if dir := os.Getenv("PROCESS_TEST_PARENT"); dir != "" {
		p, err := process.Start(t.Context(), process.Command{Name: "child", Path: "/bin/sleep", Args: []string{"600"}, LogDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("pid " + strconv.Itoa(p.PID()) + "\n")
		<-p.Done()
		return
	}
	t.Parallel()
	parent := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProgramsDieWithTheirParent$")
	parent.Env = append(os.Environ(), "PROCESS_TEST_PARENT="+t.TempDir())
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var child int
	for lines := bufio.NewScanner(out); child == 0 && lines.Scan(); {
		if pid, ok := strings.CutPrefix(lines.Text(), "pid "); ok {
			child, err = strconv.Atoi(pid)
		}
	}
	if err != nil || child == 0 {
		t.Fatalf("the parent told no pid: %v", err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	for deadline := time.Now().Add(10 * time.Second); exists(child) && !zombie(child); {
		if time.Now().After(deadline) {
			_ = syscall.Kill(child, syscall.SIGKILL)
			t.Fatalf("child %d outlived its parent", child)
		}
	}
}
