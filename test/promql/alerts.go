// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/template"
)

// rule is an alert, as in a group of rules.
type rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// test is what rules are tried on; its fields are those of promtool's files.
type test struct {
	Name     string   `json:"name"`
	Interval string   `json:"interval"`
	Series   []series `json:"input_series"`
	Queries  []struct {
		Expr string `json:"expr"`
		At   string `json:"eval_time"`
	} `json:"promql_expr_test"`
}

type series struct {
	Series string `json:"series"`
	Values string `json:"values"`
}

// result is what the queries of a test are answered, and what its alerts say.
type result struct {
	Answers [][]sample        `json:"answers"`
	Said    map[string]string `json:"said"`
}

type sample struct {
	Labels string  `json:"labels"`
	Value  float64 `json:"value"`
}

// trial is a test under way.
type trial struct {
	engine *promql.Engine
	memory *memory
	rules  []rule
	// active are the alerts of each rule, by the text of their labels.
	active []map[string]*alert
	said   map[string]string
}

// alert is one that is pending or fires.
type alert struct {
	labels labels.Labels
	since  time.Duration
	seen   bool
	// shown is its last series ALERTS.
	shown labels.Labels
}

func (t test) run(ctx context.Context, rules []rule) (*result, error) {
	step, err := model.ParseDuration(t.Interval)
	if err != nil {
		return nil, err
	}
	tr := &trial{
		engine: promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, LookbackDelta: 5 * time.Minute}),
		memory: &memory{}, rules: rules, said: map[string]string{},
	}
	for range rules {
		tr.active = append(tr.active, map[string]*alert{})
	}
	for _, s := range t.Series {
		if err := tr.memory.load(s, time.Duration(step)); err != nil {
			return nil, err
		}
	}
	r := &result{Said: tr.said}
	var now time.Duration
	for _, q := range t.Queries {
		at, err := model.ParseDuration(q.At)
		if err != nil {
			return nil, err
		}
		if time.Duration(at) < now-time.Duration(step) {
			return nil, fmt.Errorf("the query at %s comes after a later one", q.At)
		}
		for ; now <= time.Duration(at); now += time.Duration(step) {
			if err := tr.step(ctx, now); err != nil {
				return nil, err
			}
		}
		found, err := tr.query(ctx, q.Expr, time.Duration(at))
		if err != nil {
			return nil, err
		}
		answers := []sample{}
		for _, f := range found {
			answers = append(answers, sample{f.Metric.String(), f.F})
		}
		r.Answers = append(r.Answers, answers)
	}
	return r, nil
}

func (t *trial) query(ctx context.Context, expr string, at time.Duration) (promql.Vector, error) {
	q, err := t.engine.NewInstantQuery(ctx, t.memory, nil, expr, time.UnixMilli(at.Milliseconds()))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", expr, err)
	}
	defer q.Close()
	v, err := q.Exec(ctx).Vector()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", expr, err)
	}
	return append(promql.Vector(nil), v...), nil
}

// step evaluates the rules once, and writes the series ALERTS as Prometheus does.
func (t *trial) step(ctx context.Context, now time.Duration) error {
	for i, r := range t.rules {
		var hold model.Duration
		if r.For != "" {
			var err error
			if hold, err = model.ParseDuration(r.For); err != nil {
				return fmt.Errorf("%s: %w", r.Alert, err)
			}
		}
		found, err := t.query(ctx, r.Expr, now)
		if err != nil {
			return fmt.Errorf("%s: %w", r.Alert, err)
		}
		for _, f := range found {
			if err := t.see(ctx, i, f, now, time.Duration(hold)); err != nil {
				return fmt.Errorf("%s: %w", r.Alert, err)
			}
		}
		for key, a := range t.active[i] {
			if !a.seen {
				t.memory.add(a.shown, now, math.Float64frombits(value.StaleNaN))
				delete(t.active[i], key)
			}
			a.seen = false
		}
	}
	return nil
}

// see notes that a rule has found something.
func (t *trial) see(ctx context.Context, i int, f promql.Sample, now, hold time.Duration) error {
	r := t.rules[i]
	b := labels.NewBuilder(f.Metric).Del(model.MetricNameLabel)
	for name, text := range r.Labels {
		b.Set(name, text)
	}
	all := b.Set(labels.AlertName, r.Alert).Labels()
	a := t.active[i][all.String()]
	if a == nil {
		a = &alert{labels: all, since: now}
		t.active[i][all.String()] = a
	}
	if a.seen {
		return fmt.Errorf("two alerts have the labels %s", all)
	}
	a.seen = true
	state := "pending"
	if now-a.since >= hold {
		state = "firing"
		for name, text := range r.Annotations {
			said, err := expand(ctx, text, f, now)
			if err != nil {
				return fmt.Errorf("annotation %s: %w", name, err)
			}
			t.said[r.Alert+" "+name] = said
		}
	}
	shown := labels.NewBuilder(all).Set(model.MetricNameLabel, "ALERTS").Set("alertstate", state).Labels()
	if !a.shown.IsEmpty() && !labels.Equal(a.shown, shown) {
		t.memory.add(a.shown, now, math.Float64frombits(value.StaleNaN))
	}
	a.shown = shown
	t.memory.add(shown, now, 1)
	return nil
}

// expand fills in an annotation.
func expand(ctx context.Context, text string, f promql.Sample, now time.Duration) (string, error) {
	data := template.AlertTemplateData(f.Metric.Map(), nil, "", f)
	definitions := "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$value := .Value}}"
	return template.NewTemplateExpander(ctx, definitions+text, "annotation", data, model.Time(now.Milliseconds()),
		func(context.Context, string, time.Time) (promql.Vector, error) {
			return nil, fmt.Errorf("no queries here")
		}, nil, []string{"missingkey=error"}).Expand()
}

// load takes in a series in promtool's notation.
func (m *memory) load(s series, step time.Duration) error {
	l, values, err := parser.ParseSeriesDesc(s.Series + " " + s.Values)
	if err != nil {
		return fmt.Errorf("series %s %s: %w", s.Series, s.Values, err)
	}
	for i, v := range values {
		if !v.Omitted {
			m.add(l, time.Duration(i)*step, v.Value)
		}
	}
	return nil
}
