// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package vsphere is the image store on a datastore of a VCH.
//
// # Where things are
//
// All is below mcm-images in the directory of the VCH's image store, and never in
// VIC's own images:
//
//	disks/<digest>-<MiB>.json                  the record of a disk; it publishes
//	disks/<digest>-<MiB>.<upload>/disk.vmdk    the disk; a directory for each attempt
//	disks/<digest>-<MiB>.<upload>/pending.json the record, as long as it is not published
//	names/<sha256 of name>-<MiB>.json          a whole record of the disk that a name leads to
//	locks/<digest>-<MiB>.<generation>/owner.json who is at it, and how far
//
// What has another name there is somebody else's, and is passed over.
//
// # Why no half disk is ever shown
//
// Each attempt writes into a directory of its own, so that two never meet. The record
// is written into that directory first, and published last by moving it to its place,
// which vCenter does at once and only if there is none. Whoever deletes an attempt
// takes its record first: from then on it cannot be published, however late its maker
// wakes up. In the same way a disk is withdrawn by moving its record into its
// directory (withdrawn.<removal>.json), from where it can be published again, and it is
// deleted after moving it once more (doomed.json): of two that want the opposite
// only one can have it.
//
// # Locks
//
// A lock saves work, and nothing depends on it but that. It is a directory, which
// can be made once. Its holder rewrites a file in it; whoever sees that unchanged
// for Options.Stale, by his own clock, makes the directory of the next generation and
// has the lock. No clocks of different machines are compared, with one exception: what
// Leftovers calls dead is guessed from the ages of files, and Clean looks for itself.
//
// # Removal
//
// Names, record, wait, look at vCenter again, delete: see Store.Remove of package
// image. A VM has a disk if its present disks, their parents, or its files, those of
// snapshots included, are in the disk's directory. VMs that the user of the session
// may not see cannot be known.
//
// Called by pkg/spi/vsphere and pkg/cli. A Store keeps no state: all is on the
// datastore.
package vsphere
