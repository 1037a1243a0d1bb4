// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package datastore works on the files and virtual disks of one datastore,
// through vCenter.
//
// Contents of files go over HTTP, below vCenter's /folder, which passes them on to
// a host that has the datastore; everything else is a task of vCenter's managers
// of files and of virtual disks. No host is talked to.
//
// # Paths
//
// Paths are relative to the datastore and have no datastore name: vch-1/a.json.
// Path makes the datastore path of one, [ds1] vch-1/a.json. A path that is empty
// where a file is needed, absolute, or has empty elements, "." or "..", a backslash
// or a control character is InvalidArgument. Everything else is allowed, spaces
// and signs with a meaning in URLs included.
//
// On datastores whose top-level directories are objects of their own (vSAN, vVol)
// the first element may be that object's name for people or its id; in the devices
// of a VM it must be the id, which Resolve tells.
//
// # Errors
//
// A file or directory that is not there is NotFound, one that is there already
// AlreadyExists, one that is locked Aborted; a full datastore is
// ResourceExhausted; a missing privilege PermissionDenied; what may pass by itself
// is Unavailable, an answer cut short included. Faults have the kinds of
// vcenter.Convert otherwise.
//
// # Limits
//
// A transfer that moves no byte for Options.Stall ends as Unavailable; however
// large a file is, it takes no more than some buffers of memory. A context that
// ends stops the waiting for a task, not the task.
//
// Called by pkg/image/vsphere. The package knows nothing of VCHs or images, and
// never decides whether something may be deleted.
package datastore
