// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/bench/child"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/bench/contender"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/bench/report"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// run measures all that the settings ask for.
func run(ctx context.Context, s settings, log io.Writer) (report.Results, error) {
	begin := time.Now()
	results := report.Results{
		Date: begin.Format(time.DateOnly), Go: runtime.Version(), Cores: runtime.NumCPU(), CPU: processor(),
		Version: version.Version() + commit(ctx), Load: load(), LeftOut: s.leftOut(),
	}
	key, err := containervm.NewHostKey()
	if err != nil {
		return results, err
	}
	for _, size := range s.sizes {
		cells, err := measure(ctx, s, log, size, key)
		results.Cells = append(results.Cells, cells...)
		if err != nil {
			return results, fmt.Errorf("with %d other VMs: %w", size, err)
		}
	}
	if s.known > 0 {
		if results.Calm, err = calm(ctx, s, log, key); err != nil {
			return results, fmt.Errorf("with %d machines: %w", s.known, err)
		}
	}
	results.Took = time.Since(begin)
	return results, nil
}

// measure measures with one size of the inventory.
func measure(ctx context.Context, s settings, log io.Writer, size int, key []byte) (cells []report.Cell, err error) {
	r, err := newRig(ctx, s, log, child.Inventory{Others: size}, key)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.populate(); err != nil {
		return nil, err
	}
	for _, condition := range s.conditions(size) {
		for _, operation := range []string{child.Status, child.List} {
			more, err := r.reads(operation, condition)
			cells = append(cells, more...)
			if err != nil {
				return cells, err
			}
		}
		more, err := r.changes(condition)
		cells = append(cells, more...)
		if err != nil {
			return cells, err
		}
	}
	return cells, nil
}

// calm measures what it costs to know many machines.
func calm(ctx context.Context, s settings, log io.Writer, key []byte) (_ *report.Calm, err error) {
	s.contenders = []string{contender.OursName}
	r, err := newRig(ctx, s, log, child.Inventory{Running: s.known}, key)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	var names []string
	for i := range s.known {
		names = append(names, vchsim.RunningMachine(i))
	}
	worker := r.lanes[contender.OursName].worker
	if _, err := worker.Run(child.Job{Operation: child.Status, Machines: names, Concurrency: 32, Min: len(names), Max: len(names)}); err != nil {
		return nil, err
	}
	if _, err := r.take(); err != nil {
		return nil, err
	}
	if _, err := worker.Run(child.Job{Operation: child.Status, Machines: names, Concurrency: 32, Min: len(names), Max: len(names)}); err != nil {
		return nil, err
	}
	asked, err := r.take()
	if err != nil {
		return nil, err
	}
	rested, err := worker.Rest(s.rest)
	if err != nil {
		return nil, err
	}
	after, err := r.take()
	if err != nil {
		return nil, err
	}
	delete(asked.lanes[contender.OursName].Calls, "WaitForUpdatesEx") // the one that rests
	return &report.Calm{
		Machines: s.known, Wall: rested.Wall, CPU: rested.CPU, Resident: rested.Resident, MostResident: rested.MostResident,
		StatusCalls: asked.lanes[contender.OursName].Total(), RestCalls: after.lanes[contender.OursName].Total(),
	}, nil
}

// conditions are what is measured with a size: all latencies with one of the sizes,
// and with the others the highest, and few operations at once with more VMs than
// that, unless everything is wanted.
func (s settings) conditions(size int) []report.Condition {
	latencies, several := s.latencies, s.concurrency
	if !s.full && size != s.pivot() {
		latencies = []time.Duration{slices.Max(latencies)}
	}
	if !s.full && size > s.pivot() {
		several = []int{slices.Min(several)}
	}
	var all []report.Condition
	for _, latency := range latencies {
		for _, concurrency := range several {
			all = append(all, report.Condition{Others: size, Machines: min(size, s.machines), Latency: latency, Concurrency: concurrency})
		}
	}
	return all
}

// pivot is the size that is measured with all latencies: the one in the middle.
func (s settings) pivot() int { return slices.Sorted(slices.Values(s.sizes))[len(s.sizes)/2] }

// lists says whether lists are measured under a condition.
func (s settings) lists(c report.Condition) bool {
	return s.full || c.Concurrency == slices.Min(s.concurrency)
}

func (s settings) leftOut() []string {
	out := []string{
		"status and list of the floor: a cache can answer both without any call, so there is none",
		fmt.Sprintf("more than %d machines (-machines): a usual list would take minutes for each answer", s.machines),
	}
	if s.full {
		return out
	}
	if len(s.sizes) > 1 && len(s.latencies) > 1 {
		out = append(out, fmt.Sprintf("latencies below %s with other than %d other VMs (-full measures them): what latency does is the same at each size", slices.Max(s.latencies), s.pivot()))
	}
	if most := slices.Max(s.sizes); len(s.concurrency) > 1 && most > s.pivot() {
		out = append(out, fmt.Sprintf("a concurrency above %d with %d other VMs (-full measures it): to walk by so many names keeps the simulator busy for seconds, and it would be the simulator that is measured", slices.Min(s.concurrency), most))
	}
	if len(s.concurrency) > 1 {
		out = append(out, fmt.Sprintf("lists at a concurrency above %d (-full measures them): machine-controller-manager lists one class after the other", slices.Min(s.concurrency)))
	}
	return out
}

// processor is what the system calls its processor.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// commit says which commit is measured, if git is asked from its checkout.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return ""
	}
	return " at commit " + strings.TrimSpace(string(out))
}

// load is the system's load of the last minute: what else ran while this did.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	minute, _, _ := strings.Cut(string(text), " ")
	return minute
}

// publish writes the results, the charts and the document.
func publish(results report.Results, s settings) error {
	encoded, err := report.Encode(results)
	if err != nil {
		return err
	}
	for _, dir := range []string{filepath.Dir(s.json), s.charts} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make directory for results: %w", err)
		}
	}
	if err := os.WriteFile(s.json, encoded, 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	var charts []report.Chart
	if s.charts != "" {
		if charts, err = report.Charts(results); err != nil {
			return err
		}
		for _, c := range charts {
			if err := os.WriteFile(filepath.Join(s.charts, c.File), c.SVG, 0o644); err != nil {
				return fmt.Errorf("write chart: %w", err)
			}
		}
	}
	if s.doc == "" {
		return nil
	}
	old, err := os.ReadFile(s.doc)
	if err != nil {
		return fmt.Errorf("read document: %w", err)
	}
	dir, err := filepath.Rel(filepath.Dir(s.doc), s.charts)
	if err != nil {
		return fmt.Errorf("find the charts from the document: %w", err)
	}
	text, err := report.Insert(string(old), report.Markdown(results, charts, filepath.ToSlash(dir)))
	if err != nil {
		return fmt.Errorf("%s: %w", s.doc, err)
	}
	if err := os.WriteFile(s.doc, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write document: %w", err)
	}
	return nil
}

// known says whether a contender can do an operation.
func known(name, operation string) bool {
	return name != contender.FloorName || operation == child.Create || operation == child.Delete
}
