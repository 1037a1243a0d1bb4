// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	prefix  = "mcm_vch_"
	gauge   = "gauge"
	counter = "counter"
)

// sample is a value with the values of its labels.
type sample struct {
	value  float64
	labels []string
}

// at makes a sample.
func at(value float64, labels ...string) []sample { return []sample{{value, labels}} }

// truth is 1 or 0.
func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// family is a metric and how it follows from the state S of something.
type family[S any] struct {
	Description
	samples func(s S, now time.Time) []sample
	// join makes one value of two that have the same labels: Prometheus would refuse
	// the whole scrape, and names of VCHs need not be unique in a vCenter. Default: the sum.
	join func(a, b float64) float64

	desc *prometheus.Desc
}

// table is the families of one source.
type table interface {
	describe(ch chan<- *prometheus.Desc)
	collect(ch chan<- prometheus.Metric, now time.Time)
	descriptions() []Description
}

type tableOf[S any] struct {
	source   func() []S
	families []family[S]
}

func newTable[S any](source func() []S, families []family[S]) table {
	for i := range families {
		f := &families[i]
		f.Name = prefix + f.Name
		f.desc = prometheus.NewDesc(f.Name, f.Help, f.Labels, nil)
		if f.join == nil {
			f.join = func(a, b float64) float64 { return a + b }
		}
	}
	return &tableOf[S]{source, families}
}

func (t *tableOf[S]) describe(ch chan<- *prometheus.Desc) {
	for _, f := range t.families {
		ch <- f.desc
	}
}

func (t *tableOf[S]) descriptions() []Description {
	all := make([]Description, 0, len(t.families))
	for _, f := range t.families {
		all = append(all, f.Description)
	}
	return all
}

func (t *tableOf[S]) collect(ch chan<- prometheus.Metric, now time.Time) {
	if t.source == nil {
		return
	}
	states := t.source()
	for _, f := range t.families {
		for _, s := range f.joined(states, now) {
			kind := prometheus.GaugeValue
			if f.Type == counter {
				kind = prometheus.CounterValue
			}
			ch <- prometheus.MustNewConstMetric(f.desc, kind, s.value, s.labels...)
		}
	}
}

// joined returns the samples of all states, one for each set of labels.
func (f *family[S]) joined(states []S, now time.Time) []sample {
	var all []sample
	for _, state := range states {
		for _, s := range f.samples(state, now) {
			for i := range s.labels {
				s.labels[i] = strings.ToValidUTF8(s.labels[i], "?") // others end in a panic
			}
			i := slices.IndexFunc(all, func(o sample) bool { return slices.Equal(o.labels, s.labels) })
			if i < 0 {
				all = append(all, s)
				continue
			}
			all[i].value = f.join(all[i].value, s.value)
		}
	}
	return all
}

// larger and smaller are joins of values of which the worse one counts.
func larger(a, b float64) float64  { return max(a, b) }
func smaller(a, b float64) float64 { return min(a, b) }
