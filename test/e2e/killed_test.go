// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"slices"
	"testing"
	"time"

	machinev1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"github.com/google/go-cmp/cmp"
	"github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
)

// TestAKilledDriverLosesNothing kills the driver again and again while it makes,
// lists and removes a hundred machines. Nobody else is ever restarted.
func TestAKilledDriverLosesNothing(t *testing.T) {
	t.Parallel()
	const (
		name  = "killed-set"
		count = 100
	)
	// Calls take long without using the processor, so that every kill meets many of them.
	s := install(t, "killing", stack.Options{Sidecar: true, OwnCredentials: true, VCHSimArgs: []string{"--guest-delay=3s", "--latency=200ms"}})
	setup(t, s)
	ctx, vcenter := t.Context(), s.VCenter()
	before, err := vcenter.Inventory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	processes := others(s)
	k := &killer{s: s, calls: map[string]int{}}

	start := time.Now()
	if _, err := s.Machines.MachineSets(s.Namespace()).Create(ctx, machineSet(name, count), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var first []types.UID
	eventually(t, s, "all objects are there", func(g gomega.Gomega) {
		first = uids(machinesOf(ctx, g, s, name))
		g.Expect(first).To(gomega.HaveLen(count))
	})
	for _, made := range []int{10, 50} {
		k.kill(t, "CreateMachine", func(g gomega.Gomega, calls stack.Calls) {
			underWay(5)(g, calls)
			g.Expect(withVM(machinesOf(ctx, g, s, name))).To(gomega.BeNumerically(">=", made))
		})
	}
	eventually(t, s, "all machines are available, each with a VM of its own, and there is no other VM", func(g gomega.Gomega) {
		machines := machinesOf(ctx, g, s, name)
		g.Expect(uids(machines)).To(gomega.ConsistOf(first)) // none was given up and replaced
		for i := range machines {
			status := &machines[i].Status
			g.Expect(status.CurrentStatus.Phase).To(gomega.Equal(machinev1.MachineAvailable), status.LastOperation.Description)
		}
		now, err := vcenter.Inventory(ctx)
		g.Expect(err).NotTo(gomega.HaveOccurred())
		used := map[string]bool{}
		for i := range machines {
			vm, found := now.VM(machines[i].Spec.ProviderID)
			g.Expect(found).To(gomega.BeTrue(), "VM of %s", machines[i].Name)
			g.Expect(vm.PowerState).To(gomega.Equal("poweredOn"), vm.Name)
			used[vm.Ref] = true
		}
		g.Expect(used).To(gomega.HaveLen(count))
		g.Expect(now.VMs).To(gomega.HaveLen(len(before.VMs) + count))
	})
	t.Logf("%5.1f s from the set to %d available machines", time.Since(start).Seconds(), count)

	// In peace: what a process knows goes with it, and nobody must notice.
	k.kill(t, "nothing", func(gomega.Gomega, stack.Calls) {})
	start = time.Now()
	scaleSet(ctx, t, s, name, 0)
	k.kill(t, "DeleteMachine", underWay(5))
	k.kill(t, "DeleteMachine", func(g gomega.Gomega, calls stack.Calls) {
		underWay(5)(g, calls)
		g.Expect(calls.Ended).To(gomega.BeNumerically(">=", count/5))
	})
	eventually(t, s, "no machine is left, and the vCenter is as it was before", func(g gomega.Gomega) {
		g.Expect(machinesOf(ctx, g, s, name)).To(gomega.BeEmpty())
		now, err := vcenter.Inventory(ctx)
		g.Expect(err).NotTo(gomega.HaveOccurred())
		g.Expect(before.Equal(now)).To(gomega.Succeed())
	})
	t.Logf("%5.1f s from the scaling to the last machine's end", time.Since(start).Seconds())
	if diff := cmp.Diff(processes, others(s)); diff != "" {
		t.Errorf("processes have changed (-before +after):\n%s", diff)
	}
	t.Logf("%d kills cut off %v", k.kills, k.calls)
}

// killer kills and starts the driver and counts what it cuts off.
type killer struct {
	s     *stack.Stack
	kills int
	calls map[string]int
}

// kill waits until the calls of a method are such that the driver should be killed
// in the middle of them, does that, and starts it again.
func (k *killer) kill(t *testing.T, method string, condition func(gomega.Gomega, stack.Calls)) {
	t.Helper()
	var calls map[string]stack.Calls
	eventuallyEvery(t, k.s, 20*time.Millisecond, "it is time to kill the driver during "+method, func(g gomega.Gomega) {
		var err error
		calls, err = k.s.Calls(t.Context())
		g.Expect(err).NotTo(gomega.HaveOccurred())
		condition(g, calls[method])
	})
	k.s.KillDriver()
	k.kills++
	for method, of := range calls {
		if of.UnderWay > 0 {
			k.calls[method] += of.UnderWay
			t.Logf("cut off: %s %d times", method, of.UnderWay)
		}
	}
	if err := k.s.StartDriver(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// underWay is the condition that so many calls are.
func underWay(least int) func(gomega.Gomega, stack.Calls) {
	return func(g gomega.Gomega, calls stack.Calls) {
		g.Expect(calls.UnderWay).To(gomega.BeNumerically(">=", least))
	}
}

// others are the ids of the processes that nobody kills.
func others(s *stack.Stack) map[string]int {
	ids := map[string]int{}
	for _, p := range s.Processes() {
		if p.Name() != s.DriverProcess() {
			ids[p.Name()] = p.PID()
		}
	}
	return ids
}

// withVM counts the machines whose VM has been made.
func withVM(machines []machinev1.Machine) int {
	return len(slices.DeleteFunc(machines, func(m machinev1.Machine) bool { return m.Spec.ProviderID == "" }))
}

func uids(machines []machinev1.Machine) []types.UID {
	ids := []types.UID{}
	for i := range machines {
		ids = append(ids, machines[i].UID)
	}
	return ids
}
