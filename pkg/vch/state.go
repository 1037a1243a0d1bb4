// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vch

import (
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// KeyProperty returns the property path of one ExtraConfig key: see
// vcenter.ExtraConfigProperty.
func KeyProperty(key string) string { return vcenter.ExtraConfigProperty(key) }

// KeyValue returns the text of an ExtraConfig key that was read by KeyProperty;
// "" when the VM does not have it, or has it empty.
func KeyValue(val types.AnyType) string {
	return guestinfo.FromOptionValue(vcenter.ExtraConfigText(val))
}

// StateProperties are the properties of the appliance that CheckState judges.
// They are read afresh, with the container VM, before every change.
func StateProperties() []string { return []string{KeyProperty(guestinfo.KeyUpdateInProgress)} }

// CheckState returns Unavailable while vic-machine upgrades or reconfigures the
// VCH: whoever creates or deletes container VMs then gets in its way (VIC,
// lib/install/management/configure.go:55-167).
func (c *Config) CheckState(props []types.DynamicProperty) error {
	for _, p := range props {
		if p.Name == KeyProperty(guestinfo.KeyUpdateInProgress) && strings.EqualFold(KeyValue(p.Val), "true") {
			return errdefs.New(errdefs.Unavailable, "VCH %s is being upgraded or reconfigured (UpdateInProgress); waiting until it ends. If no vic-machine runs, reset it with: vic-machine upgrade --reset-progress", c.Name)
		}
	}
	return nil
}
