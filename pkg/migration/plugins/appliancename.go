// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"

const (
	oldApplianceName = "guestinfo.vice./init/common/name"
	newApplianceName = "init/common/name"
)

// applianceName is VIC's plugin 1 (lib/migration/plugins/plugin1/commonSpecForVCH.go:91-128).
// VIC writes the new key even where there is no old one, and writes over a
// name that is hidden already; this one does neither.
func applianceName() migration.Plugin {
	return migration.Plugin{
		Version: 1, Target: migration.Appliance, Name: "appliance-name",
		About:   "the name of the VCH is hidden from the guest",
		Touches: []string{newApplianceName},
		Step:    copyKey(oldApplianceName, newApplianceName),
	}
}
