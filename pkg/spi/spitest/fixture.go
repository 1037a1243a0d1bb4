// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package spitest

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
)

// Secrets that the suite plants and that no error may show.
const (
	plantedUserData = "planted-secret-of-userdata"
	plantedToken    = "planted-secret-of-token"
	plantedPassword = "planted-secret-of-password"
)

func plantedSecrets() []string { return []string{plantedUserData, plantedToken, plantedPassword} }

// fixture is one test's world with words for what tests do in it.
type fixture struct {
	*testing.T
	h Harness
	// volumes are those of the spec.
	volumes []v1alpha1.Volume
	// afterStep looks at the world after each step of a walk.
	afterStep func(step int)
}

func newFixture(t *testing.T, h Harness) *fixture {
	t.Helper()
	return &fixture{T: t, h: h}
}

func (f *fixture) spi() guard { return guard{t: f.T, inner: f.h.SPI()} }

// spec returns the world's spec, with a time for the start after which a test
// that waits in vain has waited long enough, and with the test's volumes.
func (f *fixture) spec() *v1alpha1.ProviderSpec {
	spec := f.h.Spec()
	spec.StartTimeoutSeconds = ptr.To[int64](60)
	spec.Volumes = slices.Clone(f.volumes)
	v1alpha1.SetDefaults(spec)
	return spec
}

// secret returns the world's Secret with planted data.
func (f *fixture) secret() *corev1.Secret {
	s := f.h.Secret()
	s.Data = maps.Clone(s.Data)
	s.Data[v1alpha1.SecretUserData] = []byte("#!/bin/sh\n# " + plantedUserData + "\n")
	s.Data["token"] = []byte(plantedToken)
	return s
}

// providerID is what the identity of a machine gives in this world.
func (f *fixture) providerID(machine string) string {
	f.Helper()
	cluster, _, err := identity.Tags(f.spec().Tags)
	if err != nil {
		f.Fatal(err)
	}
	id, err := identity.New(f.h.VCH(), cluster, machine)
	if err != nil {
		f.Fatal(err)
	}
	return id.ProviderID()
}

func (f *fixture) create(machine string) string {
	f.Helper()
	id, err := f.spi().CreateMachine(f.Context(), machine, f.spec(), f.secret())
	if err != nil {
		f.Fatalf("create %s: %v", machine, err)
	}
	if want := f.providerID(machine); id != want {
		f.Fatalf("create %s: provider id %q, want %q, which follows from its identity", machine, id, want)
	}
	return id
}

func (f *fixture) initialize(machine string) []corev1.NodeAddress {
	f.Helper()
	id, addresses, err := f.spi().InitializeMachine(f.Context(), machine, f.providerID(machine), f.spec(), f.secret())
	if err != nil {
		f.Fatalf("initialize %s: %v", machine, err)
	}
	if want := f.providerID(machine); id != want {
		f.Fatalf("initialize %s: provider id %q, want %q", machine, id, want)
	}
	return addresses
}

// start creates and initializes.
func (f *fixture) start(machine string) {
	f.Helper()
	f.create(machine)
	f.initialize(machine)
}

func (f *fixture) delete(machine string) {
	f.Helper()
	if err := f.tryDelete(machine); err != nil {
		f.Fatalf("delete %s: %v", machine, err)
	}
}

func (f *fixture) tryDelete(machine string) error {
	f.Helper()
	return f.patiently(func() error {
		_, err := f.spi().DeleteMachine(f.Context(), machine, "", f.spec(), f.secret())
		return err
	})
}

// status returns the kind of error of GetMachineStatus, empty for none.
func (f *fixture) status(machine string) errdefs.Kind {
	f.Helper()
	_, _, err := f.spi().GetMachineStatus(f.Context(), machine, "", f.spec(), f.secret())
	return errdefs.KindOf(err)
}

func (f *fixture) list() map[string]string {
	f.Helper()
	got, err := f.spi().ListMachines(f.Context(), f.spec(), f.secret())
	if err != nil {
		f.Fatalf("list: %v", err)
	}
	return got
}

// reconcile does what machine-controller-manager's creation flow does, once more
// only when the answer was Aborted.
func (f *fixture) reconcile(machine string) error {
	f.Helper()
	return f.patiently(func() error {
		s := f.spi()
		_, _, err := s.GetMachineStatus(f.Context(), machine, "", f.spec(), f.secret())
		switch errdefs.KindOf(err) {
		case errdefs.NotFound:
			if _, err = s.CreateMachine(f.Context(), machine, f.spec(), f.secret()); err != nil {
				return err
			}
		case errdefs.Uninitialized:
		default:
			return err
		}
		_, _, err = s.InitializeMachine(f.Context(), machine, "", f.spec(), f.secret())
		return err
	})
}

// patiently repeats a call while the answer is Aborted: what a cut-off call
// left behind in the world may still be coming to its end.
func (f *fixture) patiently(call func() error) error {
	f.Helper()
	var err error
	for range 50 {
		if err = call(); !errdefs.Is(err, errdefs.Aborted) {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-f.Context().Done():
			return err
		}
	}
	return err
}

// wantError fails the test unless err has one of the kinds.
func (f *fixture) wantError(what string, err error, kinds ...errdefs.Kind) {
	f.Helper()
	if err == nil || !slices.Contains(kinds, errdefs.KindOf(err)) {
		f.Errorf("%s: got error %v of kind %q, want one of %v", what, err, errdefs.KindOf(err), kinds)
	}
}

// wantRunning fails the test unless there is exactly one VM of the machine, running.
func (f *fixture) wantRunning(machine string) {
	f.Helper()
	if got := f.machines(machine); !slices.Equal(got, []Machine{{Name: machine, Running: true}}) {
		f.Fatalf("want exactly one running VM of machine %s, got %v", machine, got)
	}
	if got := f.status(machine); got != "" {
		f.Fatalf("status of %s is %q, want none", machine, got)
	}
}

// wantAbsent fails the test if anything of the machine exists, or any file that
// belongs to no machine.
func (f *fixture) wantAbsent(machine string) {
	f.Helper()
	if got := f.machines(machine); len(got) != 0 {
		f.Fatalf("want no VM of machine %s, got %v", machine, got)
	}
	if got := f.h.Leftovers(); len(got) != 0 {
		f.Fatalf("after %s was deleted, want the world's files as they were, got %q", machine, got)
	}
	if got := f.status(machine); got != errdefs.NotFound {
		f.Fatalf("status of %s is %q, want NotFound", machine, got)
	}
}

func (f *fixture) machines(name string) []Machine {
	f.Helper()
	return slices.DeleteFunc(f.h.Machines(), func(m Machine) bool { return m.Name != name })
}

// operation is one of the calls for a single machine, in one shape.
type operation struct {
	name string
	call func(ctx context.Context, machine, providerID string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, error)
}

// run calls the operation with the world's own spec and Secret and no provider id.
func (o operation) run(ctx context.Context, f *fixture, machine string) error {
	f.Helper()
	_, err := o.call(ctx, machine, "", f.spec(), f.secret())
	return err
}

// takesProviderID says whether the operation has that argument.
func (o operation) takesProviderID() bool { return o.name != "create" && o.name != "list" }

// operations are all calls; list ignores machine and providerID, create ignores providerID.
func (f *fixture) operations() []operation {
	s := f.spi()
	return []operation{
		{"create", func(ctx context.Context, m, _ string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, error) {
			return s.CreateMachine(ctx, m, spec, secret)
		}},
		{"initialize", func(ctx context.Context, m, id string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, error) {
			found, _, err := s.InitializeMachine(ctx, m, id, spec, secret)
			return found, err
		}},
		{"status", func(ctx context.Context, m, id string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, error) {
			found, _, err := s.GetMachineStatus(ctx, m, id, spec, secret)
			return found, err
		}},
		{"shutdown", func(ctx context.Context, m, id string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, error) {
			return s.ShutDownMachine(ctx, m, id, spec, secret)
		}},
		{"delete", func(ctx context.Context, m, id string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, error) {
			return s.DeleteMachine(ctx, m, id, spec, secret)
		}},
		{"list", func(ctx context.Context, _, _ string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, error) {
			_, err := s.ListMachines(ctx, spec, secret)
			return "", err
		}},
	}
}

func (f *fixture) operation(name string) operation {
	f.Helper()
	ops := f.operations()
	i := slices.IndexFunc(ops, func(o operation) bool { return o.name == name })
	if i < 0 {
		f.Fatalf("the suite has no operation %q", name)
	}
	return ops[i]
}
