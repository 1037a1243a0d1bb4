// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package datastore

import "github.com/vmware/govmomi/vim25/types"

// Objects reports whether the disks of a datastore of a type (summary.type) are
// objects: no file that is put there becomes a disk, and disks are imported. Types
// that are not known have files, as VMFS and NFS have.
func Objects(kind string) bool {
	switch types.HostFileSystemVolumeFileSystemType(kind) {
	case types.HostFileSystemVolumeFileSystemTypeVsan, types.HostFileSystemVolumeFileSystemTypeVVOL,
		types.HostFileSystemVolumeFileSystemTypePMEM, types.HostFileSystemVolumeFileSystemTypeVsanD:
		return true
	default:
		return false
	}
}

// Namespaced reports whether the top-level directories of a datastore of a type are
// objects, too, which the file manager cannot make and VMs know by an id.
func Namespaced(kind string) bool {
	switch types.HostFileSystemVolumeFileSystemType(kind) {
	case types.HostFileSystemVolumeFileSystemTypeVsan, types.HostFileSystemVolumeFileSystemTypeVVOL:
		return true
	default:
		return false
	}
}

func (f *Files) namespaced() bool { return Namespaced(f.o.Type) }
