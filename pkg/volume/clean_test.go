// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/fake"
)

// debris leaves what a creator leaves that died.
func (w *world) debris(label, name string) {
	w.Helper()
	s := w.stores[label].Another()
	s.Intercept(func(_ context.Context, step string, do func() error) error {
		if step == fake.StepDelete || step == fake.StepPublish {
			return errdefs.New(errdefs.Unavailable, "it died")
		}
		return do()
	})
	_, err := s.Create(w.Context(), volume.Request{Name: name})
	w.wantError(err, errdefs.Unavailable)
	w.stores[label].Advance(time.Hour)
}

func TestLeftoversAreFoundAndCleanedInTheirStores(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.debris("shared", "a")
	w.debris("default", "b")
	w.debris("default", "a")
	w.make("default", "data")
	left, err := w.set.Leftovers(t.Context())
	var stores []string
	for _, l := range left {
		stores = append(stores, l.Store)
	}
	if err != nil || !slices.Equal(stores, []string{"default", "default", "shared"}) || left[0].Path > left[1].Path {
		t.Errorf("leftovers are %v, %v", left, err)
	}
	strange := volume.Leftover{Store: "gone", Path: "x", Reason: "x", ID: "x"}
	w.wantError(w.set.Clean(t.Context(), append(left[1:], strange)...), errdefs.FailedPrecondition, `no volume store "gone" any more`)
	if left, err = w.set.Leftovers(t.Context()); err != nil || len(left) != 1 || left[0].Store != "default" {
		t.Errorf("leftovers are %v, %v", left, err)
	}
	w.debris("shared", "c")
	w.fail("default", errdefs.Unavailable)
	some, err := w.set.Leftovers(t.Context())
	w.wantError(err, errdefs.Unavailable, "default does not answer")
	if len(some) != 1 || some[0].Store != "shared" {
		t.Errorf("leftovers are %v", some)
	}
	w.wantError(w.set.Clean(t.Context(), append(some, left...)...), errdefs.Unavailable, "default does not answer")
	w.stores["default"].Intercept(nil)
	if err := w.set.Clean(t.Context(), left...); err != nil {
		t.Error(err)
	}
	w.wantFiles(inDefault)
}

// plain is a store whose operations leave nothing.
type plain struct{ volume.Store }

func TestStoresThatLeaveNothingHaveNothingToClean(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.debris("shared", "a")
	s := volume.NewSet("vch-1", map[string]volume.Store{"default": plain{w.stores["default"]}, "shared": w.stores["shared"]})
	left, err := s.Leftovers(t.Context())
	if err != nil || len(left) != 1 {
		t.Errorf("leftovers are %v, %v", left, err)
	}
	left = append(left, volume.Leftover{Store: "default", Path: "x", ID: "x"})
	w.wantError(s.Clean(t.Context(), left...), errdefs.FailedPrecondition, "default")
	w.wantFiles()
}
