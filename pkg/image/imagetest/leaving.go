// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package imagetest

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// leaving are the tests of what operations leave that do not come to their end.
func leaving() map[string]func(*fixture) {
	return map[string]func(*fixture){
		"an empty place has no leftovers":                      emptyPlace,
		"what belongs to an upload under way is no leftover":   underWay,
		"cleaning passes over what is no leftover any more":    cleanTwice,
		"cleaning passes over what never was a leftover":       cleanForeign,
		"files of a disk that vanished are no hindrance later": vanishedTwice,
	}
}

// walks are the tests that let one thing go wrong at step 1, then at step 2, and
// so on until the operation makes it through.
func walks() map[string]func(*fixture) {
	tests := makingWalks()
	tests["a disk is made while another maker dies at each step"] = lateMaker
	for when, after := range map[string]bool{"before": false, "after": true} {
		killed := Fault{Kill: true, After: after, Kind: errdefs.Unavailable}
		tests["remove killed "+when+" each step"] = func(f *fixture) { walkRemove(f, killed, false, errdefs.Unavailable) }
		tests["remove killed "+when+" each step, then a VM"] = func(f *fixture) { walkRemove(f, killed, true, errdefs.Unavailable) }
		tests["verify killed "+when+" each step"] = func(f *fixture) { walkVerify(f, killed) }
	}
	tests["ensure without the answer of each step"] = func(f *fixture) {
		walkEnsure(f, Fault{After: true, Kind: errdefs.Unavailable}, errdefs.Unavailable)
	}
	for _, kind := range FaultKinds() {
		once := Fault{Kind: kind}
		tests[fmt.Sprintf("ensure with %s at each step", kind)] = func(f *fixture) { walkEnsure(f, once, kind) }
		tests[fmt.Sprintf("remove with %s at each step", kind)] = func(f *fixture) { walkRemove(f, once, false, kind) }
		tests[fmt.Sprintf("reading with %s at each step", kind)] = func(f *fixture) { walkReads(f, once, kind) }
	}
	return tests
}

// makingWalks are those of walks that tell how a disk is made, and what is left of one
// whose maker ends.
func makingWalks() map[string]func(*fixture) {
	tests := map[string]func(*fixture){}
	for when, after := range map[string]bool{"before": false, "after": true} {
		killed := Fault{Kill: true, After: after, Kind: errdefs.Unavailable}
		tests["ensure killed "+when+" each step"] = func(f *fixture) { walkEnsure(f, killed, errdefs.Unavailable) }
		tests["clean killed "+when+" each step"] = func(f *fixture) { walkClean(f, killed) }
	}
	tests["ensure cancelled at each step"] = func(f *fixture) { walkCancelled(f) }
	return tests
}

// maxSteps is far above what any operation needs.
const maxSteps = 500

// walk calls at with a fault at each step, until none is struck.
func (f *fixture) walk(fault Fault, at func(step int, s image.Store, struck func() bool)) {
	f.Helper()
	for step := 1; step <= maxSteps; step++ {
		fault.Step = step
		s, struck := f.h.Faulty(fault)
		at(step, s, struck)
		if f.Failed() {
			f.Fatalf("that was with the fault at step %d", step)
		}
		if !struck() {
			f.Logf("it takes %d steps", step-1)
			return
		}
	}
	f.Fatalf("it did not make it through in %d steps", maxSteps)
}

// wantFault fails the test unless an error has a reason, and is of one of the kinds.
func (f *fixture) wantFault(what string, err error, struck bool, kinds ...errdefs.Kind) {
	f.Helper()
	if err == nil {
		return
	}
	if !struck {
		f.Errorf("%s without a fault: %v", what, err)
		return
	}
	f.wantError(what, err, kinds...)
}

func walkEnsure(f *fixture, fault Fault, kinds ...errdefs.Kind) {
	key, name := keyOf(1, size), "node:v1"
	f.walk(fault, func(step int, s image.Store, struck func() bool) {
		a := f.ask(f.Context(), s, key, name, f.plain(), nil)
		f.passTimeUntil(a.done)
		f.wantFault("ensure", a.err, struck(), kinds...)
		published := f.wantWholeOrAbsent(key, name)
		if a.err == nil {
			f.wantWhole(a.disk, key)
			f.wantPublished(key, name)
		}
		if !fault.Kill && !fault.After && a.err != nil && !published {
			f.wantNoFiles("after an Ensure that failed, and could tidy up,")
		}
		if step%2 == 0 { // either another one goes on, or it is left as it is
			f.ensureWhileTimePasses(key, name)
			published = true
			f.wantPublished(key, name)
		}
		f.clean()
		if got := f.wantWholeOrAbsent(key, name); got != published {
			f.Errorf("before clean the disk was published: %v, afterwards: %v", published, got)
		}
		if published {
			f.remove(f.h.Store(), key)
		}
		f.wantNoFiles("in the end")
	})
}

// walkCancelled ends the context at each step.
func walkCancelled(f *fixture) {
	key, name := keyOf(1, size), "node:v1"
	for step := 1; step <= maxSteps && !f.Failed(); step++ {
		ctx, cancel := context.WithCancel(f.Context())
		s, struck := f.h.Faulty(Fault{Step: step, Cancel: cancel})
		a := f.ask(ctx, s, key, name, f.plain(), nil)
		f.passTimeUntil(a.done)
		cancel()
		f.wantFault(fmt.Sprintf("ensure cancelled at step %d", step), a.err, struck(), errdefs.Canceled)
		if f.wantWholeOrAbsent(key, name) {
			f.clean() // what it could not take away with the time it had
			f.remove(f.h.Store(), key)
		}
		f.wantNoFiles(fmt.Sprintf("after an Ensure that was cancelled at step %d", step))
		if !struck() {
			return
		}
	}
}

func walkRemove(f *fixture, fault Fault, thenVM bool, kinds ...errdefs.Kind) {
	key, name := keyOf(1, size), "node:v1"
	f.walk(fault, func(_ int, s image.Store, struck func() bool) {
		disk := f.ensure(f.h.Store(), key, name)
		removed, err := f.tryRemove(s, key)
		f.wantFault("remove", err, struck(), kinds...)
		published := f.wantWholeOrAbsent(key, name)
		if len(removed) != 0 && (published || f.h.Content(disk.Path) != nil) {
			f.Errorf("the disk is there that Remove removed: %v, %v", removed, err)
		}
		if err == nil {
			f.wantNoFiles("after Remove")
			return
		}
		whole := f.h.Content(disk.Path) != nil
		if thenVM && whole { // such as one whose creation was under way all the time
			user := f.h.Attach(disk.Path)
			f.h.Advance(long)
			cleaner := f.h.Store()
			leftovers := f.leftovers(cleaner)
			f.passTime(func() {
				if err := cleaner.Clean(f.Context(), leftovers...); err != nil {
					f.wantError("clean", err, errdefs.FailedPrecondition)
					f.wantText(err, user.Name)
				}
			})
			if !bytes.Equal(f.h.Content(disk.Path), rawOf(key)) {
				f.Error("a disk was deleted that a VM uses")
			}
			f.h.Detach(user)
		}
		f.ensureWhileTimePasses(key, name)
		f.wantPublished(key, name)
		f.clean()
		f.wantPublished(key, name)
		f.remove(f.h.Store(), key)
		f.wantNoFiles("in the end")
	})
}

// debris leaves what a maker leaves that died in the middle of its work.
func (f *fixture) debris(key image.Key) {
	f.Helper()
	for step := 1; step <= maxSteps; step++ {
		s, struck := f.h.Faulty(Fault{Step: step, Kill: true, Kind: errdefs.Unavailable})
		a := f.ask(f.Context(), s, key, "node:v1", f.plain(), nil)
		f.passTimeUntil(a.done)
		switch published := f.wantWholeOrAbsent(key, "node:v1"); {
		case published || !struck():
			f.Fatal("no maker that died left more than a lock")
		case len(f.h.Files()) > 1:
			return
		}
		f.clean()
	}
	f.Fatal("no maker that died left anything")
}

func walkClean(f *fixture, fault Fault) {
	f.walk(fault, func(_ int, s image.Store, struck func() bool) {
		f.debris(keyOf(1, size))
		f.h.Advance(long)
		leftovers, err := s.Leftovers(f.Context())
		f.wantFault("leftovers", err, struck(), errdefs.Unavailable)
		f.passTime(func() { err = s.Clean(f.Context(), leftovers...) })
		f.wantFault("clean", err, struck(), errdefs.Unavailable)
		f.clean()
		f.wantNoFiles("after clean")
	})
}

func walkVerify(f *fixture, fault Fault) {
	key, name := keyOf(1, size), "node:v1"
	f.walk(fault, func(_ int, s image.Store, struck func() bool) {
		disk := f.ensure(f.h.Store(), key, name)
		found, err := s.Verify(f.Context(), key)
		f.wantFault("verify", err, struck(), errdefs.Unavailable)
		if err == nil {
			f.wantWhole(found, key)
		}
		f.wantPublished(key, name)
		if struck() {
			f.remove(f.h.Store(), key)
			f.clean()
			return
		}
		// The last store has all its steps; what follows is about files that vanished.
		f.h.Lose(disk.Path)
		_, err = f.h.Store().Verify(f.Context(), key)
		f.wantError("verify", err, errdefs.NotFound)
		f.clean()
		f.wantNoFiles("in the end")
	})
	f.walk(fault, func(_ int, s image.Store, _ func() bool) {
		f.h.Lose(f.ensure(f.h.Store(), key, name).Path)
		_, err := s.Verify(f.Context(), key)
		f.wantError("verify of files that vanished", err, errdefs.NotFound, errdefs.Unavailable)
		_, err = f.h.Store().Verify(f.Context(), key)
		f.wantError("verify once more", err, errdefs.NotFound)
		f.wantUnpublished(key, name)
		f.clean()
		f.wantNoFiles("in the end")
	})
}

func walkReads(f *fixture, fault Fault, kind errdefs.Kind) {
	key, absent, name := keyOf(1, size), keyOf(2, size), "node:v1"
	f.ensure(f.h.Store(), key, name)
	user := f.h.Attach(f.wantPublished(key, name).Path)
	calls := map[string]func(s image.Store) error{
		"lookup": func(s image.Store) error { _, err := s.Lookup(f.Context(), name, key.Size); return err },
		"find":   func(s image.Store) error { _, err := s.Find(f.Context(), key); return err },
		"verify": func(s image.Store) error { _, err := s.Verify(f.Context(), key); return err },
		"list": func(s image.Store) error {
			list, err := s.List(f.Context())
			if err == nil && len(list) != 1 {
				f.Errorf("list: %v", list)
			}
			return err
		},
		"users": func(s image.Store) error {
			users, err := s.Users(f.Context(), key)
			if err == nil {
				f.wantUsers(users, key, user)
			}
			return err
		},
		"leftovers":         func(s image.Store) error { _, err := s.Leftovers(f.Context()); return err },
		"ensure what is":    func(s image.Store) error { _, err := s.Ensure(f.Context(), key, name, f.never(), nil); return err },
		"lookup of nothing": func(s image.Store) error { _, err := s.Lookup(f.Context(), "other", key.Size); return notFound(err) },
		"find of nothing":   func(s image.Store) error { _, err := s.Find(f.Context(), absent); return notFound(err) },
		"verify of nothing": func(s image.Store) error { _, err := s.Verify(f.Context(), absent); return notFound(err) },
	}
	for what, call := range calls {
		f.walk(fault, func(_ int, s image.Store, struck func() bool) {
			f.wantFault(what, call(s), struck(), kind)
		})
	}
	f.wantPublished(key, name)
}

// notFound takes away the error that is expected.
func notFound(err error) error {
	if errdefs.Is(err, errdefs.NotFound) {
		return nil
	}
	return err
}

func emptyPlace(f *fixture) {
	if left := f.leftovers(f.h.Store()); len(left) != 0 {
		f.Errorf("leftovers are %v", left)
	}
	f.wantNoFiles("at the beginning")
}

func underWay(f *fixture) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	blocks := source{read: func() error {
		close(begun)
		<-goOn
		return nil
	}}
	maker := f.ask(f.Context(), f.h.Store(), keyOf(1, size), "node:v1", f.source(blocks), nil)
	f.wait("the upload to begin", begun)
	for _, wait := range []bool{false, true} {
		if wait {
			f.h.Advance(long)
		}
		if left := f.leftovers(f.h.Store()); len(left) != 0 {
			f.Errorf("leftovers are %v, while the upload is under way", left)
		}
	}
	close(goOn)
	f.passTimeUntil(maker.done)
	if maker.err != nil {
		f.Fatal(maker.err)
	}
	f.wantPublished(keyOf(1, size), "node:v1")
}

func cleanTwice(f *fixture) {
	key := keyOf(1, size)
	f.debris(key)
	f.h.Advance(long)
	s := f.h.Store()
	leftovers := f.leftovers(s)
	if len(leftovers) == 0 {
		f.Fatalf("there are %v, and no leftovers", f.h.Files())
	}
	f.ensureWhileTimePasses(key, "node:v1") // clears some of it away, and makes what must stay
	for range 2 {
		f.passTime(func() {
			if err := s.Clean(f.Context(), leftovers...); err != nil {
				f.Errorf("clean: %v", err)
			}
		})
		f.wantPublished(key, "node:v1")
	}
	f.remove(s, key)
	f.wantNoFiles("in the end")
}

// cleanForeign asks for the deletion of things that no Leftovers returned.
func cleanForeign(f *fixture) {
	key, s := keyOf(1, size), f.h.Store()
	disk := f.ensure(s, key, "node:v1")
	f.passTime(func() {
		err := s.Clean(f.Context(), image.Leftover{Path: disk.Path, Reason: "made up", ID: disk.Path}, image.Leftover{Path: "x", Reason: "y", ID: "../z"}, image.Leftover{})
		if err != nil {
			f.wantError("clean", err, errdefs.InvalidArgument)
		}
	})
	f.wantPublished(key, "node:v1")
}

func vanishedTwice(f *fixture) {
	key := keyOf(1, size)
	for range 3 {
		disk := f.ensureWhileTimePasses(key, "node:v1")
		f.h.Lose(disk.Path)
		_, err := f.h.Store().Verify(f.Context(), key)
		f.wantError("verify", err, errdefs.NotFound)
	}
	f.clean()
	f.wantNoFiles("in the end")
}

// lateMaker has a maker whose process is so slow that it is taken for dead; which
// the world shows as a process that dies. Another one makes the disk.
func lateMaker(f *fixture) {
	key := keyOf(1, size)
	for step := 1; ; step++ {
		s, struck := f.h.Faulty(Fault{Step: step, Kill: true, Kind: errdefs.Unavailable})
		ch := make(chan struct{})
		before, _ := until(ch)
		slow := f.ask(f.Context(), s, key, "node:v1", f.source(source{before: before}), nil)
		waiter := f.ask(f.Context(), f.h.Store(), key, "node:v1", f.plain(), nil)
		f.h.Advance(time.Second)
		close(ch)
		f.passTimeUntil(waiter.done)
		f.passTimeUntil(slow.done)
		if waiter.err != nil {
			f.Fatalf("the waiter, while another one died at step %d: %v", step, waiter.err)
		}
		f.wantPublished(key, "node:v1")
		f.clean()
		f.wantPublished(key, "node:v1")
		f.remove(f.h.Store(), key)
		f.clean()
		f.wantNoFiles("after the disk was removed")
		if !struck() || f.Failed() {
			return
		}
	}
}
