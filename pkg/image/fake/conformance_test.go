// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package fake_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	testclock "k8s.io/utils/clock/testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/fake"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/imagetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	imagetest.Run(t, newHarness)
}

func TestConformanceUnderFaults(t *testing.T) {
	t.Parallel()
	imagetest.RunFaults(t, newHarness)
}

// harness is a world in memory.
type harness struct {
	*fake.Place
	clock  *testclock.FakeClock
	stores int
}

func newHarness(*testing.T) imagetest.Harness {
	c := testclock.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	return &harness{Place: fake.New(fake.Options{Clock: c}), clock: c}
}

func (h *harness) Store() image.Store { return h.store() }

func (h *harness) store() *fake.Store {
	h.stores++
	return h.Place.Store(fmt.Sprintf("process-%d", h.stores))
}

func (h *harness) Advance(d time.Duration) { h.clock.Step(d) }

func (h *harness) Faulty(fault imagetest.Fault) (image.Store, func() bool) {
	s := h.store()
	var steps atomic.Int64
	s.Intercept(func(_ context.Context, step string, do func() error) error {
		n := int(steps.Add(1))
		err := errdefs.New(fault.Kind, "the fault at step %d, %s", fault.Step, step)
		switch {
		case n == fault.Step && fault.Cancel != nil:
			fault.Cancel()
		case n == fault.Step && fault.After:
			_ = do()
			return err
		case n == fault.Step, n > fault.Step && fault.Kill && fault.Cancel == nil:
			return err
		}
		return do()
	})
	return s, func() bool { return steps.Load() >= int64(fault.Step) }
}
