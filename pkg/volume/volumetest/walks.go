// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volumetest

import (
	"context"
	"fmt"
	"slices"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// maxSteps is far above what any operation needs.
const maxSteps = 500

// walks are the tests that let one thing go wrong at step 1, then at step 2, and
// so on until the operation makes it through.
func walks() map[string]func(*fixture) {
	tests := map[string]func(*fixture){
		"create cancelled at each step": walkCreateCancelled,
		"remove cancelled at each step": walkRemoveCancelled,
	}
	for when, after := range map[string]bool{"before": false, "after": true} {
		killed := Fault{Kill: true, After: after, Kind: errdefs.Unavailable}
		tests["create killed "+when+" each step"] = func(f *fixture) { walkCreate(f, killed) }
		tests["remove killed "+when+" each step"] = func(f *fixture) { walkRemove(f, killed) }
		tests["remove killed "+when+" each step, right after a VM came"] = func(f *fixture) { walkRemoveWanted(f, killed) }
		tests["remove of what is damaged killed "+when+" each step"] = func(f *fixture) { walkRemoveDamaged(f, killed) }
		tests["clean killed "+when+" each step"] = func(f *fixture) { walkClean(f, killed) }
		tests["clean of what a VM has killed "+when+" each step"] = func(f *fixture) { walkCleanWanted(f, killed) }
	}
	for _, kind := range FaultKinds() {
		once, lost := Fault{Kind: kind}, Fault{Kind: kind, After: true}
		tests[fmt.Sprintf("create with %s at each step", kind)] = func(f *fixture) { walkCreate(f, once) }
		tests[fmt.Sprintf("remove with %s at each step", kind)] = func(f *fixture) { walkRemove(f, once) }
		tests[fmt.Sprintf("remove with %s at each step, right after a VM came", kind)] = func(f *fixture) { walkRemoveWanted(f, once) }
		tests[fmt.Sprintf("reading with %s at each step", kind)] = func(f *fixture) { walkReads(f, once) }
		if kind == errdefs.Unavailable {
			tests["create without the answer of each step"] = func(f *fixture) { walkCreate(f, lost) }
			tests["remove without the answer of each step"] = func(f *fixture) { walkRemove(f, lost) }
			tests["remove without the answer of each step, right after a VM came"] = func(f *fixture) { walkRemoveWanted(f, lost) }
		}
	}
	return tests
}

// makingWalks are those of walks in which a volume is made, and in which what is left of that goes.
func makingWalks() map[string]func(*fixture) {
	making, all := map[string]func(*fixture){}, walks()
	for _, name := range []string{
		"create cancelled at each step", "create killed before each step", "create killed after each step",
		"clean killed before each step", "clean killed after each step", "remove killed before each step",
	} {
		making[name] = all[name]
	}
	return making
}

// walk calls at with a fault at each step, until none is struck.
func (f *fixture) walk(fault Fault, at func(step int, s volume.Store, struck func() bool)) {
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

func walkCreate(f *fixture, fault Fault) {
	f.createWritten("there")
	before := len(f.h.Files())
	f.walk(fault, func(step int, s volume.Store, struck func() bool) {
		v, err := s.Create(f.Context(), request(name))
		f.wantFault("create", err, struck(), fault.Kind)
		published := f.wantWholeOrAbsent(request(name))
		if err == nil {
			f.wantWhole(v, request(name))
			f.wantPublished(request(name))
		} else {
			f.wantText(err, name, s.String())
		}
		if files := f.h.Files(); !fault.Kill && !published && len(files) != before {
			f.Errorf("a creation that failed, and could tidy up, left something: %q", files)
		}
		if step%2 == 0 { // either another one makes it, or it is left as it is
			_, err := f.h.Store().Create(f.Context(), request(name))
			if published {
				f.wantError("create what is there", err, errdefs.AlreadyExists)
			} else if err != nil {
				f.Errorf("create after one that failed: %v", err)
			}
			published = true
		}
		if published {
			f.h.Write(name, written)
		}
		f.clean()
		if got := f.wantWholeOrAbsent(request(name)); got != published {
			f.Errorf("before clean the volume was there: %v, afterwards: %v", published, got)
		}
		if published {
			f.wantKept(name)
			f.remove(name)
		}
		if files := f.h.Files(); len(files) != before {
			f.Errorf("in the end there is %q", files)
		}
		f.wantKept("there")
	})
}

// walkCreateCancelled ends the context at each step.
func walkCreateCancelled(f *fixture) {
	for step := 1; step <= maxSteps; step++ {
		ctx, cancel := context.WithCancel(f.Context())
		s, struck := f.h.Faulty(Fault{Step: step, Before: cancel})
		_, err := s.Create(ctx, request(name))
		cancel()
		f.wantFault("create", err, struck(), errdefs.Canceled)
		if f.wantWholeOrAbsent(request(name)) {
			f.clean() // what it could not take away with the time it had
			f.remove(name)
		} else if err == nil {
			f.Error("no error, and no volume")
		}
		f.wantNoFiles("in the end")
		if f.Failed() {
			f.Fatalf("that was cancelled at step %d", step)
		}
		if !struck() {
			return
		}
	}
}

// walkRemoveCancelled ends the context at each step.
func walkRemoveCancelled(f *fixture) {
	for step := 1; step <= maxSteps; step++ {
		f.createWritten(name)
		ctx, cancel := context.WithCancel(f.Context())
		s, struck := f.h.Faulty(Fault{Step: step, Before: cancel})
		err := s.Remove(ctx, name)
		cancel()
		f.wantFault("remove", err, struck(), errdefs.Canceled)
		f.wantRemovedOrKept(err)
		if f.Failed() {
			f.Fatalf("that was cancelled at step %d", step)
		}
		if !struck() {
			return
		}
	}
}

// wantRemovedOrKept fails the test if a removal left half a volume, or more than
// Clean can take away.
func (f *fixture) wantRemovedOrKept(err error) {
	f.Helper()
	there := f.wantWholeOrAbsent(request(name))
	if there {
		f.wantKept(name)
	}
	if there && err == nil {
		f.Error("no error, and the volume is there")
	}
	if err == nil {
		f.wantNoFiles("after a removal")
	}
	f.clean()
	if got := f.wantWholeOrAbsent(request(name)); got != there {
		f.Errorf("before clean the volume was there: %v, afterwards: %v", there, got)
	}
	if there {
		f.wantKept(name)
		f.remove(name)
	}
	f.wantNoFiles("in the end")
}

func walkRemove(f *fixture, fault Fault) {
	f.walk(fault, func(step int, s volume.Store, struck func() bool) {
		f.createWritten(name)
		err := s.Remove(f.Context(), name)
		f.wantFault("remove", err, struck(), fault.Kind)
		if err != nil {
			f.wantText(err, name, s.String())
		}
		if step%2 == 0 && !f.wantWholeOrAbsent(request(name)) { // its name is free
			f.createWritten(name)
			f.clean()
			f.wantKept(name)
			f.remove(name)
			f.wantNoFiles("in the end")
			return
		}
		f.wantRemovedOrKept(err)
	})
}

// walkRemoveWanted has a VM come just before the fault strikes. Whatever happens
// then, the VM has its volume in the end, with what is on it.
func walkRemoveWanted(f *fixture, fault Fault) {
	var user volume.User
	joined, came := false, 0
	fault.Before = func() {
		f.looks.Lock()
		defer f.looks.Unlock()
		if user, joined = f.h.Use(name, f.common()); joined {
			came++
		}
	}
	f.walk(fault, func(step int, s volume.Store, struck func() bool) {
		f.createWritten(name)
		joined = false
		err := s.Remove(f.Context(), name)
		f.wantFault("remove", err, struck(), fault.Kind, errdefs.FailedPrecondition)
		if !joined {
			f.wantRemovedOrKept(err)
			return
		}
		if err == nil {
			f.Error("what a VM has was removed")
		}
		f.wantWholeOrAbsent(request(name))
		if step%2 == 0 { // another one tries to remove it too
			err := f.h.Store().Remove(f.Context(), name)
			f.wantError("remove once more", err, errdefs.FailedPrecondition, errdefs.NotFound)
		}
		f.clean()
		f.wantKept(name)
		f.wantUsers(map[string][]volume.User{name: {user}})
		f.h.Release(user)
		f.remove(name)
		f.wantNoFiles("in the end")
	})
	if came == 0 {
		f.Error("no VM ever came")
	}
}

func walkRemoveDamaged(f *fixture, fault Fault) {
	f.createWritten("good")
	before := len(f.h.Files())
	for _, how := range f.h.Damages() {
		f.walk(fault, func(_ int, s volume.Store, struck func() bool) {
			f.h.Damage(name, how)
			err := s.Remove(f.Context(), name)
			f.wantFault("remove what has "+how, err, struck(), fault.Kind)
			f.wantAgreement()
			f.clean()
			if slices.ContainsFunc(f.list(f.h.Store()), func(v volume.Volume) bool { return v.Name == name }) {
				f.remove(name)
			}
			if files := f.h.Files(); len(files) != before {
				f.Errorf("with %s in the end there is %q", how, files)
			}
			f.wantKept("good")
		})
	}
}

func walkClean(f *fixture, fault Fault) {
	for what, debris := range map[string]func() bool{"half made": f.halfMade, "half removed": f.halfRemoved} {
		f.walk(fault, func(step int, s volume.Store, struck func() bool) {
			cleaner, ok := s.(volume.Cleaner)
			if !ok {
				return
			}
			if !debris() {
				if step > 1 {
					f.Fatal("what a process leaves that dies could not be made again")
				}
				return
			}
			f.h.Advance(long)
			leftovers, err := cleaner.Leftovers(f.Context())
			f.wantFault("leftovers", err, struck(), fault.Kind)
			err = cleaner.Clean(f.Context(), leftovers...)
			f.wantFault("clean what is "+what, err, struck(), fault.Kind)
			f.wantAbsent(name)
			f.clean()
			f.wantNoFiles("after clean of what was " + what)
		})
	}
}

// walkCleanWanted cleans up after a removal that was cut off when a VM had come.
func walkCleanWanted(f *fixture, fault Fault) {
	f.walk(fault, func(step int, s volume.Store, struck func() bool) {
		cleaner, ok := s.(volume.Cleaner)
		if !ok {
			return
		}
		user, ok := f.halfRemovedWanted()
		if !ok {
			if step > 1 {
				f.Fatal("what a process leaves that dies could not be made again")
			}
			return
		}
		f.h.Advance(long)
		leftovers, err := cleaner.Leftovers(f.Context())
		f.wantFault("leftovers", err, struck(), fault.Kind)
		err = cleaner.Clean(f.Context(), leftovers...)
		f.wantFault("clean", err, struck(), fault.Kind)
		f.clean()
		f.wantKept(name)
		f.h.Release(user)
		f.remove(name)
		f.wantNoFiles("in the end")
	})
}

func walkReads(f *fixture, fault Fault) {
	f.createWritten(name)
	f.create("other")
	user := f.use(name, f.common())
	reads := map[string]func(s volume.Store) error{
		"get": func(s volume.Store) error {
			v, err := s.Get(f.Context(), name)
			if err == nil {
				f.wantWhole(v, request(name))
			}
			return err
		},
		"get of nothing": func(s volume.Store) error {
			_, err := s.Get(f.Context(), "nothing")
			if errdefs.Is(err, errdefs.NotFound) {
				return nil
			}
			return err
		},
		"list": func(s volume.Store) error {
			list, err := s.List(f.Context())
			if err != nil {
				return err
			}
			if len(list) != 2 {
				f.Fatalf("list: %v", list)
			}
			f.wantWhole(&list[0], request(name))
			f.wantWhole(&list[1], request("other"))
			return nil
		},
		"users": func(s volume.Store) error {
			users, err := s.Users(f.Context(), name)
			if err == nil && !slices.Equal(users[name], []volume.User{user}) {
				f.Errorf("users: %v", users)
			}
			return err
		},
		"remove what a VM has": func(s volume.Store) error {
			err := s.Remove(f.Context(), name)
			if errdefs.Is(err, errdefs.FailedPrecondition) {
				return nil
			}
			return err
		},
		"create what is there": func(s volume.Store) error {
			_, err := s.Create(f.Context(), request(name))
			if errdefs.Is(err, errdefs.AlreadyExists) {
				return nil
			}
			return err
		},
		"leftovers": func(s volume.Store) error {
			if cleaner, ok := s.(volume.Cleaner); ok {
				left, err := cleaner.Leftovers(f.Context())
				if len(left) != 0 {
					f.Errorf("leftovers: %v", left)
				}
				return err
			}
			return nil
		},
	}
	for what, read := range reads {
		f.walk(fault, func(_ int, s volume.Store, struck func() bool) {
			f.wantFault(what, read(s), struck(), fault.Kind)
			f.wantKept(name)
		})
	}
}
