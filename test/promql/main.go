// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Command promql judges alert rules and queries with Prometheus' own code: which
// metrics a query names, and which alerts fire when. test/manifests builds it.
//
// It reads one JSON object (type order) from stdin and answers with one (type answer).
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// order is what to judge.
type order struct {
	// Queries are those whose metrics are asked for.
	Queries []string `json:"queries"`
	// Rules are alerts, Tests what they are tried on.
	Rules []rule `json:"rules"`
	Tests []test `json:"tests"`
}

// answer has an entry for each query and test.
type answer struct {
	Queries []named  `json:"queries"`
	Tests   []result `json:"tests"`
}

// named is what a query names.
type named struct {
	// Error says why it is no query.
	Error   string   `json:"error,omitempty"`
	Metrics []metric `json:"metrics"`
}

// metric is one that a query names, with the labels that it must have.
type metric struct {
	Name   string   `json:"name"`
	Labels []string `json:"labels"`
}

func main() {
	if err := run(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "promql:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, in io.Reader, out io.Writer) error {
	var o order
	d := json.NewDecoder(in)
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	var a answer
	for _, query := range o.Queries {
		a.Queries = append(a.Queries, names(query))
	}
	for _, t := range o.Tests {
		r, err := t.run(ctx, o.Rules)
		if err != nil {
			return fmt.Errorf("test %q: %w", t.Name, err)
		}
		a.Tests = append(a.Tests, *r)
	}
	return json.NewEncoder(out).Encode(a)
}

// names lists the metrics of a query.
func names(query string) named {
	expr, err := parser.ParseExpr(query)
	if err != nil {
		return named{Error: err.Error()}
	}
	var n named
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		var m metric
		for _, matcher := range selector.LabelMatchers {
			switch {
			case matcher.Name != model.MetricNameLabel:
				m.Labels = append(m.Labels, matcher.Name)
			case matcher.Type == labels.MatchEqual:
				m.Name = matcher.Value
			}
		}
		slices.Sort(m.Labels)
		n.Metrics = append(n.Metrics, m)
		return nil
	})
	return n
}
