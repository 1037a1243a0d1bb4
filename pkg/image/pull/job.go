// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"context"
	"time"

	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// job is a pull in the background. All but done is guarded by Puller.mu.
type job struct {
	done chan struct{} // closed at its end

	progress image.Progress
	disk     *image.Disk
	err      error
	ended    time.Time
	told     bool // somebody knows how it ended
}

func (j *job) running() bool { return j.ended.IsZero() }

// join returns the pull of a request, which the caller must await: the one under
// way; and if it may begin one, one whose end still counts, or a new one. It returns
// the disk instead if that has just been made.
func (p *Puller) join(ctx context.Context, t *target, begin bool) (*job, *image.Disk, error) {
	key, err := t.job()
	if err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, t.ends()
	}
	p.drop()
	j := p.jobs[key]
	if t.Policy == v1alpha1.PullNever || !begin && (j == nil || !j.running()) {
		return nil, nil, nil
	}
	if j == nil {
		if known, _, _ := p.answers.remembered(t.answer()); known != nil && !key.always {
			return nil, known, nil
		}
		j = &job{done: make(chan struct{}), progress: image.Progress{Stage: image.Resolving}}
		p.jobs[key] = j
		p.work.Add(1)
		// It is for all who ask, whatever becomes of this call.
		go p.run(context.WithoutCancel(ctx), t, key, j)
	}
	return j, nil, nil
}

// drop forgets pulls whose end no longer counts. The Puller must be locked.
func (p *Puller) drop() {
	for key, j := range p.jobs {
		if j.running() {
			continue
		}
		limit := keep // until somebody asks
		switch {
		case j.err == nil && j.told:
			limit = 0
		case j.err == nil:
			limit = image.Validity
		case j.told:
			limit = p.opts.Retry
		}
		if p.opts.Clock.Since(j.ended) >= limit {
			delete(p.jobs, key)
		}
	}
}

// await waits for a pull that was joined, but not longer than Options.Wait.
func (p *Puller) await(ctx context.Context, t *target, j *job) (*image.Disk, error) {
	timer := p.opts.Clock.NewTimer(p.opts.Wait)
	defer timer.Stop()
	select {
	case <-j.done:
	case <-timer.C():
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !j.running() && j.err != nil:
		j.told = true
		return nil, t.fail(j.err)
	case !j.running():
		j.told = true
		return copyOf(j.disk), nil
	case ctx.Err() != nil:
		return nil, errdefs.Wrap(errdefs.KindOf(ctx.Err()), ctx.Err(), "image %s: %s", t.Reference, j.progress)
	}
	return nil, errdefs.New(errdefs.Unavailable, "image %s: %s", t.Reference, j.progress)
}

// run is the pull itself.
func (p *Puller) run(ctx context.Context, t *target, key jobKey, j *job) {
	defer p.work.Done()
	log := klog.FromContext(ctx).WithValues("image", t.name, "store", t.Store.String())
	disk, err := p.pull(ctx, t, func(progress image.Progress) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if progress.Stage != j.progress.Stage {
			log.V(2).Info("Pull", "progress", progress.String())
		}
		j.progress = progress
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	j.disk, j.err, j.ended = disk, err, p.opts.Clock.Now()
	if err == nil && !key.always {
		delete(p.jobs, key) // the store knows it
	}
	close(j.done)
}
