// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"testing"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// answered is a vCenter that answers at once.
func answered() soap.RoundTripper {
	return roundTripFunc(func(_ context.Context, _, res soap.HasFault) error {
		if body, ok := res.(*methods.CurrentTimeBody); ok {
			body.Res = &types.CurrentTimeResponse{}
		}
		return nil
	})
}

func benchmarkCalls(b *testing.B, rt soap.RoundTripper) {
	b.Helper()
	var req methods.CurrentTimeBody
	req.Req = &types.CurrentTime{}
	b.ReportAllocs()
	for b.Loop() {
		var res methods.CurrentTimeBody
		if err := rt.RoundTrip(b.Context(), &req, &res); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkACallThroughNothing is what the others are compared with.
func BenchmarkACallThroughNothing(b *testing.B) { benchmarkCalls(b, answered()) }

// BenchmarkACallThroughTheLimit is the cost of limit and circuit breaker when nobody waits.
func BenchmarkACallThroughTheLimit(b *testing.B) {
	benchmarkCalls(b, newHost("vc", Options{}.withDefaults()).guard(answered()))
}

// BenchmarkACallThroughAllLayers is the cost of all that a call of a session passes but renewal.
func BenchmarkACallThroughAllLayers(b *testing.B) {
	o := Options{}.withDefaults()
	h := newHost("vc", o)
	benchmarkCalls(b, h.repeat(h.guard(bound(understood(answered()), "vc", o.CallTimeout)), o.MaxAttempts, o.CallTimeout))
}

// BenchmarkManyCallsThroughTheLimit has 16 callers for each turn, so that most wait in line.
func BenchmarkManyCallsThroughTheLimit(b *testing.B) {
	rt := newHost("vc", Options{MaxConcurrent: 2}.withDefaults()).guard(answered())
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		var req methods.CurrentTimeBody
		req.Req = &types.CurrentTime{}
		for pb.Next() {
			var res methods.CurrentTimeBody
			if err := rt.RoundTrip(b.Context(), &req, &res); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkATurnOfADatastore is the cost of Heavy when nobody waits.
func BenchmarkATurnOfADatastore(b *testing.B) {
	client := &Client{session: &session{host: newHost("vc", Options{}.withDefaults())}}
	b.ReportAllocs()
	for b.Loop() {
		release, err := client.Heavy(b.Context(), types.ManagedObjectReference{Type: "Datastore", Value: "datastore-1"})
		if err != nil {
			b.Fatal(err)
		}
		release()
	}
}
