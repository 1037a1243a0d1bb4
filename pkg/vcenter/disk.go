// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"slices"

	"github.com/vmware/govmomi/vim25/types"
)

// DiskChain returns the datastore paths of what a virtual disk consists of: its own
// file, that of the disk which it is a child of, and so on to the last. known is
// false if a backing does not tell its file or its parent; then files has those before it.
func DiskChain(backing types.BaseVirtualDeviceBackingInfo) (files []string, known bool) {
	for backing != nil {
		file, ok := backing.(types.BaseVirtualDeviceFileBackingInfo)
		if !ok {
			return files, false
		}
		files = append(files, file.GetVirtualDeviceFileBackingInfo().FileName)
		var parent types.BaseVirtualDeviceBackingInfo
		switch b := backing.(type) {
		case *types.VirtualDiskFlatVer1BackingInfo:
			if b.Parent != nil {
				parent = b.Parent
			}
		case *types.VirtualDiskFlatVer2BackingInfo:
			if b.Parent != nil {
				parent = b.Parent
			}
		case *types.VirtualDiskSparseVer1BackingInfo:
			if b.Parent != nil {
				parent = b.Parent
			}
		case *types.VirtualDiskSparseVer2BackingInfo:
			if b.Parent != nil {
				parent = b.Parent
			}
		case *types.VirtualDiskSeSparseBackingInfo:
			if b.Parent != nil {
				parent = b.Parent
			}
		case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
			if b.Parent != nil {
				parent = b.Parent
			}
		case *types.VirtualDiskLocalPMemBackingInfo: // has none
		default:
			return files, false
		}
		backing = parent
	}
	return files, !slices.Contains(files, "")
}
