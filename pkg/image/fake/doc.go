// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package fake is an image store that works, in memory: one place for image disks,
// the stores of any number of processes on it, and the VMs that use its disks.
//
// It keeps every promise of the contract in package image and passes the suite in
// imagetest, so that tests of what uses stores can run against it as against a
// datastore. Tests look at what exists with Files and Content, say who uses a disk
// with Attach and Detach, and let steps fail with Store.Intercept.
//
// # What it does not do
//
// It keeps the part of a disk that has content, and so costs as much memory.
// Processes do not prove that they are alive: a lock is taken over when the call
// that had it ended without giving it back, and Stale has passed since. Nothing
// survives the process.
package fake
