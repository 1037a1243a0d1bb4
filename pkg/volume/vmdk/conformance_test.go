// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import (
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/volumetest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func onVMFS(t *testing.T) volumetest.Harness {
	t.Helper()
	return newWorld(t, vchsim.FastStore, vchsim.Options{})
}

func onVSAN(t *testing.T) volumetest.Harness {
	t.Helper()
	return newWorld(t, vchsim.FastStore, vchsim.Options{VSAN: true})
}

func TestConformance(t *testing.T) {
	t.Parallel()
	volumetest.Run(t, onVMFS)
}

func TestConformanceUnderFaults(t *testing.T) {
	t.Parallel()
	volumetest.RunFaults(t, onVMFS)
}

// TestConformanceOnVSANUnderFaults has what differs on a datastore that takes no
// files as disks. What goes on at the same time is for the race detector above.
func TestConformanceOnVSANUnderFaults(t *testing.T) {
	t.Parallel()
	volumetest.Run(t, onVSAN)
	volumetest.RunMakingFaults(t, onVSAN)
}
