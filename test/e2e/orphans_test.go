// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"testing"

	machinev1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// TestOnlyTrueOrphansDie loses the objects of two machines while their VMs run, in
// a vCenter full of VMs that are not ours. One of the two has the same name as
// machines of another cluster and of another VCH.
func TestOnlyTrueOrphansDie(t *testing.T) {
	t.Parallel()
	inBothModes(t, trueOrphans)
}

func trueOrphans(t *testing.T, m mode) {
	const keeper = "machine-that-stays"
	orphans := []string{vchsim.TwinMachine, "machine-without-object"}

	s := install(t, m.namespace("orphans"), m.options(stack.Options{VCHSimArgs: []string{"--vms=50", "--docker-containers=5"}}))
	setup(t, s)
	ctx, vcenter, machines := t.Context(), s.VCenter(), s.Machines.Machines(s.Namespace())
	empty, err := vcenter.Inventory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := machines.Create(ctx, machine(keeper), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, "the machine that stays is available", availableMachine(ctx, s, keeper))
	before, err := vcenter.Inventory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range orphans {
		if _, err := machines.Create(ctx, machine(name), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	ids := map[string]string{}
	for _, name := range orphans {
		eventually(t, s, name+" is available", availableMachine(ctx, s, name))
		found, err := machines.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ids[name] = found.Spec.ProviderID
	}

	// Nobody may see the objects go, or it would be a deletion like any other.
	s.StopControllers()
	for _, name := range orphans {
		forget(ctx, t, s, name)
	}
	inventory, err := vcenter.Inventory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for name, id := range ids {
		if _, found := inventory.VM(id); !found {
			t.Fatalf("the VM of %s is gone before anyone could collect it", name)
		}
	}
	if err := s.StartControllers(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, "the orphans are gone and nothing else has changed", func(g gomega.Gomega) {
		after, err := vcenter.Inventory(ctx)
		g.Expect(err).NotTo(gomega.HaveOccurred())
		g.Expect(before.Equal(after)).To(gomega.Succeed())
	})
	eventually(t, s, "the machine that stays is still available", availableMachine(ctx, s, keeper))

	if err := machines.Delete(ctx, keeper, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, "the last machine is gone, and all that is foreign is there", func(g gomega.Gomega) {
		_, err := machines.Get(ctx, keeper, metav1.GetOptions{})
		g.Expect(apierrors.IsNotFound(err)).To(gomega.BeTrue(), "machine: %v", err)
		after, err := vcenter.Inventory(ctx)
		g.Expect(err).NotTo(gomega.HaveOccurred())
		g.Expect(empty.Equal(after)).To(gomega.Succeed())
	})
}

func availableMachine(ctx context.Context, s *stack.Stack, name string) func(gomega.Gomega) {
	return func(g gomega.Gomega) {
		found, err := s.Machines.Machines(s.Namespace()).Get(ctx, name, metav1.GetOptions{})
		g.Expect(err).NotTo(gomega.HaveOccurred())
		g.Expect(found.Status.CurrentStatus.Phase).To(gomega.Equal(machinev1.MachineAvailable), found.Status.LastOperation.Description)
	}
}

// forget removes the object of a machine and leaves its VM alone.
func forget(ctx context.Context, t *testing.T, s *stack.Stack, name string) {
	t.Helper()
	machines := s.Machines.Machines(s.Namespace())
	noFinalizers := []byte(`{"metadata":{"finalizers":null}}`)
	if _, err := machines.Patch(ctx, name, types.MergePatchType, noFinalizers, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := machines.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := machines.Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("the machine %s is still there: %v", name, err)
	}
}
