// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/fake"
)

func data() volume.Request {
	return volume.Request{Name: "data", Metadata: volume.Metadata{Image: "node"}}
}

func anonymous() volume.Request {
	r := data()
	r.Name = volume.AnonymousName("4213", "/data")
	r.Metadata.Labels = map[string]string{volume.LabelAnonymous: "true"}
	return r
}

func TestAVolumeIsMadeInTheStoreThatIsMeant(t *testing.T) {
	t.Parallel()
	for label, want := range map[string]string{"": inDefault, "default": inDefault, "shared": inShared} {
		w := newWorld(t)
		v, err := w.set.Create(t.Context(), label, data())
		if err != nil || v.Location != want || v.Metadata.Image != "node" {
			t.Errorf("%+v, %v", v, err)
		}
		w.wantFiles(want)
	}
}

func TestANameThatAnotherStoreHasIsNotMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.make("shared", "data")
	for _, label := range []string{"", "default", "shared"} {
		_, err := w.set.Create(t.Context(), label, data())
		w.wantError(err, errdefs.AlreadyExists, "volume data exists in VCH vch-1", "shared ("+inShared+")")
	}
	w.wantFiles(inShared)
}

func TestWhatIsNotValidIsRefusedBeforeAnyStoreIsAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.wantNoSteps()
	for _, r := range []volume.Request{{}, {Name: "../x"}, {Name: "data", Capacity: -1}, {Name: "data", Capacity: 1}, {Name: "data", Capacity: volume.MaxCapacity + 1}} {
		for _, label := range []string{"default", "shared", "none"} {
			_, err := w.set.Create(t.Context(), label, r)
			w.wantError(err, errdefs.InvalidArgument)
			_, _, err = w.set.Ensure(t.Context(), label, r)
			w.wantError(err, errdefs.InvalidArgument)
		}
	}
	_, err := w.set.Create(t.Context(), "none", data())
	w.wantError(err, errdefs.FailedPrecondition, `no volume store named "none"`)
}

func TestNothingIsMadeWhileAStoreDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for _, label := range []string{"default", "shared"} {
		w := newWorld(t)
		w.fail("shared", errdefs.PermissionDenied)
		_, err := w.set.Create(t.Context(), label, data())
		w.wantError(err, errdefs.PermissionDenied, "volume data is not made", "shared does not answer")
		_, _, err = w.set.Ensure(t.Context(), label, data())
		w.wantError(err, errdefs.PermissionDenied, "data", "shared does not answer")
		w.wantFiles()
	}
}

func TestAnonymousVolumesNeedNoOtherStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fail("shared", errdefs.Unavailable)
	v, created, err := w.set.Ensure(t.Context(), "", anonymous())
	if err != nil || !created || !v.Anonymous() || v.Store != "default" {
		t.Fatalf("%+v, %v, %v", v, created, err)
	}
	v, created, err = w.set.Ensure(t.Context(), "", anonymous())
	if err != nil || created || !v.Anonymous() {
		t.Errorf("once more: %+v, %v, %v", v, created, err)
	}
	_, err = w.set.Create(t.Context(), "", anonymous())
	w.wantError(err, errdefs.AlreadyExists)
	if err := w.set.Remove(t.Context(), "", v.Name); err != nil {
		t.Error(err)
	}
	if _, err = w.set.Create(t.Context(), "", anonymous()); err != nil {
		t.Error(err)
	}

	named := anonymous() // the label alone does not make a name unique
	named.Name = "data"
	_, err = w.set.Create(t.Context(), "", named)
	w.wantError(err, errdefs.Unavailable)
	_, _, err = w.set.Ensure(t.Context(), "", named)
	w.wantError(err, errdefs.Unavailable)
	id := anonymous()
	id.Name, id.Metadata.Labels = volume.AnonymousName("4213", "/other"), nil // nor does such a name
	_, err = w.set.Create(t.Context(), "", id)
	w.wantError(err, errdefs.Unavailable)
}

func TestAVolumeThatIsThereIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, created, err := w.set.Ensure(t.Context(), "shared", data())
	if err != nil || !created || v.Store != "shared" {
		t.Fatalf("%+v, %v, %v", v, created, err)
	}
	other := data()
	other.Capacity, other.Metadata.Image = 64<<20, "other"
	for _, label := range []string{"shared", ""} {
		v, created, err = w.set.Ensure(t.Context(), label, other)
		if err != nil || created || v.Store != "shared" || v.Metadata.Image != "node" {
			t.Errorf("%q: %+v, %v, %v", label, v, created, err)
		}
	}
	for _, label := range []string{"default", "none"} {
		v, created, err = w.set.Ensure(t.Context(), label, data())
		w.wantError(err, errdefs.FailedPrecondition, "volume data of VCH vch-1 is not in volume store", label, "shared ("+inShared+")")
		if v != nil || created {
			t.Errorf("the error comes with %v, %v", v, created)
		}
	}
	w.fail("default", errdefs.Unavailable) // which is not asked, as it is there
	if _, _, err = w.set.Ensure(t.Context(), "shared", data()); err != nil {
		t.Error(err)
	}
	_, _, err = w.set.Ensure(t.Context(), "shared", volume.Request{Name: "log"})
	w.wantError(err, errdefs.Unavailable)
	w.wantFiles(inShared)
}

func TestAVolumeInAnyStoreIsEnoughAlsoWithoutADefaultStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.make("shared", "data")
	s := volume.NewSet("vch-1", map[string]volume.Store{"shared": w.stores["shared"]})
	v, created, err := s.Ensure(t.Context(), "", data())
	if err != nil || created || v.Store != "shared" {
		t.Errorf("%+v, %v, %v", v, created, err)
	}
}

func TestADamagedVolumeIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.stores["default"].Damage("data", "it is strange")
	v, created, err := w.set.Ensure(t.Context(), "", data())
	if err != nil || created || v.Damage == "" {
		t.Errorf("%+v, %v, %v", v, created, err)
	}
	_, err = w.set.Join(v, volume.Mount{Path: "/data"})
	w.wantError(err, errdefs.FailedPrecondition, "it is strange")
}

func TestWhoMakesANameAtTheSameTimeAsAnotherTakesItsOwnBack(t *testing.T) {
	t.Parallel()
	for _, ensure := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.before("default", fake.StepPublish, 1, func() { w.make("shared", "data") })
			var err error
			if ensure {
				_, _, err = w.set.Ensure(t.Context(), "default", data())
				w.wantError(err, errdefs.FailedPrecondition, "is not in volume store", inShared)
			} else {
				_, err = w.set.Create(t.Context(), "default", data())
				w.wantError(err, errdefs.AlreadyExists, "volume data exists", inShared)
			}
			w.wantFiles(inShared)
		})
	}
}

func TestWhoMakesAVolumeInTheSameStoreGetsTheOneThatIsThere(t *testing.T) {
	t.Parallel()
	for _, r := range []volume.Request{data(), anonymous()} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.before("default", fake.StepPublish, 1, func() {
				if _, err := w.stores["default"].Another().Create(t.Context(), r); err != nil {
					t.Error(err)
				}
			})
			v, created, err := w.set.Ensure(t.Context(), "", r)
			if err != nil || created || v.Name != r.Name {
				t.Errorf("%+v, %v, %v", v, created, err)
			}
			if err := w.set.Remove(t.Context(), "", r.Name); err != nil {
				t.Error(err)
			}
			w.before("default", fake.StepPublish, 1, func() {
				if _, err := w.stores["default"].Another().Create(t.Context(), r); err != nil {
					t.Error(err)
				}
			})
			_, err = w.set.Create(t.Context(), "", r)
			w.wantError(err, errdefs.AlreadyExists)
		})
	}
}

func TestAVolumeThatSomebodyHasAlreadyIsNotTakenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.before("shared", fake.StepRead, 2, func() { // the second look
		w.make("shared", "data")
		w.stores["default"].Write("data", "precious")
		w.stores["default"].Attach(volume.User{Name: "worker-1", VM: "vm-1"}, "data")
	})
	_, err := w.set.Create(t.Context(), "default", data())
	w.wantError(err, errdefs.FailedPrecondition, "worker-1", "default ("+inDefault+")", "shared ("+inShared+")", "cannot be taken back")
	w.wantFiles(inDefault, inShared)
	if text, _ := w.stores["default"].Read("data"); text != "precious" {
		t.Errorf("the volume holds %q", text)
	}
}

func TestAVolumeIsTakenBackIfNobodyKnowsWhetherItIsTheOnlyOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.before("default", fake.StepPublish, 1, func() { w.fail("shared", errdefs.Unavailable) })
	_, err := w.set.Create(t.Context(), "default", data())
	w.wantError(err, errdefs.Unavailable, "cannot be known", "shared does not answer")
	w.wantFiles()
}

func TestANewVolumeDoesNotWaitLongForAStoreThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.before("default", fake.StepPublish, 1, func() {
			w.stores["shared"].Intercept(func(ctx context.Context, _ string, _ func() error) error {
				<-ctx.Done()
				return ctx.Err()
			})
		})
		begin := time.Now()
		_, err := w.set.Create(t.Context(), "", data())
		w.wantError(err, errdefs.DeadlineExceeded, "cannot be known", "shared")
		if took := time.Since(begin); took > 30*time.Second {
			t.Errorf("it took %v: somebody may have used the volume by then", took)
		}
		w.wantFiles()
	})
}

func TestAContextThatEndsAfterPublicationLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, ensure := range []bool{false, true} {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		w.stores["default"].Intercept(func(_ context.Context, step string, do func() error) error {
			err := do()
			if step == fake.StepPublish {
				cancel()
			}
			return err
		})
		var err error
		if ensure {
			_, _, err = w.set.Ensure(ctx, "default", data())
		} else {
			_, err = w.set.Create(ctx, "default", data())
		}
		w.wantError(err, errdefs.Canceled)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v does not wrap the context's error", err)
		}
		w.wantFiles()
	}
}

func TestAContextThatHasEndedAsksNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.wantNoSteps()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.set.Create(ctx, "", data())
	w.wantError(err, errdefs.Canceled, "data", "vch-1")
	for _, r := range []volume.Request{data(), anonymous()} {
		_, _, err = w.set.Ensure(ctx, "", r)
		w.wantError(err, errdefs.Canceled, r.Name)
	}
	_, err = w.set.Get(ctx, "data")
	w.wantError(err, errdefs.Canceled)
	_, err = w.set.List(ctx)
	w.wantError(err, errdefs.Canceled)
	_, err = w.set.Users(ctx, "data")
	w.wantError(err, errdefs.Canceled)
	w.wantError(w.set.Remove(ctx, "", "data"), errdefs.Canceled)
	w.wantError(w.set.Remove(ctx, "default", "data"), errdefs.Canceled)
}

// flicker is a store that has a volume at every second look, as if another process
// made it and took it away.
type flicker struct {
	volume.Store
	looks *atomic.Int64
}

func (s flicker) Get(context.Context, string) (*volume.Volume, error) {
	if s.looks.Add(1)%2 == 1 {
		return nil, errdefs.New(errdefs.NotFound, "no")
	}
	return &volume.Volume{Name: "data", Store: "shared", Location: inShared}, nil
}

func TestWhenAllTakeTheirsBackAgainAndAgainItIsAborted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := flicker{Store: w.stores["shared"], looks: &atomic.Int64{}}
		set := volume.NewSet("vch-1", map[string]volume.Store{"default": w.stores["default"], "shared": f})
		begin := time.Now()
		_, err := set.Create(t.Context(), "", data())
		w.wantError(err, errdefs.Aborted, "data", "vch-1", "repeat")
		attempts, took := f.looks.Load()/2, time.Since(begin)
		if attempts < 3 || attempts > 10 || took < 500*time.Millisecond || took > 10*time.Second {
			t.Errorf("there were %d attempts in %v", attempts, took)
		}
		_, _, err = set.Ensure(t.Context(), "default", data())
		w.wantError(err, errdefs.Aborted)
		w.wantFiles()

		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
		defer cancel()
		begin = time.Now()
		_, err = set.Create(ctx, "", data())
		w.wantError(err, errdefs.DeadlineExceeded)
		if took := time.Since(begin); took > 60*time.Millisecond {
			t.Errorf("it took %v, although its time was over", took)
		}
		w.wantFiles()
	})
}

func TestAStoresOwnTimeLimitIsItsError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.stores["shared"].Intercept(func(context.Context, string, func() error) error {
		return errdefs.Wrap(errdefs.DeadlineExceeded, context.DeadlineExceeded, "ask the export")
	})
	_, err := w.set.Create(t.Context(), "", data())
	w.wantError(err, errdefs.DeadlineExceeded, "ask the export")
}

// TestOfManyThatMakeANameInDifferentStoresOneAtMostHasSuccess has many processes
// make the same names in different stores, and looks what there is in the end.
func TestOfManyThatMakeANameInDifferentStoresOneAtMostHasSuccess(t *testing.T) {
	t.Parallel()
	successes := int64(0)
	for round := range 20 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			labels := []string{"default", "shared"}
			made := make([]atomic.Int64, len(labels))
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					o := w.another()
					for _, s := range o.stores {
						s.Intercept(func(_ context.Context, step string, do func() error) error {
							<-time.After(time.Duration((i*7+len(step)*3+round)%5) * time.Millisecond)
							return do()
						})
					}
					label := labels[i%2]
					var err error
					created := true
					if i < 4 {
						_, err = o.set.Create(t.Context(), label, data())
					} else {
						_, created, err = o.set.Ensure(t.Context(), label, data())
					}
					switch {
					case err == nil && created:
						made[i%2].Add(1)
					case err != nil && !errdefs.Is(err, errdefs.AlreadyExists) && !errdefs.Is(err, errdefs.FailedPrecondition) && !errdefs.Is(err, errdefs.Aborted):
						t.Errorf("%d: %v", i, err)
					}
				})
			}
			all.Wait()
			total := int64(0)
			for i, label := range labels {
				there := int64(len(w.stores[label].Files()))
				total += there
				if there != made[i].Load() {
					t.Errorf("%d were made in %s, and there are %q", made[i].Load(), label, w.stores[label].Files())
				}
			}
			if total > 1 {
				t.Errorf("there are %d volumes of one name", total)
			}
			successes += total
		})
	}
	if successes < 10 {
		t.Errorf("only %d of 20 rounds had a volume in the end", successes)
	}
}
