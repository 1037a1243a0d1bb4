// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package spitest

import (
	"context"
	"fmt"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// maxSteps is far above what any operation needs.
const maxSteps = 500

// walks are the tests that let one thing go wrong at step 1, then at step 2, and
// so on until the operation makes it through.
func walks() map[string]func(*fixture) {
	kill := func(after bool) func(context.CancelFunc) Fault {
		return func(context.CancelFunc) Fault { return Fault{After: after, Kill: true, Kind: errdefs.Unavailable} }
	}
	cancelled := func(cancel context.CancelFunc) Fault { return Fault{Cancel: cancel} }
	lost := func(context.CancelFunc) Fault { return Fault{After: true, Kind: errdefs.Unavailable} }
	tests := map[string]func(*fixture){}
	for _, op := range []string{"create", "initialize", "shutdown", "delete"} {
		tests[op+" killed before each step"] = func(f *fixture) { walk(f, op, kill(false), errdefs.Unavailable) }
		tests[op+" killed after each step"] = func(f *fixture) { walk(f, op, kill(true), errdefs.Unavailable) }
		tests[op+" without the answer of each step"] = func(f *fixture) { walk(f, op, lost, errdefs.Unavailable) }
		tests[op+" cancelled at each step"] = func(f *fixture) {
			walk(f, op, cancelled, errdefs.Canceled, errdefs.DeadlineExceeded)
		}
	}
	for _, op := range []string{"create", "initialize", "status", "shutdown", "delete", "list"} {
		for _, kind := range FaultKinds() {
			tests[fmt.Sprintf("%s with %s at each step", op, kind)] = func(f *fixture) {
				alternate(f, op, func(context.CancelFunc) Fault { return Fault{Kind: kind} }, kind)
			}
		}
	}
	return tests
}

// walk lets fault strike at each step of the operation. An error must be of one
// of the kinds; what is there afterwards must come to its end by one reconcile,
// and for another machine by a delete alone.
func walk(f *fixture, opName string, fault func(context.CancelFunc) Fault, kinds ...errdefs.Kind) {
	both := func(int) []bool { return []bool{false, true} }
	f.walk(opName, both, fault, kinds...)
}

// alternate is walk with one machine for each step: every second one is deleted.
func alternate(f *fixture, opName string, fault func(context.CancelFunc) Fault, kinds ...errdefs.Kind) {
	f.walk(opName, func(step int) []bool { return []bool{step%2 == 0} }, fault, kinds...)
}

func (f *fixture) walk(opName string, ends func(step int) []bool, fault func(context.CancelFunc) Fault, kinds ...errdefs.Kind) {
	f.Helper()
	for step := 1; step <= maxSteps; step++ {
		struck := false
		for _, thenDelete := range ends(step) {
			name := fmt.Sprintf("walk-%d-%v", step, thenDelete)
			f.prepare(opName, name)
			ctx, cancel := context.WithCancel(f.Context())
			broken := fault(cancel)
			broken.Step = step
			heal := f.h.Inject(broken)
			err := f.operation(opName).run(ctx, f, name)
			struck = heal()
			cancel()
			if err != nil && !struck {
				f.Fatalf("%s at %d steps, without any fault: %v", opName, step, err)
			}
			if err != nil {
				f.wantError(fmt.Sprintf("%s struck at step %d", opName, step), err, kinds...)
			}
			f.finish(opName, name, err, thenDelete || opName == "delete", step)
		}
		if !struck {
			f.Logf("%s takes %d steps", opName, step-1)
			return
		}
	}
	f.Fatalf("%s did not make it through in %d steps", opName, maxSteps)
}

// prepare brings a machine to where the operation starts.
func (f *fixture) prepare(opName, name string) {
	f.Helper()
	switch {
	case opName == "create":
	case opName == "initialize", len(f.volumes) > 0: // volumes are all one to a machine that runs
		f.create(name)
	default:
		f.start(name)
	}
}

// finish checks that the machine comes to its end after the operation was struck.
func (f *fixture) finish(opName, name string, err error, thenDelete bool, step int) {
	f.Helper()
	if err == nil && opName == "delete" {
		f.wantAbsent(name) // "done" must be true
	}
	if !thenDelete {
		if err := f.reconcile(name); err != nil {
			f.Fatalf("reconcile after %s was struck at step %d: %v", opName, step, err)
		}
		f.wantRunning(name)
	}
	if err := f.tryDelete(name); err != nil {
		f.Fatalf("delete after %s was struck at step %d: %v", opName, step, err)
	}
	f.wantAbsent(name)
	if f.afterStep != nil {
		f.afterStep(step)
	}
}
