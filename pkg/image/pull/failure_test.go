// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package pull_test

import (
	"context"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/pull"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
)

func TestErrorsHaveTheKindThatTheirReaderNeeds(t *testing.T) {
	t.Parallel()
	fails := func(err error) func(*world) {
		return func(w *world) {
			w.onSource(func(context.Context, image.Report) error { return err })
		}
	}
	status := func(code int) func(*world) {
		return func(w *world) {
			w.hub.Inject(images.Fault{Match: images.Request("GET", "/manifests/"), Status: code})
		}
	}
	for what, tc := range map[string]struct {
		broken func(*world)
		kind   errdefs.Kind
		parts  []string
	}{
		"the registry is down":           {status(http.StatusServiceUnavailable), errdefs.Unavailable, nil},
		"nobody listens":                 {func(w *world) { w.hub.Close() }, errdefs.Unavailable, nil},
		"the registry wants credentials": {status(http.StatusUnauthorized), errdefs.Unauthenticated, nil},
		"the datastore is full":          {func(w *world) { w.place.Fill(true) }, errdefs.ResourceExhausted, []string{"mcm-images"}},
		"the image does not fit":         {fails(errdefs.New(errdefs.InvalidArgument, "too large")), errdefs.InvalidArgument, []string{"too large"}},
		"the source fails for no kind":   {fails(errSource), errdefs.Internal, []string{"words of the source"}},
		"the store knows no such thing": {func(w *world) {
			w.store.onEnsure(func(context.Context, image.Key, image.Source) error {
				return errdefs.New(errdefs.NotFound, "datastore ds1 is gone")
			})
		}, errdefs.FailedPrecondition, []string{"datastore ds1 is gone"}},
		"vCenter cannot be reached": {func(w *world) {
			w.store.onLookup(func(context.Context) error { return errdefs.New(errdefs.Unavailable, "no vCenter") })
		}, errdefs.Unavailable, []string{"no vCenter"}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ref := w.push("node:v1", 1)
			tc.broken(w)
			_, err := w.Ready(t.Context(), w.request(ref, ""))
			w.wantError(err, tc.kind, append(tc.parts, "image "+ref)...)
			if what != "vCenter cannot be reached" {
				_, err = w.Pull(t.Context(), w.request(ref, ""), nil)
				w.wantError(err, tc.kind, append(tc.parts, "image "+ref)...)
			}
			if disks, _ := w.store.List(t.Context()); len(disks) != 0 {
				t.Errorf("there are %v", disks)
			}
		})
	}
}

func TestAFailureIsToldToAllWhoWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := w.push("node:v1", 1)
	fail := make(chan struct{})
	w.onSource(func(context.Context, image.Report) error {
		<-fail
		return errdefs.New(errdefs.PermissionDenied, "words of the source")
	})
	var all []*answer
	for range 5 {
		all = append(all, w.ask(t.Context(), w.request(ref, "")))
	}
	w.await("all to wait", func() bool { return w.clock.Waiters() == 6 })
	close(fail)
	for _, a := range all {
		w.wait("an answer", a.done)
		w.wantError(a.err, errdefs.PermissionDenied, "words of the source", ref)
	}
	w.observed(1)
}

func TestAFailureIsToldForAWhileAndThenThePullBeginsAnew(t *testing.T) {
	t.Parallel()
	for _, policy := range []v1alpha1.PullPolicy{v1alpha1.PullIfNotPresent, v1alpha1.PullAlways} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ref := w.push("node:v1", 1)
			w.onSource(func(context.Context, image.Report) error {
				return errdefs.New(errdefs.Unavailable, "words of the source")
			})
			for range 3 {
				_, err := w.Ready(t.Context(), w.request(ref, policy))
				w.wantError(err, errdefs.Unavailable, "words of the source")
				w.clock.Step(7 * time.Second)
			}
			if n := w.made.Load(); n != 1 {
				t.Errorf("%d sources were called within 15 seconds, want one", n)
			}
			w.onSource(nil)
			w.ready(w.request(ref, policy))
			if n := w.made.Load(); n != 2 {
				t.Errorf("%d sources were called, want another one", n)
			}
		})
	}
}

func TestAFailureThatNobodyWaitedForIsToldToTheNextOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := w.push("node:v1", 1)
	g := w.gate(image.Progress{Stage: image.Converting})
	a := w.ask(t.Context(), w.request(ref, ""))
	w.wait("the source", g.begun)
	w.passWhenWaiting(2, 10*time.Second)
	w.wait("the answer", a.done)
	fail := make(chan struct{})
	w.onSource(func(context.Context, image.Report) error {
		<-fail
		return nil
	})
	w.place.Fill(true)
	close(g.open)
	w.observed(1)
	w.await("the end of the pull", func() bool { return w.clock.Waiters() == 0 })
	w.clock.Step(30 * time.Minute) // a machine may be tried again late
	_, err := w.Ready(t.Context(), w.request(ref, ""))
	w.wantError(err, errdefs.ResourceExhausted)
	if n := w.made.Load(); n != 1 {
		t.Errorf("%d sources were called before the failure was told", n)
	}
	w.place.Fill(false)
	w.clock.Step(15 * time.Second)
	close(fail)
	w.ready(w.request(ref, ""))
}

func TestADiskThatAppearsEndsTheTellingOfAFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := w.push("node:v1", 1)
	w.onSource(func(context.Context, image.Report) error { return errdefs.New(errdefs.FailedPrecondition, "no") })
	_, err := w.Ready(t.Context(), w.request(ref, ""))
	w.wantError(err, errdefs.FailedPrecondition)
	w.onSource(nil)
	if _, err := other(w).Pull(t.Context(), w.request(ref, ""), nil); err != nil { // a person helps
		t.Fatal(err)
	}
	w.ready(w.request(ref, ""))
}

func TestAPullEndsAfterItsLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *pull.Options) { o.Limit = 5 * time.Second })
	ref := w.push("node:v1", 1)
	g := w.gate(image.Progress{Stage: image.Converting})
	a := w.ask(t.Context(), w.request(ref, ""))
	w.wait("the source", g.begun)
	w.passWhenWaiting(2, 5*time.Second)
	w.wait("the answer", a.done)
	w.wantError(a.err, errdefs.DeadlineExceeded, ref, "longer than 5s")
	if files := w.place.Files(); len(files) != 0 {
		t.Errorf("there is %v", files)
	}
}

func TestWhatVanishedIsMadeAnew(t *testing.T) {
	t.Parallel()
	for _, policy := range []v1alpha1.PullPolicy{v1alpha1.PullIfNotPresent, v1alpha1.PullAlways} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ref := w.push("node:v1", 1)
			req := w.request(ref, policy)
			first := w.ready(req)
			w.push("node:alias", 1)
			alias := w.request(w.hub.Host()+"/node:alias", policy)
			w.ready(alias)
			w.place.Lose(first.Path)
			if got := w.ready(req); got.Path != first.Path {
				t.Fatalf("before anybody noticed, the disk is %s", got.Path)
			}
			if err := w.Vanished(t.Context(), req); err != nil {
				t.Fatal(err)
			}
			for _, r := range []pull.Request{req, alias} {
				if got := w.ready(r); w.place.Content(got.Path) == nil {
					t.Errorf("%s is still said to be in %s", r.Reference, got.Path)
				}
			}
			if n := w.made.Load(); n != 2 {
				t.Errorf("%d sources were called, want two", n)
			}
		})
	}
}

func TestVanishedOfWhatIsThereChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	req := w.request(w.push("node:v1", 1), "")
	first := w.ready(req)
	w.store.lookups.Store(0)
	if err := w.Vanished(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if got := w.ready(req); got.Path != first.Path || w.made.Load() != 1 {
		t.Errorf("the disk is %s after %d sources", got.Path, w.made.Load())
	}
	if v, l := w.store.verifies.Load(), w.store.lookups.Load(); v != 1 || l != 1 {
		t.Errorf("%d verifies, %d lookups, want one of each", v, l)
	}
}

func TestVanishedAsksTheStoreWhatThePullerDoesNotKnow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	req := w.request(w.push("node:v1", 1), "")
	if err := w.Vanished(t.Context(), req); err != nil {
		t.Errorf("of what never was: %v", err)
	}
	w.place.Lose(w.ready(req).Path)
	w.Puller = other(w)
	if err := w.Vanished(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if disks, err := w.store.List(t.Context()); err != nil || len(disks) != 0 {
		t.Errorf("the store has %v, %v", disks, err)
	}
	w.store.onLookup(func(context.Context) error { return errdefs.New(errdefs.Unavailable, "no vCenter") })
	w.wantError(w.Vanished(t.Context(), req), errdefs.Unavailable, "no vCenter")
	req.Reference = "UPPER"
	w.wantError(w.Vanished(t.Context(), req), errdefs.InvalidArgument)
}

// A lookup that began before the disk was found to be gone may have the old answer.
func TestAnAnswerFromBeforeADiskVanishedIsNotRemembered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	req := w.request(w.push("node:v1", 1), "")
	w.ready(req)
	w.clock.Step(image.Validity)
	begun, goOn := make(chan struct{}), make(chan struct{})
	w.store.onLookup(func(context.Context) error {
		close(begun)
		<-goOn
		return nil
	})
	early := w.ask(t.Context(), req)
	w.wait("the lookup", begun)
	w.store.onLookup(nil)
	if err := w.Vanished(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	w.wait("the early answer", early.done)
	before := w.store.lookups.Load()
	w.ready(req)
	if n := w.store.lookups.Load() - before; n != 1 {
		t.Errorf("%d lookups, want one: what is remembered is from before", n)
	}
}

func TestCloseEndsAllAndAfterwardsNothingBegins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref, second := w.push("node:v1", 1), w.push("node:v2", 2)
	there := w.push("node:v3", 3)
	w.ready(w.request(there, ""))
	g := w.gate(image.Progress{Stage: image.Converting})
	all := []*answer{w.ask(t.Context(), w.request(ref, "")), w.ask(t.Context(), w.request(second, ""))}
	person := &answer{done: make(chan struct{})}
	go func() {
		defer close(person.done)
		person.disk, person.err = w.Pull(t.Context(), w.request(ref, ""), nil)
	}()
	w.wait("a source", g.begun)
	w.await("all to wait", func() bool { return w.clock.Waiters() == 5 })
	for range 2 {
		if err := w.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range append(all, person) {
		w.wait("an answer", a.done)
		w.wantError(a.err, errdefs.Unavailable, "the process ends")
	}
	ended := len(w.observed(3 + 1))
	for _, of := range []string{ref, there} {
		for _, policy := range []v1alpha1.PullPolicy{v1alpha1.PullAlways, v1alpha1.PullIfNotPresent, v1alpha1.PullNever} {
			_, err := w.Ready(t.Context(), w.request(of, policy))
			w.wantError(err, errdefs.Unavailable, "the process ends")
		}
		_, err := w.Pull(t.Context(), w.request(of, ""), nil)
		w.wantError(err, errdefs.Unavailable, "the process ends")
	}
	w.observed(ended) // nothing began that could end
	if disks, _ := w.store.List(t.Context()); len(disks) != 1 {
		t.Errorf("there are %v", disks)
	}
}

func TestCloseGivesUpWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	w.onSource(func(context.Context, image.Report) error { // hangs, whatever its context says
		close(begun)
		<-goOn
		return errSource
	})
	a := w.ask(t.Context(), w.request(w.push("node:v1", 1), ""))
	w.wait("the source", begun)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.wantError(w.Close(ctx), errdefs.Canceled)
	close(goOn)
	if err := w.Close(t.Context()); err != nil {
		t.Error(err)
	}
	w.wait("the answer", a.done)
}

// This test is not parallel, so that no other has goroutines in this package.
func TestNoGoroutineIsLeft(t *testing.T) {
	w := newWorld(t)
	ref := w.push("node:v1", 1)
	w.ready(w.request(ref, ""))
	_, _ = w.Ready(t.Context(), w.request(w.hub.Host()+"/none:v1", ""))
	g := w.gate(image.Progress{Stage: image.Converting})
	a := w.ask(t.Context(), w.request(w.push("node:v2", 2), ""))
	w.wait("the source", g.begun)
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.wait("the answer", a.done)
	if n := w.clock.Waiters(); n != 0 {
		t.Errorf("%d timers are left", n)
	}
	var stacks string
	w.await("the goroutines to end", func() bool {
		buffer := make([]byte, 1<<20)
		stacks = string(buffer[:runtime.Stack(buffer, true)])
		return strings.Count(stacks, "/image/pull.") == 0
	})
}
