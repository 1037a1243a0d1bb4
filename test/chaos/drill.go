// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
)

// Outcome is what one kind did in a drill.
type Outcome struct {
	Kind Kind
	// Codes are those of MCM that machines showed meanwhile, sorted; none if nobody noticed.
	Codes []string
	// Recovery is the time from the end of the fault to all being well.
	Recovery time.Duration
	// Waited says why it was not, within the patience: MCM waits for 3 or 10 minutes after some errors.
	Waited error
}

// DrillOptions of a drill.
type DrillOptions struct {
	Kinds []Kind
	// Machines is how many there are between two faults.
	Machines int
	// For is how long a fault lasts at least.
	For time.Duration
	// Patience is how long to wait for a recovery before the machine-controller is started
	// again, so that it forgets what it waits for.
	Patience time.Duration
}

// nothing is a kind that breaks nothing: what a recovery takes is to be compared with it,
// since MCM needs some 20 seconds to remove a machine that nothing hinders.
func nothing() Kind {
	return Kind{Name: "nothing", Least: leastStep, strike: func(context.Context, *World, float64) (string, undo, error) { return "", nil, nil }}
}

// Drill breaks nothing, and then one thing after the other, while machines are removed and
// made, and has done with the outcome of each. It ends with no machine, and the vCenter as before.
func (w *World) Drill(ctx context.Context, o DrillOptions, done func(Outcome)) error {
	const patience = 15 * time.Minute
	r := &Report{}
	before, err := w.begin(ctx, o.Machines, patience, r)
	if err != nil {
		return err
	}
	for _, kind := range append([]Kind{nothing()}, o.Kinds...) {
		outcome, err := w.drill(ctx, o, kind, before)
		if err != nil {
			return fmt.Errorf("%s: %w", kind.Name, err)
		}
		done(outcome)
		if outcome.Waited == nil {
			continue
		}
		if err := w.kill(stack.MachineController); err != nil {
			return err
		}
		if _, err := until(ctx, patience, func(ctx context.Context) error { return w.whole(ctx, before, o.Machines) }); err != nil {
			return fmt.Errorf("%s, and the machine-controller was started again: %w", kind.Name, err)
		}
	}
	return w.end(ctx, before, o.Machines, patience, r)
}

// drill breaks one thing.
func (w *World) drill(ctx context.Context, o DrillOptions, kind Kind, before *stack.Inventory) (Outcome, error) {
	seen := codes{}
	stop := every(ctx, 500*time.Millisecond, func(ctx context.Context) { seen.look(ctx, w) })
	defer stop()
	length := max(kind.Least, o.For)
	var scaling sync.WaitGroup
	var scaled error
	start := time.Now()
	scaling.Go(func() {
		for i, count := range []int{o.Machines - 2, o.Machines + 2} {
			if waitUntil(ctx, start.Add(500*time.Millisecond+time.Duration(i)*length/2)) != nil {
				return
			}
			if scaled = w.scale(ctx, count); scaled != nil {
				return
			}
		}
	})
	err := w.step(ctx, Step{Kind: kind, For: length, Strength: 0.5}, start)
	scaling.Wait()
	if err != nil || scaled != nil {
		return Outcome{}, fmt.Errorf("break and mend it: %w, scale: %w", err, scaled)
	}
	over := time.Now()
	if err := w.scale(ctx, o.Machines); err != nil {
		return Outcome{}, err
	}
	outcome := Outcome{Kind: kind}
	_, outcome.Waited = until(ctx, o.Patience, func(ctx context.Context) error { return w.whole(ctx, before, o.Machines) })
	outcome.Recovery = time.Since(over)
	stop()
	outcome.Codes = slices.Sorted(maps.Keys(seen))
	return outcome, nil
}

// codes are those of MCM in what machines say about their last operation.
type codes map[string]bool

var code = regexp.MustCompile(`code = \[?(\w+)`)

func (c codes) look(ctx context.Context, w *World) {
	machines, err := w.machines(ctx)
	if err != nil {
		return // the API server may be what is broken
	}
	for i := range machines {
		for _, found := range code.FindAllStringSubmatch(machines[i].Status.LastOperation.Description, -1) {
			c[found[1]] = true
		}
	}
}
