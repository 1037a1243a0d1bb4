// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"context"
	"errors"
	"sync"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
)

// Causes of the end of a pull's context.
type ending string

const (
	tooLong ending = "it took too long"
	closing ending = "the process ends"
)

// Error returns the cause.
func (e ending) Error() string { return string(e) }

// pull asks the registry what the reference means, and makes the disk if it is not
// there. It ends with the Puller, and after Options.Limit.
func (p *Puller) pull(ctx context.Context, t *target, report image.Report) (*image.Disk, error) {
	ctx, end := p.bound(ctx)
	defer end()
	began := p.opts.Clock.Now()
	p.count(func(s *Stats) { s.Running++ })
	o := Outcome{Reference: t.name}
	disk, found, err := p.fetch(ctx, t, report, &o)
	if err != nil {
		err = p.explain(ctx, err)
	}
	o.Duration, o.Err = p.opts.Clock.Since(began), err
	p.count(func(s *Stats) { s.end(o, found) })
	if !found {
		p.opts.Observe(o)
	}
	return disk, err
}

// bound returns a context that ends with the Puller, and after Options.Limit.
func (p *Puller) bound(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := p.opts.Clock.NewTimer(p.opts.Limit)
	var watch sync.WaitGroup
	watch.Go(func() {
		defer timer.Stop()
		select {
		case <-timer.C():
			cancel(tooLong)
		case <-p.closing:
			cancel(closing)
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		cancel(nil)
		watch.Wait()
	}
}

// explain says why a pull ended, if that was not its own fault.
func (p *Puller) explain(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, tooLong):
		return errdefs.Wrap(errdefs.DeadlineExceeded, err, "the pull took longer than %s", p.opts.Limit)
	case errors.Is(cause, closing):
		return errdefs.New(errdefs.Unavailable, "the pull was ended: %s", closing)
	case cause == nil && errdefs.Is(err, errdefs.Canceled):
		return errdefs.Wrap(errdefs.Unavailable, err, "the pull was called off") // by nobody who asked for it
	}
	return err
}

// fetch does the work of a pull. It reports whether all was found in its place.
func (p *Puller) fetch(ctx context.Context, t *target, report image.Report, o *Outcome) (disk *image.Disk, found bool, err error) {
	report(image.Progress{Stage: image.Resolving})
	img, err := registry.Resolve(ctx, t.ref, t.Registry)
	if err != nil {
		return nil, false, err
	}
	defer img.Close()
	o.Digest = img.Digest
	key := image.Key{Digest: img.Digest, Size: t.Size}
	if t.Policy == v1alpha1.PullAlways {
		disk, err := p.lookup(ctx, t)
		if err == nil && disk.Key == key {
			return disk, true, nil
		}
		if err != nil && !errdefs.Is(err, errdefs.NotFound) {
			return nil, false, err
		}
	}
	m := &maker{puller: p, img: img, report: report, outcome: o}
	defer m.release()
	// A disk that is there under another name needs no place in the queue.
	_, err = t.Store.Find(ctx, key)
	if errdefs.Is(err, errdefs.NotFound) {
		err = m.acquire(ctx, report)
	}
	if err != nil {
		return nil, false, err
	}
	disk, err = t.Store.Ensure(ctx, key, t.name, m.source, m.progress)
	if err != nil {
		return nil, false, err
	}
	_, now, forgotten := p.answers.remembered(t.answer())
	p.answers.put(t.answer(), disk, now, forgotten)
	return disk, false, nil
}

// maker makes one disk, when it has a place among those that may be made at once.
type maker struct {
	puller  *Puller
	img     *registry.Image
	report  image.Report
	outcome *Outcome

	mu   sync.Mutex
	held bool
	// sent is how much of the present upload was counted. Reports do not overlap.
	sent int64
}

// acquire waits for a place, unless it has one.
func (m *maker) acquire(ctx context.Context, report image.Report) error {
	m.mu.Lock()
	held := m.held
	m.mu.Unlock()
	if held {
		return nil
	}
	select {
	case m.puller.slots <- struct{}{}:
	default:
		report(image.Progress{Stage: image.Queued})
		select {
		case m.puller.slots <- struct{}{}:
		case <-ctx.Done():
			return errdefs.Wrap(errdefs.KindOf(ctx.Err()), ctx.Err(), "wait for other images")
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = true
	return nil
}

// release gives the place back, if it has one.
func (m *maker) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held {
		m.held = false
		<-m.puller.slots
	}
}

// progress passes a store's report on. While another process makes the disk, other
// images can be made in this one.
func (m *maker) progress(progress image.Progress) {
	if progress.Owner != "" {
		m.release()
	} else if progress.Stage == image.Uploading {
		m.uploaded(progress.Done)
	}
	m.report(progress)
}

// uploaded counts how far an upload is; one that is begun anew starts at zero.
func (m *maker) uploaded(done int64) {
	more := uint64(max(0, done-m.sent))
	m.puller.count(func(s *Stats) { s.Uploaded += more })
	m.sent = done
}

// source is the image.Source of the pull.
func (m *maker) source(ctx context.Context, key image.Key, report image.Report) (image.Content, error) {
	if err := m.acquire(ctx, report); err != nil {
		return nil, err
	}
	m.outcome.Made, m.outcome.Bytes = true, m.img.Size()
	m.sent = 0
	return m.puller.opts.Source(m.img)(ctx, key, report)
}
