// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// Markdown writes goals, charts and tables. dir is where the document finds the charts.
func Markdown(r Results, charts []Chart, dir string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s by `%s` in %s, on %d cores (%s) whose load was %s before, with %s, driver %s. All ratios are of medians of one run.\n\n",
		r.Date, r.Command, r.Took.Round(time.Second), r.Cores, r.CPU, r.Load, r.Go, r.Version)
	b.WriteString("### Goals\n\n")
	writeTable(&b, []string{"what", "measured with", "goal", "today", ""}, goalRows(r))
	for _, operation := range []string{"status", "list", "create", "delete"} {
		if len(r.conditions(operation)) == 0 {
			continue
		}
		fmt.Fprintf(&b, "### %s\n\n", strings.ToUpper(operation[:1])+operation[1:])
		for _, c := range charts {
			if strings.HasPrefix(c.File, operation+"-") {
				fmt.Fprintf(&b, "![%s](%s)\n", c.Title, path.Join(dir, c.File))
			}
		}
		b.WriteString("\n")
		writeTable(&b, header(operation), rows(r, operation))
	}
	b.WriteString("### Calls by method\n\n")
	for _, c := range charts {
		if !strings.Contains(c.File, "-") {
			fmt.Fprintf(&b, "![%s](%s)\n\n", c.Title, path.Join(dir, c.File))
		}
	}
	writeTable(&b, []string{"operation", "client", "calls for one operation"}, methodRows(r))
	if len(r.LeftOut) > 0 {
		b.WriteString("### Left out\n\n")
		for _, text := range r.LeftOut {
			fmt.Fprintf(&b, "- %s\n", text)
		}
	}
	return b.String()
}

func writeTable(b *strings.Builder, header []string, rows [][]string) {
	fmt.Fprintf(b, "| %s |\n|%s\n", strings.Join(header, " | "), strings.Repeat("---|", len(header)))
	for _, row := range rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(row, " | "))
	}
	b.WriteString("\n")
}

// present are the contenders that an operation was measured with, in order.
func present(r Results, operation string) []string {
	var names []string
	for _, s := range styles() {
		if slices.ContainsFunc(r.Cells, func(c Cell) bool { return c.Operation == operation && c.Contender == s.name }) {
			names = append(names, s.name)
		}
	}
	return names
}

func header(operation string) []string {
	out := []string{"other VMs", "machines", "latency", "at once", "times", "calls", "KiB", "p50 ms", "p95 ms", "CPU ms", "allocations", "p50 usual ÷ ours"}
	if operation == "create" || operation == "delete" {
		out = append(out, "p50 ours ÷ floor")
	}
	return out
}

// rows has one for each condition; its columns have the contenders with slashes between.
func rows(r Results, operation string) [][]string {
	var out [][]string
	for _, at := range r.conditions(operation) {
		each := func(value func(Cell) string) string {
			var texts []string
			for _, name := range present(r, operation) {
				text := "–"
				if cell := r.find(operation, name, at); cell != nil {
					text = value(*cell)
				}
				texts = append(texts, text)
			}
			return strings.Join(texts, " / ")
		}
		row := []string{
			fmt.Sprint(at.Others), fmt.Sprint(at.Machines), at.Latency.String(), fmt.Sprint(at.Concurrency),
			each(func(c Cell) string { return fmt.Sprint(c.Operations) }),
			each(func(c Cell) string { return number(c.CallsTotal) }),
			each(func(c Cell) string { return number((c.RequestBytes + c.ResponseBytes) / 1024) }),
			each(func(c Cell) string { return number(milliseconds(c.P50)) }),
			each(func(c Cell) string { return number(milliseconds(c.P95)) }),
			each(func(c Cell) string { return number(milliseconds(c.CPU)) }),
			each(func(c Cell) string { return number(c.Allocations) }),
			ratio(r, operation, usual, ours, at),
		}
		if operation == "create" || operation == "delete" {
			row = append(row, ratio(r, operation, ours, floor, at))
		}
		out = append(out, row)
	}
	return out
}

// number writes three digits that matter.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// factor is how much longer one contender takes than another; 0 if that was not measured.
func factor(r Results, operation, slow, fast string, at Condition) float64 {
	a, b := r.find(operation, slow, at), r.find(operation, fast, at)
	if a == nil || b == nil || b.P50 == 0 {
		return 0
	}
	return float64(a.P50) / float64(b.P50)
}

func ratio(r Results, operation, slow, fast string, at Condition) string {
	if f := factor(r, operation, slow, fast, at); f > 0 {
		return fmt.Sprintf("%.1f×", f)
	}
	return "–"
}

// methodRows has the calls of one operation, the most frequent first.
func methodRows(r Results) (out [][]string) {
	for _, operation := range []string{"status", "list", "create", "delete"} {
		at, ok := r.reference(operation)
		if !ok {
			continue
		}
		for _, name := range present(r, operation) {
			cell := r.find(operation, name, at)
			if cell == nil {
				continue
			}
			methods := slices.SortedFunc(maps.Keys(cell.Calls), func(a, b string) int {
				return cmp.Or(cmp.Compare(cell.Calls[b], cell.Calls[a]), strings.Compare(a, b))
			})
			var texts []string
			for _, m := range methods {
				texts = append(texts, m+" "+strings.TrimSuffix(fmt.Sprintf("%.1f", cell.Calls[m]), ".0"))
			}
			out = append(out, []string{operation, name, strings.Join(texts, ", ")})
		}
	}
	return out
}
