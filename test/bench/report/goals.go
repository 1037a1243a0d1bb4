// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"math"
	"time"
)

// goal is what the driver shall reach.
type goal struct {
	what, operation string
	// busy looks at the most operations at once instead of the fewest.
	busy bool
	// unit follows the number. A value must be at least, or at most, the limit.
	unit  string
	limit float64
	most  bool
	// of is the value; ok is false if it was not measured.
	of func(r Results, operation string, at Condition) (value float64, ok bool)
}

func goals() []goal {
	faster := func(r Results, operation string, at Condition) (float64, bool) {
		f := factor(r, operation, usual, ours, at)
		return f, f > 0
	}
	calls := func(r Results, operation string, at Condition) (float64, bool) {
		cell := r.find(operation, ours, at)
		if cell == nil {
			return 0, false
		}
		return cell.CallsTotal, true
	}
	sessions := func(r Results, _ string, _ Condition) (most float64, ok bool) {
		for _, c := range r.Cells {
			if c.Contender == ours {
				most, ok = max(most, float64(c.Sessions)), true
			}
		}
		return most, ok
	}
	return []goal{
		{what: "status, faster than usual", operation: "status", unit: "×", limit: 20, of: faster},
		{what: "list, faster than usual", operation: "list", unit: "×", limit: 50, of: faster},
		{what: "create, faster than usual", operation: "create", unit: "×", limit: 4, of: faster},
		{what: "delete, faster than usual", operation: "delete", unit: "×", limit: 3, of: faster},
		{what: "calls for a status", operation: "status", limit: 0, most: true, of: calls},
		{what: "calls for a list", operation: "list", limit: 0, most: true, of: calls},
		{what: "calls for a create", operation: "create", busy: true, limit: 6, most: true, of: calls},
		{what: "calls for a delete", operation: "delete", busy: true, limit: 7, most: true, of: calls},
		{what: "sessions of ours, at most", operation: "create", busy: true, limit: 1, most: true, of: sessions},
	}
}

// goalRows compares the goals with what was measured.
func goalRows(r Results) (rows [][]string) {
	for _, g := range goals() {
		at, ok := r.reference(g.operation)
		if g.busy {
			at, ok = r.busiest(g.operation)
		}
		sign := "≥"
		if g.most {
			sign = "≤"
		}
		row := []string{g.what, "–", fmt.Sprintf("%s %g%s", sign, g.limit, g.unit), "–", "not measured"}
		if ok {
			row[1] = fmt.Sprintf("%d machines, %d other VMs, %s, %d at once", at.Machines, at.Others, at.Latency, at.Concurrency)
			if value, measured := g.of(r, g.operation, at); measured {
				row[3], row[4] = fmt.Sprintf("%.1f%s", value, g.unit), "not yet"
				value = math.Round(10*value) / 10 // as it is shown
				if g.most && value <= g.limit || !g.most && value >= g.limit {
					row[4] = "reached"
				}
			}
		}
		rows = append(rows, row)
	}
	return append(rows, calmRows(r)...)
}

// calmRows are goals of a driver that knows many machines.
func calmRows(r Results) (rows [][]string) {
	c := r.Calm
	if c == nil {
		return nil
	}
	with := fmt.Sprintf("%d machines known", c.Machines)
	row := func(what, goal, today string, reached bool) {
		rows = append(rows, []string{what, with, goal, today, map[bool]string{true: "reached", false: "not yet"}[reached]})
	}
	const most = 150
	mib := float64(c.Resident) / (1 << 20)
	row("memory of the driver's process (RSS)", fmt.Sprintf("≤ %d MiB", most), fmt.Sprintf("%.0f MiB, %.0f MiB at most", mib, float64(c.MostResident)/(1<<20)), mib <= most)
	share := 100 * c.CPU.Seconds() / max(c.Wall.Seconds(), 1e-9)
	row("its CPU while nothing changes", "≤ 1 % of a core", fmt.Sprintf("%.2f %%, %d calls in %s", share, c.RestCalls, c.Wall.Round(time.Second)), share <= 1)
	row("calls for the status of all", "≤ 0", fmt.Sprint(c.StatusCalls), c.StatusCalls == 0)
	return rows
}
