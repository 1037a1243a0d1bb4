// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	machinev1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/process"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
)

// patience is how long a step may take until the demo gives up.
const patience = 5 * time.Minute

const (
	running   = string(machinev1.MachineRunning)
	nodeReady = running + ", node ready"
)

// watch tells every change of a machine's state until there are exactly so many
// machines and all of them are ready nodes.
func (d *demo) watch(ctx context.Context, count int64) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(300 * time.Millisecond)
	defer ticker.Stop()
	begin := time.Now()
	for {
		states, err := d.states(ctx)
		if err == nil {
			d.tell(states, time.Since(begin))
			ready := slices.DeleteFunc(slices.Collect(maps.Values(states)), func(state string) bool { return state != nodeReady })
			if int64(len(states)) == count && len(ready) == len(states) {
				return nil
			}
		}
		if ended := d.stack.Err(); ended != nil {
			return ended
		}
		select {
		case <-ctx.Done():
			log := filepath.Join(d.dir, "stack", stack.MachineController+".log")
			return fmt.Errorf("wait for %d ready machines: %w; the end of %s:\n%s", count, errors.Join(ctx.Err(), err), log, process.Tail(log, 30))
		case <-ticker.C:
		}
	}
}

// states reads the state of each machine by name.
func (d *demo) states(ctx context.Context) (map[string]string, error) {
	machines, err := d.stack.Machines.Machines(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the machines: %w", err)
	}
	states := map[string]string{}
	for i := range machines.Items {
		machine := &machines.Items[i]
		state := string(machine.Status.CurrentStatus.Phase)
		switch {
		case state == "":
			state = "new"
		case state == running && d.isReady(ctx, machine.Labels[machinev1.NodeLabelKey]):
			state = nodeReady
		case machine.Status.LastOperation.State == machinev1.MachineStateFailed:
			state += " (" + reason(machine.Status.LastOperation.Description) + ")"
		}
		states[machine.Name] = state
	}
	return states, nil
}

// reason takes the driver's code and words out of what MCM makes of them.
func reason(description string) string {
	found := regexp.MustCompile(`code = \[(\w+)\] message = \[(.*)\]$`).FindStringSubmatch(description)
	if found == nil {
		return description
	}
	return found[1] + ": " + found[2]
}

func (d *demo) isReady(ctx context.Context, node string) bool {
	found, err := d.stack.Kube.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	return err == nil && slices.ContainsFunc(found.Status.Conditions, func(condition corev1.NodeCondition) bool {
		return condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue
	})
}

// tell says what has changed since it was last called.
func (d *demo) tell(states map[string]string, after time.Duration) {
	for _, name := range slices.Sorted(maps.Keys(states)) {
		if d.told[name] != states[name] {
			d.say("%5.1f s  %-45s %s", after.Seconds(), name, states[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.told)) {
		if _, there := states[name]; !there {
			d.say("%5.1f s  %-45s gone", after.Seconds(), name)
		}
	}
	d.told = states
}
