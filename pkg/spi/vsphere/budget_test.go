// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere_test

import (
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// Budgets are in SOAP calls with a warm session.
const (
	budgetCreate = 20 // with Initialize
	budgetStatus = 3
	budgetList   = 4
	budgetDelete = 24
)

// cost is what one machine's life costs.
type cost struct{ create, status, list, remove int }

// measure counts the calls of one machine's life among machines others.
func (w site) measure(machines int) cost {
	w.Helper()
	s, spec, secret := w.SPI(), w.Spec(), w.Secret()
	var group errgroup.Group
	group.SetLimit(16)
	for i := range machines {
		group.Go(func() error {
			_, err := s.CreateMachine(w.Context(), fmt.Sprintf("other-%d", i), spec, secret)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		w.Fatal(err)
	}
	if _, err := s.ListMachines(w.Context(), spec, secret); err != nil { // warm up
		w.Fatal(err)
	}
	var c cost
	count := func(to *int, what string, call func() error) {
		w.Helper()
		w.TakeCalls()
		if err := call(); err != nil {
			w.Fatalf("%s: %v", what, err)
		}
		total, calls := w.TakeCalls()
		*to += total
		w.Logf("%s: %d calls %v", what, total, calls)
		if calls["Login"] != 0 {
			w.Errorf("%s logged in", what)
		}
	}
	count(&c.create, "CreateMachine", func() error {
		_, err := s.CreateMachine(w.Context(), "counted", spec, secret)
		return err
	})
	count(&c.create, "InitializeMachine", func() error {
		_, _, err := s.InitializeMachine(w.Context(), "counted", "", spec, secret)
		return err
	})
	count(&c.status, "GetMachineStatus", func() error {
		_, _, err := s.GetMachineStatus(w.Context(), "counted", "", spec, secret)
		return err
	})
	count(&c.list, "ListMachines", func() error {
		got, err := s.ListMachines(w.Context(), spec, secret)
		if len(got) != machines+1 {
			w.Errorf("%d machines listed, want %d", len(got), machines+1)
		}
		return err
	})
	count(&c.remove, "DeleteMachine", func() error {
		_, err := s.DeleteMachine(w.Context(), "counted", "", spec, secret)
		return err
	})
	return c
}

func TestCallsStayWithinTheBudgetAndDoNotGrowWithTheInventory(t *testing.T) {
	t.Parallel()
	small := newSite(t, vchsim.Options{}).measure(0)
	w := newSite(t, vchsim.Options{OtherVMs: 5000})
	large := w.measure(500)
	for name, n := range map[string][3]int{
		"Create and Initialize": {small.create, large.create, budgetCreate},
		"GetMachineStatus":      {small.status, large.status, budgetStatus},
		"ListMachines":          {small.list, large.list, budgetList},
		"Delete":                {small.remove, large.remove, budgetDelete},
	} {
		if n[0] > n[2] || n[1] > n[2] {
			t.Errorf("%s: %d calls, %d with 5,000 other VMs and 500 machines; the budget is %d", name, n[0], n[1], n[2])
		}
	}
	if got := w.Sim.Logins(); got != 2 { // the test's own client is one
		t.Errorf("%d logins, want one for the backend", got-1)
	}
}

func TestAStatusReadsNoMoreBytesInALargeInventory(t *testing.T) {
	t.Parallel()
	bytes := func(others int) int64 {
		w := newSite(t, vchsim.Options{OtherVMs: others})
		s, spec, secret := w.SPI(), w.Spec(), w.Secret()
		if _, err := s.CreateMachine(t.Context(), "machine-x", spec, secret); err != nil {
			t.Fatal(err)
		}
		before := w.Sim.BytesSent()
		if _, _, err := s.GetMachineStatus(t.Context(), "machine-x", "", spec, secret); err == nil {
			t.Fatal("a machine that was not started has a status")
		}
		if _, err := s.ListMachines(t.Context(), spec, secret); err != nil {
			t.Fatal(err)
		}
		return w.Sim.BytesSent() - before
	}
	small, large := bytes(0), bytes(5000)
	t.Logf("%d bytes, %d with 5,000 other VMs", small, large)
	if large > small+small/10 {
		t.Errorf("status and list read %d bytes, but %d with 5,000 other VMs", small, large)
	}
}
