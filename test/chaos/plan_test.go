// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/chaos"
)

func TestASeedGivesTheSamePlanAgain(t *testing.T) {
	t.Parallel()
	draw := func(seed uint64) string {
		plan := chaos.NewPlan(seed, chaos.Kinds(), 20, 5*time.Minute, 0)
		return plan.String()
	}
	if diff := cmp.Diff(draw(1), draw(1)); diff != "" {
		t.Errorf("two plans of one seed (-first +second):\n%s", diff)
	}
	if draw(1) == draw(2) {
		t.Error("two seeds give one plan")
	}
}

func TestALongPlanHasAllKinds(t *testing.T) {
	t.Parallel()
	all := chaos.Kinds()
	plan := chaos.NewPlan(3, all, 20, 10*time.Minute, 0)
	if names := plan.Names(); len(names) != len(all) {
		t.Errorf("%d kinds of %d: %v", len(names), len(all), names)
	}
}

func TestAPlanKeepsItsLimits(t *testing.T) {
	t.Parallel()
	const length, machines = time.Minute, 12
	for seed := range uint64(50) {
		plan := chaos.NewPlan(seed, chaos.Kinds(), machines, length, 0)
		for lane, steps := range plan.Steps {
			end := time.Duration(0)
			for _, s := range steps {
				if s.Kind.Lane != lane || s.At < end || s.At+s.For > length || s.For < s.Kind.Least || s.Strength < 0 || s.Strength >= 1 {
					t.Errorf("seed %d, lane %s: %s at %s for %s, strength %f, after %s", seed, lane, s.Kind.Name, s.At, s.For, s.Strength, end)
				}
				end = s.At + s.For
			}
		}
		for _, s := range plan.Scales {
			if s.At >= length || s.Machines < machines/3 || s.Machines > machines {
				t.Errorf("seed %d: %d machines at %s", seed, s.Machines, s.At)
			}
		}
	}
}

func TestACalmPlanHasTheSameKindsWithMoreTimeBetweenThem(t *testing.T) {
	t.Parallel()
	const calm = 10 * time.Second
	dense, sparse := chaos.NewPlan(4, chaos.Kinds(), 12, time.Minute, 0), chaos.NewPlan(4, chaos.Kinds(), 12, 20*time.Minute, calm)
	for lane, steps := range sparse.Steps {
		if got, want := steps[0].At, dense.Steps[lane][0].At+calm; steps[0].Kind.Name != dense.Steps[lane][0].Kind.Name || got != want {
			t.Errorf("lane %s begins with %s at %s, want %s at %s", lane, steps[0].Kind.Name, got, dense.Steps[lane][0].Kind.Name, want)
		}
		for i := range steps[1:] {
			if gap := steps[i+1].At - steps[i].At - steps[i].For; gap < calm {
				t.Errorf("lane %s: %s after %s", lane, gap, steps[i].Kind.Name)
			}
		}
	}
}

func TestAKindThatIsLeftOutChangesNoOtherLane(t *testing.T) {
	t.Parallel()
	var names []string
	for _, k := range chaos.Kinds() {
		if k.Lane != chaos.Programs {
			names = append(names, k.Name)
		}
	}
	few, err := chaos.Named(names...)
	if err != nil {
		t.Fatal(err)
	}
	all := chaos.NewPlan(5, chaos.Kinds(), 10, time.Minute, 0)
	some := chaos.NewPlan(5, few, 10, time.Minute, 0)
	all.Steps[chaos.Programs] = nil
	if diff := cmp.Diff(all.String(), some.String()); diff != "" {
		t.Errorf("the other lanes (-all kinds +without one lane):\n%s", diff)
	}
}

func TestTheCatalogueSaysWhatEachKindDoes(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, k := range chaos.Kinds() {
		if k.Name == "" || k.Does == "" || k.Undone == "" || k.Least <= 0 || seen[k.Name] {
			t.Errorf("kind %+v", k)
		}
		seen[k.Name] = true
	}
	if len(seen) < 20 {
		t.Errorf("only %d kinds", len(seen))
	}
	if _, err := chaos.Named("latency", "nonsense"); err == nil {
		t.Error("a kind that there is not is found")
	}
}
