// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volumetest

import (
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// leaving are the tests of what operations leave that do not come to their end.
func leaving() map[string]func(*fixture) {
	return map[string]func(*fixture){
		"what is young is no leftover yet":                            youngDebris,
		"cleaning passes over what is no leftover any more":           cleanTwice,
		"cleaning passes over what never was a leftover":              cleanForeign,
		"debris keeps nobody from making or removing the volume":      debrisIsNoHindrance,
		"a volume whose removal was cut off does not replace a newer": debrisOfOlder,
		"many that clean at the same time do no harm":                 cleanTogether,
		"what was not made to the end never becomes a volume":         debrisOfWanted,
	}
}

// halfMade leaves what a creator leaves that died in the middle of its work. It
// reports false if there is no such thing here.
func (f *fixture) halfMade() bool {
	f.Helper()
	for step := max(1, f.dies.making); step <= maxSteps; step++ {
		before := len(f.h.Files())
		s, struck := f.h.Faulty(Fault{Step: step, Kind: errdefs.Unavailable, After: true, Kill: true})
		_, _ = s.Create(f.Context(), request(name))
		if !struck() {
			return false
		}
		if _, ok := f.listed(name); !ok && len(f.h.Files()) > before {
			f.dies.making = step
			return true
		}
		f.clean()
		if _, ok := f.listed(name); ok {
			return false
		}
	}
	return false
}

func youngDebris(f *fixture) {
	if !f.halfMade() {
		f.Skip("creators that die leave nothing here")
	}
	if left := f.leftovers(f.h.Store()); len(left) != 0 {
		f.Errorf("what may belong to an operation under way is called leftovers: %v", left)
	}
	f.h.Advance(long)
	if left := f.leftovers(f.h.Store()); len(left) == 0 {
		f.Errorf("there is %q, and no leftovers", f.h.Files())
	}
	f.clean()
	f.wantNoFiles("after clean")
}

func cleanTwice(f *fixture) {
	if !f.halfMade() {
		f.Skip("creators that die leave nothing here")
	}
	f.h.Advance(long)
	s := f.h.Store()
	leftovers := f.leftovers(s)
	f.createWritten(name)
	for range 2 {
		f.cleanThese(s, leftovers)
		f.wantKept(name)
	}
	f.remove(name)
	f.cleanThese(f.h.Store(), leftovers)
	f.wantNoFiles("in the end")
}

// cleanForeign asks for the deletion of things that no Leftovers returned.
func cleanForeign(f *fixture) {
	v, s := f.createWritten(name), f.h.Store()
	cleaner, ok := s.(volume.Cleaner)
	if !ok {
		f.Skip("there is nothing to clean here")
	}
	for _, l := range []volume.Leftover{
		{Store: v.Store, Path: v.Location, Reason: "made up", ID: v.Location},
		{Store: v.Store, Path: v.Location, Reason: "made up", ID: name},
		{Store: v.Store, Path: "volumes/" + name, Reason: "made up", ID: "volumes/" + name},
		{Store: v.Store, Path: "x", Reason: "y", ID: "../volumes/" + name},
		{Store: v.Store, Path: "x", Reason: "y", ID: "../../volumes/" + name},
		{Store: "other", Path: "x", Reason: "y", ID: "."},
		{},
	} {
		if err := cleaner.Clean(f.Context(), l); err != nil {
			f.wantError("clean", err, errdefs.InvalidArgument)
		}
		f.wantKept(name)
	}
	if err := cleaner.Clean(f.Context()); err != nil {
		f.Errorf("clean nothing: %v", err)
	}
}

func debrisIsNoHindrance(f *fixture) {
	f.halfMade()
	f.createWritten(name)
	f.clean()
	f.wantKept(name)
	f.remove(name)
	f.wantNoFiles("in the end")
}

// halfRemoved leaves what a remover leaves that died when the volume was out of
// sight. It reports false if there is no such thing here.
func (f *fixture) halfRemoved() bool {
	f.Helper()
	_, ok := f.halfRemovedAfter(&f.dies.removing, func() (volume.User, bool) { return volume.User{}, false })
	return ok
}

// halfRemovedWanted is halfRemoved with a VM that came when the volume was there still.
func (f *fixture) halfRemovedWanted() (user volume.User, ok bool) {
	f.Helper()
	return f.halfRemovedAfter(&f.dies.wanted, func() (volume.User, bool) {
		f.looks.Lock()
		defer f.looks.Unlock()
		return f.h.Use(name, f.common())
	})
}

// halfRemovedAfter is halfRemoved with a VM that may come just before the remover dies.
// It begins at a step, and keeps at which one it was.
func (f *fixture) halfRemovedAfter(at *int, come func() (volume.User, bool)) (user volume.User, ok bool) {
	f.Helper()
	wanted := false
	for step := max(1, *at); step <= maxSteps; step++ {
		f.createWritten(name)
		joined := false
		s, struck := f.h.Faulty(Fault{Step: step, Before: func() { user, joined = come() }, Kind: errdefs.Unavailable, After: true, Kill: true})
		_ = s.Remove(f.Context(), name)
		wanted = wanted || joined
		if _, there := f.listed(name); !there && len(f.h.Files()) > 0 && joined == wanted {
			*at = step
			return user, true
		}
		if joined {
			f.h.Release(user)
		}
		f.clean()
		if _, there := f.listed(name); there {
			f.remove(name)
		}
		if !struck() {
			break
		}
	}
	return volume.User{}, false
}

func debrisOfOlder(f *fixture) {
	if !f.halfRemoved() {
		f.Skip("removers that die leave nothing here")
	}
	f.h.Advance(long)
	old := f.leftovers(f.h.Store())
	f.create(name)
	f.h.Write(name, "what is on the newer one")
	user := f.use(name, f.common())
	for range 2 {
		f.cleanThese(f.h.Store(), old)
		f.wantPublished(request(name))
		if got := f.h.Read(name); got != "what is on the newer one" {
			f.Errorf("the newer volume holds %q", got)
		}
		f.clean()
	}
	f.h.Release(user)
	f.remove(name)
	f.clean()
	f.wantNoFiles("in the end")
}

func cleanTogether(f *fixture) {
	f.createWritten("there")
	before := len(f.h.Files())
	f.halfMade()
	f.h.Advance(long)
	leftovers := f.leftovers(f.h.Store())
	stores := []volume.Store{f.h.Store(), f.h.Store()}
	together(6, func(i int) { f.cleanThese(stores[i%2], leftovers) })
	f.wantKept("there")
	f.wantAbsent(name)
	if files := f.h.Files(); len(files) != before {
		f.Errorf("in the end there is %q", files)
	}
	f.remove("there")
	user, ok := f.halfRemovedWanted()
	if !ok {
		return // removers that die leave nothing here that a VM could have
	}
	f.h.Advance(long)
	leftovers = f.leftovers(f.h.Store())
	together(6, func(i int) { f.cleanThese(stores[i%2], leftovers) })
	f.wantKept(name)
	f.h.Release(user)
	f.remove(name)
	f.wantNoFiles("in the end")
}

// debrisOfWanted has a VM that once had a volume of the name.
func debrisOfWanted(f *fixture) {
	f.create(name)
	user := f.use(name, f.common())
	if err := f.h.Store().Remove(f.Context(), name, user.VM); err != nil {
		f.Fatal(err)
	}
	if !f.halfMade() {
		f.Skip("creators that die leave nothing here")
	}
	f.clean()
	f.wantAbsent(name)
	f.h.Release(user)
	f.clean()
	f.wantNoFiles("in the end")
}
