// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/wcharczuk/go-chart/v2"
)

// quantity is something of a sample that is shown over time.
type quantity struct {
	title string
	of    func(Usage) float64
}

func quantities() []quantity {
	return []quantity{
		{"MiB", func(u Usage) float64 { return u.Memory / (1 << 20) }},
		{"goroutines", func(u Usage) float64 { return float64(u.Goroutines) }},
		{"threads", func(u Usage) float64 { return float64(u.Threads) }},
		{"files", func(u Usage) float64 { return float64(u.Files) }},
	}
}

// programsOf are the names of all programs in samples, sorted.
func programsOf(samples []Sample) []string {
	names := map[string]bool{}
	for i := range samples {
		for name := range samples[i].Programs {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// WriteCSV writes a line for each sample. What a program did not answer is empty.
func WriteCSV(to io.Writer, samples []Sample) error {
	programs := programsOf(samples)
	out := csv.NewWriter(to)
	line := []string{"seconds", "machines", "sessions"}
	for _, name := range programs {
		for _, q := range quantities() {
			line = append(line, name+" "+q.title)
		}
	}
	if err := out.Write(line); err != nil {
		return fmt.Errorf("write the samples: %w", err)
	}
	for i := range samples {
		s := &samples[i]
		line = []string{strconv.FormatFloat(s.At.Seconds(), 'f', 1, 64), strconv.Itoa(s.Machines), strconv.Itoa(s.Sessions)}
		for _, name := range programs {
			usage, found := s.Programs[name]
			for _, q := range quantities() {
				text := ""
				if found {
					text = strconv.FormatFloat(q.of(usage), 'f', 1, 64)
				}
				line = append(line, text)
			}
		}
		if err := out.Write(line); err != nil {
			return fmt.Errorf("write the samples: %w", err)
		}
	}
	out.Flush()
	return out.Error()
}

// WriteMemory and its like draw one quantity of all programs over time, as SVG. It needs
// two samples or more.
func WriteMemory(to io.Writer, samples []Sample) error {
	return draw(to, samples, "resident memory, MiB", quantities()[0].of)
}

// WriteGoroutines draws the goroutines.
func WriteGoroutines(to io.Writer, samples []Sample) error {
	return draw(to, samples, "goroutines", quantities()[1].of)
}

// WriteSessions draws the driver's sessions and the number of machines.
func WriteSessions(to io.Writer, samples []Sample) error {
	sessions, machines := series("sessions"), series("machines")
	for i := range samples {
		add(&sessions, samples[i], float64(samples[i].Sessions))
		add(&machines, samples[i], float64(samples[i].Machines))
	}
	return render(to, "sessions and machines", []chart.Series{sessions, machines})
}

func draw(to io.Writer, samples []Sample, title string, of func(Usage) float64) error {
	var all []chart.Series
	for _, name := range programsOf(samples) {
		line := series(name)
		for i := range samples {
			if usage, found := samples[i].Programs[name]; found {
				add(&line, samples[i], of(usage))
			}
		}
		all = append(all, line)
	}
	return render(to, title, all)
}

func series(name string) chart.ContinuousSeries { return chart.ContinuousSeries{Name: name} }

func add(line *chart.ContinuousSeries, s Sample, value float64) {
	line.XValues = append(line.XValues, s.At.Minutes())
	line.YValues = append(line.YValues, value)
}

func render(to io.Writer, title string, all []chart.Series) error {
	highest, last := 1.0, 0.0
	for _, one := range all {
		if line, ok := one.(chart.ContinuousSeries); ok && len(line.YValues) > 0 {
			highest, last = max(highest, slices.Max(line.YValues)), max(last, slices.Max(line.XValues))
		}
	}
	graph := chart.Chart{
		Width: 900, Height: 360,
		Background: chart.Style{Padding: chart.Box{Top: 50, Left: 20, Right: 20, Bottom: 20}},
		XAxis:      chart.XAxis{Name: "minutes", Ticks: ticks(last)},
		YAxis:      chart.YAxis{Name: title, Range: &chart.ContinuousRange{Min: 0, Max: highest * 1.1}, ValueFormatter: chart.IntValueFormatter},
		// Nothing belongs to it, and its labels would be drawn far outside.
		YAxisSecondary: chart.YAxis{Style: chart.Hidden()},
		Series:         all,
	}
	graph.Elements = []chart.Renderable{chart.LegendThin(&graph)}
	if err := graph.Render(chart.SVG, to); err != nil {
		return fmt.Errorf("draw %s: %w", title, err)
	}
	return nil
}

// ticks are up to eleven whole minutes; none, which leaves it to the library, if there are fewer than two.
func ticks(last float64) []chart.Tick {
	step := max(1, math.Ceil(last/10))
	var out []chart.Tick
	for at := 0.0; at <= last; at += step {
		out = append(out, chart.Tick{Value: at, Label: strconv.Itoa(int(at))})
	}
	if len(out) < 2 {
		return nil
	}
	return append(out, chart.Tick{Value: last}) // the axis ends with the last tick
}
