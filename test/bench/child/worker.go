// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package child

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/bench/contender"
)

// The operations.
const (
	Create = "create"
	Status = "status"
	List   = "list"
	Delete = "delete"
)

// Job is a number of equal operations.
type Job struct {
	Operation string
	// Machines are the names, one for each operation and from the begin when they are used up.
	Machines []string
	// Concurrency is how many run at once.
	Concurrency int
	// Operations are started until there were Min and MinTime is over, or there were Max.
	Min, Max int
	MinTime  time.Duration
	// Listed is what a list must answer.
	Listed int
}

// Usage is what a job has cost.
type Usage struct {
	// Latencies of the operations, sorted.
	Latencies []time.Duration
	// Wall is the time of the whole job, CPU what the process worked.
	Wall, CPU time.Duration
	// Allocations and AllocatedBytes are of the whole process.
	Allocations, AllocatedBytes uint64
}

// Worker is the served object; WorkerProcess calls it.
type Worker struct {
	ctx       context.Context //nolint:containedctx // net/rpc has none
	contender contender.Contender
}

// Open is what a Worker is opened by.
type Open struct {
	Contender string
	Site      contender.Site
}

// Open opens the contender.
func (w *Worker) Open(o Open, _ *struct{}) (err error) {
	w.contender, err = contender.Open(w.ctx, o.Contender, o.Site)
	return err
}

// Prepare prepares deletions, see contender.Contender.
func (w *Worker) Prepare(machines []string, _ *struct{}) error {
	if w.contender == nil {
		return errors.New("there is no contender yet")
	}
	return w.contender.Prepare(w.ctx, machines)
}

// Run does a job. The first error ends it.
func (w *Worker) Run(job Job, reply *Usage) error {
	if w.contender == nil {
		return errors.New("there is no contender yet")
	}
	if len(job.Machines) == 0 || job.Max < job.Min || job.Concurrency < 1 {
		return fmt.Errorf("a job of %d to %d operations by %d at once on %d machines cannot be done", job.Min, job.Max, job.Concurrency, len(job.Machines))
	}
	runtime.GC() // the last job's garbage is not this one's
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpuBefore, err := cpu()
	if err != nil {
		return err
	}
	begin := time.Now()
	latencies, err := w.do(job, begin)
	reply.Wall = time.Since(begin)
	if err != nil {
		return err
	}
	cpuAfter, err := cpu()
	if err != nil {
		return err
	}
	runtime.ReadMemStats(&after)
	slices.Sort(latencies)
	reply.Latencies, reply.CPU = latencies, cpuAfter-cpuBefore
	reply.Allocations, reply.AllocatedBytes = after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc
	return nil
}

func (w *Worker) do(job Job, begin time.Time) ([]time.Duration, error) {
	var next atomic.Int64
	results := make([][]time.Duration, job.Concurrency)
	group, ctx := errgroup.WithContext(w.ctx)
	for i := range results {
		group.Go(func() error {
			for {
				n := int(next.Add(1)) - 1
				if n >= job.Max || n >= job.Min && time.Since(begin) >= job.MinTime {
					return nil
				}
				at := time.Now()
				if err := w.one(ctx, job, job.Machines[n%len(job.Machines)]); err != nil {
					return err
				}
				results[i] = append(results[i], time.Since(at))
			}
		})
	}
	err := group.Wait()
	return slices.Concat(results...), err
}

func (w *Worker) one(ctx context.Context, job Job, machine string) error {
	switch job.Operation {
	case Create:
		return w.contender.Create(ctx, machine)
	case Status:
		return w.contender.Status(ctx, machine)
	case Delete:
		return w.contender.Delete(ctx, machine)
	case List:
		n, err := w.contender.List(ctx)
		if err == nil && n != job.Listed {
			err = fmt.Errorf("%d machines listed, there are %d", n, job.Listed)
		}
		return err
	}
	return fmt.Errorf("there is no operation %q", job.Operation)
}

// Calm is what a process costs that is not asked for anything.
type Calm struct {
	Wall, CPU time.Duration
	// Resident is the memory of the process in bytes, MostResident the most that it ever had.
	Resident, MostResident int64
}

// Rest does nothing for a while.
func (w *Worker) Rest(d time.Duration, reply *Calm) error {
	debug.FreeOSMemory() // what the questions before left behind is not what it needs to know the answers
	before, err := cpu()
	if err != nil {
		return err
	}
	begin := time.Now()
	select {
	case <-time.After(d):
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
	after, err := cpu()
	if err != nil {
		return err
	}
	reply.Wall, reply.CPU = time.Since(begin), after-before
	reply.Resident, reply.MostResident, err = resident()
	return err
}

// resident reads the memory of this process.
func resident() (now, most int64, err error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0, fmt.Errorf("read memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			now = kib << 10
		}
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			most = kib << 10
		}
	}
	return now, most, nil
}

func (w *Worker) close() error {
	if w.contender == nil {
		return nil
	}
	return w.contender.Close(w.ctx)
}

// WorkerProcess is a contender in a process of its own.
type WorkerProcess struct{ *process }

// StartWorker starts one; what it has to say goes to log.
func StartWorker(ctx context.Context, log io.Writer, o Open) (WorkerProcess, error) {
	p, err := start(ctx, workerRole, log)
	if err != nil {
		return WorkerProcess{}, err
	}
	if err := p.call("Open", o, &struct{}{}); err != nil {
		_ = p.Close() // the first error says more
		return WorkerProcess{}, err
	}
	return WorkerProcess{p}, nil
}

// Prepare prepares deletions, see contender.Contender.
func (p WorkerProcess) Prepare(machines []string) error {
	return p.call("Prepare", machines, &struct{}{})
}

// Rest does nothing for a while, and says what that cost.
func (p WorkerProcess) Rest(d time.Duration) (calm Calm, err error) {
	err = p.call("Rest", d, &calm)
	return calm, err
}

// Run does a job. The first error ends it.
func (p WorkerProcess) Run(job Job) (usage Usage, err error) {
	err = p.call("Run", job, &usage)
	return usage, err
}
