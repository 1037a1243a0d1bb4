// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volumetest

import (
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// removing are the tests of how volumes go.
func removing() map[string]func(*fixture) {
	return map[string]func(*fixture){
		"a volume that nobody has is removed without a trace, once":    removeUnused,
		"a volume that is removed can be made again, and is empty":     removeAndMake,
		"a volume with users stays, and the error names them":          removeUsed,
		"users that are excepted are no hindrance, and others are":     removeExcept,
		"a volume goes when its last user has gone":                    removeAfterUser,
		"at no moment VIC finds half a volume that is removed":         removeObserved,
		"a user that comes while a volume is removed gets it back":     removeWanted,
		"an excepted user that comes while it is removed is excepted":  removeWantedExcept,
		"a user that goes while a volume is removed does no harm":      removeLeft,
		"a volume that is made anew while it is removed is not harmed": removeMadeAnew,
		"such a one is not harmed either when a VM has it at once":     removeMadeAnewUsed,
	}
}

func removeUnused(f *fixture) {
	f.createWritten(name)
	f.createWritten("other")
	f.remove(name)
	f.wantKept("other")
	err := f.h.Store().Remove(f.Context(), name)
	f.wantError("remove once more", err, errdefs.NotFound)
	f.remove("other")
	f.wantNoFiles("after all volumes were removed")
}

func removeAndMake(f *fixture) {
	for range 2 {
		f.create(name)
		if got := f.h.Read(name); got != "" {
			f.Errorf("a new volume holds %q", got)
		}
		f.h.Write(name, written)
		f.wantKept(name)
		f.remove(name)
	}
	f.wantNoFiles("after the volume was removed")
}

func removeUsed(f *fixture) {
	f.createWritten(name)
	for _, how := range f.h.Uses() {
		a, b := f.use(name, how), f.use(name, f.common())
		s := f.observed(func() {
			if _, ok := f.listed(name); !ok {
				f.Errorf("a volume that was in use all the time was taken away, %s", how)
			}
		})
		err := s.Remove(f.Context(), name)
		f.wantError("remove what a VM has, "+how, err, errdefs.FailedPrecondition)
		f.wantText(err, name, s.String(), a.Name, b.Name)
		f.wantKept(name)
		f.h.Release(b)
		f.wantError("remove what a VM has, "+how, f.h.Store().Remove(f.Context(), name), errdefs.FailedPrecondition)
		f.wantKept(name)
		f.h.Release(a)
	}
	f.remove(name)
	f.wantNoFiles("after the volume was removed")
}

func removeExcept(f *fixture) {
	for _, how := range f.h.Uses() {
		f.createWritten(name)
		mine, other := f.use(name, how), f.use(name, f.common())
		err := f.h.Store().Remove(f.Context(), name, mine.VM)
		f.wantError("remove what another VM has too", err, errdefs.FailedPrecondition)
		f.wantText(err, other.Name)
		f.wantKept(name)
		err = f.h.Store().Remove(f.Context(), name, other.VM, "vm-0", "")
		f.wantError("remove what another VM has too", err, errdefs.FailedPrecondition)
		f.wantText(err, mine.Name)
		f.wantKept(name)
		if err := f.h.Store().Remove(f.Context(), name, other.VM, "vm-0", mine.VM); err != nil {
			f.Fatalf("remove what only excepted VMs have, %s: %v", how, err)
		}
		f.wantAbsent(name)
		f.h.Release(mine)
		f.h.Release(other)
	}
	f.wantNoFiles("after the volume was removed")
}

func removeAfterUser(f *fixture) {
	f.createWritten(name)
	user := f.use(name, f.common())
	f.wantError("remove", f.h.Store().Remove(f.Context(), name), errdefs.FailedPrecondition)
	f.h.Release(user)
	f.remove(name)
	f.wantNoFiles("after the volume was removed")
}

func removeObserved(f *fixture) {
	f.createWritten(name)
	f.createWritten("there")
	steps := 0
	s := f.observed(func() {
		steps++
		if f.wantWholeOrAbsent(request(name)) {
			f.wantKept(name)
		}
		f.wantKept("there")
		if left := f.leftovers(f.h.Store()); len(left) != 0 {
			f.Errorf("what belongs to a removal under way is called leftovers: %v", left)
		}
	})
	if err := s.Remove(f.Context(), name); err != nil {
		f.Fatal(err)
	}
	if steps == 0 {
		f.Error("no step was seen")
	}
	f.wantAbsent(name)
}

// removeWanted has a user come before each step.
func removeWanted(f *fixture) {
	for _, how := range f.h.Uses() {
		came := 0
		for step := 1; step <= maxSteps; step++ {
			f.createWritten(name)
			var user volume.User
			joined := false
			s, struck := f.h.Faulty(Fault{Step: step, Before: func() {
				f.looks.Lock()
				defer f.looks.Unlock()
				user, joined = f.h.Use(name, how)
			}})
			err := s.Remove(f.Context(), name)
			if joined {
				came++
				f.wantError("remove", err, errdefs.FailedPrecondition)
				f.wantText(err, name, user.Name)
				f.wantKept(name)
				f.clean()
				f.wantKept(name)
				f.wantUsers(map[string][]volume.User{name: {user}})
				f.h.Release(user)
				f.remove(name)
			} else if err != nil {
				f.Errorf("remove: %v", err)
			}
			f.wantAbsent(name)
			f.wantNoFiles("in the end")
			if f.Failed() {
				f.Fatalf("that was with a user that came before step %d, %s", step, how)
			}
			if !struck() {
				break
			}
		}
		if came == 0 {
			f.Errorf("no user ever came, %s", how)
		}
	}
}

func removeWantedExcept(f *fixture) {
	f.createWritten(name)
	user := f.use(name, f.common())
	other := volume.User{}
	s, _ := f.h.Faulty(Fault{Step: 2, Before: func() { other, _ = f.h.Use(name, f.common()) }})
	err := s.Remove(f.Context(), name, user.VM)
	if other.VM == "" {
		f.Skip("a removal has one step here")
	}
	f.wantError("remove", err, errdefs.FailedPrecondition)
	f.wantText(err, other.Name)
	f.wantKept(name)
	f.wantUsers(map[string][]volume.User{name: {user, other}})
}

func removeLeft(f *fixture) {
	for step := 1; step <= maxSteps; step++ {
		f.createWritten(name)
		user := f.use(name, f.common())
		released := false
		s, struck := f.h.Faulty(Fault{Step: step, Before: func() {
			f.looks.Lock()
			defer f.looks.Unlock()
			f.h.Release(user)
			released = true
		}})
		err := s.Remove(f.Context(), name)
		if err == nil {
			f.wantAbsent(name)
		} else {
			f.wantError("remove", err, errdefs.FailedPrecondition)
			f.wantKept(name)
		}
		if !released {
			f.h.Release(user)
		}
		if _, ok := f.listed(name); ok {
			f.remove(name)
		}
		f.wantNoFiles("in the end")
		if !struck() || f.Failed() {
			return
		}
	}
}

// removeMadeAnew has another process make a volume of that name as soon as it can.
func removeMadeAnew(f *fixture) { f.madeAnew(false) }

// removeMadeAnewUsed lets a VM have it then, which may seem to be a user of the former one.
func removeMadeAnewUsed(f *fixture) { f.madeAnew(true) }

func (f *fixture) madeAnew(use bool) {
	f.Helper()
	f.createWritten(name)
	made := false
	var user volume.User
	anew := func() {
		made = true
		f.create(name)
		f.h.Write(name, "what is on the new one")
		if use {
			user = f.use(name, f.common())
		}
	}
	s := f.observed(func() {
		if _, ok := f.listed(name); !ok && !made {
			anew()
		}
	})
	if err := s.Remove(f.Context(), name); err != nil {
		f.wantText(err, name)
		if !use {
			f.Errorf("remove: %v", err)
		}
	}
	if !made {
		anew()
	}
	for range 2 {
		f.wantPublished(request(name))
		if got := f.h.Read(name); got != "what is on the new one" {
			f.Errorf("the new volume holds %q", got)
		}
		f.clean()
	}
	if use {
		f.h.Release(user)
	}
	f.remove(name)
	f.wantNoFiles("in the end")
}
