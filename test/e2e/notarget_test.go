// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"testing"
	"time"

	machinev1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
)

func TestMachinesWithoutATargetCluster(t *testing.T) {
	t.Parallel()
	inBothModes(t, withoutTarget)
}

// withoutTarget lets a driver of its own be the only one that knows how to reach
// the vCenter.
func withoutTarget(t *testing.T, m mode) {
	s := install(t, m.namespace("no-target"), m.options(stack.Options{OwnCredentials: m.sidecar}))
	setup(t, s)
	if m.sidecar {
		holdsUserDataOnly(t, s)
	}
	vcenter := s.VCenter()
	before, err := vcenter.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("group", func(t *testing.T) {
		t.Run("a Machine becomes available with its addresses", func(t *testing.T) { t.Parallel(); addressedMachine(t, s) })
		t.Run("a MachineDeployment rolls", func(t *testing.T) { t.Parallel(); rolledWithoutNodes(t, s) })
	})
	t.Run("afterwards the vCenter is as it was before", func(t *testing.T) {
		after, err := vcenter.Inventory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := before.Equal(after); err != nil {
			t.Error(err)
		}
	})
	t.Run("the driver has one session and logs it out when it is asked to end", func(t *testing.T) { oneSession(t, s) })
	t.Run("the service account of the manifests had all the rights that it needed", func(t *testing.T) {
		for _, event := range refused(t, s.Cluster(), "system:serviceaccount:"+s.Namespace()+":") {
			t.Errorf("refused: %s", event)
		}
	})
}

// holdsUserDataOnly expects that the controllers cannot read credentials from any
// Secret that they see.
func holdsUserDataOnly(t *testing.T, s *stack.Stack) {
	t.Helper()
	secrets, err := s.Kube.CoreV1().Secrets(s.Namespace()).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range secrets.Items {
		for key := range secrets.Items[i].Data {
			if key != v1alpha1.SecretUserData {
				t.Errorf("the Secret %s has the key %s", secrets.Items[i].Name, key)
			}
		}
	}
	if len(secrets.Items) == 0 {
		t.Error("no Secret at all")
	}
}

func addressedMachine(t *testing.T, s *stack.Stack) {
	const name = "addressed-machine"
	ctx, machines := t.Context(), s.Machines.Machines(s.Namespace())
	if _, err := machines.Create(ctx, machine(name), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, "the machine is available and has addresses", func(g gomega.Gomega) {
		found, err := machines.Get(ctx, name, metav1.GetOptions{})
		g.Expect(err).NotTo(gomega.HaveOccurred())
		g.Expect(found.Status.CurrentStatus.Phase).To(gomega.Equal(machinev1.MachineAvailable), found.Status.LastOperation.Description)
		types := map[corev1.NodeAddressType]bool{}
		for _, address := range found.Status.Addresses {
			types[address.Type] = true
		}
		g.Expect(types).To(gomega.And(gomega.HaveKey(corev1.NodeInternalIP), gomega.HaveKey(corev1.NodeHostName)))
	})
	if err := machines.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, "the machine is gone", func(g gomega.Gomega) {
		_, err := machines.Get(ctx, name, metav1.GetOptions{})
		g.Expect(apierrors.IsNotFound(err)).To(gomega.BeTrue(), "machine: %v", err)
	})
}

func rolledWithoutNodes(t *testing.T, s *stack.Stack) {
	const name = "nodeless-deployment"
	ctx, deployments := t.Context(), s.Machines.MachineDeployments(s.Namespace())
	if _, err := deployments.Create(ctx, machineDeployment(name, 1), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, "1 machine is available", available(ctx, s, name, 1))
	changeDeployment(ctx, t, s, name, func(d *machinev1.MachineDeployment) { d.Spec.Replicas = 3 })
	eventually(t, s, "3 machines are available", available(ctx, s, name, 3))
	changeDeployment(ctx, t, s, name, func(d *machinev1.MachineDeployment) { d.Spec.Template.Spec.Class.Name = secondClass })
	eventually(t, s, "all 3 machines are of the second class", rolledOut(ctx, s, name, 3))
	changeDeployment(ctx, t, s, name, func(d *machinev1.MachineDeployment) { d.Spec.Replicas = 0 })
	eventually(t, s, "no machine is left", available(ctx, s, name, 0))
	if err := deployments.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, "the deployment is gone", func(g gomega.Gomega) {
		_, err := deployments.Get(ctx, name, metav1.GetOptions{})
		g.Expect(apierrors.IsNotFound(err)).To(gomega.BeTrue(), "deployment: %v", err)
	})
}

// oneSession ends the driver's process. If that is not the machine-controller, the
// latter goes on without it.
func oneSession(t *testing.T, s *stack.Stack) {
	vcenter := s.VCenter()
	count := func() int {
		n, err := vcenter.Sessions(t.Context(), version.Name)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := count(); n != 1 {
		t.Errorf("the driver has %d sessions, want one", n)
	}
	for _, p := range s.Processes() {
		if p.Name() == s.DriverProcess() {
			p.Stop(30 * time.Second)
		}
	}
	if n := count(); n != 0 {
		t.Errorf("%d sessions are left after the %s ended, want none", n, s.DriverProcess())
	}
	for _, p := range s.Processes() {
		if err := p.Err(); err != nil && p.Name() != s.DriverProcess() {
			t.Error(err)
		}
	}
}
