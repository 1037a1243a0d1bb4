// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package imagetest

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// removing are the tests of how disks go.
func removing() map[string]func(*fixture) {
	return map[string]func(*fixture){
		"a disk that nobody uses is removed without a trace":           removeUnused,
		"a disk that is removed can be made again":                     removeAndMake,
		"a disk with users is not withdrawn, and the error names them": removeUsed,
		"a disk goes when its last user has gone":                      removeAfterUser,
		"of several disks those go that can":                           removeSeveral,
		"a key that comes twice is one":                                removeTwice,
		"nothing to remove is no error":                                removeNothing,
		"deleting waits longer than answers are valid":                 removeWaits,
		"a VM that is made after withdrawing keeps its disk":           removeTooLate,
		"a removal that is called off harms nothing":                   removeCalledOff,
		"a disk that is wanted while it is removed is whole":           removeWanted,
		"two removals of one disk do no harm":                          removeTogether,
		"a disk that is being made is not removed":                     removeMaking,
	}
}

func removeUnused(f *fixture) {
	one, two, s := keyOf(1, size), keyOf(2, size), f.h.Store()
	f.ensure(s, one, "node:v1")
	f.ensure(s, one, "node:latest")
	f.ensure(s, two, "other:v1")
	removed, err := f.tryRemove(f.h.Store(), one)
	if err != nil || !slices.Equal(removed, []image.Key{one}) {
		f.Fatalf("remove: %v, %v", removed, err)
	}
	f.wantUnpublished(one, "node:v1", "node:latest")
	f.wantPublished(two, "other:v1")
	removed, err = f.tryRemove(f.h.Store(), one)
	f.wantError("remove once more", err, errdefs.NotFound)
	if len(removed) != 0 {
		f.Errorf("%v were removed twice", removed)
	}
	f.remove(s, two)
	f.wantNoFiles("after all disks were removed")
}

func removeAndMake(f *fixture) {
	key, s := keyOf(1, size), f.h.Store()
	for range 2 {
		f.ensure(s, key, "node:v1")
		f.wantPublished(key, "node:v1")
		f.remove(s, key)
		f.wantUnpublished(key, "node:v1")
	}
	if n := f.made.calls.Load(); n != 2 {
		f.Errorf("the source was called %d times, want twice", n)
	}
	f.wantNoFiles("after the disk was removed")
}

func removeUsed(f *fixture) {
	key, s := keyOf(1, size), f.h.Store()
	disk := f.ensure(s, key, "node:v1")
	a, b := f.h.Attach(disk.Path), f.h.Attach(disk.Path)
	done := async(func() {
		removed, err := s.Remove(f.Context(), key)
		f.wantError("remove", err, errdefs.FailedPrecondition)
		f.wantText(err, a.Name, b.Name, s.String(), short(key))
		if len(removed) != 0 {
			f.Errorf("%v were removed", removed)
		}
	})
	watching := f.h.Store()
	f.passTimeSeeing(done, func() {
		if _, err := watching.Find(f.Context(), key); err != nil {
			f.Errorf("a disk with users was withdrawn: %v", err)
		}
	})
	f.wantPublished(key, "node:v1")
}

// passTimeSeeing lets time pass until done is closed, and looks in between.
func (f *fixture) passTimeSeeing(done <-chan struct{}, look func()) {
	f.Helper()
	f.poll("the operation to end although time passes", func() bool {
		look()
		select {
		case <-done:
			return true
		default:
			f.h.Advance(5 * time.Second)
			return false
		}
	})
}

func removeAfterUser(f *fixture) {
	key, s := keyOf(1, size), f.h.Store()
	user := f.h.Attach(f.ensure(s, key, "node:v1").Path)
	_, err := f.tryRemove(s, key)
	f.wantError("remove", err, errdefs.FailedPrecondition)
	f.h.Detach(user)
	f.remove(s, key)
	f.wantNoFiles("after the disk was removed")
}

func removeSeveral(f *fixture) {
	free, used, absent, last, s := keyOf(1, size), keyOf(2, size), keyOf(3, size), keyOf(4, size), f.h.Store()
	f.ensure(s, free, "free:v1")
	user := f.h.Attach(f.ensure(s, used, "used:v1").Path)
	f.ensure(s, last, "last:v1")
	removed, err := f.tryRemove(s, absent, used, free, last)
	f.wantError("remove", err, errdefs.FailedPrecondition)
	f.wantText(err, user.Name, short(used), short(absent))
	slices.SortFunc(removed, func(a, b image.Key) int { return bytes.Compare([]byte(a.Digest), []byte(b.Digest)) })
	want := []image.Key{free, last}
	slices.SortFunc(want, func(a, b image.Key) int { return bytes.Compare([]byte(a.Digest), []byte(b.Digest)) })
	if !slices.Equal(removed, want) {
		f.Errorf("removed are %v, want %v", removed, want)
	}
	f.wantUnpublished(free, "free:v1")
	f.wantUnpublished(last, "last:v1")
	f.wantPublished(used, "used:v1")
	f.ensure(s, free, "free:v1")
	removed, err = f.tryRemove(s, absent, free)
	f.wantError("remove with one that is not there", err, errdefs.NotFound)
	if !slices.Equal(removed, []image.Key{free}) {
		f.Errorf("removed are %v, want %v", removed, free)
	}
}

func removeTwice(f *fixture) {
	key, s := keyOf(1, size), f.h.Store()
	f.ensure(s, key, "node:v1")
	removed, err := f.tryRemove(s, key, key)
	if err != nil || !slices.Equal(removed, []image.Key{key}) {
		f.Errorf("remove: %v, %v", removed, err)
	}
	f.wantNoFiles("after the disk was removed")
}

func removeNothing(f *fixture) {
	f.ensure(f.h.Store(), keyOf(1, size), "node:v1")
	if removed, err := f.h.Store().Remove(f.Context()); err != nil || len(removed) != 0 {
		f.Errorf("remove: %v, %v", removed, err)
	}
	if err := f.h.Store().Clean(f.Context()); err != nil {
		f.Errorf("clean: %v", err)
	}
	f.wantPublished(keyOf(1, size), "node:v1")
}

// removal is a Remove that has withdrawn its disks, and waits.
type removal struct {
	done    <-chan struct{}
	removed []image.Key
	err     error
}

// withdraw begins to remove disks. No time passes.
func (f *fixture) withdraw(ctx context.Context, keys ...image.Key) *removal {
	f.Helper()
	r, s, watching := &removal{}, f.h.Store(), f.h.Store()
	r.done = async(func() { r.removed, r.err = s.Remove(ctx, keys...) })
	f.poll("the disks to be withdrawn", func() bool { return len(f.list(watching)) == 0 })
	return r
}

func removeWaits(f *fixture) {
	key := keyOf(1, size)
	disk := f.ensure(f.h.Store(), key, "node:v1")
	r := f.withdraw(f.Context(), key)
	f.wantUnpublished(key, "node:v1")
	f.h.Advance(image.Validity)
	if !bytes.Equal(f.h.Content(disk.Path), rawOf(key)) {
		f.Errorf("the disk was deleted %s after it was withdrawn: answers may be used that long", image.Validity)
	}
	if left := f.leftovers(f.h.Store()); len(left) != 0 {
		f.Errorf("what is being removed is called leftovers: %v", left)
	}
	f.passTimeUntil(r.done)
	if r.err != nil {
		f.Error(r.err)
	}
	f.wantNoFiles("after the disk was removed")
}

func removeTooLate(f *fixture) {
	used, free := keyOf(1, size), keyOf(2, size)
	disk := f.ensure(f.h.Store(), used, "node:v1")
	f.ensure(f.h.Store(), used, "node:latest")
	f.ensure(f.h.Store(), free, "node:v2")
	r := f.withdraw(f.Context(), used, free)
	user := f.h.Attach(disk.Path)
	f.passTimeUntil(r.done)
	f.wantError("remove", r.err, errdefs.FailedPrecondition)
	if r.err != nil {
		f.wantText(r.err, user.Name)
	}
	if !slices.Equal(r.removed, []image.Key{free}) {
		f.Errorf("removed are %v, want %v", r.removed, free)
	}
	f.wantUnpublished(free, "node:v2")
	again := f.wantPublished(used, "node:latest", "node:v1")
	if again.Path != disk.Path {
		f.Errorf("the disk was in %s and is in %s", disk.Path, again.Path)
	}
	f.wantUsers(f.users(used), used, user)
	f.h.Detach(user)
	f.remove(f.h.Store(), used)
	f.wantNoFiles("after the disk was removed")
}

func removeCalledOff(f *fixture) {
	key := keyOf(1, size)
	f.ensure(f.h.Store(), key, "node:v1")
	ctx, cancel := context.WithCancel(f.Context())
	r := f.withdraw(ctx, key)
	cancel()
	f.passTimeUntil(r.done)
	f.wantError("remove", r.err, errdefs.Canceled)
	if len(r.removed) != 0 {
		f.Errorf("%v were removed", r.removed)
	}
	f.wantPublished(key, "node:v1")
	f.remove(f.h.Store(), key)
	f.clean()
	f.wantNoFiles("after the disk was removed")
}

// ensureWhileTimePasses makes a disk, or finds it, after waiting for others.
func (f *fixture) ensureWhileTimePasses(key image.Key, name string) *image.Disk {
	f.Helper()
	a := f.ask(f.Context(), f.h.Store(), key, name, f.plain(), nil)
	f.passTimeUntil(a.done)
	if a.err != nil {
		f.Fatalf("ensure: %v", a.err)
	}
	f.wantWhole(a.disk, key)
	return a.disk
}

func removeWanted(f *fixture) {
	key := keyOf(1, size)
	f.ensure(f.h.Store(), key, "node:v1")
	r := f.withdraw(f.Context(), key)
	disk := f.ensureWhileTimePasses(key, "node:v2")
	user := f.h.Attach(disk.Path)
	f.passTimeUntil(r.done)
	f.wantWhole(disk, key) // whatever the removal did
	found, err := f.h.Store().Lookup(f.Context(), "node:v2", key.Size)
	if err != nil {
		f.Fatalf("lookup of a disk that was made during a removal: %v", err)
	}
	f.wantWhole(found, key)
	f.h.Detach(user)
	f.remove(f.h.Store(), key)
	f.clean()
	f.wantNoFiles("after the disk was removed")
}

func removeTogether(f *fixture) {
	one, two := keyOf(1, size), keyOf(2, size)
	f.ensure(f.h.Store(), one, "node:v1")
	f.ensure(f.h.Store(), two, "node:v2")
	var removals [2]removal
	orders := [][]image.Key{{one, two}, {two, one}}
	for i := range removals {
		r, s := &removals[i], f.h.Store()
		r.done = async(func() { r.removed, r.err = s.Remove(f.Context(), orders[i]...) })
	}
	for i := range removals {
		f.passTimeUntil(removals[i].done)
		if err := removals[i].err; err != nil {
			f.wantError("remove", err, errdefs.NotFound, errdefs.Aborted)
		}
	}
	for _, key := range orders[0] {
		if removals[0].err != nil && removals[1].err != nil {
			break // each may have had one of them
		}
		f.wantUnpublished(key)
	}
	for _, key := range orders[0] {
		if f.wantWholeOrAbsent(key, "node") {
			f.remove(f.h.Store(), key)
		}
	}
	f.clean()
	f.wantNoFiles("after the disks were removed")
}

func removeMaking(f *fixture) {
	key := keyOf(1, size)
	maker, release := f.held(f.Context(), f.h.Store(), key, "node:v1", source{})
	defer release()
	r, s := &removal{}, f.h.Store()
	r.done = async(func() { r.removed, r.err = s.Remove(f.Context(), key) })
	f.h.Advance(5 * time.Second)
	release()
	f.wait("the maker", maker.done)
	f.passTimeUntil(r.done)
	if maker.err != nil {
		f.Fatal(maker.err)
	}
	if r.err != nil {
		f.wantError("remove", r.err, errdefs.NotFound, errdefs.Aborted)
		f.wantPublished(key, "node:v1")
		return
	}
	f.wantUnpublished(key, "node:v1") // it waited until there was something to remove
	f.wantNoFiles("after the disk was removed")
}
