// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package spitest

import (
	"fmt"
	"maps"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// foreign are the tests that nothing without our full mark is listed or touched.
func foreign() map[string]func(*fixture) {
	tests := map[string]func(*fixture){
		"of a duplicated machine no third is made and none is believed": duplicate,
		"a foreign provider id is no reason to touch a foreigner":       foreignProviderID,
		"all foreigners at once are neither listed nor touched":         allForeigners,
	}
	for _, kind := range []Foreign{Unmarked, HalfMarked, OtherRole} {
		tests["never touches "+string(kind)] = func(f *fixture) { impostor(f, kind) }
	}
	for _, kind := range []Foreign{OtherCluster, Namesake, Docker, Clone} {
		tests["goes its way beside "+string(kind)] = func(f *fixture) { neighbour(f, kind) }
	}
	return tests
}

// wantForeignersUntouched fails the test if a foreigner is not as it was.
func (f *fixture) wantForeignersUntouched(before map[string]string) {
	f.Helper()
	after := f.h.Foreigners()
	if maps.Equal(after, before) {
		return
	}
	for name, was := range before {
		if is, ok := after[name]; is != was {
			f.Errorf("foreigner %s was touched (still there: %v)\nfrom %s\nto   %s", name, ok, was, is)
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			f.Errorf("there is a new foreigner %s: a VM of ours without its mark", name)
		}
	}
}

// impostor: a VM that has our identity and not our mark stops every call.
func impostor(f *fixture, kind Foreign) {
	const name = "victim"
	id := f.h.Plant(kind, name)
	if id != f.providerID(name) {
		f.Fatalf("%s has the provider id %q, want the machine's own %q: the harness is wrong", kind, id, f.providerID(name))
	}
	before := f.h.Foreigners()
	for _, op := range f.operations() {
		if op.name == "list" {
			continue
		}
		for _, given := range []string{"", id} {
			_, err := op.call(f.Context(), name, given, f.spec(), f.secret())
			f.wantError(op.name, err, errdefs.FailedPrecondition)
		}
	}
	if got := f.list(); len(got) != 0 {
		f.Errorf("list = %v, want none", got)
	}
	f.wantForeignersUntouched(before)
	if got := f.h.Machines(); len(got) != 0 {
		f.Errorf("machines = %v, want none", got)
	}
}

// neighbour: a VM that only looks like our machine is no hindrance.
func neighbour(f *fixture, kind Foreign) {
	const name = "same"
	f.h.Plant(kind, name)
	before := f.h.Foreigners()
	if got := f.status(name); got != errdefs.NotFound {
		f.Fatalf("status beside %s is %q, want NotFound", kind, got)
	}
	if got := f.list(); len(got) != 0 {
		f.Errorf("list beside %s = %v, want none", kind, got)
	}
	f.delete(name)
	f.wantForeignersUntouched(before)
	f.start(name)
	f.wantRunning(name)
	if got, want := f.list(), map[string]string{f.providerID(name): name}; !maps.Equal(got, want) {
		f.Errorf("list = %v, want %v", got, want)
	}
	f.delete(name)
	f.wantAbsent(name)
	f.wantForeignersUntouched(before)
}

func foreignProviderID(f *fixture) {
	for _, kind := range []Foreign{OtherCluster, Docker} {
		f.start("machine")
		id := f.h.Plant(kind, "stranger")
		before := f.h.Foreigners()
		for _, name := range []string{"machine", "stranger"} {
			for _, op := range f.operations() {
				if op.takesProviderID() {
					_, err := op.call(f.Context(), name, id, f.spec(), f.secret())
					f.wantError(op.name+" of "+name+" with the provider id of "+string(kind), err, errdefs.FailedPrecondition)
				}
			}
		}
		f.wantForeignersUntouched(before)
		f.wantRunning("machine")
		f.delete("machine")
	}
}

func allForeigners(f *fixture) {
	f.start("ours")
	for i, kind := range []Foreign{Unmarked, HalfMarked, OtherRole, OtherCluster, Namesake, Docker, Clone} {
		f.h.Plant(kind, fmt.Sprintf("theirs-%d", i))
	}
	f.h.Plant(OtherCluster, "ours")
	f.h.Plant(Namesake, "ours")
	f.h.Plant(Docker, "ours")
	before := f.h.Foreigners()
	if got, want := f.list(), map[string]string{f.providerID("ours"): "ours"}; !maps.Equal(got, want) {
		f.Errorf("list = %v, want %v", got, want)
	}
	f.start("later")
	for _, name := range []string{"ours", "later"} {
		f.wantRunning(name)
		f.delete(name)
		f.wantAbsent(name)
	}
	f.wantForeignersUntouched(before)
}

func duplicate(f *fixture) {
	const name = "double"
	f.start(name)
	f.h.Plant(Duplicate, name)
	if got := f.status(name); got != errdefs.OutOfRange {
		f.Errorf("status of a duplicated machine is %q, want OutOfRange", got)
	}
	for _, opName := range []string{"create", "initialize", "shutdown"} {
		err := f.operation(opName).run(f.Context(), f, name)
		f.wantError(opName+" of a duplicated machine", err, errdefs.OutOfRange, errdefs.FailedPrecondition)
	}
	if got := f.machines(name); len(got) != 2 {
		f.Fatalf("want both VMs to be there still, got %v", got)
	}
	if err := f.operation("delete").run(f.Context(), f, name); err != nil {
		f.wantError("delete of a duplicated machine", err, errdefs.OutOfRange, errdefs.FailedPrecondition)
		if got := f.machines(name); len(got) != 2 {
			f.Errorf("delete refused and still removed one of two VMs: %v", got)
		}
		return
	}
	if got := f.machines(name); len(got) != 0 {
		f.Errorf("delete answered that it is done, but there is still %v", got)
	}
}
