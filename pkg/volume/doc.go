// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package volume is the contract of volume stores, which keep storage that
// outlives machines.
//
// Store is the interface. volume/vmdk implements it with one virtual disk for
// each volume, volume/nfs with directories of an NFSv3 export, volume/fake in
// memory; volume/volumetest is the conformance suite that all of them run.
// volume/locations makes the stores of a VCH; Set is all of them together, and what
// most callers want.
//
// # Words
//
// A volume has a name, which is VIC's volume ID and unique in its VCH, whichever
// store has it. A store has a label, by which the VCH's configuration and its users
// know it; the one that is labelled default is taken when none is named. An
// anonymous volume has a UUID for a name and belongs to one machine. To join is to
// give a container VM what makes it mount a volume; its users are the VMs that
// have it. A damaged volume is something in a store that VIC would stumble over.
//
// # What holds for all methods of a Store
//
//   - A volume is published complete or not at all: one stray directory would hide
//     the whole store from a VCH that restarts (VIC, lib/portlayer/storage/volume/vsphere/store.go:172-207).
//   - A store may be used by many goroutines and many processes at once, a live VCH
//     among them.
//   - Every method may be repeated, and may be cut off at any point, a crash of the
//     process included. What that leaves is no volume, and Leftovers finds it.
//   - What is on a volume is lost in one way only: Remove of that volume, when no VM
//     has it. What cannot be proven unused counts as used.
//   - Nothing is remembered: an answer is what the store has at that time.
//   - What an answer holds is the caller's, who may change it.
//   - A name or capacity that is not valid is InvalidArgument, before anything is done.
//   - Errors have a kind of pkg/errdefs and name the store and the volume. A store that
//     cannot be reached is Unavailable.
package volume
