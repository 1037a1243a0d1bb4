// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
)

// RunOptions of a run.
type RunOptions struct {
	Plan Plan
	// Machines is how many there are at the begin and at the end; the plan scales below.
	Machines int
	// For is how long the plan is.
	For time.Duration
	// Met is how many kinds must have met a request. On a computer that is slow enough for
	// fewer, the plan is followed again.
	Met int
	// Patience is how long the recovery, and the removal of all machines, may take. It
	// ends waits for what will never come, so it should be longer than all that MCM and the
	// driver wait for, however busy the computer is.
	Patience time.Duration
	// Restart starts the machine-controller again when the faults are over, as an operator
	// would who does not want to wait for what MCM leaves alone for minutes after some errors.
	Restart bool
	// Record, if not nil, gets a sample every Interval.
	Record   func(Sample)
	Interval time.Duration
}

// Report is what came of a run.
type Report struct {
	// Calm, Recovery and Removal are the times from the deployment to all machines being
	// well, from the end of the faults to that, and from the scaling to zero to nothing
	// being left.
	Calm, Recovery, Removal time.Duration
	// Begun and Over are when the faults began and were over, since the begin of the recording.
	Begun, Over time.Duration
	// Before and After are samples with all machines there and no fault.
	Before, After Sample
	// Held and Left are what programs held with all machines there before any fault, and
	// at the end with none.
	Held, Left map[string]Holdings
	// Quiet is the time from nothing being left to programs holding no more than before:
	// they close connections that have been idle for a while.
	Quiet time.Duration
	// Sessions are at the end: those of the driver that it uses or has used.
	Sessions Sessions
	// Met are the kinds during whose steps requests came to the vCenter, sorted: those that
	// had something to break.
	Met []string
	// Logins and Requests are how many there were in all. Revived is how often each program was started again.
	Logins, Requests int
	Revived          map[string]int
}

// Sessions are the driver's at one moment.
type Sessions struct {
	// Used have been used after the login by a driver that was not killed. In the end there
	// may be one: those of older Secrets are logged out.
	Used int
	// Unused are those whose login's answer was lost, so that nobody knows them.
	Unused int
	// Left are those of drivers that were killed. vCenter ends both when they are idle.
	Left int
	// Secrets is how often the Secret was changed.
	Secrets int
}

// Run follows a plan. Its error says everything that was not as it should be.
func (w *World) Run(ctx context.Context, o RunOptions) (*Report, error) {
	r, start := &Report{}, time.Now()
	if o.Record != nil {
		defer w.record(ctx, o.Interval, o.Record)()
	}
	before, err := w.begin(ctx, o.Machines, o.Patience, r)
	if err != nil {
		return r, err
	}
	w.logf("%.1f s until %d machines were there; the faults begin", r.Calm.Seconds(), o.Machines)
	r.Begun = time.Since(start)
	if err := w.faults(ctx, o, r); err != nil {
		return r, err
	}
	r.Over = time.Since(start)
	w.logf("the faults are over")
	if o.Restart {
		if err := w.kill(stack.MachineController); err != nil {
			return r, err
		}
	}
	if err := w.scale(ctx, o.Machines); err != nil {
		return r, err
	}
	r.Recovery, err = until(ctx, o.Patience, func(ctx context.Context) error { return w.whole(ctx, before, o.Machines) })
	if err != nil {
		return r, fmt.Errorf("recover: %w", err)
	}
	w.logf("%.1f s until all %d machines were well again", r.Recovery.Seconds(), o.Machines)
	r.After = w.sample(ctx, time.Now())
	return r, w.end(ctx, before, o.Machines, o.Patience, r)
}

// faults follows the plan until enough kinds have met requests.
func (w *World) faults(ctx context.Context, o RunOptions, r *Report) error {
	for deadline := time.Now().Add(o.Patience); ; {
		met, err := w.follow(ctx, o.Plan, o.For)
		r.Met = slices.Compact(slices.Sorted(slices.Values(append(r.Met, met...))))
		switch {
		case err != nil:
			return err
		case len(r.Met) >= o.Met:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("only while %v struck did requests come, want %d kinds", r.Met, o.Met)
		}
	}
}

// begin makes all machines and takes the first sample.
func (w *World) begin(ctx context.Context, machines int, patience time.Duration, r *Report) (*stack.Inventory, error) {
	before, err := w.Inventory(ctx)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(w.setUp(ctx), w.deploy(ctx, machines)); err != nil {
		return nil, err
	}
	r.Calm, err = until(ctx, patience, func(ctx context.Context) error { return w.whole(ctx, before, machines) })
	if err != nil {
		return nil, fmt.Errorf("make the machines before any fault: %w", err)
	}
	r.Before = w.sample(ctx, time.Now())
	_, err = until(ctx, patience, func(ctx context.Context) error {
		r.Held = w.holdings(ctx)
		if len(r.Held) < len(w.Stack.Profiles()) {
			return errors.New("not all programs say what they hold")
		}
		return nil
	})
	return before, err
}

// end removes all machines and looks at what is left.
func (w *World) end(ctx context.Context, before *stack.Inventory, machines int, patience time.Duration, r *Report) (err error) {
	if err := w.scale(ctx, 0); err != nil {
		return err
	}
	r.Removal, err = until(ctx, patience, func(ctx context.Context) error { return w.clean(ctx, before) })
	if err != nil {
		return fmt.Errorf("remove all machines: %w", err)
	}
	w.logf("%.1f s until nothing was left", r.Removal.Seconds())
	r.Quiet, err = until(ctx, patience, func(ctx context.Context) error {
		r.Left = w.holdings(ctx)
		r.Sessions = w.sessions()
		return errors.Join(leaked(r.Held, r.Left, machines), r.Sessions.tooMany())
	})
	w.logf("%.1f s until the programs were quiet", r.Quiet.Seconds())
	w.mu.Lock()
	r.Logins, r.Requests, r.Revived = w.Sim.Logins(), w.answers.Arrived(), maps.Clone(w.revived)
	w.mu.Unlock()
	return err
}

// tooMany is not nil if the driver uses more than one session: those that a change of the
// Secret supersedes are logged out after a minute without use.
func (s Sessions) tooMany() error {
	if s.Used > 1 {
		return fmt.Errorf("%d sessions after %d changes of the Secret", s.Used, s.Secrets)
	}
	return nil
}

// sessions are the driver's now.
func (w *World) sessions() Sessions {
	w.mu.Lock()
	defer w.mu.Unlock()
	found := Sessions{Secrets: w.rotated}
	for _, s := range w.Sim.SessionList() {
		switch {
		case !isDriver(s.UserAgent):
		case w.left[s.Key]:
			found.Left++
		case s.CallCount > 1:
			found.Used++
		default:
			found.Unused++
		}
	}
	return found
}

// follow does what the plan says and returns when all is undone, with the kinds that met
// a request.
func (w *World) follow(ctx context.Context, plan Plan, length time.Duration) ([]string, error) {
	start := time.Now()
	var (
		all    sync.WaitGroup
		mu     sync.Mutex
		errs   []error
		met    []string
		failed = func(err error) {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		}
	)
	for _, lane := range lanes() {
		all.Go(func() {
			for _, step := range plan.Steps[lane] {
				if waitUntil(ctx, start.Add(step.At)) != nil {
					return
				}
				arrived := w.answers.Arrived()
				if err := w.step(ctx, step, start); err != nil {
					failed(fmt.Errorf("%s: %w", step.Kind.Name, err))
				}
				if w.answers.Arrived() > arrived {
					mu.Lock()
					met = append(met, step.Kind.Name)
					mu.Unlock()
				}
			}
		})
	}
	all.Go(func() {
		for _, scale := range plan.Scales {
			if waitUntil(ctx, start.Add(scale.At)) != nil {
				return
			}
			w.logf("%6.1f s scale to %d", time.Since(start).Seconds(), scale.Machines)
			if err := w.scale(ctx, scale.Machines); err != nil {
				failed(err)
			}
		}
	})
	all.Wait()
	failed(waitUntil(ctx, start.Add(length)))
	slices.Sort(met)
	return slices.Compact(met), errors.Join(errs...)
}

// step breaks a thing and mends it. It takes its time from now on, even if it comes later
// than planned.
func (w *World) step(ctx context.Context, step Step, start time.Time) error {
	over := time.Now().Add(step.For)
	arrived := w.answers.Arrived()
	said, end, err := step.Kind.strike(ctx, w, step.Strength)
	w.logf("%6.1f s %s for %.1f s %s", time.Since(start).Seconds(), step.Kind.Name, step.For.Seconds(), said)
	errs := []error{err, waitUntil(ctx, over)}
	w.logf("%6.1f s %s ends, %d requests came meanwhile", time.Since(start).Seconds(), step.Kind.Name, w.answers.Arrived()-arrived)
	if end != nil {
		// The run may be over; what is broken is mended all the same.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), mendTimeout)
		defer cancel()
		errs = append(errs, end(ctx))
	}
	return errors.Join(errs...)
}

// mendTimeout is how long it may take to undo a fault.
const mendTimeout = 2 * untilItWorksTimeout

// waitUntil waits for a moment, or returns why it does not.
func waitUntil(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
