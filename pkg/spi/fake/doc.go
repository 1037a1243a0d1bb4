// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package fake is a backend that works, in memory: one VCH, its container VMs,
// their directories and its volumes.
//
// It keeps every promise of the contract in package spi and passes the suite in
// spitest, so that tests of pkg/provider and of programs can run against it as
// against the real thing. Tests look at what exists with VMs, Files and Volumes, put
// foreigners in with Plant and PutVolume, make guests misbehave with SetGuest, and let steps
// fail with Intercept.
//
// # What it does not do
//
// It knows one VCH, whatever the ProviderSpec's vch says, and one store of volumes. It has no
// other disks, no networks and no limits: nothing is ever exhausted. userData and environment
// are not delivered to anybody. Nothing survives the process.
package fake
