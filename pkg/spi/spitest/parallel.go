// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package spitest

import (
	"fmt"
	"sync"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
)

// width is how many goroutines work at the same time.
const width = 20

// parallel are the tests of calls that overlap.
func parallel() map[string]func(*fixture) {
	return map[string]func(*fixture){
		"many machines come and go at the same time":          manyMachines,
		"many creates of one machine make one machine":        oneMachine,
		"creates and deletes of one machine end in one state": createsAndDeletes,
	}
}

// together runs work in width goroutines, all with one implementation.
func (f *fixture) together(work func(i int, s spi.PluginSPI)) {
	f.Helper()
	f.some(width, work)
}

// some runs work in n goroutines, all with one implementation.
func (f *fixture) some(n int, work func(i int, s spi.PluginSPI)) {
	f.Helper()
	s := f.spi()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { work(i, s) })
	}
	wg.Wait()
}

func manyMachines(f *fixture) {
	f.start("constant")
	constant := f.providerID("constant")
	f.together(func(i int, s spi.PluginSPI) {
		name := fmt.Sprintf("many-%d", i)
		id, err := s.CreateMachine(f.Context(), name, f.spec(), f.secret())
		if err != nil {
			f.Errorf("create %s: %v", name, err)
			return
		}
		if _, _, err := s.InitializeMachine(f.Context(), name, id, f.spec(), f.secret()); err != nil {
			f.Errorf("initialize %s: %v", name, err)
		}
		got, err := s.ListMachines(f.Context(), f.spec(), f.secret())
		if err != nil || got[id] != name || got[constant] != "constant" {
			f.Errorf("list while others come and go = %v, %v, want %s and constant in it", got, err, name)
		}
		if found, _, err := s.GetMachineStatus(f.Context(), name, "", f.spec(), f.secret()); err != nil || found != id {
			f.Errorf("status of %s = %q, %v, want %q", name, found, err, id)
		}
		if i%2 == 0 {
			if _, err := s.DeleteMachine(f.Context(), name, id, f.spec(), f.secret()); err != nil {
				f.Errorf("delete %s: %v", name, err)
			}
		}
	})
	f.wantRunning("constant")
	for i := range width {
		name := fmt.Sprintf("many-%d", i)
		if i%2 == 0 {
			f.wantAbsent(name)
		} else {
			f.wantRunning(name)
		}
	}
	if got, want := len(f.list()), width/2+1; got != want {
		f.Errorf("list holds %d machines, want %d", got, want)
	}
}

func oneMachine(f *fixture) {
	const name = "one"
	f.together(func(_ int, s spi.PluginSPI) {
		id, err := s.CreateMachine(f.Context(), name, f.spec(), f.secret())
		if errdefs.Is(err, errdefs.Aborted) {
			return // an overlapping call was first
		}
		if err != nil || id != f.providerID(name) {
			f.Errorf("create = %q, %v, want %q", id, err, f.providerID(name))
			return
		}
		_, _, err = s.InitializeMachine(f.Context(), name, id, f.spec(), f.secret())
		if err != nil && !errdefs.Is(err, errdefs.Aborted) {
			f.Errorf("initialize: %v", err)
		}
	})
	if err := f.reconcile(name); err != nil {
		f.Fatal(err)
	}
	f.wantRunning(name)
	f.delete(name)
	f.wantAbsent(name)
}

func createsAndDeletes(f *fixture) {
	const name = "contested"
	f.together(func(i int, s spi.PluginSPI) {
		var err error
		if i%2 == 0 {
			_, err = s.CreateMachine(f.Context(), name, f.spec(), f.secret())
		} else {
			_, err = s.DeleteMachine(f.Context(), name, "", f.spec(), f.secret())
		}
		if err != nil && !errdefs.Is(err, errdefs.Aborted) {
			f.Errorf("call %d: %v", i, err)
		}
	})
	if got := f.machines(name); len(got) > 1 {
		f.Fatalf("want at most one VM, got %v", got)
	}
	f.delete(name)
	f.wantAbsent(name)
}
