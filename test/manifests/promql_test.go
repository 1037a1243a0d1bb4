// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mcmdriver "github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	mcmmetrics "github.com/gardener/machine-controller-manager/pkg/util/provider/metrics"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"sigs.k8s.io/yaml"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/metrics"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider/cmi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/fake"
)

// judgement is what test/promql answers; see there.
type judgement struct {
	Queries []struct {
		Error   string
		Metrics []struct {
			Name   string
			Labels []string
		}
	}
	Tests []struct {
		Answers [][]promSample
		Said    map[string]string
	}
}

// promSample is one of an answer to a query, with labels in Prometheus' notation.
type promSample struct {
	Labels string  `json:"labels"`
	Value  float64 `json:"value"`
}

// ruleTests is testdata/alerts.yaml, in the form of promtool's files.
type ruleTests struct {
	RuleFiles []string `json:"rule_files"`
	Interval  string   `json:"evaluation_interval"`
	Tests     []struct {
		Name     string `json:"name"`
		Interval string `json:"interval"`
		Series   []struct {
			Series string `json:"series"`
			Values string `json:"values"`
		} `json:"input_series"`
		Queries []struct {
			Expr string       `json:"expr"`
			At   string       `json:"eval_time"`
			Want []promSample `json:"exp_samples"`
		} `json:"promql_expr_test"`
	} `json:"tests"`
}

// programDir is where program puts what it builds.
var programDir string

// program builds test/promql, which is a module of its own, once.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(programDir, "promql")
	build := exec.CommandContext(context.Background(), "go", "build", "-C", filepath.Join("..", "promql"), "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return "", errors.Join(err, errors.New(string(out)))
	}
	return path, nil
})

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "vch-promql-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", err)
		os.Exit(1)
	}
	programDir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// judge gives Prometheus' judgement.
func judge(t *testing.T, order map[string]any) judgement {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatalf("build test/promql: %v", err)
	}
	in, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, path)
	command.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	var j judgement
	if err := json.Unmarshal(out, &j); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return j
}

// target are the labels that Prometheus gives to all series of a PodMonitor.
func target() []string {
	return []string{"container", "endpoint", "instance", "job", "namespace", "pod"}
}

// machineMetrics are those of MCM's machine-controller that it makes itself when it leads.
type machineMetrics struct{}

func (machineMetrics) Describe(chan<- *prometheus.Desc) {}
func (machineMetrics) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(mcmmetrics.MachineCountDesc, prometheus.GaugeValue, 0)
	ch <- prometheus.MustNewConstMetric(mcmmetrics.MachineControllerFrozenDesc, prometheus.GaugeValue, 0)
	ch <- prometheus.MustNewConstMetric(mcmmetrics.MachineCSPhase, prometheus.GaugeValue, 0, "m", "ns")
}

// yielded are the metrics of our programs, with their labels: what our collector,
// MCM, gRPC and Go say after requests, pulls and calls.
func yielded(t *testing.T) map[string][]string {
	t.Helper()
	plugin := provider.NewMachinePlugin(fake.New(), provider.Options{})
	if _, err := plugin.DeleteMachine(t.Context(), &mcmdriver.DeleteMachineRequest{}); err == nil {
		t.Fatal("an empty request is not refused: there is no metric of a call that failed")
	}
	provider.ObserveRequest(t.Context(), "X", time.Second, nil)
	provider.ObserveRequest(t.Context(), "X", time.Second, errors.New("x"))
	provider.ObserveImagePull(time.Second, nil)
	mcmmetrics.DriverAPIRequestDuration.WithLabelValues("vch", "delete_machine").Observe(1)
	registry := prometheus.NewRegistry()
	registry.MustRegister(machineMetrics{})
	server, err := cmi.NewServer(plugin, cmi.ServerOptions{Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop(t.Context())
	families, err := prometheus.Gatherers{prometheus.DefaultGatherer, registry}.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{"up": nil}
	for _, f := range families {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		all[f.GetName()] = labels
		if f.GetType() == dto.MetricType_HISTOGRAM {
			all[f.GetName()+"_count"], all[f.GetName()+"_sum"], all[f.GetName()+"_bucket"] = labels, labels, append(slices.Clone(labels), "le")
		}
	}
	for _, d := range metrics.New(metrics.Sources{}).Descriptions() {
		all[d.Name] = d.Labels
	}
	return all
}

// queries are those of rules and dashboard, by where they stand.
func queries(t *testing.T) (where, queries []string) {
	t.Helper()
	for _, r := range alerts(t) {
		where, queries = append(where, r.Alert), append(queries, r.Expr)
	}
	variable := regexp.MustCompile(`^label_values\(([a-z_]+), (\w+)\)$`)
	panels, variables := dashboard(t)
	for _, p := range panels {
		for _, target := range p.Targets {
			// Prometheus never sees Grafana's variables.
			where, queries = append(where, "panel "+p.Title), append(queries, strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"))
		}
	}
	for _, v := range variables {
		parts := variable.FindStringSubmatch(v)
		if parts == nil {
			t.Fatalf("variable %q", v)
		}
		where, queries = append(where, "variable "+parts[2]), append(queries, parts[1]+"{"+parts[2]+`!=""}`)
	}
	return where, queries
}

func TestRulesAndDashboardNameMetricsThatThereAre(t *testing.T) {
	t.Parallel()
	where, queries := queries(t)
	known, used := yielded(t), map[string]bool{}
	for i, q := range judge(t, map[string]any{"queries": queries}).Queries {
		if q.Error != "" || len(q.Metrics) == 0 {
			t.Errorf("%s: %s\n%s", where[i], q.Error, queries[i])
		}
		for _, m := range q.Metrics {
			labels, there := known[m.Name]
			if !there {
				t.Errorf("%s: nothing yields %q", where[i], m.Name)
			}
			for _, l := range m.Labels {
				if !slices.Contains(labels, l) && !slices.Contains(target(), l) {
					t.Errorf("%s: %s has no label %s", where[i], m.Name, l)
				}
			}
			if strings.HasPrefix(where[i], "panel") {
				used[m.Name] = true
			}
		}
	}
	for _, d := range metrics.New(metrics.Sources{}).Descriptions() {
		if !used[d.Name] {
			t.Errorf("the dashboard does not show %s", d.Name)
		}
	}
	if t.Failed() || len(queries) < 40 {
		t.Logf("%d queries", len(queries))
	}
}

func TestEachAlertFiresWhenItShouldAndOnlyThen(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(filepath.Join("testdata", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file ruleTests
	if err := yaml.UnmarshalStrict(content, &file); err != nil {
		t.Fatal(err)
	}
	rules := alerts(t)
	order := map[string]any{"rules": rules}
	var tests []any
	for _, tc := range file.Tests {
		var asked []map[string]string
		for _, q := range tc.Queries {
			asked = append(asked, map[string]string{"expr": q.Expr, "eval_time": q.At})
		}
		tests = append(tests, map[string]any{"name": tc.Name, "interval": tc.Interval, "input_series": tc.Series, "promql_expr_test": asked})
	}
	order["tests"] = tests
	fired, silent := map[string]bool{}, map[string]bool{}
	for i, got := range judge(t, order).Tests {
		tc := file.Tests[i]
		for j, q := range tc.Queries {
			if diff := cmp.Diff(append([]promSample{}, q.Want...), got.Answers[j]); diff != "" {
				t.Errorf("%s: after %s (-want +got):\n%s", tc.Name, q.At, diff)
			}
			for _, r := range rules {
				firing := slices.ContainsFunc(got.Answers[j], func(s promSample) bool { return strings.Contains(s.Labels, `"`+r.Alert+`"`) })
				fired[r.Alert], silent[r.Alert] = fired[r.Alert] || firing, silent[r.Alert] || !firing
			}
		}
		for what, text := range got.Said {
			if strings.Contains(text, "{{") || strings.Contains(text, "no value") || strings.Contains(text, "  ") || strings.Contains(text, "kubectl -n  ") {
				t.Errorf("%s: %s says %q", tc.Name, what, text)
			}
		}
	}
	for _, r := range rules {
		if !fired[r.Alert] || !silent[r.Alert] {
			t.Errorf("%s: no test in which it fires (%t) or does not (%t)", r.Alert, fired[r.Alert], silent[r.Alert])
		}
	}
}
