// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/fake"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/nfs"
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

func TestMachinesShareAVolumeOfARealNFSServer(t *testing.T) {
	t.Parallel()
	server, err := nfs.Serve(nfs.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	w := newSite(t, vchsim.Options{NoForeign: true, NFS: server.URL().String()})
	spec := w.with(
		v1alpha1.Volume{Name: "shared", MountPath: "/shared", Store: vchsim.NFSStore},
		v1alpha1.Volume{MountPath: "/scratch", Store: vchsim.NFSStore},
	)
	there := func() []string {
		entries, err := os.ReadDir(filepath.Join(server.Dir(), "volumes"))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	for _, machine := range []string{"machine-x", "machine-y"} {
		w.create(machine, spec)
		if _, _, err := w.SPI().InitializeMachine(t.Context(), machine, "", spec, w.Secret()); err != nil {
			t.Fatal(err)
		}
		mounts := w.Sim.Mounted(machine)
		want := vchsim.Mount{
			Volume: "shared", Source: "nfs://127.0.0.1" + server.Export() + "/volumes/shared",
			Mode: "vers=3,rsize=131072,wsize=131072,hard,proto=tcp,timeo=600,sec=sys,mountvers=3,mountproto=tcp,nolock,addr=127.0.0.1",
		}
		if diff := cmp.Diff(want, mounts["/shared"], cmpopts.IgnoreUnexported(vchsim.Mount{})); diff != "" || mounts["/scratch"].Volume != w.own(machine, "/scratch") {
			t.Errorf("%s has mounted %v, shared (-want +got):\n%s", machine, mounts, diff)
		}
	}
	note := filepath.Join(server.Dir(), "volumes", "shared", "note")
	if err := os.WriteFile(note, []byte("of a machine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if names := there(); len(names) != 3 {
		t.Errorf("volumes = %v", names)
	}
	w.remove("machine-x", spec)
	if names := there(); len(names) != 2 || slices.Contains(names, w.own("machine-x", "/scratch")) {
		t.Errorf("volumes = %v after one machine went", names)
	}
	w.remove("machine-y", spec)
	if content, err := os.ReadFile(note); len(there()) != 1 || string(content) != "of a machine" {
		t.Errorf("volumes = %v after both went, with %q, %v", there(), content, err)
	}
}
