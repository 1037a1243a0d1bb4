// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package ext4 turns a tar stream into an ext4 filesystem, and reads such a
// filesystem back.
//
// Write makes the root disk of a container VM, or an empty volume, in one pass
// and without privileges: writable, with a journal and a label, of any size, with
// owners, links, devices, times and extended attributes as the archive has them.
// Only a prefix of the disk has content, the rest of it reads as zeroes and is
// never written, so that a disk of 1 TiB costs no more than what is in it. The
// same archive and options give the same bytes.
//
// Words: a block has 4 KiB, a group is 32,768 blocks and its share of the inodes.
// The prefix holds, in this order: superblock and descriptors, what files and
// directories contain, bitmaps, the first block of the journal, inodes. The rest of
// the journal is behind it.
// Groups behind the prefix are declared uninitialized and keep their bitmaps and
// inode table within themselves, which is why nothing of them has to be written.
// There are no backups of the superblock, for these would lie behind the prefix.
//
// Write is called by what builds images, Open by what checks them. The package
// knows neither registries nor vSphere: readers and writers in, errors of
// pkg/errdefs out. It makes no hashed directories; the kernel does for directories
// that grow later.
package ext4
