// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// memory is a storage.Queryable of a few series, each in the order of time.
type memory struct {
	names  []labels.Labels
	points [][]chunks.Sample
}

// point is a sample that is a number.
type point struct {
	t int64
	v float64
}

func (p point) T() int64                    { return p.t }
func (point) ST() int64                     { return 0 }
func (p point) F() float64                  { return p.v }
func (point) H() *histogram.Histogram       { return nil }
func (point) FH() *histogram.FloatHistogram { return nil }
func (point) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (p point) Copy() chunks.Sample         { return p }

func (m *memory) add(l labels.Labels, at time.Duration, v float64) {
	i := slices.IndexFunc(m.names, func(o labels.Labels) bool { return labels.Equal(o, l) })
	if i < 0 {
		i = len(m.names)
		m.names, m.points = append(m.names, l), append(m.points, nil)
	}
	m.points[i] = append(m.points[i], point{at.Milliseconds(), v})
}

// Querier returns the memory itself; what is outside of the time is not looked at.
func (m *memory) Querier(_, _ int64) (storage.Querier, error) {
	return &storage.MockQuerier{SelectMockFunction: m.find}, nil
}

func (m *memory) find(_ bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	set := &found{at: -1}
	for i, l := range m.names {
		if !slices.ContainsFunc(matchers, func(x *labels.Matcher) bool { return !x.Matches(l.Get(x.Name)) }) {
			points := slices.DeleteFunc(slices.Clone(m.points[i]), func(s chunks.Sample) bool { return s.T() < hints.Start || s.T() > hints.End })
			set.all = append(set.all, storage.NewListSeries(l, points))
		}
	}
	slices.SortFunc(set.all, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	return set
}

// found is a storage.SeriesSet.
type found struct {
	all []storage.Series
	at  int
}

func (f *found) Next() bool {
	f.at++
	return f.at < len(f.all)
}
func (f *found) At() storage.Series              { return f.all[f.at] }
func (*found) Err() error                        { return nil }
func (*found) Warnings() annotations.Annotations { return nil }

var _ storage.Queryable = (*memory)(nil)
