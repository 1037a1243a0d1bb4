// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path"
	"slices"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

const (
	// ownerLimit is more than the file of a lock has.
	ownerLimit = 64 << 10
	// releaseAttempts is how often giving back a lock is tried: others wait for it.
	releaseAttempts = 3
)

// owner is what the holder of a lock writes into it.
type owner struct {
	Owner string `json:"owner"`
	// ID tells this holder from all others.
	ID string `json:"id"`
	// Beat counts, so that each writing differs from the one before.
	Beat  int64       `json:"beat"`
	Stage image.Stage `json:"stage"`
	Done  int64       `json:"done"`
	Total int64       `json:"total"`
}

// progressOf is what somebody who waits is told, whatever the file of the lock holds.
func progressOf(content []byte) image.Progress {
	var o owner
	if json.Unmarshal(content, &o) != nil || o.Owner == "" {
		o.Owner = "another process"
	}
	p := image.Progress{Stage: o.Stage, Total: max(0, o.Total), Owner: o.Owner}
	p.Done = min(max(0, o.Done), p.Total)
	if !slices.Contains(image.Stages(), p.Stage) {
		p.Stage = image.Waiting
	}
	return p
}

// generations are those of a key's lock that a listing of the locks has, sorted.
func generations(entries []datastore.Entry, key image.Key) []int {
	var all []int
	for _, e := range entries {
		if k, generation, ok := parseLock(e.Name); ok && e.Dir && k == key {
			all = append(all, generation)
		}
	}
	slices.Sort(all)
	return all
}

// watch is what somebody who waits knows of a holder.
type watch struct {
	content []byte
	since   time.Time
	seen    bool
}

// look takes note of what the file of a lock held, when it was read between before
// and after. It reports whether the holder was just seen to be alive, and whether it has
// shown nothing for as long as stale: of the two times that counts which makes
// the wait longer, since reading may take any time.
func (w *watch) look(content []byte, before, after time.Time, stale time.Duration) (alive, dead bool) {
	if !w.seen || !bytes.Equal(content, w.content) {
		alive = w.seen
		w.content, w.since, w.seen = content, after, true
		return alive, false
	}
	return false, before.Sub(w.since) >= stale
}

// claim is how a lock is waited for.
type claim struct {
	// ready, if set, is asked at each look; if it says yes, no lock is needed.
	ready func(ctx context.Context) (bool, error)
	// report, if set, is told what the holder does.
	report image.Report
	// deadOnly gives up when the holder is seen to be alive.
	deadOnly bool
}

// acquire waits for the lock of a key, and takes that of a dead holder over. It
// returns nil without an error if the claim says that none is needed.
func (s *Store) acquire(ctx context.Context, key image.Key, c claim) (*hold, error) {
	for beaten := 0; ; {
		all, err := s.generations(ctx, key)
		if err != nil {
			return nil, err
		}
		next := 1
		if len(all) > 0 {
			last := all[len(all)-1]
			end, err := s.await(ctx, key, last, c)
			if err != nil || end == needless {
				return nil, err
			}
			if end == gone {
				continue
			}
			next = last + 1
		}
		h, err := s.take(ctx, key, next)
		if errdefs.Is(err, errdefs.AlreadyExists) {
			// Somebody was faster. That a listing does not show him may last a moment.
			if beaten++; beaten > 1 {
				if err := s.wait(ctx, s.o.Poll, "wait for a lock"); err != nil {
					return nil, err
				}
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, lower := range all {
			if err := s.files.Delete(ctx, s.layout.lock(key, lower)); err != nil {
				klog.FromContext(ctx).Info("Could not delete the lock of a dead process", "path", s.layout.lock(key, lower), "reason", err.Error())
			}
		}
		return h, nil
	}
}

func (s *Store) generations(ctx context.Context, key image.Key) ([]int, error) {
	entries, err := s.files.List(ctx, s.layout.locks(), "*")
	if err != nil && !errdefs.Is(err, errdefs.NotFound) {
		return nil, err
	}
	return generations(entries, key), nil
}

// ending is how the wait for a holder ends.
type ending int

const (
	gone     ending = iota // there is no such generation any more
	stale                  // the holder is dead
	needless               // no lock is needed, or none wanted
)

// await waits for the holder of a generation.
func (s *Store) await(ctx context.Context, key image.Key, generation int, c claim) (ending, error) {
	file := path.Join(s.layout.lock(key, generation), ownerFile)
	var w watch
	for {
		before := s.o.Clock.Now()
		content, err := s.read(ctx, file, ownerLimit)
		if errdefs.Is(err, errdefs.NotFound) {
			// It is gone, or its holder has just made it, or died right then.
			var all []int
			if all, err = s.generations(ctx, key); err == nil && (len(all) == 0 || all[len(all)-1] != generation) {
				return gone, nil
			}
		}
		if err != nil {
			return gone, err
		}
		alive, dead := w.look(content, before, s.o.Clock.Now(), s.o.Stale)
		switch {
		case dead:
			return stale, nil
		case alive && c.deadOnly:
			return needless, nil
		}
		if c.report != nil {
			c.report(progressOf(content))
		}
		if err := s.wait(ctx, s.o.Poll, "wait for "+progressOf(content).Owner); err != nil {
			return gone, err
		}
		if c.ready != nil {
			if yes, err := c.ready(ctx); yes || err != nil {
				return needless, err
			}
		}
	}
}

// hold is a lock that is held. Its holder shows that it is alive until release.
type hold struct {
	s          *Store
	key        image.Key
	generation int
	// lost is closed when somebody else has taken the lock over.
	lost chan struct{}
	stop context.CancelFunc
	done chan struct{}

	mu    sync.Mutex
	owner owner
}

// take makes one generation of a lock. AlreadyExists if somebody has it.
func (s *Store) take(ctx context.Context, key image.Key, generation int) (*hold, error) {
	h := &hold{
		s: s, key: key, generation: generation, lost: make(chan struct{}), done: make(chan struct{}),
		owner: owner{Owner: s.o.Owner, ID: newID(), Stage: image.Waiting},
	}
	err := s.makeDirectory(ctx, h.directory())
	if err != nil {
		return nil, err
	}
	beating, stop := context.WithCancel(context.WithoutCancel(ctx))
	h.stop = stop
	if err := h.write(ctx); err != nil {
		close(h.done)
		stop()
		tidy, cancel := detached(ctx)
		defer cancel()
		if err := s.files.Delete(tidy, h.directory()); err != nil {
			klog.FromContext(ctx).Info("Could not delete a lock", "path", h.directory(), "reason", err.Error())
		}
		if errdefs.Is(err, errdefs.NotFound) {
			err = errdefs.Wrap(errdefs.AlreadyExists, errTaken, "lock image %s", key)
		}
		return nil, err
	}
	go h.beat(beating)
	return h, nil
}

// makeDirectory makes a directory that must not be there, and its parents if they are missing.
func (s *Store) makeDirectory(ctx context.Context, dir string) error {
	err := s.files.MakeDirectory(ctx, dir, false)
	if !errdefs.Is(err, errdefs.NotFound) {
		return err
	}
	if err := s.files.MakeDirectory(ctx, path.Dir(dir), true); err != nil {
		return err
	}
	return s.files.MakeDirectory(ctx, dir, false)
}

func (h *hold) directory() string { return h.s.layout.lock(h.key, h.generation) }

func (h *hold) file() string { return path.Join(h.directory(), ownerFile) }

// at notes how far the holder is, for the next beat.
func (h *hold) at(p image.Progress) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.owner.Stage, h.owner.Done, h.owner.Total = p.Stage, p.Done, p.Total
}

func (h *hold) write(ctx context.Context) error {
	h.mu.Lock()
	h.owner.Beat++
	b, err := json.Marshal(h.owner)
	h.mu.Unlock()
	if err != nil {
		return errdefs.Wrap(errdefs.Internal, err, "encode the lock of image %s", h.key)
	}
	return h.s.files.Write(ctx, h.file(), bytes.NewReader(b), int64(len(b)), nil)
}

// mine reads whether the lock is still this holder's.
func (h *hold) mine(ctx context.Context) (bool, error) {
	content, err := h.s.read(ctx, h.file(), ownerLimit)
	if errdefs.Is(err, errdefs.NotFound) {
		return false, nil
	}
	var o owner
	return err == nil && json.Unmarshal(content, &o) == nil && o.ID == h.owner.ID, err
}

// beat shows that the holder is alive, until ctx ends or the lock is lost.
func (h *hold) beat(ctx context.Context) {
	defer close(h.done)
	timer := h.s.o.Clock.NewTimer(h.s.o.Beat)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C():
		}
		// One that was begun is brought to its end, or it could be written later.
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.s.o.Stale)
		mine, err := h.mine(limited)
		if err == nil && mine {
			err = h.write(limited)
		}
		cancel()
		switch {
		case err != nil:
			klog.FromContext(ctx).V(1).Info("Could not show that a lock is held", "path", h.file(), "reason", err.Error())
		case !mine:
			klog.FromContext(ctx).Info("Lost the lock of an image: somebody took this process for dead", "path", h.directory())
			close(h.lost)
			return
		}
		timer.Reset(h.s.o.Beat)
	}
}

// wasLost reports whether the lock is known to be lost.
func (h *hold) wasLost() bool {
	select {
	case <-h.lost:
		return true
	default:
		return false
	}
}

// errTaken is of a holder whose lock somebody else has.
var errTaken = errors.New("another process took over, since this one seemed dead")

// check makes sure that nobody has taken the lock over: errTaken, which is Aborted.
func (h *hold) check(ctx context.Context) error {
	all, err := h.s.generations(ctx, h.key)
	if err != nil {
		return err
	}
	if h.wasLost() || len(all) == 0 || all[len(all)-1] != h.generation {
		return errdefs.Wrap(errdefs.Aborted, errTaken, "work on image %s", h.key)
	}
	return nil
}

// release gives the lock back, whatever became of ctx. If that cannot be, the lock
// is taken for that of a dead process some time later; the error says so.
func (h *hold) release(ctx context.Context) error {
	h.stop()
	<-h.done
	tidy, cancel := detached(ctx)
	defer cancel()
	var err error
	for range releaseAttempts {
		var mine bool
		mine, err = h.mine(tidy)
		if err == nil && mine {
			err = h.s.files.Delete(tidy, h.directory())
		}
		if err == nil {
			return nil
		}
	}
	return h.s.fail(err, "give back the lock of image %s; it grows old by itself", h.key)
}

// unlock is release for those whose work is done in any case.
func (h *hold) unlock(ctx context.Context) {
	if err := h.release(ctx); err != nil {
		klog.FromContext(ctx).Info("Could not give back the lock of an image", "path", h.directory(), "reason", err.Error())
	}
}
