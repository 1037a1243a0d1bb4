// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Sample is what programs take at a moment.
type Sample struct {
	// At is since the begin of the recording.
	At time.Duration
	// Machines are objects. Sessions are all of the driver, whoever knows them.
	Machines, Sessions int
	// Programs are by name. One that does not answer is missing.
	Programs map[string]Usage
}

// Usage is what one program takes.
type Usage struct {
	// Memory is resident, in bytes.
	Memory                     float64
	Goroutines, Threads, Files int
}

// sample asks all programs.
func (w *World) sample(ctx context.Context, start time.Time) Sample {
	s := Sample{At: time.Since(start), Programs: map[string]Usage{}}
	if machines, err := w.machines(ctx); err == nil {
		s.Machines = len(machines)
	}
	for _, session := range w.Sim.SessionList() {
		if isDriver(session.UserAgent) {
			s.Sessions++
		}
	}
	w.mu.Lock()
	at := w.Stack.Metrics()
	w.mu.Unlock()
	for name, url := range at {
		if usage, err := usageOf(ctx, url); err == nil {
			s.Programs[name] = usage
		}
	}
	return s
}

// record takes samples until it is stopped.
func (w *World) record(ctx context.Context, interval time.Duration, record func(Sample)) (stop func()) {
	start := time.Now()
	return every(ctx, interval, func(ctx context.Context) { record(w.sample(ctx, start)) })
}

// scrapeTimeout is short: a program that is stopped does not answer.
const scrapeTimeout = 5 * time.Second

// usageOf reads the metrics of a program.
func usageOf(ctx context.Context, url string) (Usage, error) {
	values, err := scrape(ctx, url)
	if err != nil {
		return Usage{}, err
	}
	if values["go_goroutines"] == 0 {
		return Usage{}, errors.New("the metrics have no goroutines")
	}
	return Usage{
		Memory: values["process_resident_memory_bytes"], Goroutines: int(values["go_goroutines"]),
		Threads: int(values["go_threads"]), Files: int(values["process_open_fds"]),
	}, nil
}

// scrape reads gauges without labels.
func scrape(ctx context.Context, url string) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, scrapeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("make a request for metrics: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("get metrics: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	return gauges(response.Body)
}

func gauges(metrics io.Reader) (map[string]float64, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(metrics)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	values := map[string]float64{}
	for name, family := range families {
		for _, m := range family.GetMetric() {
			if m.GetGauge() != nil && len(m.GetLabel()) == 0 {
				values[name] = m.GetGauge().GetValue()
			}
		}
	}
	return values, nil
}
