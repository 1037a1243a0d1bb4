// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vmware/govmomi/vim25/types"
)

func TestTheChainOfADiskIsFollowedToItsEnd(t *testing.T) {
	t.Parallel()
	at := func(name string) types.VirtualDeviceFileBackingInfo {
		return types.VirtualDeviceFileBackingInfo{FileName: name}
	}
	for what, tc := range map[string]struct {
		backing types.BaseVirtualDeviceBackingInfo
		files   []string
		known   bool
	}{
		"no backing": {nil, nil, true},
		"no parent":  {&types.VirtualDiskFlatVer2BackingInfo{VirtualDeviceFileBackingInfo: at("a")}, []string{"a"}, true},
		"flat": {&types.VirtualDiskFlatVer2BackingInfo{
			VirtualDeviceFileBackingInfo: at("a"), Parent: &types.VirtualDiskFlatVer2BackingInfo{
				VirtualDeviceFileBackingInfo: at("b"), Parent: &types.VirtualDiskFlatVer2BackingInfo{VirtualDeviceFileBackingInfo: at("c")},
			},
		}, []string{"a", "b", "c"}, true},
		"flat of old": {&types.VirtualDiskFlatVer1BackingInfo{
			VirtualDeviceFileBackingInfo: at("a"), Parent: &types.VirtualDiskFlatVer1BackingInfo{VirtualDeviceFileBackingInfo: at("b")},
		}, []string{"a", "b"}, true},
		"sparse": {&types.VirtualDiskSparseVer2BackingInfo{
			VirtualDeviceFileBackingInfo: at("a"), Parent: &types.VirtualDiskSparseVer2BackingInfo{VirtualDeviceFileBackingInfo: at("b")},
		}, []string{"a", "b"}, true},
		"sparse of old": {&types.VirtualDiskSparseVer1BackingInfo{
			VirtualDeviceFileBackingInfo: at("a"), Parent: &types.VirtualDiskSparseVer1BackingInfo{VirtualDeviceFileBackingInfo: at("b")},
		}, []string{"a", "b"}, true},
		"SE sparse": {&types.VirtualDiskSeSparseBackingInfo{
			VirtualDeviceFileBackingInfo: at("a"), Parent: &types.VirtualDiskSeSparseBackingInfo{VirtualDeviceFileBackingInfo: at("b")},
		}, []string{"a", "b"}, true},
		"raw device": {&types.VirtualDiskRawDiskMappingVer1BackingInfo{
			VirtualDeviceFileBackingInfo: at("a"), Parent: &types.VirtualDiskRawDiskMappingVer1BackingInfo{VirtualDeviceFileBackingInfo: at("b")},
		}, []string{"a", "b"}, true},
		"persistent memory": {&types.VirtualDiskLocalPMemBackingInfo{VirtualDeviceFileBackingInfo: at("a")}, []string{"a"}, true},
		"a parent without a path": {&types.VirtualDiskFlatVer2BackingInfo{
			VirtualDeviceFileBackingInfo: at("a"), Parent: &types.VirtualDiskFlatVer2BackingInfo{},
		}, []string{"a", ""}, false},
		"no file":                  {&types.VirtualDiskRawDiskVer2BackingInfo{}, nil, false},
		"a kind that nobody knows": {&types.VirtualDiskPartitionedRawDiskVer2BackingInfo{}, nil, false},
		"a file of another device": {&types.VirtualCdromIsoBackingInfo{VirtualDeviceFileBackingInfo: at("iso")}, []string{"iso"}, false},
	} {
		files, known := DiskChain(tc.backing)
		if diff := cmp.Diff(tc.files, files, cmpopts.EquateEmpty()); diff != "" || known != tc.known {
			t.Errorf("%s: known %t (-want +got):\n%s", what, known, diff)
		}
	}
}
