// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/imagetest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// worlds are the kinds of datastores: such that take files as disks, and such that do not.
func worlds() map[string]func(t *testing.T) imagetest.Harness {
	return map[string]func(t *testing.T) imagetest.Harness{
		"VMFS": func(t *testing.T) imagetest.Harness { t.Helper(); return newWorld(t, vchsim.Options{}) },
		"vSAN": func(t *testing.T) imagetest.Harness { t.Helper(); return newWorld(t, vchsim.Options{VSAN: true}) },
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, harness := range worlds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			imagetest.Run(t, harness)
		})
	}
}

func TestConformanceUnderFaults(t *testing.T) {
	t.Parallel()
	for name, harness := range worlds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			imagetest.RunFaults(t, harness)
		})
	}
}
