// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package vmdk is the volume store that has a virtual disk for each volume.
//
// # Where things are
//
// Volumes are where VIC has them, below the directory of the store (VIC,
// lib/portlayer/storage/volume/vsphere/store.go:70-103), and nothing else ever is there:
//
//	volumes/<V>/<V>.vmdk                          the disk
//	volumes/<V>/imageMetadata/DockerMetaData      what VIC's persona keeps with it
//
// What is not finished has a directory of its own elsewhere:
//
//	mcm-volumes/new/<V>.<32 digits>/<V>           a volume that is being made
//	mcm-volumes/removed/<V>.<32 digits>/<V>       one that is being removed
//	mcm-volumes/*/<V>.<32 digits>/_owner.json     who is at it; its time is when it began
//
// # Why no half volume is ever shown
//
// A volume is published by moving its directory to volumes, which vCenter does at
// once and only if there is none; so of many that make the same one has success.
// It is withdrawn by moving it out. Whoever deletes anything, or takes something
// back, first claims the directory of the operation by giving it new digits: of two that
// want the opposite, such as a slow maker and somebody who cleans up behind him,
// only one finds it, and a move whose answer was lost has happened before or never will.
//
// # Removal
//
// Look for VMs that have it, withdraw, look again, claim, delete. If the second look finds one it
// goes back to its place: VMs know disks by their path and did not notice, unless they were to
// start just then. A VM has a volume if its disks, what these are children of, or its files, those of
// snapshots included, are in the volume's directory; VMs of docker and of others count.
// VMs that the user of the session may not see cannot be known; a running one is
// told by the lock of the disk.
//
// # Content
//
// An empty ext4 file system with VIC's label and the directory .vic.vol.data, which VIC mounts in
// its place so that lost+found is not seen (VIC, pkg/vsphere/disk/disk.go:315-362). Of up to
// 60 GiB some 60 KB have content, of 2 TiB 570 KB.
//
// Called by pkg/volume/locations. A Store keeps no state: all is on the datastore.
package vmdk
