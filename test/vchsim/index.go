// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"slices"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

type ref = types.ManagedObjectReference

// index hears of every object that vcsim adds, changes and removes, in the
// goroutine and under the lock of whoever changes it. It knows names and UUIDs
// of all VMs without touching them again: vcsim's own searches read every VM
// unlocked, which takes long and races with changes.
type index struct {
	sim *Sim

	mu     sync.Mutex
	vms    map[ref]entry
	byBIOS map[string][]ref
}

type entry struct {
	name, bios, instance string
	on                   bool
	// born is the first name, which files have.
	born string
}

func (x *index) register(s *Sim) {
	x.sim, x.vms, x.byBIOS = s, map[ref]entry{}, map[string][]ref{}
	s.registry.AddHandler(x)
}

// Reference names the handler; it is in no registry.
func (*index) Reference() ref { return ref{Type: "VchSim", Value: "index"} }

// PutObject is called when an object enters the inventory.
func (x *index) PutObject(_ *simulator.Context, o mo.Reference) {
	if vm, ok := o.(*simulator.VirtualMachine); ok {
		x.note(&vm.VirtualMachine)
		x.sim.calls.entered(vm)
	}
}

// UpdateObject is called after each change of an object.
func (x *index) UpdateObject(_ *simulator.Context, o mo.Reference, changes []types.PropertyChange) {
	if task, ok := o.(*mo.Task); ok && hasEnded(task) {
		x.sim.calls.ended(task.Self)
	}
	vm, ok := o.(*mo.VirtualMachine)
	if !ok {
		return
	}
	was, is := x.note(vm)
	if slices.ContainsFunc(changes, func(c types.PropertyChange) bool { return c.Name == "name" }) {
		x.sim.calls.complete(vm.Self)
	}
	switch {
	case is.on && vm.Config != nil:
		x.sim.locks.hold(vm.Self, disksOf(vm.Config.Hardware.Device))
	case was.on:
		x.sim.locks.release(vm.Self)
	}
	switch {
	case is.on && !was.on:
		x.sim.guests.powered(x.sim, vm)
	case was.on && !is.on:
		x.sim.guests.gone(x.sim, vm.Self, false)
	}
}

// RemoveObject is called before an object leaves the inventory.
func (x *index) RemoveObject(_ *simulator.Context, r ref) {
	if r.Type != "VirtualMachine" {
		return
	}
	x.mu.Lock()
	if e, ok := x.vms[r]; ok {
		x.drop(e, r)
		delete(x.vms, r)
	}
	x.mu.Unlock()
	x.sim.locks.release(r)
	x.sim.calls.failed(r)
	x.sim.guests.gone(x.sim, r, true)
}

func (x *index) note(vm *mo.VirtualMachine) (was, is entry) {
	is = entry{name: vm.Name, on: vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn}
	if vm.Config != nil {
		is.bios, is.instance = strings.ToLower(vm.Config.Uuid), strings.ToLower(vm.Config.InstanceUuid)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	was = x.vms[vm.Self]
	if is.born = was.born; is.born == "" {
		is.born = is.name
	}
	x.vms[vm.Self] = is
	if was.bios != is.bios {
		x.drop(was, vm.Self)
		x.byBIOS[is.bios] = append(x.byBIOS[is.bios], vm.Self)
	}
	return was, is
}

func (x *index) drop(e entry, r ref) {
	rest := slices.DeleteFunc(slices.Clone(x.byBIOS[e.bios]), func(other ref) bool { return other == r })
	if len(rest) == 0 {
		delete(x.byBIOS, e.bios)
		return
	}
	x.byBIOS[e.bios] = rest
}

// find returns the VMs with a UUID, in the order of their making.
func (x *index) find(uuid string, instance bool) []ref {
	uuid = strings.ToLower(uuid)
	x.mu.Lock()
	defer x.mu.Unlock()
	if !instance {
		return slices.Clone(x.byBIOS[uuid])
	}
	var found []ref
	for r, e := range x.vms {
		if e.instance == uuid {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b ref) int { return strings.Compare(a.Value, b.Value) })
	return found
}

func (x *index) on(r ref) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.vms[r].on
}

// born returns the name that a VM was made with.
func (x *index) born(r ref) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.vms[r].born
}

func (x *index) name(r ref) (string, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e, ok := x.vms[r]
	return e.name, ok
}
