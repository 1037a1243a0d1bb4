// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere_test

import (
	"context"
	"strings"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/fake"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// alone is a set with one store in memory, which is the default store.
func alone(store *fake.Store) func(*vcenter.Client, *vch.Config) *volume.Set {
	return func(_ *vcenter.Client, host *vch.Config) *volume.Set {
		return volume.NewSet(host.Name, map[string]volume.Store{volume.DefaultStore: store})
	}
}

func TestNFSVolumesAreForManyMachinesAndNobodyIsAskedWhoHasThem(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{NoForeign: true})
	store := fake.New(w.Host.Name, volume.DefaultStore, volume.NFS)
	store.Intercept(func(_ context.Context, step string, do func() error) error {
		if step == fake.StepUsers {
			t.Error("it was asked who has NFS volumes")
		}
		return do()
	})
	s := w.backend(alone(store))
	spec := w.with(v1alpha1.Volume{Name: "shared", MountPath: "/shared"}, v1alpha1.Volume{MountPath: "/cache"})
	for _, machine := range []string{"machine-x", "machine-y"} {
		if _, err := s.CreateMachine(t.Context(), machine, spec, w.Secret()); err != nil {
			t.Fatal(err)
		}
	}
	store.Intercept(nil)
	if _, err := s.DeleteMachine(t.Context(), "machine-x", "", spec, w.Secret()); err != nil {
		t.Fatal(err)
	}
	volumes, err := store.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, v := range volumes {
		names[v.Name] = true
	}
	if len(names) != 2 || !names["shared"] || !names[w.own("machine-y", "/cache")] {
		t.Errorf("volumes = %v, want the shared one and the other machine's", names)
	}
}

func TestAReadOnlyNFSVolumeIsRefusedWithTheField(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{NoForeign: true})
	store := fake.New(w.Host.Name, volume.DefaultStore, volume.NFS)
	spec := w.with(v1alpha1.Volume{Name: "shared", MountPath: "/shared", Mode: v1alpha1.VolumeReadOnly})
	_, err := w.backend(alone(store)).CreateMachine(t.Context(), "machine-x", spec, w.Secret())
	w.refused("create", err, errdefs.InvalidArgument, "volumes[0]")
	if len(w.Machines()) != 0 {
		t.Errorf("machines = %v", w.Machines())
	}
}

func TestAVMOfWhichVCenterKnowsNothingIsNoReasonToRefuseAMachine(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{NoForeign: true})
	store := fake.New(w.Host.Name, volume.DefaultStore, volume.VMDK)
	store.Attach(volume.User{Name: "lost", VM: "vm-0", Unproven: true})
	spec := w.with(v1alpha1.Volume{Name: "data", MountPath: "/data"})
	_, err := w.backend(alone(store)).CreateMachine(t.Context(), "machine-x", spec, w.Secret())
	if err == nil || strings.Contains(err.Error(), "held") || !strings.Contains(err.Error(), "create VM") {
		t.Errorf("create = %v, want it to come as far as the VM, for which the disk is missing", err)
	}
}

func TestThatSomethingOfAVolumeIsNotFoundDoesNotSayThatTheMachineIsAbsent(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{NoForeign: true})
	store := fake.New(w.Host.Name, volume.DefaultStore, volume.NFS)
	store.Intercept(func(_ context.Context, step string, do func() error) error {
		if step == fake.StepPrepare {
			return errdefs.New(errdefs.NotFound, "a part of the store is missing")
		}
		return do()
	})
	_, err := w.backend(alone(store)).CreateMachine(t.Context(), "machine-x", w.with(v1alpha1.Volume{Name: "data", MountPath: "/data"}), w.Secret())
	w.refused("create", err, errdefs.Aborted, "volumes[0]", "missing")
}
