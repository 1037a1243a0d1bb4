// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestACommandIsShownAsTypedWithWhatItPrints(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	n := &narrator{out: &out, start: time.Now()}
	if err := n.show(t.Context(), "/", []string{"WORD=two"}, 2, "/bin/sh", "-c", "pwd; echo $WORD; echo three; echo four"); err != nil {
		t.Fatal(err)
	}
	want := "      $ sh -c pwd; echo $WORD; echo three; echo four\n        /\n        two\n        ... (2 more lines)\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("shown (-want +got):\n%s", diff)
	}
}

func TestACommandThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	n := &narrator{out: &strings.Builder{}, start: time.Now()}
	err := n.show(t.Context(), "/", nil, 0, "/bin/sh", "-c", "echo no such machine >&2; exit 4")
	if err == nil || !strings.Contains(err.Error(), "no such machine") {
		t.Errorf("error %v does not carry the command's words", err)
	}
}

func TestWhatIsLeftRunningIsFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if left, err := processesOf(dir); err != nil || len(left) > 0 {
		t.Fatalf("left %v, error %v, want none", left, err)
	}
	command := exec.CommandContext(t.Context(), "/bin/sh", "-c", "read line", filepath.Join(dir, "x"))
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	left, err := processesOf(dir)
	if err != nil || len(left) != 1 || !strings.Contains(left[0], "read line") {
		t.Errorf("left %v, error %v, want the shell", left, err)
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // read at the end of its input is not a success
	if left, err := processesOf(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, error %v, want none any more", left, err)
	}
}

func TestTheDriversWordsAreTakenOutOfMCMs(t *testing.T) {
	t.Parallel()
	for description, want := range map[string]string{
		"Cloud provider message - machine codes error: code = [Unavailable] message = [image a/b:c [x]: converting, 62 %]": "Unavailable: image a/b:c [x]: converting, 62 %",
		"no node came": "no node came",
	} {
		if got := reason(description); got != want {
			t.Errorf("%q is told as %q, want %q", description, got, want)
		}
	}
}

func TestChangesAreToldOnce(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	d := &demo{narrator: narrator{out: &out, start: time.Now()}}
	d.tell(map[string]string{"a": "new"}, time.Second)
	d.tell(map[string]string{"a": "new"}, time.Second)
	d.tell(map[string]string{"a": nodeReady}, time.Second)
	d.tell(map[string]string{}, time.Second)
	var told []string
	for line := range strings.Lines(out.String()) {
		told = append(told, strings.Join(strings.Fields(line), " "))
	}
	want := []string{"1.0 s a new", "1.0 s a Running, node ready", "1.0 s a gone"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}
