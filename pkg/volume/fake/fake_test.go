// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package fake_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/fake"
)

func request() volume.Request { return volume.Request{Name: "data"} }

func TestTheInterceptorSeesTheStepsInOrder(t *testing.T) {
	t.Parallel()
	s := fake.New("vch-1", "default", volume.VMDK)
	var steps []string
	s.Intercept(func(_ context.Context, step string, do func() error) error {
		steps = append(steps, step)
		return do()
	})
	v, err := s.Create(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Join(v, volume.Mount{Path: "/data"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), "data"); err != nil {
		t.Fatal(err)
	}
	s.Intercept(nil)
	if _, err := s.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		fake.StepRead, fake.StepPrepare, fake.StepFill, fake.StepPublish,
		fake.StepRead, fake.StepUsers, fake.StepWithdraw, fake.StepUsers, fake.StepDelete,
	}
	if !slices.Equal(steps, want) {
		t.Errorf("steps %v, want %v", steps, want)
	}
}

func TestAStepThatIsInterceptedMayFailInOneProcessAndNotInAnother(t *testing.T) {
	t.Parallel()
	s := fake.New("vch-1", "default", volume.NFS)
	other := s.Another()
	s.Intercept(func(context.Context, string, func() error) error {
		return errdefs.New(errdefs.Unavailable, "no export")
	})
	if _, err := s.Create(t.Context(), request()); !errdefs.Is(err, errdefs.Unavailable) {
		t.Errorf("create: %v", err)
	}
	if _, err := other.Create(t.Context(), request()); err != nil {
		t.Errorf("create: %v", err)
	}
	if _, err := s.Another().Get(t.Context(), "data"); err != nil {
		t.Errorf("get: %v", err)
	}
	if _, err := fake.New("vch-1", "default", volume.NFS).Get(t.Context(), "data"); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("another place answers %v", err)
	}
}

func TestAVMHasTheVolumesThatItWasGiven(t *testing.T) {
	t.Parallel()
	s := fake.New("vch-1", "default", volume.VMDK)
	user := volume.User{Name: "worker-1", VM: "vm-1"}
	s.Attach(user, "a", "b")
	s.Attach(user, "c")
	want := func(names ...string) {
		t.Helper()
		users, err := s.Users(t.Context(), "a", "b", "c")
		if err != nil || len(users) != len(names) {
			t.Errorf("users are %v, %v, want those of %v", users, err, names)
		}
		for _, name := range names {
			if !slices.Equal(users[name], []volume.User{user}) {
				t.Errorf("users of %s are %v", name, users[name])
			}
		}
	}
	want("a", "b", "c")
	s.Detach("vm-1", "a", "x")
	want("b", "c")
	s.Detach("vm-2")
	want("b", "c")
	s.Detach("vm-1")
	want()
}

func TestADamagedVolumeKeepsWhatIsKnownOfIt(t *testing.T) {
	t.Parallel()
	s := fake.New("vch-1", "default", volume.VMDK)
	r := request()
	r.Metadata.Labels = map[string]string{volume.LabelCreated: "2026-05-06T07:08:09Z"}
	made, err := s.Create(t.Context(), r)
	if err != nil || !made.Created.Equal(time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)) {
		t.Fatalf("%+v, %v", made, err)
	}
	s.Write("data", "precious")
	s.Damage("data", "it is strange")
	got, err := s.Get(t.Context(), "data")
	if err != nil || got.Damage != "it is strange" || !got.Created.Equal(made.Created) {
		t.Errorf("%+v, %v", got, err)
	}
	if text, ok := s.Read("data"); !ok || text != "precious" {
		t.Errorf("it holds %q, %v", text, ok)
	}
	if _, ok := s.Read("other"); ok {
		t.Error("what is not there can be read")
	}
}
