// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm_test

import (
	"context"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/soap"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration/plugins"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/world"
)

// turns takes note of how many turns of datastores were taken when calls that keep
// a datastore busy were sent.
type turns struct {
	pool *vcenter.Pool

	mu    sync.Mutex
	taken map[string]int
}

type roundTrip func(ctx context.Context, req, res soap.HasFault) error

func (f roundTrip) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	return f(ctx, req, res)
}

func (u *turns) middleware(next soap.RoundTripper) soap.RoundTripper {
	return roundTrip(func(ctx context.Context, req, res soap.HasFault) error {
		switch method := vcenter.Method(req); method {
		case "CreateVM_Task", "Destroy_Task", "DeleteDatastoreFile_Task":
			n := 0
			for _, h := range u.pool.Stats() {
				for _, d := range h.Datastores {
					n += d.InFlight
				}
			}
			u.mu.Lock()
			u.taken[method] = n
			u.mu.Unlock()
		}
		return next.RoundTrip(ctx, req, res)
	})
}

// TestEachVMThatComesOrGoesTakesOneTurnOfItsDatastore also shows that none takes two at
// once, which would wait for itself here.
func TestEachVMThatComesOrGoesTakesOneTurnOfItsDatastore(t *testing.T) {
	t.Parallel()
	w := world.New(t, vchsim.Options{})
	u := &turns{taken: map[string]int{}}
	u.pool = poolWith(t, vcenter.Options{Middleware: u.middleware, MaxHeavy: 1})
	s := site{w, containervm.NewOperator(clientOf(t, w, u.pool), w.Host, plugins.Shipped())}

	r := s.request("machine-1", vchsim.ImageDisk)
	if err := s.create(r); err != nil {
		t.Fatal(err)
	}
	vm := s.find(r)
	dir, _ := vm.Directory()
	if err := s.Remove(t.Context(), vm); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"CreateVM_Task": 1, "Destroy_Task": 1, "DeleteDatastoreFile_Task": 1}
	if diff := cmp.Diff(want, u.taken); diff != "" {
		t.Errorf("turns taken at each call (-want +got):\n%s", diff)
	}

	clear(u.taken)
	mark := identity.Mark{Cluster: vchsim.Cluster, Role: vchsim.Role, Machine: r.Machine}
	if err := s.RemoveLeftovers(t.Context(), dir, vm.Name, r.Identity, mark); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"DeleteDatastoreFile_Task": 1}, u.taken); diff != "" {
		t.Errorf("turns taken when leftovers are removed (-want +got):\n%s", diff)
	}
}
