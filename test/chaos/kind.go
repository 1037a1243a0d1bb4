// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Lane is a group of kinds that would get in each other's way.
type Lane string

// Lanes. Kinds of different ones strike at the same time.
const (
	// Network is the connection between the driver and the vCenter.
	Network Lane = "network"
	// VCenter is what the vCenter answers, and its guests.
	VCenter Lane = "vcenter"
	// Programs are those of the Pod, and the API server.
	Programs Lane = "programs"
)

// lanes are all lanes, in the order in which plans are drawn.
func lanes() []Lane { return []Lane{Network, VCenter, Programs} }

// leastStep is how long a step takes at least, unless its kind needs longer.
const leastStep = 3 * time.Second

// undo ends a fault. It is called once, when its step is over or the run is.
type undo func(context.Context) error

// Kind is one thing that breaks.
type Kind struct {
	Name string
	Lane Lane
	// Does and Undone say for people what breaks, and what ends it.
	Does, Undone string
	// Least is how long a step of this kind takes at least; at most it takes twice as long.
	Least time.Duration
	// strike breaks it. strength, at least 0 and below 1, is drawn from the seed and means
	// what the kind makes of it; said is what that was. The undo may be nil.
	strike func(ctx context.Context, w *World, strength float64) (said string, end undo, err error)
}

// Kinds is the catalogue, in the order of the lanes.
func Kinds() []Kind {
	var all []Kind
	for _, lane := range []struct {
		name  Lane
		kinds []Kind
	}{{Network, networkKinds()}, {VCenter, vcenterKinds()}, {Programs, programKinds()}} {
		for _, k := range lane.kinds {
			k.Lane = lane.name
			k.Least = max(k.Least, leastStep)
			all = append(all, k)
		}
	}
	return all
}

// Named returns the kinds of the catalogue that are named, in its order; none means all.
// A name that it does not have is an error.
func Named(names ...string) ([]Kind, error) {
	all := Kinds()
	if len(names) == 0 {
		return all, nil
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(k Kind) bool { return k.Name == name }) {
			return nil, fmt.Errorf("no kind of fault is called %q", name)
		}
	}
	return slices.DeleteFunc(all, func(k Kind) bool { return !slices.Contains(names, k.Name) }), nil
}
