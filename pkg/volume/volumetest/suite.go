// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volumetest

import (
	"sync"
	"testing"
)

// Run runs the suite but for RunFaults. newHarness makes one world for each test;
// it may use t.Cleanup to end it. The tests run in parallel.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	t.Helper()
	for _, group := range []map[string]func(*fixture){creating(), reading(), removing(), contending(), joining(), leaving()} {
		runGroup(t, group, newHarness)
	}
}

// RunFaults lets each step of each operation go wrong in each way, once. An
// implementation conforms if it passes Run and RunFaults.
func RunFaults(t *testing.T, newHarness func(t *testing.T) Harness) {
	t.Helper()
	runGroup(t, walks(), newHarness)
}

// RunMakingFaults is the part of RunFaults that tells how a volume is made, and what is left of
// one whose maker ends: for a second kind of place of an implementation that passes
// RunFaults in a first one, and differs in that alone.
func RunMakingFaults(t *testing.T, newHarness func(t *testing.T) Harness) {
	t.Helper()
	runGroup(t, makingWalks(), newHarness)
}

func runGroup(t *testing.T, group map[string]func(*fixture), newHarness func(t *testing.T) Harness) {
	t.Helper()
	for name, test := range group {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fixture{T: t, h: newHarness(t), looks: &sync.Mutex{}}
			test(f)
			f.wantAgreement()
		})
	}
}
