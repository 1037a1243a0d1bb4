// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"

// The keys of names: read-only before they were hidden, so that they can be changed
// while a VM runs and its guest never sees them.
const (
	oldContainerName = "guestinfo.vice./common/name"
	newContainerName = "common/name"
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

// containerName is VIC's plugin 2 (lib/migration/plugins/plugin2/commonSpecForContainer.go:83-117),
// with the same two differences. VIC also writes an empty common/notes where there is
// none, which says nothing; this one does not.
func containerName() migration.Plugin {
	return migration.Plugin{
		Version: 2, Target: migration.Container, Name: "container-name",
		About:   "the container's name is hidden from the guest, so that it can change",
		Touches: []string{newContainerName},
		Step:    copyKey(oldContainerName, newContainerName),
	}
}

// copyKey returns a step that gives a key the value of another one, which stays.
func copyKey(from, to string) func(map[string]string) (migration.Change, error) {
	return func(keys map[string]string) (migration.Change, error) {
		name := keys[from]
		if name == "" || keys[to] != "" {
			return migration.Change{}, nil
		}
		return migration.Change{Set: map[string]string{to: name}}, nil
	}
}
