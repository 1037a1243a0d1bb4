// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package process runs programs beside a test or a demo and sees to it that they
// end with it.
//
// Every program gets a process group and a log file of its own. It ends when Stop
// is called, and it is killed by the kernel when this process dies, however that
// happens. Whatever it leaves running in its group is killed with it.
//
// It knows nothing about what it runs; test/cluster and test/stack do. Linux only.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command is a program to run.
type Command struct {
	// Name stands for the program in errors and names its log file.
	Name string
	// Path is the executable.
	Path string
	Args []string
	// Env is added to the environment of this process.
	Env []string
	// Dir is the working directory; empty: this process's.
	Dir string
	// LogDir is an existing directory for the log file, which is appended to.
	LogDir string
}

// Process is a program that was started. All methods may be called at the same
// time from many goroutines.
type Process struct {
	name    string
	logFile string
	cmd     *exec.Cmd
	done    chan struct{}
	err     error // how it ended; valid when done is closed
}

// Start starts a program. ctx has no influence on it afterwards.
func Start(ctx context.Context, command Command) (*Process, error) {
	logFile := filepath.Join(command.LogDir, command.Name+".log")
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", command.Name, err)
	}
	defer out.Close() //nolint:errcheck // the program holds its own copy

	cmd := exec.CommandContext(context.WithoutCancel(ctx), command.Path, command.Args...)
	cmd.Dir = command.Dir
	cmd.Env = append(os.Environ(), command.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	p := &Process{name: command.Name, logFile: logFile, cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", command.Name, err)
	}
	return p, nil
}

// run starts the program and waits for its end on one thread: the kernel sends
// the parent-death signal when the thread that started a child ends, so that
// thread has to live as long as the child.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	// The pid, and with it the group's id, cannot be taken by another process
	// before Wait; so the group is ended between the two.
	pid := p.cmd.Process.Pid
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		p.err = fmt.Errorf("end the process group of %s: %w", p.name, err)
	}
	p.err = errors.Join(p.cmd.Wait(), p.err)
	close(p.done)
}

// Name is the name given at the start.
func (p *Process) Name() string { return p.name }

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// LogFile is the path of the file with everything that the program printed.
func (p *Process) LogFile() string { return p.logFile }

// Done is closed when the program has ended and was reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is nil as long as the program runs. Afterwards it says how it ended, with
// the end of its log, whether it was asked to end or not.
func (p *Process) Err() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	how := "exit status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("%s ended: %s; the end of %s:\n%s", p.name, how, p.logFile, p.Tail(15))
}

// WaitReady calls probe every 50 ms until it succeeds. It gives up when the program
// ends or ctx is done; the error carries the last answer of probe.
func (p *Process) WaitReady(ctx context.Context, probe func(context.Context) error) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.Err()
		case <-ctx.Done():
			return fmt.Errorf("wait until %s is ready: %w; last answer: %w; the end of %s:\n%s", p.name, ctx.Err(), err, p.logFile, p.Tail(15))
		case <-ticker.C:
		}
	}
}

// Stop asks the program to end, kills it when it has not within grace, and
// returns when it has ended. With grace 0 it kills at once. It may be repeated.
func (p *Process) Stop(grace time.Duration) {
	// An error means that it has ended already.
	if grace > 0 && p.cmd.Process.Signal(syscall.SIGTERM) == nil {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-p.done:
			return
		case <-timer.C:
		}
	}
	_ = p.cmd.Process.Kill() // an error means the same here
	<-p.done
}

// Tail returns the last lines of the log.
func (p *Process) Tail(lines int) string { return Tail(p.logFile, lines) }

// Tail returns the last lines of a file, or why it cannot.
func Tail(file string, lines int) string {
	content, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(string(bytes.TrimRight(content, "\n")), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
