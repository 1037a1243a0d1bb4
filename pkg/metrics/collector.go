// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containercache"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/pull"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// Sources are whom a Collector asks. Each function is called once for each scrape,
// from many goroutines, and must answer soon. Those that are nil have no samples.
type Sources struct {
	// Pool is vcenter.Pool.Stats.
	Pool func() []vcenter.HostStats
	// Cache is the Stats of the cache of container VMs.
	Cache func() []containercache.Stats
	// Images is pull.Puller.Stats.
	Images func() pull.Stats
	// Now is the clock that the Stats' times come from. Default: the real one.
	Now func() time.Time
}

// Description is a metric for people.
type Description struct {
	Name string
	// Type is gauge or counter.
	Type   string
	Labels []string
	Help   string
}

// Collector is a prometheus.Collector of all metrics of this package. It is safe for
// concurrent use.
type Collector struct {
	now    func() time.Time
	tables []table
}

// New returns a Collector. It asks nobody before the first scrape.
func New(s Sources) *Collector {
	c := &Collector{now: s.Now}
	if c.now == nil {
		c.now = clock.RealClock{}.Now
	}
	images := func() []pull.Stats { return []pull.Stats{s.Images()} }
	if s.Images == nil {
		images = nil
	}
	c.tables = []table{
		newTable(s.Pool, hostFamilies()),
		newTable(s.Cache, cacheFamilies()),
		newTable(images, imageFamilies()),
	}
	return c
}

// Describe sends the descriptions of all metrics.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, t := range c.tables {
		t.describe(ch)
	}
}

// Collect asks the sources and sends a sample for each series.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	for _, t := range c.tables {
		t.collect(ch, c.now())
	}
}

// Descriptions lists all metrics, those that have no samples now included.
func (c *Collector) Descriptions() []Description {
	var all []Description
	for _, t := range c.tables {
		all = slices.Concat(all, t.descriptions())
	}
	return all
}
