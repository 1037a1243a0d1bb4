// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Command bench measures the driver beside the usual approach of drivers for
// vSphere, and beside what creating and deleting cannot do without.
//
// For each size of the inventory it starts one process with a simulated vCenter
// (test/vchsim), one for each contender (test/bench/contender), and between them a proxy
// for each that counts and delays (test/bench/proxy). The contenders take turns, never two at
// once, with the same operations on the same world. After each turn it compares what the
// proxies counted with the simulator's own counters, and looks whether what was created
// runs and what was deleted is gone, files and sessions included; what differs is an error.
//
// Its output are a file of results and, in docs/performance.md, tables and charts of them
// (test/bench/report). "make bench" runs it; flags choose parts.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/bench/child"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/bench/contender"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := program(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// program is a child's, if the arguments say so, or the benchmark itself.
func program(ctx context.Context, args []string, log io.Writer) error {
	klog.LogToStderr(false) // to write what is done to a terminal would be measured, too
	klog.SetOutput(io.Discard)
	if is, err := child.Main(ctx, args, os.Stdin, os.Stdout); is {
		return err
	}
	s, err := parse(args, log)
	if err != nil {
		return err
	}
	results, err := run(ctx, s, &shared{to: log})
	if err != nil {
		return err
	}
	results.Command = strings.Join(append([]string{"go run ./test/bench"}, args...), " ")
	if len(args) == 0 {
		results.Command = "make bench"
	}
	return publish(results, s)
}

// shared is a writer that all children and this program write to.
type shared struct {
	mu sync.Mutex
	to io.Writer
}

func (w *shared) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(b)
}

// settings are what is measured, and where the results go.
type settings struct {
	sizes, concurrency     []int
	latencies              []time.Duration
	operations, contenders []string
	machines, known        int
	full                   bool
	minTime, rest          time.Duration
	json, doc, charts      string
}

func parse(args []string, log io.Writer) (settings, error) {
	var s settings
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(log)
	sizes := f.String("sizes", "100,1000,10000", "numbers of `VMs` outside of the VCH")
	f.IntVar(&s.machines, "machines", 500, "number of machines in the VCH, but not more than there are other VMs")
	latencies := f.String("latencies", "0s,5ms,20ms", "`times` that are added to each request")
	concurrency := f.String("concurrency", "1,8,32", "`numbers` of operations at once")
	operations := f.String("operations", "status,list,create,delete", "`operations`; to delete needs create")
	contenders := f.String("contenders", "usual,ours,floor", "`clients`")
	f.BoolVar(&s.full, "full", false, "measure all combinations, and lists at each concurrency")
	f.DurationVar(&s.minTime, "time", 300*time.Millisecond, "`time` that status and list are repeated for, at least")
	f.IntVar(&s.known, "known", 10000, "number of machines that ours knows while it rests; 0: not measured")
	f.DurationVar(&s.rest, "rest", time.Minute, "`time` that it rests")
	f.StringVar(&s.json, "json", "docs/performance/results.json", "`file` for the results")
	f.StringVar(&s.doc, "doc", "docs/performance.md", "`file` whose marked part becomes the tables; none: \"\"")
	f.StringVar(&s.charts, "charts", "docs/performance", "`directory` for the charts; none: \"\"")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	var errs [5]error
	s.sizes, errs[0] = list(*sizes, positive)
	s.latencies, errs[1] = list(*latencies, time.ParseDuration)
	s.concurrency, errs[2] = list(*concurrency, positive)
	s.operations, errs[3] = list(*operations, oneOf(child.Status, child.List, child.Create, child.Delete))
	s.contenders, errs[4] = list(*contenders, oneOf(contender.UsualName, contender.OursName, contender.FloorName))
	if err := errors.Join(errs[:]...); err != nil {
		return s, err
	}
	if f.NArg() > 0 || s.machines < 1 || slices.Contains(s.operations, child.Delete) != slices.Contains(s.operations, child.Create) {
		return s, errors.New("there are no arguments but flags, at least one machine, and create with delete")
	}
	return s, nil
}

// list parses a list with commas.
func list[T any](text string, parse func(string) (T, error)) ([]T, error) {
	var all []T
	for item := range strings.SplitSeq(text, ",") {
		v, err := parse(strings.TrimSpace(item))
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func positive(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is no positive number", text)
	}
	return n, nil
}

func oneOf(names ...string) func(string) (string, error) {
	return func(text string) (string, error) {
		if !slices.Contains(names, text) {
			return "", fmt.Errorf("%q is none of %s", text, strings.Join(names, ", "))
		}
		return text, nil
	}
}
