// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere_test

import (
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/world"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	spitest.Run(t, func(t *testing.T) spitest.Harness { return world.New(t, vchsim.Options{}) })
}

func TestConformanceWithVolumes(t *testing.T) {
	t.Parallel()
	spitest.RunVolumes(t, func(t *testing.T) spitest.Harness {
		return world.New(t, vchsim.Options{NoForeign: true, DockerContainers: -1})
	})
}

// Tests whose name ends in UnderFaults cost minutes of CPU; one call after the other,
// they give the race detector nothing to find, so hack/test.sh runs them without.
func TestConformanceUnderFaults(t *testing.T) {
	t.Parallel()
	spitest.RunFaults(t, func(t *testing.T) spitest.Harness { return world.New(t, vchsim.Options{}) })
}

// The smallest world: each step is a walk's, and there are many.
func TestConformanceWithVolumesUnderFaults(t *testing.T) {
	t.Parallel()
	spitest.RunVolumeFaults(t, func(t *testing.T) spitest.Harness {
		return world.New(t, vchsim.Options{NoForeign: true, DockerContainers: -1})
	})
}

// What goes on at the same time is the same with an image, so this one is without
// the race detector too.
func TestConformanceWithAnImageUnderFaults(t *testing.T) {
	t.Parallel()
	spitest.Run(t, func(t *testing.T) spitest.Harness {
		return world.New(t, vchsim.Options{Registry: &images.Options{}})
	})
}
