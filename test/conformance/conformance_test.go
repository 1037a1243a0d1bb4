// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package conformance_test runs the conformance suite of the SPI (pkg/spi/spitest)
// on the driver, in the controller's process and behind a socket. The suite is the
// one that the backends run below it: what it asserts of a backend holds for
// whoever calls the driver, in whichever process that is.
//
// A driver is turned into a backend again (backend), and its world is that of the
// backend below (driven). The real backend runs the suite as it is; volumes,
// and faults at each step, of which the real backend has its own thousands, run on the fake.
package conformance_test

import (
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/world"
)

func onVSphere(t *testing.T) spitest.Harness { return world.New(t, vchsim.Options{}) }

func onFake(t *testing.T) spitest.Harness { return world.NewFake(t) }

func TestInProcessDriverConforms(t *testing.T) {
	t.Parallel()
	spitest.Run(t, inProcess(onVSphere))
}

func TestInProcessDriverConformsWithVolumes(t *testing.T) {
	t.Parallel()
	spitest.RunVolumes(t, inProcess(onFake))
}

func TestInProcessDriverConformsUnderFaults(t *testing.T) {
	t.Parallel()
	spitest.RunFaults(t, inProcess(onFake))
}

func TestInProcessDriverConformsWithVolumesUnderFaults(t *testing.T) {
	t.Parallel()
	spitest.RunVolumeFaults(t, inProcess(onFake))
}

func TestSocketDriverConforms(t *testing.T) {
	t.Parallel()
	spitest.Run(t, overSocket(t, onVSphere))
}

func TestSocketDriverConformsWithVolumes(t *testing.T) {
	t.Parallel()
	spitest.RunVolumes(t, overSocket(t, onFake))
}

func TestSocketDriverConformsUnderFaults(t *testing.T) {
	t.Parallel()
	spitest.RunFaults(t, overSocket(t, onFake))
}

func TestSocketDriverConformsWithVolumesUnderFaults(t *testing.T) {
	t.Parallel()
	spitest.RunVolumeFaults(t, overSocket(t, onFake))
}
