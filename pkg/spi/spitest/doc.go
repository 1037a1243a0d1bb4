// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package spitest is the conformance suite of spi.PluginSPI: what the contract
// in package spi promises, as tests that every implementation runs.
//
// An implementation's tests are four calls:
//
//	func TestConformance(t *testing.T)                       { spitest.Run(t, newHarness) }
//	func TestConformanceWithVolumes(t *testing.T)            { spitest.RunVolumes(t, newHarness) }
//	func TestConformanceUnderFaults(t *testing.T)            { spitest.RunFaults(t, newHarness) }
//	func TestConformanceWithVolumesUnderFaults(t *testing.T) { spitest.RunVolumeFaults(t, newHarness) }
//
// # Words
//
// A world is a fresh place with one VCH and no machine of ours in it; every test
// of the suite gets its own. A step is one thing that the implementation does
// to the world or asks of it: a vSphere call, a method of the in-memory backend.
// A fault strikes at one step. A foreigner is a VM in the world that is not ours.
//
// The suite never looks into an implementation. It judges by the answers and by
// what the Harness says really exists. It does not test speed or the number of
// steps.
package spitest
