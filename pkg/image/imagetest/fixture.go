// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package imagetest

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

const (
	// patience is how long a test waits, in real time, for what must come.
	patience = time.Minute
	// long is more time than any wait of a store takes: for a dead process's lock,
	// or between withdrawing and deleting.
	long = 10 * time.Minute
	// size is that of most disks, in MiB.
	size = 64
)

// fixture is one test's world with words for what tests do in it.
type fixture struct {
	*testing.T
	h    Harness
	made sources
}

// ensure makes a disk that the test needs.
func (f *fixture) ensure(s image.Store, key image.Key, name string) *image.Disk {
	f.Helper()
	disk, err := s.Ensure(f.Context(), key, name, f.plain(), nil)
	if err != nil {
		f.Fatalf("ensure %s as %q: %v", key, name, err)
	}
	f.wantWhole(disk, key)
	return disk
}

// remove removes disks that nobody uses.
func (f *fixture) remove(s image.Store, keys ...image.Key) {
	f.Helper()
	removed, err := f.tryRemove(s, keys...)
	if err != nil || len(removed) != len(keys) {
		f.Fatalf("remove %v: %v, %v", keys, removed, err)
	}
}

// tryRemove is Remove while time passes.
func (f *fixture) tryRemove(s image.Store, keys ...image.Key) (removed []image.Key, err error) {
	f.Helper()
	f.passTime(func() { removed, err = s.Remove(f.Context(), keys...) })
	return removed, err
}

// passTime runs work and lets time pass until it is done.
func (f *fixture) passTime(work func()) {
	f.Helper()
	f.passTimeUntil(async(work))
}

// passTimeUntil lets time pass until done is closed.
func (f *fixture) passTimeUntil(done <-chan struct{}) {
	f.Helper()
	f.poll("the operation to end although time passes", func() bool {
		select {
		case <-done:
			return true
		default:
			f.h.Advance(5 * time.Second)
			return false
		}
	})
}

// wait waits without letting time pass.
func (f *fixture) wait(what string, done <-chan struct{}) {
	f.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
		f.Fatalf("waited in vain for %s", what)
	}
}

// poll asks until the answer is yes.
func (f *fixture) poll(what string, ask func() bool) {
	f.Helper()
	limit, again := time.NewTimer(patience), time.NewTicker(time.Millisecond)
	defer limit.Stop()
	defer again.Stop()
	for !ask() {
		select {
		case <-again.C:
		case <-limit.C:
			f.Fatalf("waited in vain for %s", what)
		}
	}
}

// async runs work and closes done at its end.
func async(work func()) (done <-chan struct{}) {
	ch := make(chan struct{})
	go func() {
		defer close(ch)
		work()
	}()
	return ch
}

// wantWhole fails the test unless the disk is what its source made.
func (f *fixture) wantWhole(disk *image.Disk, key image.Key) {
	f.Helper()
	if disk == nil {
		f.Fatalf("no disk of %s and no error", key)
	}
	if disk.Key != key {
		f.Fatalf("the disk is %s, want %s", disk.Key, key)
	}
	if diff := cmp.Diff(descriptionOf(key), disk.Description); diff != "" {
		f.Errorf("description of %s (-want +got):\n%s", key, diff)
	}
	if disk.Path == "" || disk.Created.IsZero() {
		f.Errorf("disk of %s has path %q and was created %v", key, disk.Path, disk.Created)
	}
	if !bytes.Equal(f.h.Content(disk.Path), rawOf(key)) {
		f.Errorf("the disk of %s in %s is not what its source made", key, disk.Path)
	}
}

// wantPublished fails the test unless everything shows the disk, with these names.
func (f *fixture) wantPublished(key image.Key, names ...string) *image.Disk {
	f.Helper()
	s := f.h.Store()
	disk, err := s.Find(f.Context(), key)
	if err != nil {
		f.Fatalf("find %s: %v", key, err)
	}
	f.wantWhole(disk, key)
	if diff := cmp.Diff(names, disk.Names, cmpopts.EquateEmpty()); diff != "" {
		f.Errorf("names of %s by Find (-want +got):\n%s", key, diff)
	}
	for _, name := range names {
		got, err := s.Lookup(f.Context(), name, key.Size)
		if err != nil {
			f.Fatalf("lookup of %q: %v", name, err)
		}
		f.wantSame("Lookup of "+name, disk, got, false)
	}
	got, err := s.Verify(f.Context(), key)
	if err != nil {
		f.Fatalf("verify %s: %v", key, err)
	}
	f.wantSame("Verify", disk, got, false)
	list := f.list(s)
	at := slices.IndexFunc(list, func(d image.Disk) bool { return d.Key == key })
	if at < 0 {
		f.Fatalf("the list has no %s", key)
	}
	f.wantSame("List", disk, &list[at], true)
	return disk
}

// wantSame fails the test if two answers are of different disks.
func (f *fixture) wantSame(what string, want, got *image.Disk, names bool) {
	f.Helper()
	opts := []cmp.Option{cmpopts.EquateEmpty(), cmpopts.EquateApproxTime(time.Second)}
	if !names {
		opts = append(opts, cmpopts.IgnoreFields(image.Disk{}, "Names"))
	}
	if diff := cmp.Diff(want, got, opts...); diff != "" {
		f.Errorf("%s and Find disagree (-Find +%s):\n%s", what, what, diff)
	}
}

// wantUnpublished fails the test if anything shows the disk.
func (f *fixture) wantUnpublished(key image.Key, names ...string) {
	f.Helper()
	s := f.h.Store()
	_, err := s.Find(f.Context(), key)
	f.wantError("find "+key.String(), err, errdefs.NotFound)
	_, err = s.Verify(f.Context(), key)
	f.wantError("verify "+key.String(), err, errdefs.NotFound)
	for _, name := range names {
		_, err = s.Lookup(f.Context(), name, key.Size)
		f.wantError("lookup "+name, err, errdefs.NotFound)
	}
	if list := f.list(s); slices.ContainsFunc(list, func(d image.Disk) bool { return d.Key == key }) {
		f.Errorf("the list has %s", key)
	}
}

// wantWholeOrAbsent fails the test if half a disk is shown, and reports whether it is.
func (f *fixture) wantWholeOrAbsent(key image.Key, name string) bool {
	f.Helper()
	s := f.h.Store()
	disk, err := s.Find(f.Context(), key)
	published := err == nil
	if published {
		f.wantWhole(disk, key)
	} else {
		f.wantError("find "+key.String(), err, errdefs.NotFound)
	}
	named, err := s.Lookup(f.Context(), name, key.Size)
	if err == nil {
		f.wantWhole(named, key)
	} else {
		f.wantError("lookup of "+name, err, errdefs.NotFound)
	}
	if err == nil && !published {
		f.Errorf("the name %s leads to %s, which is not published", name, key)
	}
	return published
}

// wantFiles fails the test unless there is nothing in the world.
func (f *fixture) wantNoFiles(when string) {
	f.Helper()
	if files := f.h.Files(); len(files) != 0 {
		f.Errorf("%s there is %q, want nothing", when, files)
	}
}

func (f *fixture) list(s image.Store) []image.Disk {
	f.Helper()
	list, err := s.List(f.Context())
	if err != nil {
		f.Fatalf("list: %v", err)
	}
	return list
}

func (f *fixture) leftovers(s image.Store) []image.Leftover {
	f.Helper()
	leftovers, err := s.Leftovers(f.Context())
	if err != nil {
		f.Fatalf("leftovers: %v", err)
	}
	if !slices.IsSortedFunc(leftovers, func(a, b image.Leftover) int { return strings.Compare(a.Path, b.Path) }) {
		f.Errorf("leftovers are not sorted by path: %v", leftovers)
	}
	for _, l := range leftovers {
		if l.Path == "" || l.Reason == "" || l.ID == "" {
			f.Errorf("leftover %+v lacks something", l)
		}
	}
	return leftovers
}

// clean deletes all leftovers, of operations that ended long ago.
func (f *fixture) clean() {
	f.Helper()
	f.h.Advance(long)
	s := f.h.Store()
	leftovers := f.leftovers(s)
	f.passTime(func() {
		if err := s.Clean(f.Context(), leftovers...); err != nil {
			f.Errorf("clean %v: %v", leftovers, err)
		}
	})
	if left := f.leftovers(s); len(left) != 0 {
		f.Errorf("after clean there are leftovers %v", left)
	}
}

// wantError fails the test unless err has one of the kinds.
func (f *fixture) wantError(what string, err error, kinds ...errdefs.Kind) {
	f.Helper()
	if err == nil || !slices.Contains(kinds, errdefs.KindOf(err)) {
		f.Errorf("%s: got error %v of kind %q, want one of %v", what, err, errdefs.KindOf(err), kinds)
	}
}

// wantText fails the test unless the error's text has all parts.
func (f *fixture) wantText(err error, parts ...string) {
	f.Helper()
	for _, part := range parts {
		if err != nil && !strings.Contains(err.Error(), part) {
			f.Errorf("the error %q does not say %q", err, part)
		}
	}
}

// short is how people name a disk.
func short(key image.Key) string { return key.Digest[len("sha256:"):][:12] }

// watch returns an image.Report that fails the test when calls overlap, come after
// stop, have no sense or go back. seen is called with each report, and may be nil.
func (f *fixture) watch(seen func(image.Progress)) (report image.Report, stop func()) {
	var busy, ended atomic.Bool
	last := 0
	order := image.Stages()
	report = func(p image.Progress) {
		if busy.Swap(true) {
			f.Errorf("reports overlap, at %s", p)
			return
		}
		defer busy.Store(false)
		runtime.Gosched()
		if ended.Load() {
			f.Errorf("%s was reported after the end", p)
		}
		at := slices.Index(order, p.Stage)
		if at < 0 || p.Done < 0 || p.Total < 0 || p.Total > 0 && p.Done > p.Total {
			f.Errorf("report of %+v makes no sense", p)
		}
		if p.Owner == "" { // another process may begin again
			if at < last {
				f.Errorf("%s was reported after %s", p.Stage, order[last])
			}
			last = at
		}
		if seen != nil {
			seen(p)
		}
	}
	return report, func() { ended.Store(true) }
}

// until returns a function for source.before that waits for release or the end of
// the context, and a channel that is closed when it began.
func until(release <-chan struct{}) (before func(context.Context) error, begun <-chan struct{}) {
	ch := make(chan struct{})
	var once atomic.Bool
	return func(ctx context.Context) error {
		if !once.Swap(true) {
			close(ch)
		}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("make the content: %w", ctx.Err())
		}
	}, ch
}
