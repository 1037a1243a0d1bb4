// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/disk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
)

// Request is an image as somebody wants it.
type Request struct {
	// Store is where the disk must be.
	Store image.Store
	// Reference is as the user wrote it; errors show it so.
	Reference string
	// Size is that of the disk in bytes; see image.ValidateSize.
	Size int64
	// Policy says when the registry is asked. Empty is PullIfNotPresent.
	Policy v1alpha1.PullPolicy
	// Registry says how registries are asked. Its lists hold for what is in the
	// store as well.
	Registry registry.Options
}

// Options of a Puller. The zero value of a field takes its default.
type Options struct {
	// Dir is where temporary files are; see image/disk for how large they are. There
	// is no default.
	Dir string
	// Clock is what everything waits by. Default: the real one.
	Clock clock.WithTicker
	// Wait is how long Ready waits for a pull before it answers Unavailable.
	// Default: 10 seconds.
	Wait time.Duration
	// Limit is how long one pull may take, in the queue included. Default: 1 hour.
	Limit time.Duration
	// Retry is how long a pull that failed is not begun anew. Default: 15 seconds.
	Retry time.Duration
	// Parallel is how many images are made at once in this process, each of which
	// takes memory and room in Dir. Default: 1.
	Parallel int
	// Observe, if set, is told of each pull that ended. It is called from many
	// goroutines and must not block.
	Observe func(Outcome)
	// Source makes the content of a disk. Default: disk.Source with Dir.
	Source func(img *registry.Image) image.Source
}

// Outcome is how a pull ended. That the registry was asked and all was there
// already is no pull.
type Outcome struct {
	// Reference is the full form of what was wanted, Digest that of the image's
	// manifest; empty if the registry did not say.
	Reference, Digest string
	// Made says that the disk was made by this process; otherwise it was there under
	// another name, or another process made it.
	Made bool
	// Bytes is the size of the layers that this process had to download.
	Bytes int64
	// Duration is how long it took, in the queue included.
	Duration time.Duration
	// Err is why it failed, or nil. Its kind is that of pkg/errdefs.
	Err error
}

const (
	defaultWait     = 10 * time.Second
	defaultLimit    = time.Hour
	defaultRetry    = 15 * time.Second
	defaultParallel = 1
	// keep is how long the outcome of a pull is kept for somebody to ask.
	keep = time.Hour
)

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Wait <= 0 {
		o.Wait = defaultWait
	}
	if o.Limit <= 0 {
		o.Limit = defaultLimit
	}
	if o.Retry <= 0 {
		o.Retry = defaultRetry
	}
	if o.Parallel <= 0 {
		o.Parallel = defaultParallel
	}
	if o.Observe == nil {
		o.Observe = func(Outcome) {}
	}
	if o.Source == nil {
		dir := o.Dir
		o.Source = func(img *registry.Image) image.Source { return disk.Source(img, disk.Options{Dir: dir}) }
	}
	return o
}

// Puller fetches images. It is safe for concurrent use. Close it at the end of the
// process.
type Puller struct {
	opts    Options
	answers *answers
	slots   chan struct{}
	closing chan struct{} // closed by Close
	work    sync.WaitGroup

	mu     sync.Mutex
	closed bool
	jobs   map[jobKey]*job
	stats  Stats
}

// New returns a Puller that has nothing to do.
func New(o Options) *Puller {
	o = o.withDefaults()
	return &Puller{
		opts: o, answers: newAnswers(o.Clock), slots: make(chan struct{}, o.Parallel),
		closing: make(chan struct{}), jobs: map[jobKey]*job{},
	}
}

// target is a request that has been read.
type target struct {
	Request
	ref  registry.Reference
	name string // the reference in its full form
}

// read checks a request.
func (p *Puller) read(req Request) (*target, error) {
	ref, err := registry.ParseReference(req.Reference)
	if err != nil {
		return nil, err
	}
	if err := image.ValidateSize(req.Size); err != nil {
		return nil, errdefs.Wrap(errdefs.InvalidArgument, err, "image %s", req.Reference)
	}
	switch req.Policy {
	case "":
		req.Policy = v1alpha1.PullIfNotPresent
	case v1alpha1.PullAlways, v1alpha1.PullIfNotPresent, v1alpha1.PullNever:
	default:
		return nil, errdefs.New(errdefs.InvalidArgument, "image %s: imagePullPolicy %.50q: want Always, IfNotPresent or Never", req.Reference, req.Policy)
	}
	if err := req.Registry.Permits(ref); err != nil {
		return nil, err
	}
	return &target{Request: req, ref: ref, name: ref.String()}, nil
}

// Ready returns the disk of an image. With PullIfNotPresent and PullNever that is one
// round trip, if somebody asked within image.Validity none; with PullAlways the
// registry is asked each time. If the disk is not there, a pull begins, of which
// there is one however many ask; Ready waits for it for Options.Wait and then answers
// Unavailable with how far it is. Call again until there is another answer. A pull
// that failed is told to all who wait, or to the next one who asks, and to everybody
// within Options.Retry; then it begins anew.
//
// The disk may be used for image.Validity. With PullNever, a disk that is not there
// is FailedPrecondition. After Close everything is Unavailable.
func (p *Puller) Ready(ctx context.Context, req Request) (*image.Disk, error) {
	t, err := p.read(req)
	if err != nil {
		return nil, err
	}
	// With PullAlways the store is asked after the registry.
	j, known, err := p.join(ctx, t, t.Policy == v1alpha1.PullAlways)
	if err == nil && j == nil {
		known, err = p.lookup(ctx, t)
		switch {
		case err != nil && !errdefs.Is(err, errdefs.NotFound):
			return nil, t.fail(err)
		case err != nil && t.Policy == v1alpha1.PullNever:
			return nil, t.missing()
		case err != nil:
			j, known, err = p.join(ctx, t, true)
		}
	}
	if err != nil || known != nil {
		return known, err
	}
	return p.await(ctx, t, j)
}

// missing is the error of a disk that must be there and is not.
func (t *target) missing() error {
	size := sizeText(t.Size)
	return errdefs.New(errdefs.FailedPrecondition,
		"image %s: %s has no disk of it with %s, and imagePullPolicy is Never: fetch it with vchctl image pull --size %s %s, or choose another policy",
		t.Reference, t.Store, size, size, t.Reference)
}

// sizeText writes a size as Kubernetes does.
func sizeText(bytes int64) string {
	if bytes%(1<<30) == 0 {
		return fmt.Sprintf("%dGi", bytes>>30)
	}
	return fmt.Sprintf("%dMi", bytes>>20)
}

// lookup asks the store what the name leads to, unless it was asked just now.
func (p *Puller) lookup(ctx context.Context, t *target) (*image.Disk, error) {
	return p.answers.get(ctx, t.answer(), func() (*image.Disk, error) {
		return t.Store.Lookup(ctx, t.name, t.Size)
	})
}

func (t *target) answer() answerKey {
	return answerKey{store: t.Store.String(), name: t.name, size: t.Size}
}

// fail gives an error to somebody who wanted an image.
func (t *target) fail(err error) error {
	kind := errdefs.KindOf(err)
	switch kind {
	case errdefs.NotFound:
		kind = errdefs.FailedPrecondition // a machine would seem not to be there
	case errdefs.Unknown:
		kind = errdefs.Internal
	default:
	}
	return errdefs.Wrap(kind, err, "image %s", t.Reference)
}

// Pull asks the registry for an image, whatever the policy, and makes its disk if
// that is not there. It goes on to the end, or until ctx ends, and tells report how
// far it is. In all else it does what Ready does.
func (p *Puller) Pull(ctx context.Context, req Request, report image.Report) (*image.Disk, error) {
	t, err := p.read(req)
	if err != nil {
		return nil, err
	}
	if err := p.enter(t); err != nil {
		return nil, err
	}
	defer p.work.Done()
	if report == nil {
		report = func(image.Progress) {}
	}
	t.Policy = v1alpha1.PullAlways
	made, err := p.pull(ctx, t, report)
	if err != nil {
		return nil, t.fail(err)
	}
	return made, nil
}

// Vanished is for who got a disk from Ready and found that its files are not there.
// The store looks, and withdraws the disk if that is so; in any case the next Ready
// asks the store anew.
func (p *Puller) Vanished(ctx context.Context, req Request) error {
	t, err := p.read(req)
	if err != nil {
		return err
	}
	key, known := p.answers.last(t.answer())
	if !known {
		found, err := t.Store.Lookup(ctx, t.name, t.Size)
		if errdefs.Is(err, errdefs.NotFound) {
			return nil
		}
		if err != nil {
			return t.fail(err)
		}
		key = found.Key
	}
	_, err = t.Store.Verify(ctx, key)
	p.forget(t.Store.String(), key)
	if err != nil && !errdefs.Is(err, errdefs.NotFound) {
		return t.fail(err)
	}
	return nil
}

// forget drops all answers that lead to a disk.
func (p *Puller) forget(store string, key image.Key) {
	p.answers.forget(store, key)
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, j := range p.jobs {
		if k.store == store && j.disk != nil && j.disk.Key == key {
			delete(p.jobs, k)
		}
	}
}

// Close ends what goes on and waits for its end, or that of ctx. Calling it again
// only waits.
func (p *Puller) Close(ctx context.Context) error {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.closing)
	}
	p.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.work.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errdefs.Wrap(errdefs.KindOf(ctx.Err()), ctx.Err(), "wait for the pulls of images to end")
	}
}

// enter counts work that Close waits for.
func (p *Puller) enter(t *target) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return t.ends()
	}
	p.work.Add(1)
	return nil
}

func (t *target) ends() error {
	return errdefs.New(errdefs.Unavailable, "image %s: nothing is pulled any more: the process ends", t.Reference)
}

// jobKey tells pulls apart that must not be shared.
type jobKey struct {
	store, name string
	size        int64
	always      bool
	registry    [sha256.Size]byte
}

func (t *target) job() (jobKey, error) {
	o := t.Registry
	o.Clock = nil
	// With the credentials, which is why it is kept as a hash.
	text, err := json.Marshal(o)
	if err != nil {
		return jobKey{}, errdefs.Wrap(errdefs.Internal, err, "image %s", t.Reference)
	}
	return jobKey{
		store: t.Store.String(), name: t.name, size: t.Size,
		always: t.Policy == v1alpha1.PullAlways, registry: sha256.Sum256(text),
	}, nil
}
