// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const columnGap = 3

// writeTable writes aligned rows, as kubectl does. An empty cell is shown as -.
func writeTable(w io.Writer, rows [][]string) error {
	table := tabwriter.NewWriter(w, 0, 0, columnGap, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			if cells[i] = oneLine(cell); cells[i] == "" {
				cells[i] = "-"
			}
		}
		// The writer keeps its first error for Flush.
		_, _ = fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	if err := table.Flush(); err != nil {
		return errdefs.Wrap(errdefs.Unavailable, err, "write the table")
	}
	return nil
}

// oneLine makes one line of a text, which may come from a guest: no control
// character reaches the terminal.
func oneLine(s string) string {
	printable := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(printable), " ")
}
