// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package disk makes the content of an image disk from an image in a registry.
//
// Source puts the steps of image/registry, image/rootfs, image/ext4 and
// image/vmdk together: it downloads the layers, decompresses each once, decides
// from their headers what the flattened image has, and streams that into an ext4
// file system with what a container VM expects on its root disk. The streamOptimized
// VMDK is made only for a store that asks for it. Stores call Source through
// image.Store.Ensure; image/pull hands it to them.
//
// What is made depends on the image's digest and the disk's size alone: the same
// two give the same bytes, identifiers and times included.
//
// # Temporary files
//
// Everything is in one new directory of Options.Dir, whose name begins with
// Prefix, and which is locked while its process lives. Whatever happens, it is
// removed at the end; what a killed process left, the next Source of the same user
// in the same Dir removes. Files have no name as soon as the system allows, so
// that a killed process leaves at most the downloaded layers.
//
// Dir needs room for the image's layers, compressed and uncompressed, then for
// those uncompressed and the used part of the disk, which is about as much; with a
// VMDK for both forms of the disk. Three times the uncompressed image is enough.
//
// # Bounds
//
// Memory stays below 128 MiB, of a whole process that does nothing else, whatever
// the image has. Images with more than MaxEntries files, or with layers
// of more than twice the disk and 1 GiB uncompressed, are refused.
//
// # Errors
//
// Those of the registry keep their kind. What the image gets wrong, and an image
// that is too large, is InvalidArgument. A temporary directory that is full, or
// missing, is FailedPrecondition. ResourceExhausted does not occur: with a store,
// it is the datastore that is full.
package disk
