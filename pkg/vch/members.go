// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vch

import (
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
)

// Members returns where the container VMs of the VCH are found, and how to get from there to them: the children of
// its folder or, where that is the datacenter's VM folder, the VMs of its pool.
func (c *Config) Members() (from types.ManagedObjectReference, to *types.TraversalSpec) {
	if c.FolderIsRoot {
		return c.Pool, &types.TraversalSpec{Type: "ResourcePool", Path: "vm", Skip: types.NewBool(false)}
	}
	return c.Folder, &types.TraversalSpec{Type: "Folder", Path: "childEntity", Skip: types.NewBool(false)}
}

// Proven returns the mark of a VM of the VCH, and the identity that follows from it, if its BIOS UUID does
// too: that follows from the container id, so one comparison proves both. Else nil.
func (c *Config) Proven(encodedMark, biosUUID string) (*identity.Mark, identity.Identity) {
	mark, err := identity.DecodeMark(encodedMark)
	if err != nil {
		return nil, identity.Identity{}
	}
	id, err := identity.New(c.UUID, mark.Cluster, mark.Machine)
	if err != nil || id.BIOSUUID != strings.ToLower(biosUUID) {
		return nil, identity.Identity{}
	}
	return &mark, id
}
