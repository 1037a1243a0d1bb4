// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/bench/child"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/bench/report"
)

// The test binary is its own child, as the program is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == child.Argument {
		if err := program(context.Background(), os.Args[1:], os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// What is created must run, what is deleted must be gone with its files and sessions, and the proxies'
// counts must be those of the simulator: else the run itself is an error.
func TestEveryContenderDoesTheSameAndEverythingIsCounted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	doc := filepath.Join(dir, "doc.md")
	if err := os.WriteFile(doc, []byte("before\n"+report.Begin+"\nold\n"+report.End+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	results := filepath.Join(dir, "results.json")
	var log bytes.Buffer
	err := program(t.Context(), []string{
		"-sizes=20", "-machines=3", "-latencies=0s", "-concurrency=2", "-time=0s", "-known=50", "-rest=10ms",
		"-json=" + results, "-doc=" + doc, "-charts=" + filepath.Join(dir, "charts"),
	}, &log)
	if err != nil {
		t.Fatalf("%v; it said %s", err, &log)
	}
	raw, err := os.ReadFile(results)
	if err != nil {
		t.Fatal(err)
	}
	var r report.Results
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	got := map[string]report.Cell{}
	for _, c := range r.Cells {
		got[c.Contender+" "+c.Operation] = c
	}
	if len(got) != 10 {
		t.Errorf("%d of 10 were measured: %s", len(got), &log)
	}
	for what, c := range got {
		switch c.Contender {
		case "usual":
			if c.Logins != 1 || c.Calls["Logout"] != 1 {
				t.Errorf("%s logs in %.1f times and out %.1f times for one operation", what, c.Logins, c.Calls["Logout"])
			}
		default:
			if c.Logins != 0 || c.Sessions != 1 {
				t.Errorf("%s logs in %.1f times, with %d sessions", what, c.Logins, c.Sessions)
			}
		}
		known := what == "ours status" || what == "ours list" // in the cache
		if known != (c.CallsTotal < 1) || !known && c.ResponseBytes < 1 || c.P50 <= 0 || c.P95 < c.P50 || c.CPU <= 0 || c.Allocations < 1 {
			t.Errorf("%s cost nothing, or too much: %+v", what, c)
		}
	}
	if usual, ours := got["usual list"].Calls["RetrievePropertiesEx"], got["ours list"].CallsTotal; usual < 3 || ours > 2 {
		t.Errorf("a list of 3 machines takes %.0f reads in the usual way and %.0f calls in ours", usual, ours)
	}
	if c := r.Calm; c == nil || c.Machines != 50 || c.StatusCalls != 0 || c.RestCalls > 1 || c.Resident < 1<<20 || c.MostResident < c.Resident || c.Wall <= 0 {
		t.Errorf("at rest: %+v", c)
	}
	text, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(text); !strings.Contains(s, "### Create") || strings.Contains(s, "old") || !strings.HasSuffix(s, "after\n") {
		t.Errorf("the document became %s", s)
	}
	if _, err := os.Stat(filepath.Join(dir, "charts", "calls.svg")); err != nil {
		t.Error(err)
	}
}

func TestAWrongEndIsAnError(t *testing.T) {
	t.Parallel()
	before := child.State{Files: 7}
	for what, tc := range map[string]struct {
		check func(before, after child.State, machines []string) error
		after child.State
		ok    bool
	}{
		"all run":           {allRun, child.State{Machines: map[string]bool{"m": true}}, true},
		"one does not run":  {allRun, child.State{Machines: map[string]bool{"m": false}}, false},
		"one is not there":  {allRun, child.State{}, false},
		"all are gone":      {allGone, child.State{Files: 7}, true},
		"one is still here": {allGone, child.State{Files: 7, Machines: map[string]bool{"m": false}}, false},
		"a file was left":   {allGone, child.State{Files: 8}, false},
	} {
		if err := tc.check(before, tc.after, []string{"m"}); (err == nil) != tc.ok {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestTheSizeInTheMiddleIsMeasuredWithAllLatencies(t *testing.T) {
	t.Parallel()
	s := settings{sizes: []int{100, 10000, 1000}, latencies: []time.Duration{0, 5, 20}, concurrency: []int{1, 8}, machines: 500}
	at := func(others, machines int, latency time.Duration, concurrency int) report.Condition {
		return report.Condition{Others: others, Machines: machines, Latency: latency, Concurrency: concurrency}
	}
	if diff := cmp.Diff([]report.Condition{at(100, 100, 20, 1), at(100, 100, 20, 8)}, s.conditions(100)); diff != "" {
		t.Error(diff)
	}
	if got := s.conditions(1000); len(got) != 6 || got[0] != at(1000, 500, 0, 1) {
		t.Errorf("%v", got)
	}
	if diff := cmp.Diff([]report.Condition{at(10000, 500, 20, 1)}, s.conditions(10000)); diff != "" {
		t.Error(diff)
	}
	s.full = true
	if got := s.conditions(100); len(got) != 6 {
		t.Errorf("%v", got)
	}
}

func TestFlagsThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"-sizes=0"},
		{"-sizes=many"},
		{"-latencies=5"},
		{"-concurrency="},
		{"-operations=create"},
		{"-operations=destroy"},
		{"-contenders=theirs"},
		{"-machines=0"},
		{"argument"},
	} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
	if s, err := parse(nil, io.Discard); err != nil || len(s.conditions(1000)) != 9 {
		t.Errorf("%+v, %v", s, err)
	}
}
