// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Command demo shows the main job of this project in a few minutes, without a
// vCenter: it starts a simulated vCenter with a Virtual Container Host, a
// Kubernetes control plane, MCM and the machine-controller, applies the samples of
// kubernetes/, and tells what happens while machines come, join as nodes, and go.
//
// It ends with exit code 0 and nothing left running, or with exit code 1 and the
// end of the log that says why. With --keep it leaves everything running and
// prints how to look around and how to stop it.
//
// `make demo` calls it. It has no part in what is tested: test/e2e is that.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	keep := flag.Bool("keep", false, "leave everything running and print how to look around")
	sidecar := flag.Bool("sidecar", false, "run the driver as a gRPC plugin, in a process of its own")
	held := flag.String("hold-in", "", "used by --keep: the directory of the process that holds what is kept")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, *keep, *sidecar, *held)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, keep, sidecar bool, held string) (err error) {
	if keep && held == "" {
		return keepRunning(ctx, sidecar)
	}
	dir := held
	if dir == "" {
		if dir, err = os.MkdirTemp("", "vch-demo-"); err != nil {
			return fmt.Errorf("make a directory: %w", err)
		}
	}
	d := &demo{narrator: narrator{out: os.Stdout, start: time.Now()}, dir: dir, kept: held != "", sidecar: sidecar}
	err = d.play(ctx)
	if d.kept && err == nil {
		d.hold(ctx)
	}
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	return errors.Join(err, d.end())
}

// keptFile is the name of the file that tells the foreground that it may go.
const keptFile = "kept"

// keepRunning plays the demo in a process of its own, in the background, which
// then holds everything until it is told to stop.
func keepRunning(ctx context.Context, sidecar bool) error {
	dir, err := os.MkdirTemp("", "vch-demo-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(dir, "demo.log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("make the log of the demo: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	holder := exec.CommandContext(context.WithoutCancel(ctx), self, "--keep", fmt.Sprintf("--sidecar=%t", sidecar), "--hold-in="+dir)
	holder.Stdout, holder.Stderr = log, log
	holder.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is not for it
	if err := holder.Start(); err != nil {
		return fmt.Errorf("start the demo in the background: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- holder.Wait() }()
	defer log.Close() //nolint:errcheck // the holder writes it
	return follow(ctx, holder.Process, filepath.Join(dir, keptFile), log, ended)
}

// follow shows the log until everything is kept or the holder has ended.
func follow(ctx context.Context, holder *os.Process, kept string, log *os.File, ended <-chan error) error {
	reader := io.NewSectionReader(log, 0, math.MaxInt64)
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for interrupt := ctx.Done(); ; {
		_, notYet := os.Stat(kept)
		if _, err := io.Copy(os.Stdout, reader); err != nil {
			return fmt.Errorf("show the log of the demo: %w", err)
		}
		if notYet == nil {
			return nil
		}
		select {
		case err := <-ended:
			_, copied := io.Copy(os.Stdout, reader)
			if err == nil {
				err = errors.New("the demo ended before its time")
			}
			return errors.Join(err, copied)
		case <-interrupt:
			interrupt = nil                    // once is enough; the holder cleans up and ends
			_ = holder.Signal(syscall.SIGTERM) // an error means that it has ended
		case <-ticker.C:
		}
	}
}
