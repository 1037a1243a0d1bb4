// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"context"
	"maps"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containercache"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

const (
	// firstLook and lastLook bound the time between two looks at a VM of which nobody tells news: the first
	// pause, which doubles up to the last one.
	firstLook, lastLook = 100 * time.Millisecond, 2 * time.Second
	// offs is how often a VM must be seen off after its power-on to be given up: the first time may have been a
	// moment too early.
	offs = 2
)

// news tells when it is worth while to look at a VM again.
type news struct {
	view    *containercache.View
	ref     types.ManagedObjectReference
	changes <-chan struct{}
	done    func()
	// last is the state of the VM when it was looked at last.
	last containercache.Seen
}

func (o *Operator) news(vm *VM) *news {
	n := &news{view: o.view, ref: vm.Ref, done: func() {}}
	if o.view == nil {
		return n
	}
	if last, ok := o.view.Seen(vm.Ref); ok {
		n.last = last
		n.changes, n.done = o.view.Changes(vm.Ref)
	} else {
		n.view = nil
	}
	return n
}

// fresh reports whether the VM is not as it was seen last. That it is on now is no news: its guest has not spoken yet.
func (n *news) fresh() bool {
	if n.view == nil {
		return false
	}
	now, ok := n.view.Seen(n.ref)
	return !ok || now.ChangeVersion != n.last.ChangeVersion || now.Address != n.last.Address || now.Power == types.VirtualMachinePowerStatePoweredOff
}

// pause is how long to wait for news before a look is due without any.
func (n *news) pause(before time.Duration) time.Duration {
	switch {
	case n.view != nil:
		return lastLook
	case before == 0:
		return firstLook
	}
	return min(2*before, lastLook)
}

// awaitStarted waits for the power-on task, if there is one, and for the guest's word, and returns the VM with it. What guests
// write stands in keys that have another name in each VM, which no filter for many can watch: so it
// is looked at, when the view tells of news, and now and then without.
func (o *Operator) awaitStarted(ctx context.Context, vm *VM, powerOn *types.ManagedObjectReference, news *news) (*VM, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := progress{wasOn: powerOn == nil}
	var ended chan error // nil blocks
	if powerOn != nil {
		ended = make(chan error, 1)
		go func() {
			_, err := o.client.Task(ctx, *powerOn)
			ended <- err
		}()
	}
	due := powerOn == nil
	for pause := news.pause(0); ; pause = news.pause(pause) {
		if due && ended == nil {
			due = false
			seen, err := o.look(ctx, vm, news)
			if err != nil {
				return nil, o.convert(err, "wait for the start of VM %q (%s)", vm.Name, vm.Ref.Value)
			}
			if started, err := p.judge(seen); started || err != nil {
				o.learn(seen)
				return seen, err
			}
		}
		timer := time.NewTimer(pause)
		select {
		case err := <-ended:
			if err != nil {
				timer.Stop()
				return nil, o.convert(err, "power on VM %q (%s)", vm.Name, vm.Ref.Value)
			}
			ended, due = nil, due || news.view == nil || news.fresh()
		case <-news.changes:
			due = due || news.fresh()
		case <-timer.C:
			due = true
		case <-ctx.Done():
			timer.Stop()
			return nil, vcenter.Convert(ctx.Err(), "wait for the start of VM %q (%s)", vm.Name, vm.Ref.Value)
		}
		timer.Stop()
	}
}

// look reads what a guest reports while it starts, in one call, and returns the VM with it.
func (o *Operator) look(ctx context.Context, vm *VM, news *news) (*VM, error) {
	keys := map[string]string{} // by path
	for _, key := range []string{guestinfo.StartedKey(vm.containerID()), guestinfo.NetworksKey} {
		keys[vch.KeyProperty(key)] = key
	}
	for _, network := range guestinfo.Names(vm.Keys[guestinfo.NetworksKey]) {
		for _, key := range []string{guestinfo.AssignedIPKey(network), guestinfo.AssignedMaskKey(network)} {
			keys[vch.KeyProperty(key)] = key
		}
	}
	paths := []string{"runtime.powerState", "config.changeVersion", "guest.ipAddress"}
	for path := range keys {
		paths = append(paths, path)
	}
	props, err := o.lookAt(ctx, vm.Ref, paths)
	if err != nil {
		return nil, err
	}
	seen := *vm
	seen.Keys, seen.GuestIP = maps.Clone(vm.Keys), ""
	for _, key := range keys {
		delete(seen.Keys, key)
	}
	for _, p := range props {
		switch p.Name {
		case "runtime.powerState":
			seen.PowerState, _ = p.Val.(types.VirtualMachinePowerState)
		case "config.changeVersion":
			seen.ChangeVersion, _ = p.Val.(string)
		case "guest.ipAddress":
			seen.GuestIP, _ = p.Val.(string)
		default:
			if key := keys[p.Name]; key != "" {
				seen.Keys[key] = vch.KeyValue(p.Val)
			}
		}
	}
	news.last = containercache.Seen{ChangeVersion: seen.ChangeVersion, Address: seen.GuestIP, Power: seen.PowerState}
	return &seen, nil
}

// lookAt reads properties of a VM that somebody waits for. One that is gone is an error: nobody will tell news of it.
func (o *Operator) lookAt(ctx context.Context, ref types.ManagedObjectReference, paths []string) ([]types.DynamicProperty, error) {
	content, err := o.retrieveNamed(ctx, named(paths, ref))
	switch {
	case err != nil:
		return nil, err
	case len(content) == 0:
		return nil, errdefs.New(errdefs.NotFound, "vCenter does not know %s any more", ref.Value)
	}
	return content[0].PropSet, nil
}

// progress is what the wait for a start has seen so far.
type progress struct {
	wasOn bool
	off   int
}

// judge says whether the wait is over. The text may arrive before or after the power state; a VM that was on and
// is off without one gave up on its own.
func (p *progress) judge(seen *VM) (started bool, err error) {
	off := seen.PowerState == types.VirtualMachinePowerStatePoweredOff
	if off {
		p.off++
	}
	p.wasOn = p.wasOn || seen.PowerState == types.VirtualMachinePowerStatePoweredOn
	said := seen.Started()
	switch {
	case said == guestinfo.StartedTrue && seen.PowerState == types.VirtualMachinePowerStatePoweredOn:
		return true, nil
	case said != "" && said != guestinfo.StartedTrue:
		return false, errdefs.New(errdefs.Internal, "the process of VM %q (%s) does not start: the guest says: %s", seen.Name, seen.Ref.Value, oneLine(said))
	case off && (p.wasOn || p.off >= offs):
		return false, errdefs.New(errdefs.Internal, "VM %q (%s) powered itself off before its process started; see tether.debug and output.log in its directory %s", seen.Name, seen.Ref.Value, seen.VMX)
	}
	return false, nil
}
