// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// debugfsTime is how long a change of a file system may take.
const debugfsTime = time.Minute

// debugfs collects changes of an ext4 file system, and has the program of that name
// make them. Paths are absolute in the file system.
type debugfs struct {
	dir    string // holds the contents of new files, and the script
	script bytes.Buffer
	files  int
	err    error
}

func newDebugfs(parent string) (*debugfs, error) {
	dir, err := os.MkdirTemp(parent, "debugfs-")
	if err != nil {
		return nil, fmt.Errorf("change a file system: %w", err)
	}
	return &debugfs{dir: dir}, nil
}

func (d *debugfs) add(command string, args ...string) {
	d.script.WriteString(command)
	for _, arg := range args {
		if strings.ContainsAny(arg, "\n\x00") {
			d.err = errors.Join(d.err, fmt.Errorf("name %q cannot be said to debugfs", arg))
		}
		d.script.WriteString(` "` + strings.ReplaceAll(arg, `"`, `""`) + `"`)
	}
	d.script.WriteByte('\n')
}

// own sets type, permissions and owner.
func (d *debugfs) own(name string, mode, uid, gid uint32) {
	d.add("set_inode_field", name, "mode", fmt.Sprintf("0%o", mode))
	d.add("set_inode_field", name, "uid", fmt.Sprint(uid))
	d.add("set_inode_field", name, "gid", fmt.Sprint(gid))
}

func (d *debugfs) mkdir(name string) { d.add("mkdir", name) }

func (d *debugfs) remove(name string) { d.add("rm", name) }

func (d *debugfs) symlink(name, target string) { d.add("symlink", name, target) }

// write makes a file, which must not be there yet.
func (d *debugfs) write(name string, content io.Reader) {
	local := filepath.Join(d.dir, fmt.Sprint(d.files))
	d.files++
	f, err := os.OpenFile(local, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = io.Copy(f, content)
		err = errors.Join(err, f.Close())
	}
	d.err = errors.Join(d.err, err)
	d.add("cd", path.Dir(name)) // write takes no path
	d.add("write", local, path.Base(name))
}

// close makes the changes in a file, if there are any, and forgets them.
func (d *debugfs) close(flat string) error {
	err := d.err
	if err == nil && d.script.Len() > 0 {
		err = d.run(flat)
	}
	return errors.Join(err, os.RemoveAll(d.dir))
}

func (d *debugfs) run(flat string) error {
	script := filepath.Join(d.dir, "script")
	if err := os.WriteFile(script, d.script.Bytes(), 0o600); err != nil {
		return fmt.Errorf("change the file system in %s: %w", flat, err)
	}
	program, err := e2fs("debugfs")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), debugfsTime)
	defer cancel()
	var complaints bytes.Buffer
	c := exec.CommandContext(ctx, program, "-w", "-f", script, flat)
	c.Stderr = &complaints
	err = c.Run()
	// The first line is the program's version; a command that fails need not fail the program.
	_, rest, _ := strings.Cut(complaints.String(), "\n")
	if err == nil && strings.TrimSpace(rest) != "" {
		err = errors.New("a command failed")
	}
	if err != nil {
		return fmt.Errorf("change the file system in %s: %w: %s", flat, err, complaints.String())
	}
	return nil
}

// e2fs returns where a program of e2fsprogs is: users other than root do not look in /sbin.
func e2fs(name string) (string, error) {
	if file, err := exec.LookPath(name); err == nil {
		return file, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if _, err := os.Stat(dir + "/" + name); err == nil {
			return dir + "/" + name, nil
		}
	}
	return "", fmt.Errorf("%s is missing, install the Debian package e2fsprogs: hack/prerequisites.sh does", name)
}
