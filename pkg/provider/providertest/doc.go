// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package providertest is the conformance suite of MCM's drivers on a
// spi.PluginSPI: what pkg/provider promises, as ginkgo specs that every way
// from MCM to a backend runs.
//
// pkg/provider runs it with MachinePlugin in the caller's process,
// pkg/provider/cmi with a client, a socket and a server between. A way's tests
// register the specs before they run them:
//
//	func TestDriver(t *testing.T) {
//		RegisterFailHandler(Fail)
//		providertest.Calls("over a socket", connect)
//		providertest.Life("over a socket, on vSphere", connect, newWorld, 20)
//		providertest.Controller("over a socket", connect, newWorld)
//		RunSpecs(t, "Driver")
//	}
//
// # Words
//
// A way is what stands between the caller and the backend; Connect goes it. A
// world is what package spitest calls so: a place with one VCH and a backend.
//
// # What it asserts
//
// Calls puts a mock under the driver and asserts what is handed down, what comes
// back, and what the backend must not hear of. Answers are compared with those
// of a driver in this process, text included: nobody who calls a driver may need
// to know where it runs. Two things are the transport's own, and there only
// codes are compared: what a caller hears who gives up himself, and (nowhere
// here) what he hears when nobody serves. Life is MCM's flow for machines in a
// world. Controller is MCM's real controller.
//
// The suite does not test backends, which is what pkg/spi/spitest is for, nor the
// cleaning of texts case by case, which the tests of pkg/provider do.
package providertest
