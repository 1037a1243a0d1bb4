// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider/providertest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/world"
)

func TestProvider(t *testing.T) {
	RegisterFailHandler(Fail)
	providertest.Calls("in its caller's process", providertest.InProcess)
	providertest.Life("in its caller's process, in memory", providertest.InProcess, inMemory, 50)
	providertest.Life("in its caller's process, on vSphere", providertest.InProcess, onVSphere, 20)
	providertest.Controller("in its process, in memory", providertest.InProcess, inMemory)
	RunSpecs(t, "Provider")
}

func inMemory(t testing.TB) spitest.Harness { return world.NewFake(t) }

func onVSphere(t testing.TB) spitest.Harness { return world.New(t, vchsim.Options{}) }
