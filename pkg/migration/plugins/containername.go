// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

// oldContainerName was read-only before the name was hidden (guestinfo.NameKey), so that it can be changed
// while the VM runs and the guest never sees it.
const oldContainerName = "guestinfo.vice./common/name"

// containerName is VIC's plugin 2 (lib/migration/plugins/plugin2/commonSpecForContainer.go:83-117),
// with the differences of applianceName. VIC also writes an empty common/notes where there is
// none, which says nothing; this one does not.
func containerName() migration.Plugin {
	return migration.Plugin{
		Version: 2, Target: migration.Container, Name: "container-name",
		About:   "the container's name is hidden from the guest, so that it can change",
		Touches: []string{guestinfo.NameKey},
		Step:    copyKey(oldContainerName, guestinfo.NameKey),
	}
}

// copyKey returns a step that gives a key the value of another one, which stays. A value that is there
// already is newer.
func copyKey(from, to string) func(map[string]string) (migration.Change, error) {
	return func(keys map[string]string) (migration.Change, error) {
		name := keys[from]
		if name == "" || keys[to] != "" {
			return migration.Change{}, nil
		}
		return migration.Change{Set: map[string]string{to: name}}, nil
	}
}
