// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/soap"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

type roundTrip func(ctx context.Context, req, res soap.HasFault) error

func (f roundTrip) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	return f(ctx, req, res)
}

// TestAnImportTakesOneTurnOfItsDatastoreAfterTheOther would wait for itself if it took two at once.
func TestAnImportTakesOneTurnOfItsDatastoreAfterTheOther(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{VSAN: true})
	var mu sync.Mutex
	turns := map[string]int{}
	var pool *vcenter.Pool
	called := func(method string) {
		mu.Lock()
		defer mu.Unlock()
		for _, h := range pool.Stats() {
			for _, d := range h.Datastores {
				turns[method] += d.InFlight
			}
		}
	}
	pool = vcenter.NewPool(vcenter.Options{MaxHeavy: 1, Middleware: func(next soap.RoundTripper) soap.RoundTripper {
		return roundTrip(func(ctx context.Context, req, res soap.HasFault) error {
			called(vcenter.Method(req))
			return next.RoundTrip(ctx, req, res)
		})
	}})
	maker, _ := w.process(pool)
	defer w.sim.OnCall("POST /nfc", func() { called("POST /nfc") })()
	c := newImportContent(t, 64<<20, 5<<20)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := maker.Make(ctx, w.dir+"/data.vmdk", c.content(), c.mark("up1"), nil); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, method := range []string{"ImportVApp", "POST /nfc", "CopyVirtualDisk_Task", "Destroy_Task"} {
		if turns[method] != 1 {
			t.Errorf("%s was sent with %d turns taken, want 1", method, turns[method])
		}
	}
}
