// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package report_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/bench/report"
)

// results are of a driver that reaches its goal of create and misses that of status.
func results() report.Results {
	r := report.Results{Date: "2026-01-02", Command: "make bench", Go: "go1", CPU: "a processor", Cores: 2, Version: "v1", Load: "0.1", LeftOut: []string{"the rest"}}
	for _, size := range []int{100, 1000, 10000} {
		for _, latency := range []time.Duration{0, 20 * time.Millisecond} {
			for _, concurrency := range []int{1, 32} {
				at := report.Condition{Others: size, Machines: 100, Latency: latency, Concurrency: concurrency}
				cell := func(operation, contender string, ms int, calls float64) {
					took := time.Duration(ms)*time.Millisecond + latency
					r.Cells = append(r.Cells, report.Cell{
						Condition: at, Operation: operation, Contender: contender, Operations: 6, Calls: map[string]float64{"Login": 1, "Read": calls - 1},
						CallsTotal: calls, P50: took, P95: 2 * took, CPU: took, Allocations: 1234.5, ResponseBytes: 1024 * calls, Sessions: 1,
					})
				}
				cell("status", "usual", 80, 9)
				cell("status", "ours", 30, 2)
				cell("create", "usual", 980, 34)
				cell("create", "ours", 180, 6)
				cell("create", "floor", 80, 4)
			}
		}
	}
	return r
}

func TestChartsAreSVG(t *testing.T) {
	t.Parallel()
	charts, err := report.Charts(results())
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, c := range charts {
		files = append(files, c.File)
		decoder := xml.NewDecoder(bytes.NewReader(c.SVG))
		elements := 0
		for {
			token, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s is no XML: %v", c.File, err)
			}
			if start, ok := token.(xml.StartElement); ok {
				if elements == 0 && start.Name.Local != "svg" {
					t.Errorf("%s begins with %s", c.File, start.Name.Local)
				}
				elements++
			}
		}
		for _, name := range []string{"usual", "ours"} {
			if elements < 10 || !strings.Contains(string(c.SVG), name) {
				t.Errorf("%s has %d elements and does not show %s", c.File, elements, name)
			}
		}
	}
	if diff := cmp.Diff([]string{"status-latency.svg", "create-latency.svg", "create-concurrency.svg", "status-size.svg", "calls.svg"}, files); diff != "" {
		t.Error(diff)
	}
}

func TestEveryTableHasAsManyColumnsAsItsHeader(t *testing.T) {
	t.Parallel()
	text := report.Markdown(results(), []report.Chart{{File: "create-latency.svg", Title: "a title"}, {File: "calls.svg", Title: "calls"}}, "performance")
	columns, tables := 0, 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "|") {
			columns = 0
			continue
		}
		if columns == 0 {
			columns = strings.Count(line, "|")
			tables++
		}
		if got := strings.Count(line, "|"); got != columns {
			t.Errorf("%d columns instead of %d: %s", got, columns, line)
		}
	}
	if tables != 4 { // goals, status, create, methods
		t.Errorf("%d tables", tables)
	}
	for _, want := range []string{
		"| 1000 | 100 | 20ms | 1 | 6 / 6 / 6 | 34.0 / 6.00 / 4.00 |",
		"| 5.0× | 2.0× |",
		"![a title](performance/create-latency.svg)",
		"![calls](performance/calls.svg)",
		"| create | floor | Read 3, Login 1 |",
		"2026-01-02", "`make bench`", "2 cores (a processor)", "go1", "- the rest",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

func TestGoalsSayWhetherTheyAreReached(t *testing.T) {
	t.Parallel()
	text := report.Markdown(results(), nil, "")
	for what, want := range map[string]string{
		"status, faster than usual": `≥ 20× | 2\.0× | not yet`,
		"create, faster than usual": `≥ 4× | 5\.0× | reached`,
		"delete, faster than usual": `≥ 3× | – | not measured`,
		"calls for a status":        `≤ 0 | 2\.0 | not yet`,
		"calls for a create":        `32 at once \| ≤ 6 | 6\.0 | reached`,
		"sessions of ours, at most": `≤ 1 | 1\.0 | reached`,
	} {
		pattern := regexp.MustCompile(`(?m)^\| ` + what + ` \|.*` + strings.NewReplacer(" | ", ` \| `).Replace(want) + ` \|$`)
		if !pattern.MatchString(text) {
			t.Errorf("%s: not %s in\n%s", what, want, text)
		}
	}
}

func TestOfNothingThereIsNothingToShow(t *testing.T) {
	t.Parallel()
	charts, err := report.Charts(report.Results{})
	if len(charts) != 0 || err != nil {
		t.Errorf("%d charts, %v", len(charts), err)
	}
	if text := report.Markdown(report.Results{}, nil, ""); strings.Contains(text, "NaN") || !strings.Contains(text, "not measured") {
		t.Error(text)
	}
}

func TestOnlyTheMarkedPartIsReplaced(t *testing.T) {
	t.Parallel()
	document := "a\n" + report.Begin + "\nold\n" + report.End + "\nz\n"
	once, err := report.Insert(document, "\nnew\n")
	if err != nil || once != "a\n"+report.Begin+"\n\nnew\n\n"+report.End+"\nz\n" {
		t.Errorf("%q, %v", once, err)
	}
	if twice, err := report.Insert(once, "new"); twice != once || err != nil {
		t.Errorf("%q, %v", twice, err)
	}
	for _, broken := range []string{"", report.Begin, report.End + report.Begin} {
		if _, err := report.Insert(broken, "new"); err == nil {
			t.Errorf("%q is taken", broken)
		}
	}
}

func TestPercentilesAreMeasuredValues(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		values  []time.Duration
		percent int
		want    time.Duration
	}{
		{nil, 50, 0},
		{[]time.Duration{7}, 50, 7},
		{[]time.Duration{7}, 95, 7},
		{[]time.Duration{1, 2}, 50, 1},
		{[]time.Duration{1, 2, 3}, 50, 2},
		{[]time.Duration{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}, 95, 19},
	} {
		if got := report.Percentile(tc.values, tc.percent); got != tc.want {
			t.Errorf("%d %% of %v: %v", tc.percent, tc.values, got)
		}
	}
}
