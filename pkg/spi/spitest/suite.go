// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package spitest

import "testing"

// Run runs the suite but for RunVolumes, RunFaults and RunVolumeFaults. newHarness makes one world for each
// test; it may use t.Cleanup to end it. The tests run in parallel.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	t.Helper()
	for _, group := range []map[string]func(*fixture){life(), bounds(), foreign(), parallel()} {
		runGroup(t, group, newHarness)
	}
}

// RunVolumes is Run of machines that have volumes. It stands by itself, since
// volumes cost a real backend many times what machines do.
func RunVolumes(t *testing.T, newHarness func(t *testing.T) Harness) {
	t.Helper()
	runGroup(t, volumes(), newHarness)
}

// RunFaults lets each step of each operation go wrong in each way, once. With a
// real backend that is thousands of operations; so it stands by itself. An
// implementation conforms if it passes Run, RunVolumes, RunFaults and RunVolumeFaults.
func RunFaults(t *testing.T, newHarness func(t *testing.T) Harness) {
	t.Helper()
	runGroup(t, walks(), newHarness)
}

// RunVolumeFaults is RunFaults with machines that have volumes, and with fewer faults:
// only those calls that touch volumes are struck. The smallest world will do.
func RunVolumeFaults(t *testing.T, newHarness func(t *testing.T) Harness) {
	t.Helper()
	runGroup(t, volumeWalks(), newHarness)
}

func runGroup(t *testing.T, group map[string]func(*fixture), newHarness func(t *testing.T) Harness) {
	t.Helper()
	for name, test := range group {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(newFixture(t, newHarness(t)))
		})
	}
}
