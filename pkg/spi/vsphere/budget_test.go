// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// Budgets are in SOAP calls with a warm session.
const (
	budgetCreate = 15 // with Initialize; the first wait of a session makes its collector
	budgetStatus = 0
	budgetList   = 0
	budgetDelete = 18
)

// What one volume that is there and one that is made and goes with the machine may cost more,
// see volumeCost.
const (
	budgetVolumesCreate      = 30
	budgetVolumesDelete      = 32
	budgetVolumesCreateFiles = 12
	budgetVolumesDeleteFiles = 5
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
	w.watched(w.SPI()) // warm up
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

// volumeCost is what a machine with one volume that is there and one that goes with it costs more
// than one without: SOAP calls and requests for files. Polls do not count, of which a task takes one
// or two, nor further pages of who has which disk, of which there is one for each 1,000 VMs.
type volumeCost struct{ create, initialize, remove, createFiles, removeFiles int }

func (w site) measureVolumes() volumeCost {
	w.Helper()
	s := w.Backend(vcenter.Options{})
	w.PlantVolume("data", spitest.Volume{})
	spec := w.with(mounted("data", "/data"), mounted("", "/cache"))
	count := func(call func() error) (total, files int) {
		w.Helper()
		w.Sim.ResetCounters()
		if err := call(); err != nil {
			w.Fatal(err)
		}
		for what, n := range w.Sim.Calls() {
			switch {
			case strings.Contains(what, " /"):
				files += n
			case what != "WaitForUpdatesEx" && what != "ContinueRetrievePropertiesEx":
				total += n
			}
		}
		w.Logf("%d calls, %d requests for files: %v", total, files, w.Sim.Calls())
		return total, files
	}
	var c volumeCost
	for _, spec := range []*v1alpha1.ProviderSpec{w.Spec(), w.Spec(), spec} { // the first one logs in
		without := c
		c.create, c.createFiles = count(func() error { _, err := s.CreateMachine(w.Context(), "m", spec, w.Secret()); return err })
		c.initialize, _ = count(func() error { _, _, err := s.InitializeMachine(w.Context(), "m", "", spec, w.Secret()); return err })
		c.remove, c.removeFiles = count(func() error { _, err := s.DeleteMachine(w.Context(), "m", "", spec, w.Secret()); return err })
		if len(spec.Volumes) > 0 {
			c.create, c.initialize, c.remove = c.create-without.create, c.initialize-without.initialize, c.remove-without.remove
			c.createFiles, c.removeFiles = c.createFiles-without.createFiles, c.removeFiles-without.removeFiles
		}
	}
	return c
}

func TestVolumesStayWithinTheBudgetAndDoNotGrowWithTheInventory(t *testing.T) {
	t.Parallel()
	small := newSite(t, vchsim.Options{NoForeign: true}).measureVolumes()
	large := newSite(t, vchsim.Options{OtherVMs: 2000}).measureVolumes()
	t.Logf("%+v, with 2,000 other VMs %+v", small, large)
	most := volumeCost{create: budgetVolumesCreate, remove: budgetVolumesDelete, createFiles: budgetVolumesCreateFiles, removeFiles: budgetVolumesDeleteFiles}
	for what, c := range map[string]volumeCost{"the small world": small, "the large world": large} {
		if c.create > most.create || c.initialize > most.initialize || c.remove > most.remove || c.createFiles > most.createFiles || c.removeFiles > most.removeFiles {
			t.Errorf("in %s two volumes cost %+v more, the budget is %+v", what, c, most)
		}
	}
	if small != large {
		t.Errorf("two volumes cost %+v more, but with 2,000 other VMs %+v", small, large)
	}
}
