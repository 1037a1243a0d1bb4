// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// Ensure implements image.Store.
func (s *Store) Ensure(ctx context.Context, key image.Key, name string, source image.Source, report image.Report) (*image.Disk, error) {
	if err := key.Validate(); err != nil {
		return nil, err
	}
	if report == nil {
		report = func(image.Progress) {}
	}
	for {
		_, err := s.Find(ctx, key)
		if errdefs.Is(err, errdefs.NotFound) {
			err = s.produce(ctx, key, source, report)
		}
		var disk *image.Disk
		if err == nil {
			disk, err = s.link(ctx, key, name)
		}
		if err != nil {
			return nil, s.fail(err, "make image %s", key)
		}
		if disk != nil {
			return disk, nil
		}
		// It was removed this very moment.
	}
}

// link makes name lead to a disk, and returns that; nil if it has gone.
func (s *Store) link(ctx context.Context, key image.Key, text string) (disk *image.Disk, err error) {
	err = s.step(ctx, StepName, func() error {
		if _, ok := s.place.records[key]; ok && text != "" {
			s.place.names[name{text, key.Size}] = key
		}
		disk = s.place.disk(key)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return disk, nil
}

// produce makes a disk, or waits until another one has made it.
func (s *Store) produce(ctx context.Context, key image.Key, source image.Source, report image.Report) (err error) {
	mine, err := s.acquire(ctx, key, report, func() bool {
		_, published := s.place.records[key]
		return published
	})
	if err != nil || mine == nil {
		return err
	}
	defer func() { err = errors.Join(err, s.release(ctx, key, mine)) }()
	tracked := func(p image.Progress) {
		s.place.mu.Lock()
		mine.progress = p
		s.place.change()
		s.place.mu.Unlock()
		report(p)
	}
	content, err := source(ctx, key, tracked)
	if err != nil {
		return err
	}
	err = s.upload(ctx, key, mine, content, tracked)
	return errors.Join(err, content.Close())
}

// upload writes the content of a disk and publishes it, and takes it away again if
// that fails.
func (s *Store) upload(ctx context.Context, key image.Key, mine *lock, content image.Content, report image.Report) (err error) {
	p := s.place
	defer func() {
		if err == nil {
			return
		}
		err = errors.Join(err, s.step(context.WithoutCancel(ctx), StepDelete, func() error {
			p.discard(mine.upload) // it may have been published, and the answer lost
			return nil
		}))
	}()
	err = s.step(ctx, StepPrepare, func() error {
		if p.full {
			return errdefs.New(errdefs.ResourceExhausted, "%s has no room", p.opts.Name)
		}
		p.counter++
		mine.upload = fmt.Sprintf("%s/%06d/disk.vmdk", p.directory(key), p.counter)
		p.files[mine.upload] = &file{key: key}
		return nil
	})
	if err != nil {
		return err
	}
	r, size := content.Raw()
	report(image.Progress{Stage: image.Uploading, Total: size})
	raw := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, size), raw); err != nil {
		return fmt.Errorf("read the new disk: %w", keepKind(err))
	}
	err = s.step(ctx, StepUpload, func() error {
		if f := p.files[mine.upload]; f != nil {
			f.raw = raw
		}
		return nil
	})
	if err != nil {
		return err
	}
	report(image.Progress{Stage: image.Uploading, Done: size, Total: size})
	report(image.Progress{Stage: image.Publishing})
	return s.step(ctx, StepPublish, func() error {
		if p.locks[key] != mine || p.files[mine.upload] == nil {
			return errdefs.New(errdefs.Aborted, "another process took over")
		}
		p.records[key] = *clone(image.Disk{Key: key, Description: content.Description(), Path: mine.upload, Created: p.opts.Clock.Now()})
		p.change()
		return nil
	})
}

// keepKind gives an error without a kind the one that KindOf would find.
func keepKind(err error) error { return errdefs.Wrap(errdefs.KindOf(err), err, "") }

// discard deletes a file that no record and no VM has. The place must be locked.
func (p *Place) discard(path string) {
	f := p.files[path]
	if f != nil && p.records[f.key].Path != path && len(p.usersOf(func(v vm) bool { return v.path == path })) == 0 {
		delete(p.files, path)
	}
}

// acquire waits for the lock of a disk, or until ready, and then returns nil.
func (s *Store) acquire(ctx context.Context, key image.Key, report image.Report, ready func() bool) (*lock, error) {
	for {
		var mine *lock
		var held lock
		var changed <-chan struct{}
		err := s.step(ctx, StepLock, func() error {
			mine, changed = nil, nil
			if ready() {
				return nil
			}
			if other := s.place.locks[key]; other != nil && !s.place.stale(other) {
				held, changed = *other, s.place.changed
				return nil
			} else if other != nil {
				s.place.discard(other.upload)
			}
			mine = &lock{owner: s.owner, progress: image.Progress{Stage: image.Waiting}}
			s.place.locks[key] = mine
			return nil
		})
		if err != nil && mine != nil { // the answer was lost
			err = errors.Join(err, s.release(ctx, key, mine))
		}
		if err != nil || changed == nil {
			return mine, err
		}
		progress := held.progress
		progress.Owner = held.owner
		report(progress)
		if err := s.wait(ctx, changed, held); err != nil {
			return nil, err
		}
	}
}

// wait waits until the locks change, or one is to be taken over.
func (s *Store) wait(ctx context.Context, changed <-chan struct{}, held lock) error {
	var stale <-chan time.Time
	if !held.ended.IsZero() {
		timer := s.place.opts.Clock.NewTimer(held.ended.Add(s.place.opts.Stale).Sub(s.place.opts.Clock.Now()))
		defer timer.Stop()
		stale = timer.C()
	}
	select {
	case <-changed:
	case <-stale:
	case <-ctx.Done():
	}
	return s.ended(ctx, "wait for "+held.owner)
}

// stale reports whether a lock may be taken over. The place must be locked.
func (p *Place) stale(l *lock) bool {
	return !l.ended.IsZero() && p.opts.Clock.Since(l.ended) >= p.opts.Stale
}

// release gives a lock back, whatever became of the context. If that cannot be,
// the lock grows stale.
func (s *Store) release(ctx context.Context, key image.Key, mine *lock) error {
	p := s.place
	err := s.step(context.WithoutCancel(ctx), StepUnlock, func() error {
		if p.locks[key] == mine {
			delete(p.locks, key)
			p.change()
		}
		return nil
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	mine.ended = p.opts.Clock.Now()
	p.change()
	return err
}
