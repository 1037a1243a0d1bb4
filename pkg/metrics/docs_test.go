// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/metrics"
)

func sorted(all []string) []string {
	all = slices.Clone(all)
	slices.Sort(all)
	return all
}

// begin and end enclose the table in the docs.
const (
	begin = "<!-- begin: go test ./pkg/metrics -update -->\n"
	end   = "<!-- end -->\n"
)

func TestTheDocsListTheMetrics(t *testing.T) {
	t.Parallel()
	page := filepath.Join("..", "..", "docs", "monitoring.md")
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(content), begin)
	got, after, ends := strings.Cut(rest, end)
	if !found || !ends {
		t.Fatalf("%s has no place for the table", page)
	}
	var want strings.Builder
	want.WriteString("| metric | type | labels | what it is |\n|---|---|---|---|\n")
	for _, d := range metrics.New(metrics.Sources{}).Descriptions() {
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", d.Name, d.Type, strings.Join(d.Labels, ", "), d.Help)
	}
	if diff := cmp.Diff(want.String(), got); diff != "" {
		t.Errorf("table of %s (-want +got; -update rewrites it):\n%s", page, diff)
	}
	if *update {
		if err := os.WriteFile(page, []byte(before+begin+want.String()+end+after), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
