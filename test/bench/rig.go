// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/bench/child"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/bench/contender"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/bench/proxy"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/bench/report"
)

// rig is one simulator and the contenders around it. Close it.
type rig struct {
	s        settings
	log      io.Writer
	sim      child.SimulatorProcess
	machines []string
	lanes    map[string]*lane
	made     int
	// warm says that everybody was asked for once by ours.
	warm bool
}

// lane is one contender with its proxy.
type lane struct {
	name   string
	proxy  *proxy.Proxy
	worker child.WorkerProcess
}

func newRig(ctx context.Context, s settings, log io.Writer, with child.Inventory, key []byte) (r *rig, err error) {
	r = &rig{s: s, log: log, lanes: map[string]*lane{}}
	sim, world, err := child.StartSimulator(ctx, log, with)
	if err != nil {
		return nil, err
	}
	r.sim = sim
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	trust := world.Site.CABundle
	for _, name := range append([]string{contender.FloorName}, s.contenders...) { // the floor makes what the others find
		if r.lanes[name] != nil {
			continue
		}
		p, err := proxy.Start(ctx, proxy.Options{Target: world.URL, Trust: trust})
		if err != nil {
			return nil, err
		}
		site := world.Site
		site.Host, site.CABundle, site.HostKey = p.Address(), p.CABundle(), key
		worker, err := child.StartWorker(ctx, log, child.Open{Contender: name, Site: site})
		if err != nil {
			p.Close()
			return nil, fmt.Errorf("start %s: %w", name, err)
		}
		r.lanes[name] = &lane{name, p, worker}
	}
	for i := range min(with.Others, s.machines) {
		r.machines = append(r.machines, fmt.Sprintf("machine-%d", i+1)) // machine-0 is the simulator's
	}
	return r, nil
}

// close ends all processes and reports sessions that they left.
func (r *rig) close() error {
	var errs []error
	for _, l := range r.lanes {
		errs = append(errs, l.worker.Close())
		if left := l.proxy.Take().Sessions; left != 0 {
			errs = append(errs, fmt.Errorf("%s left %d sessions", l.name, left))
		}
	}
	state, err := r.sim.Take()
	errs = append(errs, err)
	if state.Sessions != 0 {
		errs = append(errs, fmt.Errorf("%d sessions were left", state.Sessions))
	}
	errs = append(errs, r.sim.Close())
	for _, l := range r.lanes {
		l.proxy.Close()
	}
	return errors.Join(errs...)
}

// populate makes the machines that status and list find.
func (r *rig) populate() error {
	const workers = 8
	_, err := r.lanes[contender.FloorName].worker.Run(child.Job{
		Operation: child.Create, Machines: r.machines, Concurrency: workers, Min: len(r.machines), Max: len(r.machines),
	})
	return err
}

// reads measures status or list.
func (r *rig) reads(operation string, at report.Condition) (cells []report.Cell, err error) {
	const most = 500
	job := child.Job{
		Operation: operation, Machines: r.machines, Concurrency: at.Concurrency,
		Min: max(10, 2*at.Concurrency), Max: most, MinTime: r.s.minTime, Listed: len(r.machines),
	}
	if operation == child.List {
		if !r.s.lists(at) {
			return nil, nil
		}
		job.Min = max(2, at.Concurrency)
	}
	if !slices.Contains(r.s.operations, operation) {
		return nil, nil
	}
	if !r.warm && operation == child.Status && slices.Contains(r.s.contenders, contender.OursName) {
		// machine-controller-manager asks for the same machines again and again: what is measured is not the first time.
		first := child.Job{Operation: child.Status, Machines: r.machines, Concurrency: 8, Min: len(r.machines), Max: len(r.machines)}
		if _, err := r.lanes[contender.OursName].worker.Run(first); err != nil {
			return nil, err
		}
		r.warm = true
	}
	for _, name := range r.s.contenders {
		if !known(name, operation) {
			continue
		}
		cell, _, err := r.cell(name, job, at)
		if err != nil {
			return cells, err
		}
		cells = append(cells, cell)
	}
	return cells, nil
}

// changes measures create and delete, and looks at what they did.
func (r *rig) changes(at report.Condition) (cells []report.Cell, err error) {
	if !slices.Contains(r.s.operations, child.Create) {
		return nil, nil
	}
	for _, name := range r.s.contenders {
		job := child.Job{Operation: child.Create, Concurrency: at.Concurrency}
		for range max(6, 2*at.Concurrency) {
			r.made++
			job.Machines = append(job.Machines, fmt.Sprintf("bench-%d", r.made))
		}
		job.Min, job.Max = len(job.Machines), len(job.Machines)
		before, err := r.take()
		if err != nil {
			return cells, err
		}
		for _, step := range []struct {
			operation string
			check     func(before, after child.State, machines []string) error
		}{{child.Create, allRun}, {child.Delete, allGone}} {
			if step.operation == child.Delete {
				if err := r.lanes[name].worker.Prepare(job.Machines); err != nil {
					return cells, err
				}
			}
			job.Operation = step.operation
			cell, after, err := r.cell(name, job, at)
			if err == nil {
				err = step.check(before.state, after, job.Machines)
			}
			if err != nil {
				return cells, fmt.Errorf("%s of %s: %w", step.operation, name, err)
			}
			cells = append(cells, cell)
		}
	}
	return cells, nil
}

func allRun(_, after child.State, machines []string) error {
	for _, m := range machines {
		if !after.Machines[m] {
			return fmt.Errorf("machine %s does not run", m)
		}
	}
	return nil
}

func allGone(before, after child.State, machines []string) error {
	for _, m := range machines {
		if _, there := after.Machines[m]; there {
			return fmt.Errorf("machine %s is still there", m)
		}
	}
	if after.Files != before.Files {
		return fmt.Errorf("there are %d files, and were %d before", after.Files, before.Files)
	}
	return nil
}

// taken is what both sides counted since the last time.
type taken struct {
	lanes map[string]proxy.Counts
	state child.State
}

// take takes all counts and compares them.
func (r *rig) take() (t taken, err error) {
	if t.state, err = r.sim.Take(); err != nil {
		return t, err
	}
	t.lanes = map[string]proxy.Counts{}
	passed := map[string]int{}
	for name, l := range r.lanes {
		t.lanes[name] = l.proxy.Take()
		for method, n := range t.lanes[name].Calls {
			passed[method] += n
		}
	}
	// One may rest in the simulator, where it was counted, or be on its way between the two.
	met := maps.Clone(t.state.Calls)
	delete(passed, "WaitForUpdatesEx")
	delete(met, "WaitForUpdatesEx")
	if !maps.Equal(passed, met) {
		return t, fmt.Errorf("the proxies passed %v on, the simulator met %v", passed, met)
	}
	return t, nil
}

// cell does a job and says what it cost, and how the world is then.
func (r *rig) cell(name string, job child.Job, at report.Condition) (report.Cell, child.State, error) {
	before, err := r.take()
	if err != nil {
		return report.Cell{}, child.State{}, err
	}
	l := r.lanes[name]
	l.proxy.SetDelay(at.Latency)
	usage, err := l.worker.Run(job)
	l.proxy.SetDelay(0)
	if err != nil {
		return report.Cell{}, child.State{}, fmt.Errorf("%s of %s: %w", job.Operation, name, err)
	}
	after, err := r.take()
	if err != nil {
		return report.Cell{}, child.State{}, err
	}
	cell := summary(name, job.Operation, at, usage, after.lanes[name])
	cell.SimulatorCPU = (after.state.CPUBefore - before.state.CPUAfter) / time.Duration(cell.Operations)
	// Progress that cannot be shown is no reason to stop.
	_, _ = fmt.Fprintf(r.log, "%6d VMs %5s x%-2d %-6s %-5s %4d times, %6.1f calls, p50 %s\n", at.Others, at.Latency, at.Concurrency, job.Operation, name, cell.Operations, cell.CallsTotal, cell.P50.Round(100*time.Microsecond))
	if name == contender.UsualName && after.lanes[name].Sessions != 0 {
		return cell, after.state, fmt.Errorf("%s of %s left %d sessions", job.Operation, name, after.lanes[name].Sessions)
	}
	return cell, after.state, nil
}

// summary divides what a job has cost by its operations.
func summary(name, operation string, at report.Condition, usage child.Usage, counts proxy.Counts) report.Cell {
	n := len(usage.Latencies)
	each := func(total float64) float64 { return total / float64(n) }
	cell := report.Cell{
		Condition: at, Operation: operation, Contender: name, Operations: n,
		Calls: map[string]float64{}, CallsTotal: each(float64(counts.Total())),
		RequestBytes: each(float64(counts.RequestBytes)), ResponseBytes: each(float64(counts.ResponseBytes)),
		P50: report.Percentile(usage.Latencies, 50), P95: report.Percentile(usage.Latencies, 95),
		PerSecond: float64(n) / usage.Wall.Seconds(),
		CPU:       usage.CPU / time.Duration(n), Allocations: each(float64(usage.Allocations)), AllocatedBytes: each(float64(usage.AllocatedBytes)),
		Logins: each(float64(counts.Logins)), Sessions: counts.Peak, Connections: counts.Connections,
	}
	for method, count := range counts.Calls {
		cell.Calls[method] = each(float64(count))
	}
	return cell
}
