// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package world holds the worlds in which tests try implementations of the SPI:
// the real backend on a simulated vCenter (World) and the backend in memory
// (Fake). Both are harnesses of pkg/spi/spitest, and both may stand below
// something else that is to be tested: a driver, a server.
//
// # Words
//
// A world, a step, a fault and a foreigner are what pkg/spi/spitest says. A step
// of a World is a SOAP call, a step of a Fake is one of its Step constants.
//
// Tests call it, in testing as in ginkgo (GinkgoTB). It asserts one thing by
// itself, in every World: no reconfigure goes without a changeVersion.
package world
