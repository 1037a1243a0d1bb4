// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	machinev1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// deployment is the name of the deployment of a run; belongsTo the label of its machines.
const (
	deployment = "chaos"
	belongsTo  = "belongs-to"
)

// specOf is the provider spec of a simulated VCH as the samples want it.
func specOf(sim *vchsim.Sim) (map[string]any, error) {
	encoded, err := json.Marshal(sim.ProviderSpec())
	if err != nil {
		return nil, fmt.Errorf("encode the provider spec: %w", err)
	}
	var spec map[string]any
	if err := json.Unmarshal(encoded, &spec); err != nil {
		return nil, fmt.Errorf("decode the provider spec: %w", err)
	}
	return spec, nil
}

// deploy makes the deployment.
func (w *World) deploy(ctx context.Context, machines int) error {
	labels := map[string]string{belongsTo: deployment}
	one := intstr.FromInt32(1)
	_, err := w.Stack.Machines.MachineDeployments(w.Stack.Namespace()).Create(ctx, &machinev1.MachineDeployment{
		ObjectMeta: metav1.ObjectMeta{Name: deployment},
		Spec: machinev1.MachineDeploymentSpec{
			Replicas: int32(machines),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: machinev1.MachineTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       machinev1.MachineSpec{Class: machinev1.ClassSpec{Kind: "MachineClass", Name: className}},
			},
			Strategy: machinev1.MachineDeploymentStrategy{
				Type: machinev1.RollingUpdateMachineDeploymentStrategyType,
				RollingUpdate: &machinev1.RollingUpdateMachineDeployment{
					UpdateConfiguration: machinev1.UpdateConfiguration{MaxSurge: &one, MaxUnavailable: &one},
				},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("make the deployment: %w", err)
	}
	return nil
}

// scale changes the number of machines.
func (w *World) scale(ctx context.Context, machines int) error {
	err := untilItWorks(ctx, func(ctx context.Context) error {
		deployments := w.Stack.Machines.MachineDeployments(w.Stack.Namespace())
		found, err := deployments.Get(ctx, deployment, metav1.GetOptions{})
		if err != nil {
			return err
		}
		found.Spec.Replicas = int32(machines)
		_, err = deployments.Update(ctx, found, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("scale the deployment to %d: %w", machines, err)
	}
	return nil
}

func (w *World) machines(ctx context.Context) ([]machinev1.Machine, error) {
	list, err := w.Stack.Machines.Machines(w.Stack.Namespace()).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the machines: %w", err)
	}
	return list.Items, nil
}

// whole is nil when there are exactly so many machines, all are well, each has a VM of
// its own that is on, there is no VM more than before, and, if machines join, as many
// nodes are ready and no other is there.
func (w *World) whole(ctx context.Context, before *stack.Inventory, count int) error {
	machines, err := w.machines(ctx)
	if err != nil {
		return err
	}
	var errs []error
	if len(machines) != count {
		errs = append(errs, fmt.Errorf("%d machines, want %d", len(machines), count))
	}
	want := machinev1.MachineAvailable
	if w.Stack.Joins() {
		want = machinev1.MachineRunning
	}
	for i := range machines {
		if m := &machines[i]; m.Status.CurrentStatus.Phase != want || m.DeletionTimestamp != nil {
			errs = append(errs, fmt.Errorf("%s is %s: %s", m.Name, m.Status.CurrentStatus.Phase, m.Status.LastOperation.Description))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return errors.Join(w.eachHasItsVM(ctx, before, machines), w.nodesAre(ctx, machines))
}

func (w *World) eachHasItsVM(ctx context.Context, before *stack.Inventory, machines []machinev1.Machine) error {
	now, err := w.Inventory(ctx)
	if err != nil {
		return err
	}
	var errs []error
	used := map[string]string{}
	for i := range machines {
		vm, found := now.VM(machines[i].Spec.ProviderID)
		switch {
		case !found:
			errs = append(errs, fmt.Errorf("%s has no VM, provider id %q", machines[i].Name, machines[i].Spec.ProviderID))
		case vm.PowerState != "poweredOn":
			errs = append(errs, fmt.Errorf("the VM of %s is %s", machines[i].Name, vm.PowerState))
		case used[vm.Ref] != "":
			errs = append(errs, fmt.Errorf("%s and %s share %s", machines[i].Name, used[vm.Ref], vm.Ref))
		}
		used[vm.Ref] = machines[i].Name
	}
	if ours := len(now.VMs) - len(before.VMs); ours != len(machines) {
		errs = append(errs, fmt.Errorf("%d VMs for %d machines", ours, len(machines)))
	}
	return errors.Join(errs...)
}

func (w *World) nodesAre(ctx context.Context, machines []machinev1.Machine) error {
	if !w.Stack.Joins() {
		return nil
	}
	nodes, err := w.Stack.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the nodes: %w", err)
	}
	ready := 0
	for i := range nodes.Items {
		for _, condition := range nodes.Items[i].Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				ready++
			}
		}
	}
	if len(nodes.Items) != len(machines) || ready != len(machines) {
		return fmt.Errorf("%d nodes, %d of them ready, for %d machines", len(nodes.Items), ready, len(machines))
	}
	return nil
}

// clean is nil when no machine and no node is left and the vCenter is as it was before.
func (w *World) clean(ctx context.Context, before *stack.Inventory) error {
	machines, err := w.machines(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for i := range machines {
		errs = append(errs, fmt.Errorf("%s is still there: %s", machines[i].Name, machines[i].Status.LastOperation.Description))
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	now, err := w.Inventory(ctx)
	if err != nil {
		return err
	}
	return errors.Join(before.Equal(now.WithoutImageDisks()), w.nodesAre(ctx, nil))
}

// until repeats check until it passes, and says how long that took.
func until(ctx context.Context, patience time.Duration, check func(context.Context) error) (time.Duration, error) {
	start := time.Now()
	last := errors.New("it was not looked at")
	err := wait.PollUntilContextTimeout(ctx, 300*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		if err := check(ctx); err != nil {
			if ctx.Err() == nil {
				last = err
			}
			return false, nil
		}
		return true, nil
	})
	if err != nil {
		return time.Since(start), fmt.Errorf("%w after %.0f s: %w", err, time.Since(start).Seconds(), last)
	}
	return time.Since(start), nil
}
