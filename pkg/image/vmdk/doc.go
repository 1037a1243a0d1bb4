// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package vmdk turns a raw disk into the two forms of VMDK that vSphere takes in,
// and reads one of them back.
//
// A streamOptimized VMDK is one compressed file that is imported through an NFC
// lease, on every kind of datastore. WriteFile makes it in a file, WriteStream for
// a reader that cannot seek. Both take a prefix of the disk and its capacity, leave
// out what is zero, and give the same bytes for the same input.
//
// WriteFile is what an upload needs. Importing wants the length before the first
// byte, which is known only when everything is compressed; a file has it, can be
// sent again after an error without compressing again, and can have its tables in
// front, as VMware's own converter writes them. Its grain tables end with the
// prefix: the grain directory says of the rest that there are none. WriteStream
// has the tables behind the data and a footer, as exported disks have.
//
// Descriptor is the text file of a flat disk, whose data is the raw disk itself.
// That is for datastores on which files can be put as they are: VMFS and NFS.
//
// Words: a sector has 512 bytes. A grain is 64 KiB of the disk, a grain table is
// where 512 grains are in the file, the grain directory is where the tables are.
//
// The package knows no vSphere: readers and writers in, errors of pkg/errdefs out.
package vmdk
