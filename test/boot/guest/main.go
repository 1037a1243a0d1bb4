// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

// The guest is both programs of the virtual machine: as process 1 the init that
// mounts the root disk and volumes and runs the command, otherwise the command of
// the image.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if os.Getpid() != 1 {
		run := command
		if len(os.Args) > 2 && os.Args[1] == "volumes" {
			run = func() error { return useVolumes(os.Args[2], os.Args[3:]) }
		}
		if err := run(); err != nil {
			fmt.Println("command:", err)
			os.Exit(1)
		}
		return
	}
	if err := start(); err != nil {
		fmt.Println("init:", err)
	}
	fmt.Println("init: off")
	unix.Sync()
	// It ends the kernel, and so the machine.
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("init: power off:", err)
	}
}

// work is what the test has put into the initial file system.
type work struct {
	// Modules are files to load, in this order.
	Modules []string
	Label   string
	Command []string
	Env     []string
	Dir     string
	// Mounts are volumes; with them, every disk must have a label.
	Mounts []mount
}

// waiting is how long is waited for disks, on a machine that may be busy with much else.
const waiting = 3 * time.Minute

// start is what an init does.
func start() error {
	for dir, kind := range map[string]string{"/dev": "devtmpfs", "/proc": "proc"} {
		if err := unix.Mount(kind, dir, kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	raw, err := os.ReadFile("/work.json")
	if err != nil {
		return err
	}
	var w work
	if err := json.Unmarshal(raw, &w); err != nil {
		return err
	}
	for _, m := range w.Modules {
		if err := load(m); err != nil {
			return fmt.Errorf("load %s: %w", m, err)
		}
	}
	device, err := find(w.Label)
	if err != nil {
		return err
	}
	if err := unix.Mount(device, "/root", "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	if len(w.Mounts) > 0 {
		disks, err := labels()
		if err == nil {
			err = mountVolumes(disks, w.Mounts)
		}
		if err != nil {
			return err
		}
	}
	err = w.run()
	if err != nil {
		err = fmt.Errorf("run %q: %w", w.Command, err)
	}
	return errors.Join(err, unmountVolumes(w.Mounts), unmount())
}

func load(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read
	return unix.FinitModule(int(f.Fd()), "", 0)
}

// find waits for the disk with an ext4 label.
func find(label string) (string, error) {
	for begin := time.Now(); time.Since(begin) < waiting; time.Sleep(20 * time.Millisecond) {
		disks, err := filepath.Glob("/dev/sd*")
		if err != nil {
			return "", err
		}
		for _, name := range disks {
			found, err := labelOf(name)
			if err == nil && found == label {
				fmt.Println("init: found", name)
				return name, nil
			}
		}
	}
	return "", fmt.Errorf("no disk has the label %s", label)
}

// labelOf reads the label of the ext4 on a disk.
func labelOf(disk string) (string, error) {
	f, err := os.Open(disk)
	if err != nil {
		return "", err
	}
	field := make([]byte, 16)
	_, err = f.ReadAt(field, 1024+120)
	return string(bytes.TrimRight(field, "\x00")), errors.Join(err, f.Close())
}

// run runs the command on the root disk.
func (w *work) run() error {
	if err := unix.Mount("proc", "/root/proc", "proc", 0, ""); err != nil {
		return err
	}
	c := exec.CommandContext(context.Background(), w.Command[0], w.Command[1:]...)
	c.Env, c.Dir, c.Stdout, c.Stderr = w.Env, w.Dir, os.Stdout, os.Stdout
	c.SysProcAttr = &unix.SysProcAttr{Chroot: "/root"}
	return c.Run()
}

func unmount() error { return errors.Join(unix.Unmount("/root/proc", 0), unix.Unmount("/root", 0)) }

// command is what the image runs. It tells what it finds, and writes.
func command() error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	say := func(what string, value any) { fmt.Printf("command: %s=%v\n", what, value) }
	say("args", strings.Join(os.Args, " "))
	say("env", os.Getenv("GREETING"))
	say("dir", dir)
	say("user", os.Getuid())
	mounts, err := os.ReadFile("/etc/mtab")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 3 && f[1] == "/" && f[2] == "ext4" {
			say("root", strings.Split(f[3], ",")[0])
		}
	}
	before, err := os.ReadFile("/data/image.txt")
	if err != nil {
		return err
	}
	say("read", string(before))
	if err := os.WriteFile("/data/image.txt", []byte("written by the guest"), 0o600); err != nil {
		return err
	}
	// More than the image had, in directories and blocks that were not there.
	for i := range 200 {
		name := fmt.Sprintf("/data/new/%d", i%10)
		if err := os.MkdirAll(name, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(fmt.Sprintf("%s/file-%d", name, i), bytes.Repeat([]byte{byte(i)}, 40_000), 0o600); err != nil {
			return err
		}
	}
	say("done", true)
	return nil
}
