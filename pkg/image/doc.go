// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package image is the contract of image stores, which keep the root disks that
// are made from OCI images.
//
// Store is the interface. image/vsphere implements it on a datastore, image/fake
// in memory; image/imagetest is the conformance suite that both run. image/disk
// makes what a store keeps, image/pull decides when.
//
// # Words
//
// An image disk holds the flattened image in one writable file system; there is
// one for each Key, which is the digest of the image's manifest and the size of
// the disk. Machines get child disks of it: it is never written again. A name is
// an image reference in its full form; it leads to one digest at a time, as a
// tag in a registry does. A disk is published when Lookup, Find and List show
// it. Leftovers are what operations that were cut off left behind.
//
// # What holds for all methods
//
//   - A disk is published whole or not at all, and nothing but Remove withdraws it.
//   - A store may be used by many goroutines and by many processes at once. Those
//     that want the same absent disk agree on who makes it.
//   - Every method may be repeated, and may be cut off at any point, a crash of the
//     process included: nothing half made is ever shown, and Leftovers finds it later.
//   - What any VM's disk chain has is never deleted, and what cannot be proven
//     unused counts as used.
//   - Answers may be used for Validity after they were given, to begin something
//     with. Remove waits longer than that between withdrawing and deleting.
//   - What an answer holds is the caller's, who may change it.
//   - A key or a size that is not valid is InvalidArgument, before anything is done.
//   - Errors have a kind of pkg/errdefs and name the store and the disk.
package image
