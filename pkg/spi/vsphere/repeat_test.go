// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// TestNobodyNoticesAReadWhoseConnectionBroke has the options that a driver has by default.
func TestNobodyNoticesAReadWhoseConnectionBroke(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	var repeated atomic.Int32
	s := w.Backend(vcenter.Options{Observer: func(ctx context.Context, _ string, _ time.Duration, _ error) {
		if vcenter.Attempt(ctx) > 1 {
			repeated.Add(1)
		}
	}})
	if _, err := s.ListMachines(t.Context(), w.Spec(), w.Secret()); err != nil { // logs in
		t.Fatal(err)
	}
	for _, kind := range []string{vchsim.KindConnectionReset, vchsim.KindResponseLost, vchsim.KindHTTP503} {
		for _, method := range []string{"RetrieveProperties", "RetrievePropertiesEx", "FindAllByUuid", "FindByInventoryPath", "FindByDatastorePath", "FindChild", "CreateFilter"} {
			for _, op := range w.operationsOf(t.Context(), s, "struck") {
				if err := w.Sim.SetFault(vchsim.FaultRule{Method: method, Kind: kind, Count: 1}); err != nil {
					t.Fatal(err)
				}
				if err := op(); err != nil {
					t.Errorf("%s at %s: %v", kind, method, err)
				}
				w.Sim.ClearFaults()
			}
		}
	}
	if n := repeated.Load(); n < 10 {
		t.Errorf("%d requests were repeated: too few met a fault", n)
	}
	if left := w.Leftovers(); len(left) > 0 || len(w.Machines()) > 0 {
		t.Errorf("left: %v %v", left, w.Machines())
	}
}
