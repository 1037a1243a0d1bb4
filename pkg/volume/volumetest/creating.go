// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volumetest

import (
	"context"
	"errors"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// creating are the tests of how volumes come.
func creating() map[string]func(*fixture) {
	return map[string]func(*fixture){
		"a volume that is made is what was asked for, for every process": createPublished,
		"a volume of which little is said gets what VIC needs":           createPlain,
		"names may have all signs that VIC allows":                       createNames,
		"a name that is taken is AlreadyExists, and what is there stays": createTwice,
		"a capacity is what was asked for":                               createCapacities,
		"what is not valid is refused before anything is done":           createInvalid,
		"a context that has ended does nothing":                          endedContext,
		"a place without room is ResourceExhausted, and nothing is left": fullPlace,
		"at no moment VIC finds half a volume that is made":              createObserved,
	}
}

func createPublished(f *fixture) {
	f.create(name)
	f.wantPublished(request(name))
	f.create("other")
	f.wantPublished(request(name))
	f.wantPublished(request("other"))
	f.remove(name)
	f.wantPublished(request("other"))
	f.remove("other")
	f.wantNoFiles("after all volumes were removed")
}

func createPlain(f *fixture) {
	v, err := f.h.Store().Create(f.Context(), volume.Request{Name: name})
	if err != nil {
		f.Fatal(err)
	}
	want := volume.Request{Name: name, Capacity: volume.DefaultCapacity}
	f.wantWhole(v, want)
	f.wantPublished(want)
	// What the request says of name and driver has no meaning, and it is not changed.
	lies := request("other")
	lies.Metadata.Name, lies.Metadata.Driver = "x", "y"
	if _, err = f.h.Store().Create(f.Context(), lies); err != nil {
		f.Fatal(err)
	}
	f.wantPublished(request("other"))
	lies.Metadata.Labels["owner"] = "changed"
	f.wantPublished(request("other"))
	got := f.wantPublished(request("other"))
	got.Metadata.Labels["owner"], got.Metadata.AttachHistory[0] = "changed", "changed"
	f.wantPublished(request("other"))
}

// legalNames are names that look like something else, to a file system or a store.
func legalNames() []string {
	return []string{
		"0", "a", "Z", "a.", "a-", "a_", "a..", "a...b", "A.b_c-D.9", "a-flat", "a.vmdk", "a-flat.vmdk", "a.vmx", "a-delta", "a.lck",
		"volumes", "volumes_metadata", "mcm-volumes", "new", "removed", "imageMetadata", volume.MetadataKey, "default", "con", "nul",
		volume.AnonymousName("42", "/data"), strings.Repeat("0123456789", volume.MaxName/10), "x" + strings.Repeat(".", volume.MaxName-1),
	}
}

func createNames(f *fixture) {
	names := legalNames()
	for _, n := range names {
		f.create(n)
	}
	if got := len(f.list(f.h.Store())); got != len(names) {
		f.Errorf("the list has %d volumes, want %d", got, len(names))
	}
	f.wantAgreement()
	for i, n := range names {
		f.wantPublished(request(n))
		f.remove(n)
		if i+1 < len(names) {
			f.wantPublished(request(names[i+1]))
		}
	}
	f.wantNoFiles("after all volumes were removed")
}

func createTwice(f *fixture) {
	f.createWritten(name)
	before := len(f.h.Files())
	other := volume.Request{Name: name, Capacity: 2 * capacity, Metadata: volume.Metadata{Image: "other"}}
	for _, r := range []volume.Request{request(name), other} {
		v, err := f.h.Store().Create(f.Context(), r)
		f.wantError("create once more", err, errdefs.AlreadyExists)
		f.wantText(err, name, f.h.Store().String())
		if v != nil {
			f.Errorf("the error comes with %v", v)
		}
	}
	f.wantKept(name)
	if files := f.h.Files(); len(files) != before {
		f.Errorf("an attempt left something: %q", files)
	}
}

func createCapacities(f *fixture) {
	for _, c := range []int64{volume.MinCapacity, volume.MinCapacity + volume.CapacityUnit, 3 << 30, volume.MaxCapacity} {
		r := request(name)
		r.Capacity = c
		if _, err := f.h.Store().Create(f.Context(), r); err != nil {
			f.Fatalf("create with %d bytes: %v", c, err)
		}
		f.wantPublished(r)
		f.remove(name)
	}
	f.wantNoFiles("after all volumes were removed")
}

// illegalNames are names that must never reach a file system.
func illegalNames() []string {
	return []string{
		"", ".", "..", "../x", "a/b", "/", "a\\b", "-a", "_a", ".a", "a b", " a", "a\n", "a\x00", "ä", "a:b", "a%2fb", "[ds] a", "a*", "?",
		strings.Repeat("a", volume.MaxName+1),
	}
}

func createInvalid(f *fixture) {
	s, wantUntouched := f.untouched()
	for _, n := range illegalNames() {
		for what, call := range calls(f.Context(), s, n) {
			if what == "list" || what == "leftovers" {
				continue
			}
			f.wantError(what+" of name "+n, call(), errdefs.InvalidArgument)
		}
		_, err := s.Users(f.Context(), name, n)
		f.wantError("users of a good and a bad name", err, errdefs.InvalidArgument)
	}
	for _, c := range []int64{-1, 1, volume.CapacityUnit, volume.MinCapacity - 1, volume.MinCapacity + 1, volume.MaxCapacity + volume.CapacityUnit} {
		r := request(name)
		r.Capacity = c
		_, err := s.Create(f.Context(), r)
		f.wantError("create", err, errdefs.InvalidArgument)
	}
	wantUntouched("what is not valid")
	f.wantNoFiles("after all these")
}

func endedContext(f *fixture) {
	f.createWritten(name)
	ctx, cancel := context.WithCancel(f.Context())
	cancel()
	s, wantUntouched := f.untouched()
	for what, call := range calls(ctx, s, name) {
		err := call()
		f.wantError(what, err, errdefs.Canceled)
		if !errors.Is(err, context.Canceled) {
			f.Errorf("%s: the error %v does not wrap the context's", what, err)
		}
		wantUntouched(what)
	}
	f.wantKept(name)
}

func fullPlace(f *fixture) {
	f.createWritten("there")
	before := len(f.h.Files())
	f.h.Fill(true)
	_, err := f.h.Store().Create(f.Context(), request(name))
	f.wantError("create on a full place", err, errdefs.ResourceExhausted)
	f.wantAbsent(name)
	if files := f.h.Files(); len(files) != before {
		f.Errorf("an attempt left something: %q", files)
	}
	f.wantKept("there") // reading needs no room
	f.remove("there")   // and so room can be made
	f.h.Fill(false)
	f.create(name)
	f.remove(name)
	f.wantNoFiles("after all volumes were removed")
}

func createObserved(f *fixture) {
	f.createWritten("there")
	steps := 0
	s := f.observed(func() {
		steps++
		f.wantWholeOrAbsent(request(name))
		f.wantKept("there")
		if left := f.leftovers(f.h.Store()); len(left) != 0 {
			f.Errorf("what belongs to a creation under way is called leftovers: %v", left)
		}
	})
	if _, err := s.Create(f.Context(), request(name)); err != nil {
		f.Fatal(err)
	}
	if steps == 0 {
		f.Error("no step was seen")
	}
	f.wantPublished(request(name))
}
