// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package report

import "fmt"

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
				if g.most && value <= g.limit || !g.most && value >= g.limit {
					row[4] = "reached"
				}
			}
		}
		rows = append(rows, row)
	}
	return rows
}
