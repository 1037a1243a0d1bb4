// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// narrator writes what a person reads. What cannot be written is lost: a closed
// terminal is no reason to stop half-way.
type narrator struct {
	out   io.Writer
	start time.Time
}

// title begins a step.
func (n *narrator) title(number, of int, text string) {
	_, _ = fmt.Fprintf(n.out, "\n[%d/%d] %s   (after %d s)\n", number, of, text, int(time.Since(n.start).Seconds()))
}

// say writes one line within a step.
func (n *narrator) say(format string, args ...any) {
	_, _ = fmt.Fprintf(n.out, "      "+format+"\n", args...)
}

// Write lets programs that the demo calls report progress as lines of a step.
func (n *narrator) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		n.say("%s", strings.TrimRight(line, "\n"))
	}
	return len(p), nil
}

// show runs a command as a person in the directory would type it and shows what it
// prints, at most so many lines of it (0: all).
func (n *narrator) show(ctx context.Context, dir string, env []string, lines int, program string, args ...string) error {
	n.say("$ %s %s", filepath.Base(program), strings.Join(args, " "))
	command := exec.CommandContext(ctx, program, args...)
	command.Dir = dir
	command.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return fmt.Errorf("run %s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	if len(out) == 0 { // kubectl says on stderr that there is nothing
		out = stderr.Bytes()
	}
	all := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	for i, line := range all {
		if lines > 0 && i == lines {
			n.say("  ... (%d more lines)", len(all)-lines)
			break
		}
		n.say("  %s", line)
	}
	return nil
}
