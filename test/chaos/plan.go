// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Step is a kind at a time. Times count from the begin of the faults.
type Step struct {
	Kind     Kind
	At, For  time.Duration
	Strength float64
}

// Scale is a number of machines from a time on.
type Scale struct {
	At       time.Duration
	Machines int
}

// Plan is all that a run does to an installation.
type Plan struct {
	Seed   uint64
	Steps  map[Lane][]Step
	Scales []Scale
}

// Times between the steps of a lane, and between changes of the number of machines.
// A program that was killed needs some seconds until it does anything again.
const (
	leastGap, mostGap         = 500 * time.Millisecond, 2 * time.Second
	leastProgram, mostProgram = 4 * time.Second, 9 * time.Second
	leastScale, mostScale     = 3 * time.Second, 6 * time.Second
)

// NewPlan draws a plan. The same arguments give the same plan. Every kind of a lane comes
// once before one comes again, so a run that is long enough has them all.
//
// calm is how much longer than drawn it lasts until the next step of a lane: without, something
// is broken most of the time, and with dozens of machines few of them get any further.
func NewPlan(seed uint64, kinds []Kind, machines int, length, calm time.Duration) Plan {
	plan := Plan{Seed: seed, Steps: map[Lane][]Step{}}
	for i, lane := range lanes() {
		// Each lane has a sequence of its own: a kind that is left out changes no other lane.
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		of := slices.DeleteFunc(slices.Clone(kinds), func(k Kind) bool { return k.Lane != lane })
		plan.Steps[lane] = drawSteps(rng, of, length, calm)
	}
	rng := rand.New(rand.NewPCG(seed, uint64(len(lanes()))))
	third := machines / 3
	for at := leastScale / 2; at < length; at += between(rng, leastScale, mostScale) {
		// Down and up again, so that there is always something to make or to remove.
		count := third + rng.IntN(third+1)
		if len(plan.Scales)%2 == 1 {
			count = machines - rng.IntN(third+1)
		}
		plan.Scales = append(plan.Scales, Scale{At: at, Machines: count})
	}
	return plan
}

func drawSteps(rng *rand.Rand, kinds []Kind, length, calm time.Duration) []Step {
	var steps []Step
	at := time.Duration(0)
	for len(kinds) > 0 {
		fitted := false
		for _, i := range rng.Perm(len(kinds)) {
			step := Step{
				Kind: kinds[i], At: at + gap(rng, kinds[i].Lane) + calm,
				For: between(rng, kinds[i].Least, 2*kinds[i].Least), Strength: rng.Float64(),
			}
			if step.At+step.For > length {
				continue
			}
			steps, at, fitted = append(steps, step), step.At+step.For, true
		}
		if !fitted {
			break
		}
	}
	return steps
}

// gap draws the time between two steps of a lane.
func gap(rng *rand.Rand, lane Lane) time.Duration {
	if lane == Programs {
		return between(rng, leastProgram, mostProgram)
	}
	return between(rng, leastGap, mostGap)
}

// between draws a time in whole milliseconds.
func between(rng *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(rng.Int64N(int64((most-least)/time.Millisecond)))*time.Millisecond
}

// Names are the kinds that the plan has, sorted.
func (p *Plan) Names() []string {
	var names []string
	for _, steps := range p.Steps {
		for i := range steps {
			names = append(names, steps[i].Kind.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// String is the plan in the order of time, a line for each step and scaling.
func (p *Plan) String() string {
	type line struct {
		at   time.Duration
		text string
	}
	var lines []line
	for _, lane := range lanes() {
		for _, s := range p.Steps[lane] {
			lines = append(lines, line{s.At, fmt.Sprintf("%s for %.1f s, strength %.2f", s.Kind.Name, s.For.Seconds(), s.Strength)})
		}
	}
	for _, s := range p.Scales {
		lines = append(lines, line{s.At, fmt.Sprintf("scale to %d", s.Machines)})
	}
	slices.SortStableFunc(lines, func(a, b line) int { return int(a.at - b.at) })
	var text strings.Builder
	fmt.Fprintf(&text, "seed %d\n", p.Seed)
	for _, l := range lines {
		fmt.Fprintf(&text, "%6.1f s %s\n", l.at.Seconds(), l.text)
	}
	return text.String()
}
