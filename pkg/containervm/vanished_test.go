// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm_test

import (
	"context"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containercache"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration/plugins"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// Nobody tells news of a VM that is gone: whoever waited for some would wait until the machine's time is over.
func TestAVMThatVanishesIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Sim.SetGuest(vchsim.GuestOptions{Hang: true})
	vm := s.machine("m")
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := s.Start(short, vm, time.Now()); !errdefs.Is(err, errdefs.DeadlineExceeded) {
		t.Fatalf("the start of a guest that hangs: %v", err)
	}
	vm = s.reread(vm)
	if vm.PowerState != types.VirtualMachinePowerStatePoweredOn {
		t.Fatalf("the VM is %s", vm.PowerState)
	}
	for _, change := range []func(context.Context) error{
		func(ctx context.Context) error { return s.Abandon(ctx, vm) },
		func(ctx context.Context) error { return s.VMOf("m").Unregister(ctx) },
	} {
		if err := change(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	client := clientOf(t, s.World, s.Pool())
	watching := containervm.NewOperator(client, s.Host, plugins.Shipped()).
		Cached(containercache.New(clock.RealClock{}).Of(t.Context(), client, s.Host))
	for name, o := range map[string]*containervm.Operator{"asking": s.Operator, "watching": watching} {
		if _, err := o.Start(t.Context(), vm, time.Now()); !errdefs.Is(err, errdefs.Aborted) {
			t.Errorf("%s: %v, want Aborted", name, err)
		}
	}
}
