// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	machinev1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/locations"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// TestVolumesOutliveTheirMachines rolls out deployments whose machines have volumes,
// with real file systems on them: one volume that each machine hands to the next, one for
// each machine, and anonymous ones.
func TestVolumesOutliveTheirMachines(t *testing.T) {
	t.Parallel()
	inBothModes(t, volumesOutlive)
}

// note is what machines write on their volumes.
const note = "written by a machine that is no more\n"

func volumesOutlive(t *testing.T, m mode) {
	const (
		heir = "heir-deployment" // one machine hands its volume to the next
		own  = "own-deployment"  // each machine has its own
	)
	w := &volumes{dir: t.TempDir()}
	w.Stack = install(t, m.namespace("volumes"), m.options(stack.Options{VCHSimArgs: []string{"--dir=" + w.dir}}))
	setup(t, w.Stack)
	w.connect(t)
	ctx := t.Context()
	w.classes(t, heir, "heritage:/data", "/scratch")
	w.classes(t, own, "own-{machine}:/data:nocopy")
	before := w.names(t)
	w.deploy(t, heir, 1, intstr.FromInt32(0), intstr.FromInt32(1))
	w.deploy(t, own, 2, intstr.FromInt32(1), intstr.FromInt32(0))
	eventually(t, w.Stack, "all machines are there", func(g gomega.Gomega) {
		available(ctx, w.Stack, heir, 1)(g)
		available(ctx, w.Stack, own, 2)(g)
	})
	first := w.names(t)
	if len(first) != len(before)+4 {
		t.Fatalf("volumes %v, there were %v: want a handed down one, two own and an anonymous one more", first, before)
	}
	for _, name := range first {
		if !slices.Contains(before, name) {
			w.write(t, name)
		}
	}
	w.rivalIsRefused(t, heir)

	for _, name := range []string{heir, own} {
		changeDeployment(ctx, t, w.Stack, name, func(d *machinev1.MachineDeployment) { d.Spec.Template.Spec.Class.Name = name + "-2" })
	}
	eventually(t, w.Stack, "all machines are of the second class", func(g gomega.Gomega) {
		available(ctx, w.Stack, heir, 1)(g)
		available(ctx, w.Stack, own, 2)(g)
		for _, name := range []string{heir, own} {
			for _, m := range machinesOf(ctx, g, w.Stack, name) {
				g.Expect(m.Spec.Class.Name).To(gomega.Equal(name + "-2"))
			}
		}
	})
	w.nothingNamedIsLost(t, before, first)
	if users := w.users(t, "heritage"); len(users) != 1 {
		t.Errorf("the volume that is handed down has users %v", users)
	}

	for _, name := range []string{heir, own} {
		changeDeployment(ctx, t, w.Stack, name, func(d *machinev1.MachineDeployment) { d.Spec.Replicas = 0 })
	}
	eventually(t, w.Stack, "no machine is left", func(g gomega.Gomega) {
		g.Expect(machinesOf(ctx, g, w.Stack, heir)).To(gomega.BeEmpty())
		g.Expect(machinesOf(ctx, g, w.Stack, own)).To(gomega.BeEmpty())
	})
	w.nothingNamedIsLost(t, before, first)
	w.onlyNamedOnesAreLeft(t, before)
}

// volumes is an installation with the volume stores of its VCH.
type volumes struct {
	*stack.Stack
	dir    string
	stores *volume.Set
}

func (w *volumes) connect(t *testing.T) {
	t.Helper()
	client := connect(t, w.Stack)
	host, err := vch.Find(t.Context(), client, v1alpha1.VirtualContainerHost{Datacenter: w.VCenter().Datacenter, Name: w.VCenter().VCH})
	if err != nil {
		t.Fatal(err)
	}
	w.stores = locations.Open(locations.Options{Client: client, Host: host})
}

// connect logs in to the vCenter of an installation with what its Secret says.
func connect(t *testing.T, s *stack.Stack) *vcenter.Client {
	t.Helper()
	secret := map[string][]byte{}
	for k, v := range s.VCenter().Secret {
		secret[k] = []byte(v)
	}
	cfg, err := vcenter.ConfigFromSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	pool := vcenter.NewPool(vcenter.Options{})
	t.Cleanup(func() { _ = pool.Close(context.WithoutCancel(t.Context())) })
	client, err := pool.Client(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// classes applies two classes whose machines have volumes. The second has machines
// with more memory.
func (w *volumes) classes(t *testing.T, name string, binds ...string) {
	t.Helper()
	samples, err := w.Samples()
	if err != nil {
		t.Fatal(err)
	}
	list := []any{}
	for _, bind := range binds {
		list = append(list, bind)
	}
	first := samples["MachineClass"]
	first.SetName(name + "-1")
	if err := unstructured.SetNestedSlice(first.Object, list, "providerSpec", "volumes"); err != nil {
		t.Fatal(err)
	}
	second := first.DeepCopy()
	second.SetName(name + "-2")
	if err := unstructured.SetNestedField(second.Object, secondMemory, "providerSpec", "memory"); err != nil {
		t.Fatal(err)
	}
	if err := w.Apply(t.Context(), first, second); err != nil {
		t.Fatal(err)
	}
}

func (w *volumes) deploy(t *testing.T, name string, replicas int32, surge, unavailable intstr.IntOrString) {
	t.Helper()
	d := machineDeployment(name, replicas)
	d.Spec.Template.Spec.Class.Name = name + "-1"
	d.Spec.Strategy.RollingUpdate.UpdateConfiguration = machinev1.UpdateConfiguration{MaxSurge: &surge, MaxUnavailable: &unavailable}
	if _, err := w.Machines.MachineDeployments(w.Namespace()).Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// names are those of all volumes; a damaged one is an error.
func (w *volumes) names(t *testing.T) []string {
	t.Helper()
	list, err := w.stores.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range list {
		if v.Damage != "" {
			t.Errorf("volume %s is damaged: %s", v.Name, v.Damage)
		}
		names = append(names, v.Name)
	}
	return names
}

func (w *volumes) users(t *testing.T, name string) []volume.User {
	t.Helper()
	users, err := w.stores.Users(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return users[name]
}

// disk is the file with the file system of a volume.
func (w *volumes) disk(t *testing.T, name string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(w.dir, "*", "datastores", vchsim.Datastore, "*", "volumes", name, name+"-flat.vmdk"))
	if err != nil || len(found) != 1 {
		t.Fatalf("files of volume %s: %v, %v", name, found, err)
	}
	return found[0]
}

// write puts a file on a volume, where a guest has it at the mount point.
func (w *volumes) write(t *testing.T, name string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "note")
	if err := os.WriteFile(file, []byte(note), 0o600); err != nil {
		t.Fatal(err)
	}
	w.debugfs(t, "-w", "-R", "write "+file+" /.vic.vol.data/note", w.disk(t, name))
}

func (w *volumes) debugfs(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "debugfs", args...).Output()
	if err != nil {
		t.Fatalf("debugfs %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// nothingNamedIsLost expects each named volume of old, with what was written on it
// and a clean file system.
func (w *volumes) nothingNamedIsLost(t *testing.T, before, old []string) {
	t.Helper()
	for _, name := range old {
		if slices.Contains(before, name) || !strings.HasPrefix(name, "own-") && name != "heritage" {
			continue
		}
		if found := w.debugfs(t, "-R", "cat /.vic.vol.data/note", w.disk(t, name)); found != note {
			t.Errorf("on volume %s is %q", name, found)
		}
		if out, err := exec.CommandContext(t.Context(), "e2fsck", "-fn", w.disk(t, name)).CombinedOutput(); err != nil {
			t.Errorf("check volume %s: %v\n%s", name, err, out)
		}
	}
}

// onlyNamedOnesAreLeft expects no anonymous volume, nobody who has one of the others, and
// that these can be removed.
func (w *volumes) onlyNamedOnesAreLeft(t *testing.T, before []string) {
	t.Helper()
	left := slices.DeleteFunc(w.names(t), func(name string) bool { return slices.Contains(before, name) })
	if len(left) != 5 {
		t.Errorf("volumes %v are left: want the one that is handed down and four of machines", left)
	}
	for _, name := range left {
		if !strings.HasPrefix(name, "own-") && name != "heritage" {
			t.Errorf("volume %s is left", name)
		}
		if users := w.users(t, name); len(users) > 0 {
			t.Errorf("volume %s has users %v", name, users)
		}
		if err := w.stores.Remove(t.Context(), "", name); err != nil {
			t.Error(err)
		}
	}
}

// rivalIsRefused wants a volume that another machine has, and tells who that is.
func (w *volumes) rivalIsRefused(t *testing.T, class string) {
	t.Helper()
	const name = "rival-machine"
	ctx, machines := t.Context(), w.Machines.Machines(w.Namespace())
	holder := w.users(t, "heritage")
	if len(holder) != 1 {
		t.Fatalf("the volume has users %v", holder)
	}
	rival := machine(name)
	rival.Spec.Class.Name = class + "-1"
	if _, err := machines.Create(ctx, rival, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, w.Stack, "the machine says who has its volume", func(g gomega.Gomega) {
		found, err := machines.Get(ctx, name, metav1.GetOptions{})
		g.Expect(err).NotTo(gomega.HaveOccurred())
		g.Expect(found.Status.LastOperation.Description).To(gomega.And(gomega.ContainSubstring("heritage"), gomega.ContainSubstring(holder[0].Name)))
		g.Expect(found.Status.LastOperation.ErrorCode).To(gomega.Equal(string(errdefs.FailedPrecondition)))
	})
	if err := machines.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, w.Stack, "the machine is gone", func(g gomega.Gomega) {
		_, err := machines.Get(ctx, name, metav1.GetOptions{})
		g.Expect(apierrors.IsNotFound(err)).To(gomega.BeTrue(), "machine: %v", err)
	})
	if users := w.users(t, "heritage"); len(users) != 1 || users[0] != holder[0] {
		t.Errorf("the volume has users %v, had %v", users, holder)
	}
}
