// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containercache"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration/plugins"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/world"
)

// deafness keeps news from a session from plug on until unplug.
type deafness struct {
	mu sync.Mutex
	// over is nil while the session hears.
	over chan struct{}
}

func (d *deafness) plug() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = make(chan struct{})
}

func (d *deafness) unplug() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over != nil {
		close(d.over)
		d.over = nil
	}
}

func (d *deafness) middleware(next soap.RoundTripper) soap.RoundTripper {
	return roundTrip(func(ctx context.Context, req, res soap.HasFault) error {
		err := next.RoundTrip(ctx, req, res)
		d.mu.Lock()
		over := d.over
		d.mu.Unlock()
		if over != nil && vcenter.Method(req) == "WaitForUpdatesEx" {
			<-over
		}
		return err
	})
}

// viewOf returns the view of a session that may be deaf, which ends with the test.
func viewOf(t *testing.T, w *world.World, d *deafness) *containercache.View {
	t.Helper()
	client := clientOf(t, w, poolWith(t, vcenter.Options{Middleware: d.middleware}))
	t.Cleanup(d.unplug) // before the pool is closed
	return containercache.New(clock.RealClock{}).Of(t.Context(), client, w.Host)
}

// Between the end of a task and the news of what it did, a view says what was before; nobody who did something
// himself may be told that.
func TestOwnChangesAreKnownBeforeVCenterTellsOfThem(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var deaf deafness
	o := operatorOn(t, s.World, plugins.Shipped(), nil).Cached(viewOf(t, s.World, &deaf))
	request := s.request("m", vchsim.ImageDisk)
	mark := identity.Mark{Cluster: vchsim.Cluster, Role: vchsim.Role, Machine: "m"}
	known := func() *containervm.VM { return o.Known(request.Identity, mark) }
	s.started("m")
	var vm *containervm.VM
	learned := func(power types.VirtualMachinePowerState) {
		t.Helper()
		deadline := time.After(time.Minute)
		for k := known(); k == nil || k.PowerState != power; k = known() {
			var err error
			if vm, err = o.Find(t.Context(), request.Identity, mark, true); err != nil {
				t.Fatal(err)
			}
			select {
			case <-deadline:
				t.Fatalf("the VM is not known as %s: %+v", power, k)
			case <-time.After(time.Millisecond):
			}
		}
	}
	for _, step := range []struct {
		name string
		from types.VirtualMachinePowerState
		do   func() error
	}{
		{"a power-off", types.VirtualMachinePowerStatePoweredOn, func() error { return o.Abandon(t.Context(), vm) }},
		{"a start", types.VirtualMachinePowerStatePoweredOff, func() error { _, err := o.Start(t.Context(), vm, time.Now()); return err }},
		{"a stop", types.VirtualMachinePowerStatePoweredOn, func() error { return o.Stop(t.Context(), vm, "", 0) }},
		{"a note", types.VirtualMachinePowerStatePoweredOff, func() error { return o.RecordStop(t.Context(), vm, time.Now()) }},
		{"a removal", types.VirtualMachinePowerStatePoweredOff, func() error { return o.Remove(t.Context(), vm) }},
	} {
		learned(step.from)
		deaf.plug()
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if vm := known(); vm != nil {
			t.Errorf("after %s the VM is known as %s, with %v", step.name, vm.PowerState, vm.Keys)
		}
		if step.name == "a removal" {
			all, err := o.List(t.Context())
			if err != nil || slices.ContainsFunc(all, func(m containervm.Machine) bool { return m.Ref == vm.Ref }) {
				t.Errorf("after %s the list is %+v, %v", step.name, all, err)
			}
		}
		deaf.unplug()
	}
}
