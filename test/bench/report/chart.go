// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/wcharczuk/go-chart/v2"
	"github.com/wcharczuk/go-chart/v2/drawing"
)

// Chart is one picture.
type Chart struct {
	// File is its name, Title what it shows.
	File, Title string
	SVG         []byte
}

// The size of charts, in pixels.
const (
	width  = 640
	height = 320
)

// style is how a contender is drawn, wherever it is.
type style struct {
	name  string
	color drawing.Color
}

func styles() []style {
	return []style{
		{usual, drawing.ColorFromHex("d95f02")},
		{ours, drawing.ColorFromHex("1b9e77")},
		{floor, drawing.ColorFromHex("7570b3")},
	}
}

// axis is what a line chart shows to the right.
type axis struct {
	name, file string
	// of is the value of a condition, label its text.
	of    func(Condition) float64
	label func(float64) string
}

// measured is what a line chart shows upwards.
type measured struct {
	name string
	of   func(Cell) float64
}

// Charts draws the results. What was measured at one point alone is not drawn.
func Charts(r Results) ([]Chart, error) {
	plain := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	latency := axis{"latency of the network, ms", "latency", func(c Condition) float64 { return milliseconds(c.Latency) }, plain}
	concurrency := axis{"operations at once", "concurrency", func(c Condition) float64 { return math.Log2(float64(c.Concurrency)) }, func(v float64) string { return plain(math.Round(math.Exp2(v))) }}
	size := axis{"other VMs", "size", func(c Condition) float64 { return math.Log10(float64(c.Others)) }, func(v float64) string { return plain(math.Round(math.Pow(10, v))) }}
	p50 := measured{"p50, ms", func(c Cell) float64 { return milliseconds(c.P50) }}
	kib := measured{"KiB received", func(c Cell) float64 { return c.ResponseBytes / 1024 }}
	var charts []Chart
	for _, plot := range []struct {
		operation string
		x         axis
		y         measured
		title     string
	}{
		{"status", latency, p50, "Status: time of one, by the network's latency"},
		{"list", latency, p50, "List: time of one, by the network's latency"},
		{"create", latency, p50, "Create, until it runs: time of one, by the network's latency"},
		{"delete", latency, p50, "Delete: time of one, by the network's latency"},
		{"create", concurrency, p50, "Create: time of one, by operations at once"},
		{"delete", concurrency, p50, "Delete: time of one, by operations at once"},
		{"status", size, kib, "Status: what one receives, by the size of the inventory"},
	} {
		c, err := line(r, plot.operation, plot.x, plot.y, plot.title)
		if err != nil {
			return nil, err
		}
		if c != nil {
			charts = append(charts, *c)
		}
	}
	c, err := bars(r)
	if err != nil || c == nil {
		return charts, err
	}
	return append(charts, *c), nil
}

// line draws how a value follows from one part of the condition, the others being as
// in the reference; nil if there are not two points.
func line(r Results, operation string, x axis, y measured, title string) (*Chart, error) {
	reference, ok := r.reference(operation)
	if !ok {
		return nil, nil
	}
	points := map[float64]Condition{}
	for _, c := range r.conditions(operation) {
		if alike(c, reference, x.file) {
			points[x.of(c)] = c
		}
	}
	at := slices.Sorted(maps.Keys(points))
	if len(at) < 2 {
		return nil, nil
	}
	graph := chart.Chart{
		Title: title, Width: width, Height: height,
		TitleStyle: chart.Style{FontSize: 11},
		Background: chart.Style{Padding: chart.Box{Top: 45, Left: 110, Right: 20, Bottom: 20}}, // the legend is on the left
		XAxis:      chart.XAxis{Name: x.name},
		YAxis:      chart.YAxis{Name: y.name},
	}
	for _, v := range at {
		graph.XAxis.Ticks = append(graph.XAxis.Ticks, chart.Tick{Value: v, Label: x.label(v)})
	}
	most := 0.0
	for _, s := range styles() {
		series := chart.ContinuousSeries{Name: s.name, Style: chart.Style{StrokeColor: s.color, StrokeWidth: 2, DotColor: s.color, DotWidth: 3}}
		for _, v := range at {
			if cell := r.find(operation, s.name, points[v]); cell != nil {
				series.XValues, series.YValues = append(series.XValues, v), append(series.YValues, y.of(*cell))
				most = max(most, y.of(*cell))
			}
		}
		if len(series.XValues) > 0 {
			graph.Series = append(graph.Series, series)
		}
	}
	graph.YAxis.Range, graph.YAxis.Ticks = scale(most)
	graph.Elements = []chart.Renderable{chart.LegendLeft(&graph)}
	return draw(operation+"-"+x.file, title, graph.Render)
}

// alike says whether two conditions differ in nothing but one part.
func alike(c, reference Condition, but string) bool {
	switch but {
	case "latency":
		c.Latency = reference.Latency
	case "concurrency":
		c.Concurrency = reference.Concurrency
	case "size":
		c.Others, c.Machines = reference.Others, reference.Machines
	}
	return c == reference
}

// bars draws how many calls an operation takes. A list of the usual kind would not fit.
func bars(r Results) (*Chart, error) {
	const title = "SOAP calls for one operation"
	graph := chart.BarChart{
		Title: title, Width: width, Height: height, BarWidth: 40, BarSpacing: 25,
		TitleStyle: chart.Style{FontSize: 11},
		Background: chart.Style{Padding: chart.Box{Top: 45, Left: 20, Right: 20, Bottom: 20}},
		XAxis:      chart.Style{FontSize: 8},
	}
	most := 0.0
	for _, operation := range []string{"status", "create", "delete"} {
		reference, ok := r.reference(operation)
		if !ok {
			continue
		}
		for _, s := range styles() {
			if cell := r.find(operation, s.name, reference); cell != nil {
				graph.Bars = append(graph.Bars, chart.Value{
					Value: cell.CallsTotal, Label: fmt.Sprintf("%s %s %.0f", operation, s.name, cell.CallsTotal),
					Style: chart.Style{FillColor: s.color, StrokeColor: s.color},
				})
				most = max(most, cell.CallsTotal)
			}
		}
	}
	if len(graph.Bars) == 0 {
		return nil, nil
	}
	graph.YAxis.Range, graph.YAxis.Ticks = scale(most)
	return draw("calls", title, graph.Render)
}

func draw(name, title string, render func(chart.RendererProvider, io.Writer) error) (*Chart, error) {
	var svg bytes.Buffer
	if err := render(chart.SVG, &svg); err != nil {
		return nil, fmt.Errorf("draw %s: %w", name, err)
	}
	return &Chart{File: name + ".svg", Title: title, SVG: svg.Bytes()}, nil
}

// scale returns an axis from 0 to above the largest value, with round steps.
func scale(most float64) (*chart.ContinuousRange, []chart.Tick) {
	const steps = 5
	most = max(most, 1)
	step := math.Pow(10, math.Floor(math.Log10(most/steps)))
	for _, factor := range []float64{1, 2, 5, 10} {
		if step*factor*steps >= most {
			step *= factor
			break
		}
	}
	var ticks []chart.Tick
	for i := range steps + 1 {
		v := step * float64(i)
		ticks = append(ticks, chart.Tick{Value: v, Label: strconv.FormatFloat(v, 'g', 6, 64)})
	}
	return &chart.ContinuousRange{Min: 0, Max: step * steps}, ticks
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
