// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package providertest

import (
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
)

// patience is how long specs wait for what comes by itself: far more than it takes.
const patience = 2 * time.Minute

// Connect returns a driver on backend that is ready for calls. Whatever serves
// has the options given, and writes its log into logger where it does not have
// its caller's. Connect is called while a spec is set up or runs: it fails the
// spec by itself and ends with it (ginkgo.DeferCleanup).
type Connect func(backend spi.PluginSPI, options provider.Options, logger logr.Logger) provider.Driver

// NewWorld makes a world for one spec. It may use t.Cleanup to end it.
type NewWorld func(t testing.TB) spitest.Harness

// InProcess connects without anything between: the driver logs where its caller
// does.
func InProcess(backend spi.PluginSPI, options provider.Options, _ logr.Logger) provider.Driver {
	return provider.NewMachinePlugin(backend, options)
}
