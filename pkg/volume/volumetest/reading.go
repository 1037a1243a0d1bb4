// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volumetest

import (
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// reading are the tests of what stores say of what is there.
func reading() map[string]func(*fixture) {
	return map[string]func(*fixture){
		"an empty place has nothing":                                      emptyPlace,
		"the list is sorted, and says the same as VIC":                    listSorted,
		"a damaged entry is seen, hides nothing, and can be removed":      damaged,
		"a damaged entry keeps its name, and no VM is joined to it":       damagedName,
		"users are those that have the volume, in whichever way":          users,
		"all VMs that have a volume are its users":                        usersOfOne,
		"a VM of which vCenter cannot tell counts as a user, and as such": usersHidden,
		"a name without a volume has no users":                            usersOfNothing,
	}
}

func emptyPlace(f *fixture) {
	s := f.h.Store()
	if list := f.list(s); len(list) != 0 {
		f.Errorf("the list is %v", list)
	}
	if left := f.leftovers(s); len(left) != 0 {
		f.Errorf("leftovers are %v", left)
	}
	f.wantAbsent(name)
	err := s.Remove(f.Context(), name)
	f.wantError("remove", err, errdefs.NotFound)
	f.wantText(err, name, s.String())
	_, err = s.Get(f.Context(), name)
	f.wantText(err, name, s.String())
	f.wantNoFiles("at the beginning, and after reading,")
	if s.String() == "" || s.String() != f.h.Store().String() {
		f.Errorf("the store is called %q and %q", s, f.h.Store())
	}
	if s.Driver() != volume.VMDK && s.Driver() != volume.NFS {
		f.Errorf("the driver is %q", s.Driver())
	}
}

func listSorted(f *fixture) {
	names := []string{"b", "a", "B", "a-1", "a.1", "a1", "10", "9"}
	for _, n := range names {
		f.create(n)
	}
	slices.Sort(names)
	var got []string
	for _, v := range f.list(f.h.Store()) {
		got = append(got, v.Name)
		if one, err := f.h.Store().Get(f.Context(), v.Name); err != nil || !cmp.Equal(*one, v) {
			f.Errorf("Get has %v, %v and List %v", one, err, v)
		}
	}
	if !slices.Equal(got, names) {
		f.Errorf("the list is %q, want %q", got, names)
	}
	f.wantAgreement()
}

// eachDamage calls test with one damaged entry after the other, next to a good one.
func (f *fixture) eachDamage(test func(how string, v *volume.Volume)) {
	f.Helper()
	if len(f.h.Damages()) == 0 {
		f.Fatal("the world knows no damage")
	}
	f.createWritten("good")
	for _, how := range f.h.Damages() {
		f.h.Damage(name, how)
		if _, err := f.h.Listed(); err == nil {
			f.Errorf("%s is no damage: VIC would not stumble over it", how)
		}
		v, err := f.h.Store().Get(f.Context(), name)
		if err != nil {
			f.Fatalf("get, %s: %v", how, err)
		}
		if v.Damage == "" || v.Name != name || v.Store == "" || v.Location == "" || v.Driver != f.h.Store().Driver() {
			f.Errorf("with %s the volume is %+v", how, v)
		}
		test(how, v)
		f.wantKept("good")
		f.wantAgreement()
		if f.Failed() {
			f.Fatalf("that was with %s", how)
		}
	}
}

func damaged(f *fixture) {
	before := 0
	f.eachDamage(func(how string, v *volume.Volume) {
		if before == 0 {
			before = len(f.h.Files())
		}
		list := f.list(f.h.Store())
		at := slices.IndexFunc(list, func(v volume.Volume) bool { return v.Name == name })
		if len(list) != 2 || at < 0 || !cmp.Equal(list[at], *v) {
			f.Fatalf("with %s Get has %v and List %v", how, v, list)
		}
		f.clean() // it is not for Clean: nobody knows what was on it
		if _, err := f.h.Store().Get(f.Context(), name); err != nil {
			f.Errorf("Clean took it away, %s: %v", how, err)
		}
		f.remove(name)
		if entries, err := f.h.Listed(); err != nil || len(entries) != 1 {
			f.Errorf("after the removal VIC finds %v and says %v", entries, err)
		}
	})
	f.create(name) // and then the name is free again
	f.remove(name)
	f.remove("good")
	f.wantNoFiles("after all volumes were removed")
}

func damagedName(f *fixture) {
	f.eachDamage(func(how string, v *volume.Volume) {
		s := f.h.Store()
		_, err := s.Create(f.Context(), request(name))
		f.wantError("create over what has "+how, err, errdefs.AlreadyExists)
		for _, m := range []volume.Mount{{Path: "/data"}, {Path: "/data", NoCopy: true}} {
			_, err = s.Join(v, m)
			f.wantError("join what has "+how, err, errdefs.FailedPrecondition)
			f.wantText(err, name, v.Damage)
		}
		f.remove(name)
	})
}

// wantUsers fails the test unless each name has these users.
func (f *fixture) wantUsers(want map[string][]volume.User) {
	f.Helper()
	var names []string
	for n, of := range want {
		names = append(names, n)
		slices.SortFunc(of, func(a, b volume.User) int { return strings.Compare(a.VM, b.VM) })
	}
	got, err := f.h.Store().Users(f.Context(), names...)
	if err != nil {
		f.Fatalf("users of %v: %v", names, err)
	}
	for n := range got {
		if _, asked := want[n]; !asked {
			f.Errorf("there are users of %s, for which nobody asked", n)
		}
	}
	for n := range want {
		if diff := cmp.Diff(want[n], got[n]); len(want[n])+len(got[n]) > 0 && diff != "" {
			f.Errorf("users of %s (-want +got):\n%s", n, diff)
		}
	}
}

func users(f *fixture) {
	f.create(name)
	f.create("data2") // begins like the other one
	f.create("dat")
	for _, how := range f.h.Uses() {
		user := f.use(name, how)
		if user.Name == "" || user.VM == "" || user.Unproven {
			f.Errorf("the user %s is %+v", how, user)
		}
		f.wantUsers(map[string][]volume.User{name: {user}, "data2": nil, "dat": nil})
		f.h.Release(user)
		f.wantUsers(map[string][]volume.User{name: nil})
	}
	a, b := f.use("data2", f.common()), f.use("dat", f.common())
	f.wantUsers(map[string][]volume.User{name: nil, "data2": {a}, "dat": {b}})
	got, err := f.h.Store().Users(f.Context())
	if err != nil || len(got) != 0 {
		f.Errorf("users of no names: %v, %v", got, err)
	}
}

func usersOfOne(f *fixture) {
	f.create(name)
	var all []volume.User
	for range 3 {
		all = append(all, f.use(name, f.h.Uses()[len(all)%len(f.h.Uses())]))
	}
	f.wantUsers(map[string][]volume.User{name: all})
}

func usersHidden(f *fixture) {
	f.createWritten(name)
	f.create("other")
	user, counts := f.h.UseHidden()
	if !counts {
		f.Skip("it does not count here")
	}
	if !user.Unproven {
		f.Errorf("the user is %+v", user)
	}
	f.wantUsers(map[string][]volume.User{name: {user}, "other": {user}})
	err := f.h.Store().Remove(f.Context(), name)
	f.wantError("remove", err, errdefs.FailedPrecondition)
	f.wantText(err, name, user.Name)
	f.wantKept(name)
	f.h.Release(user)
	f.remove(name)
}

func usersOfNothing(f *fixture) {
	f.wantUsers(map[string][]volume.User{name: nil, "other": nil})
	f.create(name)
	f.use(name, f.common())
	f.wantUsers(map[string][]volume.User{"other": nil})
}
