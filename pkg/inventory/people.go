// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package inventory

import "strings"

// People names n VMs for people, the first ten of them. user tells the name of each,
// its managed object reference, and whether vCenter cannot tell what it has.
func People(n int, user func(i int) (name, vm string, unproven bool)) string {
	const most = 10
	var names []string
	for i := range min(n, most) {
		name, vm, unproven := user(i)
		text := name + " (" + vm + ")"
		if unproven {
			text += ", of which vCenter cannot tell the disks"
		}
		names = append(names, text)
	}
	if n > most {
		names = append(names, "and more")
	}
	return strings.Join(names, "; ")
}
