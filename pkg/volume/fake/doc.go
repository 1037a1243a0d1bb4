// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package fake is a volume store in memory that works, of either driver: a place for
// volumes, the stores of any number of processes on it, and the VMs that have them.
//
// It keeps every promise of the contract in package volume and passes the suite in
// volumetest, so that tests of what uses stores can run against it as against a
// datastore. Tests say who has a volume with Attach and Detach, look at what is there
// with Files and Read, make trouble with Damage and Fill, and let steps fail with Intercept.
//
// # What it does not do
//
// Volumes hold a text and no files. Time stands still but for Advance. Nothing
// survives the process.
package fake
