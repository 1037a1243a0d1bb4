// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"testing"

	machinev1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/util/retry"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
)

// classes are the names of the machine classes that every installation has. The
// second one has machines with more memory.
const (
	firstClass  = "first-class"
	secondClass = "second-class"
)

// secondMemory is the memory of a machine of the second class.
const (
	secondMemory   = "3Gi"
	secondMemoryMB = 3 * 1024
)

// setup applies the Secret and the two classes, made of the samples.
func setup(t *testing.T, s *stack.Stack) {
	t.Helper()
	samples, err := s.Samples()
	if err != nil {
		t.Fatal(err)
	}
	first := samples["MachineClass"]
	first.SetName(firstClass)
	second := first.DeepCopy()
	second.SetName(secondClass)
	if err := unstructured.SetNestedField(second.Object, secondMemory, "providerSpec", "memory"); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(t.Context(), samples["Secret"], first, second); err != nil {
		t.Fatal(err)
	}
}

func machine(name string) *machinev1.Machine {
	return &machinev1.Machine{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       machinev1.MachineSpec{Class: machinev1.ClassSpec{Kind: "MachineClass", Name: firstClass}},
	}
}

// template is the template of a set's or a deployment's machines.
func template(name string) (*metav1.LabelSelector, machinev1.MachineTemplateSpec) {
	labels := map[string]string{"belongs-to": name}
	return &metav1.LabelSelector{MatchLabels: labels}, machinev1.MachineTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec:       machinev1.MachineSpec{Class: machinev1.ClassSpec{Kind: "MachineClass", Name: firstClass}},
	}
}

func machineSet(name string, replicas int32) *machinev1.MachineSet {
	selector, machines := template(name)
	return &machinev1.MachineSet{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       machinev1.MachineSetSpec{Replicas: replicas, Selector: selector, Template: machines},
	}
}

func scaleSet(ctx context.Context, t *testing.T, s *stack.Stack, name string, replicas int32) {
	t.Helper()
	sets := s.Machines.MachineSets(s.Namespace())
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		set, err := sets.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		set.Spec.Replicas = replicas
		_, err = sets.Update(ctx, set, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		t.Fatalf("scale the set %s to %d: %v", name, replicas, err)
	}
}

func changeDeployment(ctx context.Context, t *testing.T, s *stack.Stack, name string, change func(*machinev1.MachineDeployment)) {
	t.Helper()
	deployments := s.Machines.MachineDeployments(s.Namespace())
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		deployment, err := deployments.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(deployment)
		_, err = deployments.Update(ctx, deployment, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		t.Fatalf("change the deployment %s: %v", name, err)
	}
}

// machinesOf lists the machines of a set or a deployment.
func machinesOf(ctx context.Context, g gomega.Gomega, s *stack.Stack, name string) []machinev1.Machine {
	list, err := s.Machines.Machines(s.Namespace()).List(ctx, metav1.ListOptions{LabelSelector: "belongs-to=" + name})
	g.Expect(err).NotTo(gomega.HaveOccurred())
	return list.Items
}

// machineDeployment rolls out with up to two machines more than it needs, and
// never with fewer.
func machineDeployment(name string, replicas int32) *machinev1.MachineDeployment {
	selector, machines := template(name)
	two, none := intstr.FromInt32(2), intstr.FromInt32(0)
	return &machinev1.MachineDeployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: machinev1.MachineDeploymentSpec{
			Replicas: replicas, Selector: selector, Template: machines,
			Strategy: machinev1.MachineDeploymentStrategy{
				Type: machinev1.RollingUpdateMachineDeploymentStrategyType,
				RollingUpdate: &machinev1.RollingUpdateMachineDeployment{
					UpdateConfiguration: machinev1.UpdateConfiguration{MaxSurge: &two, MaxUnavailable: &none},
				},
			},
		},
	}
}
