// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package pull_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/pull"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
)

func TestAnAbsentImageIsMadeWhileTheCallWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := w.push("node:v1", 1)
	disk := w.ready(w.request(ref, ""))
	if w.place.Content(disk.Path) == nil || disk.Size != size {
		t.Errorf("the disk %+v is not there", disk)
	}
	if got, err := w.store.Store.Lookup(t.Context(), ref, size); err != nil || got.Key != disk.Key {
		t.Errorf("the full name leads to %v, %v", got, err)
	}
}

func TestALongPullGoesOnInTheBackgroundAndShowsItsProgress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := w.push("node:v1", 1)
	g := w.gate(image.Progress{Stage: image.Converting, Done: 62, Total: 100})
	for range 3 { // as a machine is reconciled
		a := w.ask(t.Context(), w.request(ref, ""))
		w.wait("the source", g.begun)
		w.passWhenWaiting(2, 10*time.Second) // the limit of the pull, and this wait
		w.wait("the answer", a.done)
		w.wantError(a.err, errdefs.Unavailable)
		if want := "image " + ref + ": converting, 62 %"; a.err == nil || a.err.Error() != want {
			t.Errorf("the answer is %q, want %q", a.err, want)
		}
	}
	close(g.open)
	w.ready(w.request(ref, ""))
	if n := w.made.Load(); n != 1 {
		t.Errorf("%d sources were called, want one", n)
	}
	if n := w.hub.Requests("GET", "/manifests/v1"); n != 1 {
		t.Errorf("the registry was asked %d times for the manifest, want once", n)
	}
}

func TestTheReferenceIsShownAsTheUserWroteIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	req := w.request("k3s:v1.34", v1alpha1.PullNever)
	_, err := w.Ready(t.Context(), req)
	w.wantError(err, errdefs.FailedPrecondition, "image k3s:v1.34: ")
}

func TestThePullOutlivesTheCallThatBeganIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := w.push("node:v1", 1)
	g := w.gate(image.Progress{Stage: image.Downloading})
	ctx, cancel := context.WithCancel(t.Context())
	a := w.ask(ctx, w.request(ref, ""))
	w.wait("the source", g.begun)
	cancel()
	w.wait("the answer", a.done)
	w.wantError(a.err, errdefs.Canceled, "image "+ref+": downloading")
	close(g.open)
	w.ready(w.request(ref, ""))
	if n := w.made.Load(); n != 1 {
		t.Errorf("%d sources were called, want one", n)
	}
}

func TestManyMachinesWaitForOnePull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := w.push("node:v1", 1)
	g := w.gate(image.Progress{Stage: image.Converting})
	var all []*answer
	for range 30 {
		all = append(all, w.ask(t.Context(), w.request(ref, "")))
	}
	w.wait("the source", g.begun)
	w.await("all to wait", func() bool { return w.clock.Waiters() == 31 })
	close(g.open)
	for _, a := range all {
		w.wait("an answer", a.done)
		if a.err != nil || a.disk.Key != all[0].disk.Key {
			t.Errorf("answer %v, %v", a.disk, a.err)
		}
	}
	if made, asked := w.made.Load(), w.hub.Requests("GET", "/manifests/v1"); made != 1 || asked != 1 {
		t.Errorf("%d sources, %d manifests, want one of each", made, asked)
	}
	w.observed(1)
}

func TestAnImageThatIsThereCostsOneLookupForAllWithinItsValidity(t *testing.T) {
	t.Parallel()
	for _, policy := range []v1alpha1.PullPolicy{"", v1alpha1.PullIfNotPresent, v1alpha1.PullNever} {
		t.Run("policy "+string(policy), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ref := w.push("node:v1", 1)
			w.ready(w.request(ref, v1alpha1.PullIfNotPresent))
			w.Puller = other(w)
			w.hub.ResetCounts()
			w.store.lookups.Store(0)
			w.store.finds.Store(0)
			w.store.ensures.Store(0)
			let := make(chan struct{})
			w.store.onLookup(func(context.Context) error { <-let; return nil })
			var all []*answer
			for range 10 {
				all = append(all, w.ask(t.Context(), w.request(ref, policy)))
			}
			close(let)
			for _, a := range all {
				w.wait("an answer", a.done)
				if a.err != nil {
					t.Fatal(a.err)
				}
			}
			w.clock.Step(image.Validity - time.Second)
			w.ready(w.request(ref, policy))
			if n := w.store.lookups.Load(); n != 1 {
				t.Errorf("%d lookups, want one", n)
			}
			w.clock.Step(time.Second)
			w.ready(w.request(ref, policy))
			if n := w.store.lookups.Load(); n != 2 {
				t.Errorf("%d lookups after the answer was no longer valid, want another one", n)
			}
			if finds, ensures, asked := w.store.finds.Load(), w.store.ensures.Load(), w.hub.Requests("", ""); finds+ensures != 0 || asked != 0 {
				t.Errorf("%d finds, %d ensures, %d requests to the registry, want none", finds, ensures, asked)
			}
		})
	}
}

// other is a Puller that knows nothing yet.
func other(w *world) *pull.Puller {
	w.Helper()
	p := pull.New(pull.Options{Clock: w.clock, Source: w.newSource})
	w.Cleanup(func() { _ = p.Close(context.Background()) })
	return p
}

func TestASharedLookupDoesNotEndWithTheCallerThatBeganIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := w.push("node:v1", 1)
	w.ready(w.request(ref, ""))
	w.Puller = other(w)
	ctx, cancel := context.WithCancel(t.Context())
	begun := make(chan struct{}, 2)
	w.store.onLookup(func(of context.Context) error {
		begun <- struct{}{}
		if of == ctx {
			<-of.Done()
			return of.Err()
		}
		return nil
	})
	first := w.ask(ctx, w.request(ref, ""))
	<-begun
	second := w.ask(t.Context(), w.request(ref, ""))
	cancel()
	w.wait("the first", first.done)
	w.wantError(first.err, errdefs.Canceled)
	w.wait("the second", second.done)
	if second.err != nil {
		t.Errorf("the caller that had time got %v", second.err)
	}
}

func TestAnswersAreTheCallers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	req := w.request(w.push("node:v1", 1), "")
	w.ready(req)
	for range 3 {
		got := w.ready(req)
		if diff := cmp.Diff(image.Config{Cmd: []string{"/bin/node"}}, got.Config); diff != "" {
			t.Errorf("another caller's change shows (-want +got):\n%s", diff)
		}
		got.Config.Cmd[0], got.Path = "spoilt", "spoilt"
	}
}

func TestNeverSaysWhichCommandHelps(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := w.push("node:v1", 1)
	for of, want := range map[int64]string{8 << 30: "8Gi", 1536 << 20: "1536Mi"} {
		req := w.request(ref, v1alpha1.PullNever)
		req.Size = of
		_, err := w.Ready(t.Context(), req)
		w.wantError(err, errdefs.FailedPrecondition, "vchctl image pull --size "+want+" "+ref, w.place.Store("").String())
	}
	if n := w.hub.Requests("", ""); n != 0 {
		t.Errorf("the registry was asked %d times", n)
	}
}

func TestNeverDoesNotWaitForAPullOfSomebodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := w.push("node:v1", 1)
	g := w.gate(image.Progress{Stage: image.Converting})
	a := w.ask(t.Context(), w.request(ref, ""))
	w.wait("the source", g.begun)
	never := w.ask(t.Context(), w.request(ref, v1alpha1.PullNever))
	w.wait("the answer", never.done)
	w.wantError(never.err, errdefs.FailedPrecondition, "Never")
	close(g.open)
	w.wait("the pull", a.done)
	w.ready(w.request(ref, v1alpha1.PullNever))
}

func TestAlwaysAsksTheRegistryAndFetchesOnlyWhatIsNew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := w.push("node:latest", 1)
	req := w.request(ref, v1alpha1.PullAlways)
	first := w.ready(req)
	w.ready(req)
	if n := w.hub.Requests("GET", "/manifests/latest"); n != 2 || w.made.Load() != 1 {
		t.Errorf("%d requests, %d sources for two machines, want 2 and 1", n, w.made.Load())
	}
	w.observed(1) // to find all in its place is no pull
	w.push("node:latest", 2)
	second := w.ready(req)
	if second.Key == first.Key || w.made.Load() != 2 {
		t.Errorf("after the tag moved the disk is %s, with %d sources", second.Key, w.made.Load())
	}
	w.push("node:latest", 1)
	if back := w.ready(req); back.Key != first.Key || w.made.Load() != 2 {
		t.Errorf("after the tag moved back the disk is %s, with %d sources", back.Key, w.made.Load())
	}
	if got, err := w.store.Store.Lookup(t.Context(), ref, size); err != nil || got.Key != first.Key {
		t.Errorf("the name leads to %v, %v", got, err)
	}
	w.observed(3)
}

func TestConcurrentAsksOfTheRegistryShareOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := w.push("node:latest", 1)
	w.ready(w.request(ref, ""))
	w.hub.ResetCounts()
	remove := w.hub.Inject(images.Fault{Match: images.Request("GET", "/manifests/"), Effect: images.Stall})
	var all []*answer
	for range 10 {
		all = append(all, w.ask(t.Context(), w.request(ref, v1alpha1.PullAlways)))
	}
	w.await("all to wait", func() bool { return w.clock.Waiters() == 11 })
	remove()
	for _, a := range all {
		w.wait("an answer", a.done)
		if a.err != nil {
			t.Error(a.err)
		}
	}
	if n := w.hub.Requests("GET", "/manifests/latest"); n != 1 {
		t.Errorf("the registry was asked %d times, want once", n)
	}
}

// Otherwise a registry that takes longer than the wait would never be good enough.
func TestWhatASlowRegistrySaidIsForTheNextCaller(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := w.push("node:latest", 1)
	w.ready(w.request(ref, ""))
	w.hub.ResetCounts()
	remove := w.hub.Inject(images.Fault{Match: images.Request("GET", "/manifests/"), Effect: images.Stall})
	req := w.request(ref, v1alpha1.PullAlways)
	a := w.ask(t.Context(), req)
	w.await("the registry", func() bool { return w.hub.Requests("GET", "/manifests/latest") == 1 })
	w.passWhenWaiting(2, 10*time.Second)
	w.wait("the answer", a.done)
	w.wantError(a.err, errdefs.Unavailable, ": resolving")
	remove()
	w.await("the end of the pull", func() bool { return w.clock.Waiters() == 0 })
	w.ready(req)
	if n := w.hub.Requests("GET", "/manifests/latest"); n != 1 {
		t.Errorf("the registry was asked %d times, want once", n)
	}
	w.ready(req)
	if n := w.hub.Requests("GET", "/manifests/latest"); n != 2 {
		t.Errorf("the registry was asked %d times, want once more for the machine after", n)
	}
}

func TestRequestsWithOtherCredentialsAreNotShared(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, images.Options{Username: "u", Password: "planted-password"})
	ref := w.push("node:v1", 1)
	good, bad := w.request(ref, ""), w.request(ref, "")
	good.Registry.Auth = w.hub.DockerConfig()
	g := w.gate(image.Progress{Stage: image.Converting})
	a := w.ask(t.Context(), good)
	w.wait("the source", g.begun)
	_, err := w.Ready(t.Context(), bad)
	w.wantError(err, errdefs.Unauthenticated, "image "+ref)
	bad.Registry.Auth = []byte(strings.Replace(string(w.hub.DockerConfig()), `"`+w.hub.Host(), `"other.example.com`, 1))
	_, err = w.Ready(t.Context(), bad)
	w.wantError(err, errdefs.Unauthenticated)
	if err != nil && strings.Contains(err.Error(), "planted-password") {
		t.Errorf("the error shows the password: %v", err)
	}
	close(g.open)
	w.wait("the answer", a.done)
	if a.err != nil {
		t.Error(a.err)
	}
}

func TestWhatTheListsForbidIsRefusedThoughItIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := w.push("node:v1", 1)
	w.ready(w.request(ref, ""))
	for what, forbid := range map[string]func(*registry.Options){
		"denied":      func(o *registry.Options) { o.Deny = []string{"127.0.0.0/8"} },
		"not allowed": func(o *registry.Options) { o.Allow = []string{"registry.example.com"} },
	} {
		for _, policy := range []v1alpha1.PullPolicy{v1alpha1.PullAlways, v1alpha1.PullIfNotPresent, v1alpha1.PullNever} {
			req := w.request(ref, policy)
			forbid(&req.Registry)
			_, err := w.Ready(t.Context(), req)
			w.wantError(err, errdefs.PermissionDenied, ref)
			_, err = w.Pull(t.Context(), req, nil)
			w.wantError(err, errdefs.PermissionDenied, ref)
			if t.Failed() {
				t.Fatalf("that was %s with %s", what, policy)
			}
		}
	}
	req := w.request(ref, "")
	req.Registry.Allow = []string{"127.0.0.0/8"}
	w.ready(req)
}

func TestRequestsThatAreWrongAreInvalidArgument(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for what, tc := range map[string]struct {
		change func(*pull.Request)
		part   string
	}{
		"no reference":   {func(r *pull.Request) { r.Reference = "" }, "image"},
		"a reference":    {func(r *pull.Request) { r.Reference = "UPPER/case" }, `image "UPPER/case"`},
		"a small size":   {func(r *pull.Request) { r.Size = 1 << 20 }, "size"},
		"half a MiB":     {func(r *pull.Request) { r.Size++ }, "size"},
		"a policy":       {func(r *pull.Request) { r.Policy = "Sometimes" }, "imagePullPolicy"},
		"a list":         {func(r *pull.Request) { r.Registry.Deny = []string{"a b"} }, "denied registries"},
		"other list":     {func(r *pull.Request) { r.Registry.Allow = []string{"a b"} }, "allowed registries"},
		"insecure list":  {func(r *pull.Request) { r.Registry.Insecure = []string{"a b"} }, "insecure registries"},
		"pull secret":    {func(r *pull.Request) { r.Registry.Auth = []byte("{") }, ""},
		"no such image":  {func(r *pull.Request) { r.Reference = w.hub.Host() + "/none:v1" }, "no such image"},
		"no such digest": {func(r *pull.Request) { r.Reference = w.hub.Host() + "/none@sha256:" + strings.Repeat("0", 64) }, "no such image"},
	} {
		req := w.request(w.hub.Host()+"/node:v1", "")
		tc.change(&req)
		_, err := w.Ready(t.Context(), req)
		w.wantError(err, errdefs.InvalidArgument, tc.part)
		_, err = w.Pull(t.Context(), req, nil)
		w.wantError(err, errdefs.InvalidArgument, tc.part)
		if t.Failed() {
			t.Fatalf("that was with %s", what)
		}
	}
}

func TestImagesAreMadeOneAfterTheOtherUnlessToldOtherwise(t *testing.T) {
	t.Parallel()
	for parallel, want := range map[int]int32{0: 1, 2: 2} {
		t.Run(fmt.Sprint(parallel), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(o *pull.Options) { o.Parallel = parallel })
			g := w.gate(image.Progress{Stage: image.Converting})
			var all []*answer
			for n := range 3 {
				all = append(all, w.ask(t.Context(), w.request(w.push(fmt.Sprintf("node:v%d", n), n), "")))
			}
			w.await("the first ones", func() bool { return w.made.Load() == want })
			w.await("all to wait", func() bool { return w.hub.Requests("GET", "/blobs/") == 3 && w.clock.Waiters() == 6 })
			w.clock.Step(10 * time.Second)
			queued := 0
			for _, a := range all {
				w.wait("an answer", a.done)
				w.wantError(a.err, errdefs.Unavailable)
				if strings.HasSuffix(a.err.Error(), ": queued") || strings.HasSuffix(a.err.Error(), ": resolving") {
					queued++
				}
			}
			if queued != 3-int(want) || w.made.Load() != want {
				t.Errorf("%d wait in the queue and %d are made, want %d at once", queued, w.made.Load(), want)
			}
			close(g.open)
			for n := range 3 {
				w.ready(w.request(fmt.Sprintf("%s/node:v%d", w.hub.Host(), n), ""))
			}
			w.observed(3)
		})
	}
}

func TestWhileAnotherProcessMakesADiskOthersAreMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	elsewhere, here := w.push("elsewhere:v1", 1), w.push("here:v1", 2)
	colleague := pull.New(pull.Options{Clock: w.clock, Source: w.newSource})
	w.Cleanup(func() { _ = colleague.Close(context.Background()) })
	g := w.gate(image.Progress{Stage: image.Unpacking, Done: 1, Total: 4})
	theirs := w.request(elsewhere, "")
	theirs.Store = w.place.Store("a colleague")
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := colleague.Pull(t.Context(), theirs, nil); err != nil {
			t.Error(err)
		}
	}()
	w.wait("the other process", g.begun)
	waiting := w.ask(t.Context(), w.request(elsewhere, ""))
	w.await("the place of the waiting one to be free", func() bool { return w.store.ensures.Load() == 1 })
	w.onSource(nil)
	w.ready(w.request(here, ""))
	w.passWhenWaiting(3, 9*time.Second)
	again := w.ask(t.Context(), w.request(elsewhere, ""))
	w.passWhenWaiting(4, time.Second)
	w.wait("the answer", waiting.done)
	w.wantError(waiting.err, errdefs.Unavailable, ": unpacking, 25 % (by a colleague)")
	close(g.open)
	w.wait("the other process", done)
	w.wait("the answer", again.done)
	if again.err != nil {
		t.Error(again.err)
	}
	if n := w.made.Load(); n != 2 {
		t.Errorf("%d sources were called, want one for each image", n)
	}
	for _, o := range w.observed(2) {
		if o.Made != (o.Reference == here) {
			t.Errorf("outcome %+v", o)
		}
	}
}

func TestAPersonSeesAPullToItsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := w.push("node:v1", 1)
	w.onSource(func(_ context.Context, report image.Report) error {
		report(image.Progress{Stage: image.Downloading, Done: 1, Total: 2})
		return nil
	})
	var stages []image.Stage
	report := func(p image.Progress) { stages = append(stages, p.Stage) }
	disk, err := w.Pull(t.Context(), w.request(ref, v1alpha1.PullNever), report) // the policy is that of machines
	if err != nil {
		t.Fatal(err)
	}
	if w.place.Content(disk.Path) == nil {
		t.Errorf("the disk %+v is not there", disk)
	}
	want := []image.Stage{image.Resolving, image.Downloading, image.Uploading, image.Uploading, image.Publishing}
	if diff := cmp.Diff(want, stages); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
	for range 2 {
		if _, err := w.Pull(t.Context(), w.request(ref, ""), nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.hub.Requests("GET", "/manifests/v1"); n != 3 || w.made.Load() != 1 {
		t.Errorf("%d requests, %d sources, want 3 and 1", n, w.made.Load())
	}
	w.observed(1) // to find all in its place is no pull
}

func TestAPersonMayCallAPullOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := w.push("node:v1", 1)
	g := w.gate(image.Progress{Stage: image.Converting})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-g.begun
		cancel()
	}()
	_, err := w.Pull(ctx, w.request(ref, ""), nil)
	w.wantError(err, errdefs.Canceled)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error %v does not wrap the context's", err)
	}
	if files := w.place.Files(); len(files) != 0 {
		t.Errorf("there is %v", files)
	}
}

func TestOutcomesSayWhatWasDone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := w.push("node:v1", 1)
	w.onSource(func(context.Context, image.Report) error {
		w.clock.Step(7 * time.Second)
		return nil
	})
	disk := w.ready(w.request(ref, ""))
	o := w.observed(1)[0]
	if o.Reference != ref || o.Digest != disk.Digest || !o.Made || o.Bytes <= 0 || o.Duration != 7*time.Second || o.Err != nil {
		t.Errorf("outcome %+v", o)
	}
	w.push("other:v1", 1) // the same image
	w.ready(w.request(w.hub.Host()+"/other:v1", ""))
	if o := w.observed(2)[1]; o.Made || o.Bytes != 0 || o.Digest != disk.Digest {
		t.Errorf("outcome of what was there under another name: %+v", o)
	}
	_, _ = w.Ready(t.Context(), w.request(w.hub.Host()+"/none:v1", ""))
	if o := w.observed(3)[2]; o.Made || o.Digest != "" || !errdefs.Is(o.Err, errdefs.InvalidArgument) {
		t.Errorf("outcome of what is not there: %+v", o)
	}
}

func TestStatsCountPullsAndTheirBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := w.push("node:v1", 1)
	g := w.gate(image.Progress{Stage: image.Downloading})
	first := w.ask(t.Context(), w.request(ref, ""))
	<-g.begun
	if s := w.Stats(); s.Running != 1 || s.Made+s.Found+s.Failed+s.Uploaded != 0 {
		t.Errorf("while one is under way: %+v", s)
	}
	close(g.open)
	w.wait("the first pull", first.done)
	if first.err != nil {
		t.Fatal(first.err)
	}
	w.ready(w.request(ref, v1alpha1.PullAlways)) // all is there: no pull
	w.push("other:v1", 1)                        // the same image
	w.ready(w.request(w.hub.Host()+"/other:v1", ""))
	_, _ = w.Ready(t.Context(), w.request(w.hub.Host()+"/none:v1", ""))
	want := pull.Stats{Made: 1, Found: 1, Failed: 1, Uploaded: 1}
	for _, o := range w.observed(3) {
		want.Downloaded += uint64(o.Bytes)
	}
	if diff := cmp.Diff(want, w.Stats()); diff != "" || want.Downloaded == 0 {
		t.Errorf("in the end (-want +got):\n%s", diff)
	}
}
