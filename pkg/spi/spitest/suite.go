// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package spitest

import "testing"

// Run runs the whole suite. newHarness makes one world for each test; it may use
// t.Cleanup to end it.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	t.Helper()
	for _, group := range []map[string]func(*fixture){life(), bounds(), foreign(), walks(), parallel()} {
		for name, test := range group {
			t.Run(name, func(t *testing.T) { test(newFixture(t, newHarness(t))) })
		}
	}
}
