// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

func TestASlowDatastoreHoldsUpItself(t *testing.T) {
	t.Parallel()
	l := newLine(t, Options{MaxHeavy: 2})
	client := &Client{session: &session{host: l.host}}
	slow, other := types.ManagedObjectReference{Type: "Datastore", Value: "datastore-1"}, types.ManagedObjectReference{Type: "Datastore", Value: "datastore-2"}
	enter := func(ref types.ManagedObjectReference) func() {
		t.Helper()
		release, err := client.Heavy(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		return release
	}
	first, second := enter(slow), enter(slow)
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp, third := make(chan error, 1), make(chan func(), 1)
	waiting := func(n int) func() bool {
		return func() bool { d := l.stats(0).Datastores; return len(d) > 0 && d[0].Waiting == n }
	}
	go func() { _, err := client.Heavy(ctx, slow); gaveUp <- err }()
	eventually(t, "the third to wait", waiting(1))
	go func() {
		release, err := client.Heavy(t.Context(), slow)
		if err != nil {
			t.Error(err)
		}
		third <- release
	}()
	eventually(t, "the fourth to wait", waiting(2))
	free := enter(other)
	if diff := cmp.Diff([]DatastoreStats{{"datastore-1", 2, 2, 2}, {"datastore-2", 2, 1, 0}}, l.stats(0).Datastores); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	cancel()
	if err := <-gaveUp; !errdefs.Is(err, errdefs.Canceled) {
		t.Errorf("who gave up got %v", err)
	}
	first()
	(<-third)()
	first() // again: nothing
	second()
	free()
	if got := l.stats(0); len(got.Datastores) != 0 || got.InFlight != 0 {
		t.Errorf("left: %+v", got)
	}
}
