// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package kvstore_test

import (
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/kvstore"
)

// interruptions is how often at most one writer is interrupted for the other in an order.
const interruptions = 4

// TestInWhateverOrderTwoWritersStepsComeNothingIsLost takes all orders of the steps of two
// writers with few interruptions, with the answer to a move of one of them lost or not.
func TestInWhateverOrderTwoWritersStepsComeNothingIsLost(t *testing.T) {
	orders := 0
	for _, lost := range []int{-1, 0, 1} { // which writer's
		var order []int // at each point, 1 to interrupt
		for more := true; more; orders++ {
			p, d := inMemory()
			d.tick = 2 * kvstore.DefaultGrace // deletes what it can
			p.put(t, "apiKV.dat", "{}")
			branches := interleave(t, p.directory, d, order, lost)
			if got := count(t, p.store(t, 0)); got != 2 {
				t.Fatalf("order %v, lost answer %d: got %d", order, lost, got)
			}
			order, more = following(order, branches)
		}
	}
	if orders < 1000 {
		t.Errorf("only %d orders were tried", orders)
	}
}

// following returns the next order after one, given how many ways there were at each point.
func following(order, branches []int) ([]int, bool) {
	taken := make([]int, len(branches))
	copy(taken, order)
	for i := len(taken) - 1; i >= 0; i-- {
		if taken[i]+1 < branches[i] {
			return append(taken[:i:i], taken[i]+1), true
		}
	}
	return nil, false
}

// turn is a writer that waits to take a step, or has ended.
type turn struct {
	writer int
	goOn   chan struct{} // nil if it has ended
}

// interleave lets two writers increment, one step at a time, in an order. It returns how many
// ways there were to go on at each point.
func interleave(t *testing.T, directory string, d *disk, order []int, lost int) (branches []int) {
	t.Helper()
	arrive := make(chan turn)
	for w := range 2 {
		go steps(t, directory, d, w, w == lost, arrive)
	}
	waiting, running, current, interrupted := map[int]chan struct{}{}, 2, 0, 0
	for {
		for len(waiting) < running {
			if now := <-arrive; now.goOn == nil {
				running--
			} else {
				waiting[now.writer] = now.goOn
			}
		}
		if running == 0 {
			return branches
		}
		if waiting[current] == nil {
			current = 1 - current // it has ended
		}
		ways := running
		if interrupted == interruptions {
			ways = 1
		}
		if i := len(branches); i < len(order) && order[i] == 1 {
			current, interrupted = 1-current, interrupted+1
		}
		branches = append(branches, ways)
		close(waiting[current])
		delete(waiting, current)
	}
}

// steps increments, and waits before each step.
func steps(t *testing.T, directory string, d *disk, writer int, lost bool, arrive chan<- turn) {
	t.Helper()
	m := &machine{disk: d}
	m.around = func(what string, do func() error) error {
		mine := turn{writer: writer, goOn: make(chan struct{})}
		arrive <- mine
		<-mine.goOn
		err := do()
		if lost && what == "move" && err == nil {
			lost = false
			return errdefs.New(errdefs.Unavailable, "a lost answer")
		}
		return err
	}
	s, err := kvstore.Open(kvstore.Options{Files: m, Directory: directory, Name: "apiKV"})
	if err == nil {
		err = s.Update(t.Context(), increment)
	}
	if err != nil {
		t.Error(err)
	}
	arrive <- turn{writer: writer}
}
