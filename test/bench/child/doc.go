// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package child has the processes that a benchmark is made of beside its own: one with
// the simulated vCenter, and one for each contender, so that CPU time and allocations
// of each can be told apart.
//
// A child is this same program, started again with Argument and a role. It serves one
// object by JSON-RPC on its standard input and output, and ends when its input ends: when its
// parent closes it, or is gone.
package child

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Argument is the first argument of a child, before its role.
const Argument = "bench-child"

// The roles.
const (
	simulatorRole = "simulator"
	workerRole    = "worker"
)

// service is the name that each child's object is registered by.
const service = "Child"

// Main serves the role that is named by the arguments of a program, without its own name.
// is false if they are none of a child.
func Main(ctx context.Context, args []string, in io.ReadCloser, out io.WriteCloser) (is bool, err error) {
	if len(args) != 2 || args[0] != Argument {
		return false, nil
	}
	var served interface{ close() error }
	switch args[1] {
	case simulatorRole:
		served = &Simulator{ctx: ctx}
	case workerRole:
		served = &Worker{ctx: ctx}
	default:
		return true, fmt.Errorf("there is no role %q", args[1])
	}
	server := rpc.NewServer()
	if err := server.RegisterName(service, served); err != nil {
		return true, fmt.Errorf("serve %s: %w", args[1], err)
	}
	server.ServeCodec(jsonrpc.NewServerCodec(pipe{in, out}))
	return true, served.close()
}

// pipe makes one stream of two.
type pipe struct {
	io.ReadCloser
	to io.WriteCloser
}

func (p pipe) Write(b []byte) (int, error) { return p.to.Write(b) }

func (p pipe) Close() error { return errors.Join(p.to.Close(), p.ReadCloser.Close()) }

// process is a running child. Not for concurrent use.
type process struct {
	command *exec.Cmd
	client  *rpc.Client
}

// start starts a child. It is killed when ctx ends.
func start(ctx context.Context, role string, log io.Writer) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	command := exec.CommandContext(ctx, self, Argument, role)
	command.Stderr = log
	command.WaitDelay = closeTimeout
	in, err := command.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	return &process{command: command, client: jsonrpc.NewClient(pipe{out, in})}, nil
}

// closeTimeout bounds the end of a child.
const closeTimeout = 30 * time.Second

func (p *process) call(method string, args, reply any) error {
	if err := p.client.Call(service+"."+method, args, reply); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

// Close ends the child and waits for it.
func (p *process) Close() error {
	timer := time.AfterFunc(closeTimeout, func() { _ = p.command.Process.Kill() })
	defer timer.Stop()
	return errors.Join(p.client.Close(), p.command.Wait())
}

// cpu returns the time that this process has worked so far, in its own code and in the kernel's.
func cpu() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}
