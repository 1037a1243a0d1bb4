// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package spitest

import (
	"maps"
	"slices"

	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
)

// life are the tests of what the calls do when nothing goes wrong.
func life() map[string]func(*fixture) {
	return map[string]func(*fixture){
		"a machine goes through its whole life":                          wholeLife,
		"an absent machine is NotFound, and deleting it is no error":     absentMachine,
		"every call may be repeated":                                     repeatedCalls,
		"creating a machine again from the same spec changes nothing":    createAgain,
		"creating a machine again from another spec is AlreadyExists":    createOther,
		"a machine that was created but never started can be deleted":    deleteCreated,
		"a deleted machine can be made again and is the same machine":    makeAgain,
		"the list holds created and initialized machines and no others":  listAll,
		"a list of another cluster or role does not hold our machines":   listOthers,
		"two clusters have a machine of one name and do not mix them up": twoClusters,
	}
}

func wholeLife(f *fixture) {
	const name = "life"
	id := f.create(name)
	if got := f.machines(name); !slices.Equal(got, []Machine{{Name: name}}) {
		f.Fatalf("after create want one VM that is off, got %v", got)
	}
	found, _, err := f.spi().GetMachineStatus(f.Context(), name, id, f.spec(), f.secret())
	f.wantError("status of a created machine", err, errdefs.Uninitialized)
	if found != id {
		f.Errorf("status of a created machine: provider id %q, want %q together with the error", found, id)
	}
	if addresses := f.initialize(name); len(addresses) == 0 {
		f.Error("initialize: want the address that the guest has got, got none")
	}
	f.wantRunning(name)
	found, addresses, err := f.spi().GetMachineStatus(f.Context(), name, "", f.spec(), f.secret())
	if err != nil || found != id || len(addresses) == 0 {
		f.Errorf("status of an initialized machine = %q, %v, %v, want %q with addresses", found, addresses, err, id)
	}
	f.stopAndGoOn(name, id)
	if found, err = f.spi().DeleteMachine(f.Context(), name, id, f.spec(), f.secret()); err != nil || found != id {
		f.Fatalf("delete = %q, %v, want %q", found, err, id)
	}
	f.wantAbsent(name)
}

func (f *fixture) stopAndGoOn(name, id string) {
	f.Helper()
	if found, err := f.spi().ShutDownMachine(f.Context(), name, id, f.spec(), f.secret()); err != nil || found != id {
		f.Fatalf("shut down = %q, %v, want %q", found, err, id)
	}
	if got := f.machines(name); !slices.Equal(got, []Machine{{Name: name}}) {
		f.Fatalf("after shut down want one VM that is off, got %v", got)
	}
	if got := f.status(name); got != errdefs.Uninitialized {
		f.Errorf("status of a machine that was shut down is %q, want Uninitialized", got)
	}
	f.initialize(name)
	f.wantRunning(name)
}

func absentMachine(f *fixture) {
	const name = "absent"
	for _, id := range []string{"", f.providerID(name)} {
		for _, op := range f.operations() {
			switch op.name {
			case "initialize", "status", "shutdown":
				_, err := op.call(f.Context(), name, id, f.spec(), f.secret())
				f.wantError(op.name+" of an absent machine", err, errdefs.NotFound)
			case "delete":
				found, err := op.call(f.Context(), name, id, f.spec(), f.secret())
				if err != nil || found != "" {
					f.Errorf("delete of an absent machine = %q, %v, want an empty provider id and no error", found, err)
				}
			}
		}
	}
	if got := f.list(); got == nil || len(got) != 0 {
		f.Errorf("list without machines = %#v, want an empty map that is not nil", got)
	}
	f.wantAbsent(name)
}

func repeatedCalls(f *fixture) {
	const name = "repeat"
	for range 3 {
		f.create(name)
	}
	for range 3 {
		f.initialize(name)
	}
	f.wantRunning(name)
	for range 2 {
		if err := f.operation("shutdown").run(f.Context(), f, name); err != nil {
			f.Fatalf("shut down: %v", err)
		}
	}
	for range 3 {
		f.delete(name)
		f.wantAbsent(name)
	}
}

func createAgain(f *fixture) {
	const name = "again"
	f.start(name)
	secret := f.secret()
	secret.Data[v1alpha1.SecretUserData] = []byte("#!/bin/sh\necho another token\n")
	id, err := f.spi().CreateMachine(f.Context(), name, f.spec(), secret)
	if err != nil || id != f.providerID(name) {
		f.Errorf("create with other userData = %q, %v, want %q", id, err, f.providerID(name))
	}
	f.wantRunning(name)
}

func createOther(f *fixture) {
	const name = "other"
	f.start(name)
	spec := f.spec()
	spec.CPUs = ptr.To(*spec.CPUs + 1)
	_, err := f.spi().CreateMachine(f.Context(), name, spec, f.secret())
	f.wantError("create from another spec", err, errdefs.AlreadyExists)
	f.wantRunning(name)
}

func deleteCreated(f *fixture) {
	const name = "never-started"
	f.create(name)
	f.delete(name)
	f.wantAbsent(name)
}

func makeAgain(f *fixture) {
	const name = "phoenix"
	first := f.create(name)
	f.delete(name)
	if second := f.create(name); second != first {
		f.Errorf("provider id %q after %q, want the same", second, first)
	}
	f.initialize(name)
	f.wantRunning(name)
}

func listAll(f *fixture) {
	f.create("list-created")
	f.start("list-started")
	f.start("list-stopped")
	if err := f.operation("shutdown").run(f.Context(), f, "list-stopped"); err != nil {
		f.Fatal(err)
	}
	f.start("list-deleted")
	f.delete("list-deleted")
	want := map[string]string{}
	for _, name := range []string{"list-created", "list-started", "list-stopped"} {
		want[f.providerID(name)] = name
	}
	if got := f.list(); !maps.Equal(got, want) {
		f.Errorf("list = %v, want %v", got, want)
	}
}

// otherSpec is the world's spec with other cluster and role tags.
func (f *fixture) otherSpec(cluster, role string) *v1alpha1.ProviderSpec {
	spec := f.spec()
	spec.Tags = map[string]string{identity.ClusterTagPrefix + cluster: "1", identity.RoleTagPrefix + role: "1"}
	return spec
}

func listOthers(f *fixture) {
	f.start("ours")
	cluster, role, err := identity.Tags(f.spec().Tags)
	if err != nil {
		f.Fatal(err)
	}
	for _, spec := range []*v1alpha1.ProviderSpec{
		f.otherSpec("another", role), f.otherSpec(cluster, "another"), f.otherSpec("another", "another"),
	} {
		got, err := f.spi().ListMachines(f.Context(), spec, f.secret())
		if err != nil || got == nil || len(got) != 0 {
			f.Errorf("list for the tags %v = %v, %v, want an empty map", spec.Tags, got, err)
		}
	}
}

func twoClusters(f *fixture) {
	const name = "twin"
	_, role, err := identity.Tags(f.spec().Tags)
	if err != nil {
		f.Fatal(err)
	}
	other := f.otherSpec("another", role)
	f.start(name)
	theirs, err := f.spi().CreateMachine(f.Context(), name, other, f.secret())
	if err != nil {
		f.Fatalf("create the same name for another cluster: %v", err)
	}
	if theirs == f.providerID(name) {
		f.Fatalf("two clusters share the provider id %q", theirs)
	}
	if _, err := f.spi().DeleteMachine(f.Context(), name, theirs, f.spec(), f.secret()); !errdefs.Is(err, errdefs.FailedPrecondition) {
		f.Errorf("delete by the other cluster's provider id: got %v, want FailedPrecondition", err)
	}
	f.wantRunning(name)
	if _, err := f.spi().DeleteMachine(f.Context(), name, theirs, other, f.secret()); err != nil {
		f.Fatalf("delete the other cluster's machine: %v", err)
	}
	f.wantRunning(name)
}
