// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containercache

import (
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
)

// VM is a container VM of ours as the view knows it. It is a copy.
type VM struct {
	Ref      types.ManagedObjectReference
	Name     string
	Mark     identity.Mark
	Identity identity.Identity
	Power    types.VirtualMachinePowerState
	// Address is the one that vSphere shows for the guest.
	Address string
	// Facts are what was learned of it; nil if nothing was, or it changed since.
	Facts *Facts
}

// Facts are what one who read the VM leaves for the next one who asks. They are not changed any more.
type Facts struct {
	// Keys are guestinfo keys with plain values, as a migration of older data left them.
	Keys map[string]string
}

// Seen is the state of a VM that vCenter told of, or that somebody read. Facts hang on it.
type Seen struct {
	// ChangeVersion is the one of the VM's configuration, Address what vSphere shows for the guest; both may be empty.
	ChangeVersion, Address string
	Power                  types.VirtualMachinePowerState
}

// Find returns the VM of a machine, proven by place, mark, container id and BIOS UUID. ok is false if the view may
// not answer, knows none, or knows several: then vCenter is to be asked.
func (v *View) Find(id identity.Identity, want identity.Mark) (vm VM, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	of := v.byUUID[id.BIOSUUID]
	if !v.usable() || len(of) != 1 || !of[0].mark.Owns(want) || of[0].containerID != id.ContainerID {
		v.misses++
		return VM{}, false
	}
	v.hits++
	return of[0].copy(), true
}

func (e *entry) copy() VM {
	vm := VM{Ref: e.ref, Name: e.name, Mark: *e.mark, Identity: e.id, Power: e.seen.Power, Address: e.seen.Address}
	if e.facts != nil && e.facts.at == e.seen {
		vm.Facts = &e.facts.Facts
	}
	return vm
}

// Machines returns all VMs with a proven mark, in no order. ok is false if the view may not answer.
func (v *View) Machines() (vms []VM, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.usable() {
		v.misses++
		return nil, false
	}
	v.hits++
	vms = make([]VM, 0, len(v.byUUID))
	for _, of := range v.byUUID {
		for _, e := range of {
			vms = append(vms, e.copy())
		}
	}
	return vms, true
}

// Learn leaves facts of a VM that was read. They are of use if the VM is, or will be, known in that very state.
func (v *View) Learn(ref types.ManagedObjectReference, seen Seen, facts Facts) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e := v.vms[ref]; e != nil && e.mark != nil {
		e.facts = &learned{facts, seen}
	}
}

// Unlearn drops the facts of a VM: for whoever is about to change it, or did.
func (v *View) Unlearn(ref types.ManagedObjectReference) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e := v.vms[ref]; e != nil {
		e.facts = nil
	}
}

// Forget drops a VM that the caller removed.
func (v *View) Forget(ref types.ManagedObjectReference) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.drop(v.vms[ref])
}

// Seen returns the state of a VM, whoever's it is. ok is false if the view may not answer or does not know it.
func (v *View) Seen(ref types.ManagedObjectReference) (seen Seen, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	e := v.vms[ref]
	if !v.usable() || e == nil {
		return Seen{}, false
	}
	return e.seen, true
}

// Changes returns a channel that has something to read after a VM changed or went, and what gives it back. Several
// changes may be one to read.
func (v *View) Changes(ref types.ManagedObjectReference) (changes <-chan struct{}, done func()) {
	ch := make(chan struct{}, 1)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.waiting[ref] == nil {
		v.waiting[ref] = map[chan struct{}]struct{}{}
	}
	v.waiting[ref][ch] = struct{}{}
	return ch, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.waiting[ref], ch)
		if len(v.waiting[ref]) == 0 {
			delete(v.waiting, ref)
		}
	}
}
