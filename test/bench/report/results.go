// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package report turns measurements into what people read: ratios against goals,
// tables in Markdown, charts in SVG, and their place in a document.
//
// All of it is pure: Results in, text out. A cell is one operation of one contender under
// one condition.
package report

import (
	"maps"
	"slices"
	"time"
)

// Condition is under what a cell was measured.
type Condition struct {
	// Others is the number of VMs outside of the VCH, Machines that of machines in it.
	Others   int `json:"others"`
	Machines int `json:"machines"`
	// Latency is added to each request.
	Latency time.Duration `json:"latencyNanoseconds"`
	// Concurrency is how many operations ran at once.
	Concurrency int `json:"concurrency"`
}

// Cell is a measurement. All but Sessions and Connections is for one operation, on average.
type Cell struct {
	Condition
	Operation string `json:"operation"`
	Contender string `json:"contender"`
	// Operations is how many were measured.
	Operations int `json:"operations"`
	// Calls are SOAP calls by method, CallsTotal is their sum.
	Calls      map[string]float64 `json:"calls"`
	CallsTotal float64            `json:"callsTotal"`
	// RequestBytes and ResponseBytes are sizes of bodies.
	RequestBytes  float64 `json:"requestBytes"`
	ResponseBytes float64 `json:"responseBytes"`
	// P50 and P95 are latencies of an operation: the nearest measured ones.
	P50 time.Duration `json:"p50Nanoseconds"`
	P95 time.Duration `json:"p95Nanoseconds"`
	// PerSecond is the throughput of all workers together.
	PerSecond float64 `json:"perSecond"`
	// CPU is the client's, SimulatorCPU that of the simulated vCenter.
	CPU          time.Duration `json:"cpuNanoseconds"`
	SimulatorCPU time.Duration `json:"simulatorCPUNanoseconds"`
	// Allocations and AllocatedBytes are the client's.
	Allocations    float64 `json:"allocations"`
	AllocatedBytes float64 `json:"allocatedBytes"`
	// Logins is for one operation.
	Logins float64 `json:"logins"`
	// Sessions is the most that were open at once, Connections how many were made.
	Sessions    int `json:"sessions"`
	Connections int `json:"connections"`
}

// Results are all of a run.
type Results struct {
	// Date is the day, Command what was typed, Go, CPU and Cores where it ran.
	Date    string `json:"date"`
	Command string `json:"command"`
	Go      string `json:"go"`
	CPU     string `json:"cpu"`
	Cores   int    `json:"cores"`
	// Version is that of the driver, Load the system's load before the run, Took how long it ran.
	Version string        `json:"version"`
	Load    string        `json:"load"`
	Took    time.Duration `json:"tookNanoseconds"`
	// LeftOut says what was not measured, and why.
	LeftOut []string `json:"leftOut"`
	Cells   []Cell   `json:"cells"`
	// Calm is nil if it was not measured.
	Calm *Calm `json:"calm,omitempty"`
}

// Calm is what it costs ours to know many machines of which nothing changes.
type Calm struct {
	Machines int `json:"machines"`
	// StatusCalls is the sum of the calls for a status of each, all of them known, without the one that rests in vCenter.
	StatusCalls int `json:"statusCalls"`
	// RestCalls is the number of calls in the time Wall, in which nobody asked for anything; CPU is the client's.
	RestCalls int           `json:"restCalls"`
	Wall      time.Duration `json:"wallNanoseconds"`
	CPU       time.Duration `json:"cpuNanoseconds"`
	// Resident is the memory of the client's process after that, MostResident the most that it ever had, in bytes.
	Resident     int64 `json:"residentBytes"`
	MostResident int64 `json:"mostResidentBytes"`
}

// conditions returns those under which an operation was measured, in order.
func (r Results) conditions(operation string) []Condition {
	seen := map[Condition]bool{}
	for _, c := range r.Cells {
		if c.Operation == operation {
			seen[c.Condition] = true
		}
	}
	return slices.SortedFunc(maps.Keys(seen), compare)
}

func compare(a, b Condition) int {
	switch {
	case a.Others != b.Others:
		return a.Others - b.Others
	case a.Machines != b.Machines:
		return a.Machines - b.Machines
	case a.Latency != b.Latency:
		return int(a.Latency - b.Latency)
	}
	return a.Concurrency - b.Concurrency
}

// find returns a cell, nil if it was not measured.
func (r Results) find(operation, contender string, at Condition) *Cell {
	for i, c := range r.Cells {
		if c.Operation == operation && c.Contender == contender && c.Condition == at {
			return &r.Cells[i]
		}
	}
	return nil
}

// Percentile returns the nearest-rank percentile of sorted values; 0 of none.
func Percentile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}

// The names of contenders and what each is called in columns, in order.
const (
	usual = "usual"
	ours  = "ours"
	floor = "floor"
)

// reference is the condition that ratios, goals and charts look at: the size in the
// middle, the highest latency, one operation at once or the fewest that there were.
func (r Results) reference(operation string) (Condition, bool) {
	all := r.conditions(operation)
	if len(all) == 0 {
		return Condition{}, false
	}
	var sizes []int
	for _, c := range all {
		sizes = append(sizes, c.Others)
	}
	sizes = slices.Compact(slices.Sorted(slices.Values(sizes)))
	middle := sizes[len(sizes)/2]
	all = slices.DeleteFunc(all, func(c Condition) bool { return c.Others != middle })
	return slices.MaxFunc(all, func(a, b Condition) int {
		if a.Latency != b.Latency {
			return int(a.Latency - b.Latency)
		}
		return b.Concurrency - a.Concurrency
	}), true
}

// busiest is reference with the most operations at once.
func (r Results) busiest(operation string) (Condition, bool) {
	reference, ok := r.reference(operation)
	for _, c := range r.conditions(operation) {
		if alike(c, reference, "concurrency") && c.Concurrency > reference.Concurrency {
			reference = c
		}
	}
	return reference, ok
}
