// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"

// Shipped returns the plugins of this program. It panics if they do not fit together,
// which a test and every start of a program would show.
func Shipped() *migration.Set {
	return migration.Must(migration.New(
		// VIC's, of a VCH's appliance.
		applianceName(), // 1
		registryHosts(), // 5
		adminProxy(),    // 7
		registryTexts(), // 8
		// VIC's, of a container VM.
		containerName(),         // 2
		createTimeNanoseconds(), // 9
		// Ours, of a machine.
		markFormat(), // 2
	))
}
