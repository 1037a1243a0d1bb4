// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package nfs is an NFSv3 server on loopback for tests, in this process and without
// rights: its files are those of a directory, which a test may look into and change.
//
// Mount, NFS and the port mapper answer on one port. Every call goes through one
// place that counts it, may let it go wrong, and lets one at a time through, so that
// what NFS promises holds: of many that make the same directory one does.
//
// Below that is github.com/willscott/go-nfs. Its answers to what fails are made those
// of a server with a kernel, which tell by the cause.
package nfs
