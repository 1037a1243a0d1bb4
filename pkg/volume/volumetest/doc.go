// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package volumetest is the conformance suite of volume.Store: what the contract in
// package volume promises, as tests that every implementation runs.
//
// An implementation's tests are two calls:
//
//	func TestConformance(t *testing.T)            { volumetest.Run(t, newHarness) }
//	func TestConformanceUnderFaults(t *testing.T) { volumetest.RunFaults(t, newHarness) }
//
// # Words
//
// A world is the place of one store that has no volumes yet, with the VMs that
// could have them; every test of the suite gets its own. Each store that a Harness
// returns is that of a process of its own. A step is one thing that a store does
// to the world or asks of it, such as a vSphere call. A fault strikes at one step
// of one store. Time passes when the suite says so.
//
// The suite never looks into an implementation. It judges by the answers and by
// what the World says really exists, above all by what a VCH would list that starts
// at that moment. It does not test speed or the number of steps.
package volumetest
