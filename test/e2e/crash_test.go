// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"testing"

	machinev1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
)

// TestACrashLosesNothing kills both controllers while machines start, and all
// processes of the Pod while they go. A driver of its own lives through the first
// of the two: it meets a controller that has forgotten what it had asked for.
func TestACrashLosesNothing(t *testing.T) {
	t.Parallel()
	inBothModes(t, crash)
}

func crash(t *testing.T, m mode) {
	const (
		name  = "crashed-deployment"
		count = 3
	)
	s := install(t, m.namespace("crashing"), m.options(stack.Options{Image: true, VCHSimArgs: []string{"--guest-delay=3s"}}))
	setup(t, s)
	ctx, vcenter := t.Context(), s.VCenter()
	before, err := vcenter.Inventory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Machines.MachineDeployments(s.Namespace()).Create(ctx, machineDeployment(name, count), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	restart := func(others func()) {
		s.StopControllers()
		others()
		if err := s.StartControllers(ctx); err != nil {
			t.Fatal(err)
		}
	}
	ours := func(g gomega.Gomega) int {
		now, err := vcenter.Inventory(ctx)
		g.Expect(err).NotTo(gomega.HaveOccurred())
		return len(now.VMs) - len(before.VMs)
	}
	eventually(t, s, "the first VM is there", func(g gomega.Gomega) { g.Expect(ours(g)).To(gomega.BeNumerically(">", 0)) })
	restart(func() {})
	eventually(t, s, "there are as many machines and VMs as there should be", func(g gomega.Gomega) {
		available(ctx, s, name, count)(g)
		g.Expect(ours(g)).To(gomega.Equal(count))
	})
	changeDeployment(ctx, t, s, name, func(d *machinev1.MachineDeployment) { d.Spec.Replicas = 0 })
	eventually(t, s, "a VM is being removed or gone", func(g gomega.Gomega) {
		now, err := vcenter.Inventory(ctx)
		g.Expect(err).NotTo(gomega.HaveOccurred())
		running := 0
		for _, m := range machinesOf(ctx, g, s, name) {
			if vm, found := now.VM(m.Spec.ProviderID); found && vm.PowerState == "poweredOn" {
				running++
			}
		}
		g.Expect(running).To(gomega.BeNumerically("<", count))
	})
	restart(s.KillDriver)
	eventually(t, s, "no machine is left, and the vCenter is as it was before", func(g gomega.Gomega) {
		g.Expect(machinesOf(ctx, g, s, name)).To(gomega.BeEmpty())
		now, err := vcenter.Inventory(ctx)
		g.Expect(err).NotTo(gomega.HaveOccurred())
		g.Expect(before.Equal(now.WithoutImageDisks())).To(gomega.Succeed())
	})
}
