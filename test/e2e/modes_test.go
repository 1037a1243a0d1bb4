// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
)

// mode is where the driver runs.
type mode struct {
	name    string
	sidecar bool
}

// namespace is a name of the mode's own.
func (m mode) namespace(name string) string {
	if m.sidecar {
		return name + "-sidecar"
	}
	return name
}

// options are the given ones for this mode.
func (m mode) options(options stack.Options) stack.Options {
	options.Sidecar = m.sidecar
	return options
}

// inBothModes runs a test with the driver in the machine-controller and with the
// driver in a process of its own, at the same time.
func inBothModes(t *testing.T, test func(t *testing.T, m mode)) {
	t.Helper()
	for _, m := range []mode{
		{name: "the driver is part of the machine-controller"},
		{name: "the driver is a sidecar", sidecar: true},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			test(t, m)
		})
	}
}
