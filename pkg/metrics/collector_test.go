// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containercache"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/pull"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/metrics"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

var update = flag.Bool("update", false, "rewrite the golden file and the table in docs/monitoring.md")

func now() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) }

// sources are of two vCenters, one of which does not answer, and of two caches,
// one of which has not begun.
func sources() metrics.Sources {
	return metrics.Sources{
		Now: now,
		Pool: func() []vcenter.HostStats {
			return []vcenter.HostStats{
				{
					Host: "vc1.example.com", Sessions: 2, Limit: 16, MinLimit: 2, MaxLimit: 32, InFlight: 5, Waiting: 3, LongPolls: 1, Tasks: 7,
					Overloads: 4, Retries: 9, RetriesDenied: 8, Breaker: vcenter.BreakerClosed, Since: now().Add(-time.Hour), Failures: 1, Cause: "password=swordfish",
					Datastores: []vcenter.DatastoreStats{{ID: "datastore-1", Limit: 16, InFlight: 6, Waiting: 2}, {ID: "datastore-2", Limit: 16, InFlight: 1}},
				},
				{
					Host: "vc2.example.com:8443", Limit: 32, MinLimit: 2, MaxLimit: 32, Breaker: vcenter.BreakerOpen,
					Since: now().Add(-90 * time.Second), Until: now().Add(time.Second), Failures: 12,
				},
			}
		},
		Cache: func() []containercache.Stats {
			return []containercache.Stats{
				{
					VCenter: "vc1.example.com", VCH: "vch-1", Synced: true, VMs: 20, Machines: 15, Heard: now().Add(-1500 * time.Millisecond),
					Updates: 100, Resyncs: 1, Hits: 1000, Misses: 10,
				},
				{VCenter: "vc2.example.com:8443", VCH: "vch-2", Misses: 3},
			}
		},
		Images: func() pull.Stats {
			return pull.Stats{Running: 1, Made: 2, Found: 3, Failed: 4, Downloaded: 5 << 20, Uploaded: 6 << 20}
		},
	}
}

// text is what a scrape of a collector says.
func text(t *testing.T, c prometheus.Collector) string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&out, f); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func TestAScrapeSaysWhatTheStatsSay(t *testing.T) {
	t.Parallel()
	got, golden := text(t, metrics.New(sources())), filepath.Join("testdata", "metrics.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", golden, diff)
	}
	if strings.Contains(got, "swordfish") {
		t.Error("the text of an error is shown")
	}
}

func TestNamesAndHelpAreAsPrometheusWantsThem(t *testing.T) {
	t.Parallel()
	problems, err := testutil.CollectAndLint(metrics.New(sources()))
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func TestWithoutSourcesThereAreNoSamples(t *testing.T) {
	t.Parallel()
	if got := text(t, metrics.New(metrics.Sources{})); got != "" {
		t.Errorf("got %s", got)
	}
	only := sources()
	only.Pool, only.Images = nil, nil
	if got := text(t, metrics.New(only)); !strings.Contains(got, "mcm_vch_cache_vms") || strings.Contains(got, "vcenter_sessions") {
		t.Errorf("with a cache only: %s", got)
	}
}

// Prometheus refuses a whole scrape that has the same series twice.
func TestTwoVCHsOfOneNameCountTogetherAndTheWorseOneShows(t *testing.T) {
	t.Parallel()
	one := containercache.Stats{VCenter: "vc", VCH: "vch", Synced: true, VMs: 1, Heard: now().Add(-time.Second), Hits: 10}
	other := containercache.Stats{VCenter: "vc", VCH: "vch", VMs: 2, Heard: now().Add(-time.Minute), Hits: 5}
	for _, order := range [][]containercache.Stats{{one, other}, {other, one}} {
		got := text(t, metrics.New(metrics.Sources{Now: now, Cache: func() []containercache.Stats { return order }}))
		for name, value := range map[string]int{"vms": 3, "synced": 0, "age_seconds": 60} {
			if want := fmt.Sprintf("mcm_vch_cache_%s{vcenter=\"vc\",vch=\"vch\"} %d\n", name, value); !strings.Contains(got, want) {
				t.Errorf("no %q in:\n%s", want, got)
			}
		}
	}
}

func TestANameThatIsNoTextDoesNotEndTheProcess(t *testing.T) {
	t.Parallel()
	c := metrics.New(metrics.Sources{Cache: func() []containercache.Stats { return []containercache.Stats{{VCenter: "vc", VCH: "a\xffb"}} }})
	if got := text(t, c); !strings.Contains(got, "vch=\"a?b\"") {
		t.Errorf("got %s", got)
	}
}

// A clock that was set back must not make a time negative.
func TestTimesAreNeverNegative(t *testing.T) {
	t.Parallel()
	s := sources()
	s.Now = func() time.Time { return now().Add(-24 * time.Hour) }
	for line := range strings.Lines(text(t, metrics.New(s))) {
		if fields := strings.Fields(line); !strings.HasPrefix(line, "#") && strings.HasPrefix(fields[len(fields)-1], "-") {
			t.Error(line)
		}
	}
}

func TestScrapesMayOverlap(t *testing.T) {
	t.Parallel()
	c := metrics.New(sources())
	want := text(t, c)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			registry := prometheus.NewPedanticRegistry()
			registry.MustRegister(c)
			if n, err := testutil.GatherAndCount(registry); err != nil || n == 0 {
				t.Errorf("%d series, %v", n, err)
			}
		})
	}
	all.Wait()
	if diff := cmp.Diff(want, text(t, c)); diff != "" {
		t.Error(diff)
	}
}

func TestDescriptionsAreOfWhatIsScraped(t *testing.T) {
	t.Parallel()
	c := metrics.New(sources())
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	scraped := map[string]metrics.Description{}
	for _, f := range families {
		d := metrics.Description{Name: f.GetName(), Type: strings.ToLower(dto.MetricType_name[int32(f.GetType())]), Help: f.GetHelp()}
		for _, l := range f.GetMetric()[0].GetLabel() {
			d.Labels = append(d.Labels, l.GetName())
		}
		scraped[d.Name] = d
	}
	described := map[string]metrics.Description{}
	for _, d := range c.Descriptions() {
		d.Labels = sorted(d.Labels)
		described[d.Name] = d
	}
	if diff := cmp.Diff(described, scraped); diff != "" {
		t.Errorf("(-described +scraped):\n%s", diff)
	}
}
