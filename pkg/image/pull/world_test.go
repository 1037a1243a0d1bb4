// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package pull_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	testclock "k8s.io/utils/clock/testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/fake"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/pull"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
)

const (
	size     = int64(64 << 20)
	patience = time.Minute
)

// world is a registry, a place for disks, and a Puller whose sources do what the
// test says.
type world struct {
	*testing.T
	hub   *images.Registry
	place *fake.Place
	store *spy
	clock *testclock.FakeClock
	*pull.Puller

	mu       sync.Mutex
	source   func(ctx context.Context, report image.Report) error
	outcomes []pull.Outcome
	made     atomic.Int32
}

func newWorld(t *testing.T, change ...func(*pull.Options)) *world {
	t.Helper()
	return newWorldOn(t, images.Options{}, change...)
}

func newWorldOn(t *testing.T, of images.Options, change ...func(*pull.Options)) *world {
	t.Helper()
	hub, err := images.Serve(of)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hub.Close)
	w := &world{T: t, hub: hub, clock: testclock.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))}
	w.place = fake.New(fake.Options{Clock: w.clock})
	w.store = &spy{Store: w.place.Store("this process")}
	o := pull.Options{Dir: "/var/tmp/of-the-driver", Clock: w.clock, Source: w.newSource, Observe: func(o pull.Outcome) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.outcomes = append(w.outcomes, o)
	}}
	for _, c := range change {
		c(&o)
	}
	w.Puller = pull.New(o)
	t.Cleanup(func() {
		if err := w.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return w
}

// push puts the image of a number into the registry, and returns its reference.
func (w *world) push(name string, n int) string {
	w.Helper()
	layer, err := images.Layer(images.File("number", fmt.Sprint(n)))
	if err != nil {
		w.Fatal(err)
	}
	img, err := images.Image(images.Config{Cmd: []string{"/bin/node"}}, layer)
	if err != nil {
		w.Fatal(err)
	}
	ref, err := w.hub.Push(name, img)
	if err != nil {
		w.Fatal(err)
	}
	return ref
}

func (w *world) request(ref string, policy v1alpha1.PullPolicy) pull.Request {
	return pull.Request{
		Store: w.store, Reference: ref, Size: size, Policy: policy,
		Registry: registry.Options{Insecure: []string{w.hub.Host()}, Attempts: 1},
	}
}

// ready is Ready while the clock stands still.
func (w *world) ready(req pull.Request) *image.Disk {
	w.Helper()
	disk, err := w.Ready(w.Context(), req)
	if err != nil {
		w.Fatalf("ready: %v", err)
	}
	return disk
}

// onSource says what sources do from now on.
func (w *world) onSource(do func(ctx context.Context, report image.Report) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.source = do
}

// newSource is pull.Options.Source.
func (w *world) newSource(img *registry.Image) image.Source {
	return func(ctx context.Context, key image.Key, report image.Report) (image.Content, error) {
		w.made.Add(1)
		w.mu.Lock()
		do := w.source
		w.mu.Unlock()
		if do != nil {
			if err := do(ctx, report); err != nil {
				return nil, err
			}
		}
		if key.Digest != img.Digest {
			w.Errorf("the source of %s is asked for %s", img.Digest, key.Digest)
		}
		return content{img}, nil
	}
}

// gate is a source that reports its progress and waits.
type gate struct {
	begun, open chan struct{}
	once        sync.Once
}

func (w *world) gate(at image.Progress) *gate {
	g := &gate{begun: make(chan struct{}), open: make(chan struct{})}
	w.onSource(func(ctx context.Context, report image.Report) error {
		report(at)
		g.once.Do(func() { close(g.begun) })
		select {
		case <-g.open:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return g
}

// content is a small disk.
type content struct{ img *registry.Image }

func (c content) Description() image.Description {
	return image.Description{ConfigDigest: c.img.ConfigDigest, UsedBytes: 1, Config: image.Config{Cmd: slices.Clone(c.img.Config.Cmd)}}
}
func (content) Raw() (io.ReaderAt, int64) { return bytes.NewReader([]byte{1}), 1 }
func (content) StreamOptimized(context.Context, image.Report) (io.ReaderAt, int64, error) {
	return nil, 0, errdefs.New(errdefs.Internal, "nobody asks for it here")
}
func (content) Identity() [16]byte { return [16]byte{1} }
func (content) Close() error       { return nil }

// spy counts what a store is asked.
type spy struct {
	image.Store
	lookups, finds, ensures, verifies atomic.Int32

	mu     sync.Mutex
	lookup func(ctx context.Context) error
	ensure func(ctx context.Context, key image.Key, source image.Source) error
}

func (s *spy) Lookup(ctx context.Context, name string, size int64) (*image.Disk, error) {
	s.lookups.Add(1)
	s.mu.Lock()
	do := s.lookup
	s.mu.Unlock()
	if do != nil {
		if err := do(ctx); err != nil {
			return nil, err
		}
	}
	return s.Store.Lookup(ctx, name, size)
}

func (s *spy) Find(ctx context.Context, key image.Key) (*image.Disk, error) {
	s.finds.Add(1)
	return s.Store.Find(ctx, key)
}

func (s *spy) Verify(ctx context.Context, key image.Key) (*image.Disk, error) {
	s.verifies.Add(1)
	return s.Store.Verify(ctx, key)
}

func (s *spy) Ensure(ctx context.Context, key image.Key, name string, source image.Source, report image.Report) (*image.Disk, error) {
	s.ensures.Add(1)
	s.mu.Lock()
	do := s.ensure
	s.mu.Unlock()
	if do != nil {
		if err := do(ctx, key, source); err != nil {
			return nil, err
		}
	}
	return s.Store.Ensure(ctx, key, name, source, report)
}

func (s *spy) onLookup(do func(ctx context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookup = do
}

func (s *spy) onEnsure(do func(ctx context.Context, key image.Key, source image.Source) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ensure = do
}

// answer is what a call in a goroutine of its own came to.
type answer struct {
	done chan struct{}
	disk *image.Disk
	err  error
}

func (w *world) ask(ctx context.Context, req pull.Request) *answer {
	a := &answer{done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.disk, a.err = w.Ready(ctx, req)
	}()
	return a
}

func (w *world) wait(what string, done <-chan struct{}) {
	w.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		w.Fatalf("waited in vain for %s", what)
	}
}

// await waits until something is so.
func (w *world) await(what string, so func() bool) {
	w.Helper()
	limit := time.After(patience)
	for !so() {
		select {
		case <-time.After(time.Millisecond):
		case <-limit:
			w.Fatalf("waited in vain for %s", what)
		}
	}
}

// passWhenWaiting lets time pass when n timers wait for it.
func (w *world) passWhenWaiting(n int, d time.Duration) {
	w.Helper()
	w.await(fmt.Sprintf("%d timers, there are %d", n, w.clock.Waiters()), func() bool { return w.clock.Waiters() == n })
	w.clock.Step(d)
}

func (w *world) wantError(err error, kind errdefs.Kind, parts ...string) {
	w.Helper()
	if !errdefs.Is(err, kind) {
		w.Errorf("error is %v of kind %q, want %s", err, errdefs.KindOf(err), kind)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			w.Errorf("error %q does not say %q", err, part)
		}
	}
}

// observed waits for the outcomes of n pulls.
func (w *world) observed(n int) []pull.Outcome {
	w.Helper()
	var all []pull.Outcome
	w.await(fmt.Sprintf("%d outcomes", n), func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		all = slices.Clone(w.outcomes)
		return len(all) >= n
	})
	if len(all) != n {
		w.Errorf("%d pulls ended: %+v, want %d", len(all), all, n)
	}
	return all
}

var errSource = errors.New("words of the source")
