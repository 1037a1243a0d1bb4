// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package imagetest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// contending are the tests of many that want one disk.
func contending() map[string]func(*fixture) {
	return map[string]func(*fixture){
		"many that want one disk call one source, in one process or several": manyAskers,
		"a maker that takes long is not taken for dead":                      slowMaker,
		"who waits is told how far the maker is, and who it is":              waiterSeesProgress,
		"after a maker that failed the next one makes it":                    makerFails,
		"after a maker whose context ended the next one makes it":            makerGivesUp,
		"who waits goes when its own context ends, and nothing else changes": waiterGivesUp,
		"different disks do not wait for each other":                         differentDisks,
		"many that want different names of one disk all get them":            manyNames,
		"lists and lookups while disks come show whole ones":                 readsMeanwhile,
		"many disks in one process at once are all made, each by one source": manyDisks,
	}
}

// asker is one call of Ensure in a goroutine of its own.
type asker struct {
	done <-chan struct{}
	disk *image.Disk
	err  error
}

func (f *fixture) ask(ctx context.Context, s image.Store, key image.Key, name string, src image.Source, report image.Report) *asker {
	a := &asker{}
	a.done = async(func() { a.disk, a.err = s.Ensure(ctx, key, name, src, report) })
	return a
}

// held begins to make a disk, in a source that goes on after release.
func (f *fixture) held(ctx context.Context, s image.Store, key image.Key, name string, then source) (a *asker, release func()) {
	f.Helper()
	ch := make(chan struct{})
	before, begun := until(ch)
	after := then.before
	then.before = func(ctx context.Context) error {
		if err := before(ctx); err != nil || after == nil {
			return err
		}
		return after(ctx)
	}
	a = f.ask(ctx, s, key, name, f.source(then), nil)
	f.wait("the source to begin", begun)
	return a, sync.OnceFunc(func() { close(ch) })
}

func manyAskers(f *fixture) {
	const processes, each = 4, 5
	key := keyOf(1, size)
	var begun sync.WaitGroup
	begun.Add(processes * each)
	waits := f.source(source{before: func(context.Context) error {
		begun.Wait()
		return nil
	}})
	var askers []*asker
	first := make(chan struct{}, processes*each)
	for range processes {
		s := f.h.Store()
		for range each {
			a := &asker{}
			a.done = async(func() {
				begun.Done()
				a.disk, a.err = s.Ensure(f.Context(), key, "node:v1", waits, nil)
				first <- struct{}{}
			})
			askers = append(askers, a)
		}
	}
	// No time passes while the maker is at it, so it cannot seem dead.
	f.wait("the maker", async(func() { <-first }))
	for _, a := range askers {
		f.passTimeUntil(a.done)
		if a.err != nil {
			f.Fatal(a.err)
		}
		f.wantWhole(a.disk, key)
	}
	if n := f.made.calls.Load(); n != 1 {
		f.Errorf("%d sources were called by %d askers in %d processes, want one", n, processes*each, processes)
	}
	f.wantPublished(key, "node:v1")
	f.remove(f.h.Store(), key)
	f.wantNoFiles("after the disk was removed")
}

func slowMaker(f *fixture) {
	key := keyOf(1, size)
	maker, release := f.held(f.Context(), f.h.Store(), key, "node:v1", source{})
	defer release()
	waiter := f.ask(f.Context(), f.h.Store(), key, "node:v1", f.never(), nil)
	f.h.Advance(long)
	f.wantUnpublished(key, "node:v1")
	if left := f.leftovers(f.h.Store()); len(left) != 0 {
		f.Errorf("what belongs to a maker at work is called leftovers: %v", left)
	}
	release()
	f.wait("the maker", maker.done)
	f.passTimeUntil(waiter.done)
	if maker.err != nil || waiter.err != nil {
		f.Fatalf("maker: %v, waiter: %v", maker.err, waiter.err)
	}
	f.wantWhole(waiter.disk, key)
	f.wantPublished(key, "node:v1")
}

func waiterSeesProgress(f *fixture) {
	key := keyOf(1, size)
	at := image.Progress{Stage: image.Converting, Done: 62, Total: 100}
	reported := make(chan struct{})
	ch := make(chan struct{})
	src := func(ctx context.Context, key image.Key, report image.Report) (image.Content, error) {
		report(at)
		close(reported)
		<-ch
		return f.plain()(ctx, key, nil)
	}
	release := sync.OnceFunc(func() { close(ch) })
	defer release()
	maker := f.ask(f.Context(), f.h.Store(), key, "node:v1", src, func(image.Progress) {})
	f.wait("the maker's report", reported)
	var seen atomic.Pointer[image.Progress]
	report, stop := f.watch(func(p image.Progress) {
		if p.Owner != "" && p.Stage == image.Converting {
			seen.Store(&p)
		}
	})
	waiter := f.ask(f.Context(), f.h.Store(), key, "node:v1", f.never(), report)
	f.poll("the waiter to be told", func() bool {
		f.h.Advance(time.Second)
		return seen.Load() != nil
	})
	if got := *seen.Load(); got.Done != at.Done || got.Total != at.Total {
		f.Errorf("the waiter is told %s, want %s", got, at)
	}
	release()
	f.wait("the maker", maker.done)
	f.passTimeUntil(waiter.done)
	stop()
	if maker.err != nil || waiter.err != nil {
		f.Errorf("maker: %v, waiter: %v", maker.err, waiter.err)
	}
}

// takesOver lets a maker fail while others wait, in its process and in another one.
func (f *fixture) takesOver(ctx context.Context, then source, end func(), kind errdefs.Kind) {
	f.Helper()
	key, s := keyOf(1, size), f.h.Store()
	maker, release := f.held(ctx, s, key, "node:v1", then)
	defer release()
	waiters := []*asker{
		f.ask(f.Context(), s, key, "node:v1", f.plain(), nil),
		f.ask(f.Context(), f.h.Store(), key, "node:v1", f.plain(), nil),
		f.ask(f.Context(), f.h.Store(), key, "node:v1", f.plain(), nil),
	}
	f.h.Advance(time.Minute)
	end()
	release()
	f.wait("the maker to fail", maker.done)
	f.wantError("the maker", maker.err, kind)
	for _, w := range waiters {
		f.passTimeUntil(w.done)
		if w.err != nil {
			f.Fatalf("a waiter: %v", w.err)
		}
		f.wantWhole(w.disk, key)
	}
	if n := f.made.calls.Load(); n != 2 {
		f.Errorf("%d sources were called, want the one that failed and one more", n)
	}
	f.wantPublished(key, "node:v1")
	f.remove(s, key)
	f.wantNoFiles("after the disk was removed")
}

func makerFails(f *fixture) {
	fails := source{before: func(context.Context) error { return errdefs.New(errdefs.Unavailable, "registry is down") }}
	f.takesOver(f.Context(), fails, func() {}, errdefs.Unavailable)
}

func makerGivesUp(f *fixture) {
	ctx, cancel := context.WithCancel(f.Context())
	defer cancel()
	ends := source{before: func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	f.takesOver(ctx, ends, cancel, errdefs.Canceled)
}

func waiterGivesUp(f *fixture) {
	key, s := keyOf(1, size), f.h.Store()
	maker, release := f.held(f.Context(), s, key, "node:v1", source{})
	defer release()
	ctx, cancel := context.WithCancel(f.Context())
	defer cancel()
	var told atomic.Bool
	waiters := []*asker{
		f.ask(ctx, s, key, "node:v1", f.never(), nil),
		f.ask(ctx, f.h.Store(), key, "node:v1", f.never(), func(p image.Progress) { told.Store(told.Load() || p.Owner != "") }),
	}
	f.poll("the waiter to wait", func() bool {
		f.h.Advance(time.Second)
		return told.Load()
	})
	cancel()
	for _, w := range waiters {
		f.wait("the waiter to end with its context", w.done)
		f.wantError("the waiter", w.err, errdefs.Canceled)
	}
	release()
	f.wait("the maker", maker.done)
	if maker.err != nil {
		f.Fatal(maker.err)
	}
	f.wantPublished(key, "node:v1")
}

func differentDisks(f *fixture) {
	s := f.h.Store()
	maker, release := f.held(f.Context(), s, keyOf(1, size), "node:v1", source{})
	defer release()
	for i, s := range []image.Store{s, f.h.Store()} {
		for _, key := range []image.Key{keyOf(2+i, size), keyOf(1, int64(2+i)*size)} { // the same image in another size, too
			other := f.ask(f.Context(), s, key, "", f.plain(), nil)
			f.wait("a disk that nobody makes", other.done)
			if other.err != nil {
				f.Fatal(other.err)
			}
		}
	}
	release()
	f.wait("the maker", maker.done)
	if maker.err != nil {
		f.Fatal(maker.err)
	}
}

func manyNames(f *fixture) {
	key := keyOf(1, size)
	var askers []*asker
	var names []string
	for i := range 6 {
		names = append(names, fmt.Sprintf("node:v%d", i))
		askers = append(askers, f.ask(f.Context(), f.h.Store(), key, names[i], f.plain(), nil))
	}
	for _, a := range askers {
		f.passTimeUntil(a.done)
		if a.err != nil {
			f.Fatal(a.err)
		}
	}
	f.wantPublished(key, names...)
}

func readsMeanwhile(f *fixture) {
	const disks = 6
	s := f.h.Store()
	writer := async(func() {
		for n := range disks {
			if _, err := s.Ensure(f.Context(), keyOf(n, size), "node:latest", f.plain(), nil); err != nil {
				f.Error(err)
			}
		}
	})
	reader := f.h.Store()
	f.poll("all disks to be made", func() bool {
		list := f.list(reader)
		for _, d := range list {
			f.wantWhole(&d, d.Key)
		}
		if disk, err := reader.Lookup(f.Context(), "node:latest", size<<20); err == nil {
			f.wantWhole(disk, disk.Key)
		} else {
			f.wantError("lookup", err, errdefs.NotFound)
		}
		return len(list) == disks
	})
	f.wait("the writer", writer)
}

func manyDisks(f *fixture) {
	const disks = 8
	s := f.h.Store()
	var askers []*asker
	for n := range disks {
		for range 2 {
			askers = append(askers, f.ask(f.Context(), s, keyOf(n, size), fmt.Sprintf("node:v%d", n), f.plain(), nil))
		}
	}
	for _, a := range askers {
		f.passTimeUntil(a.done)
		if a.err != nil {
			f.Fatal(a.err)
		}
	}
	if n := f.made.calls.Load(); n != disks {
		f.Errorf("%d sources were called for %d disks", n, disks)
	}
	for n := range disks {
		f.wantPublished(keyOf(n, size), fmt.Sprintf("node:v%d", n))
	}
}
