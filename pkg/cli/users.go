// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// user is a VM that has something that is kept.
type user interface{ image.User | volume.User }

// usersText lists the first VMs; those of which vCenter cannot tell what they have
// get a question mark.
func usersText[U user](users []U, limit int) string {
	names := make([]string, 0, len(users))
	for _, u := range users[:min(limit, len(users))] {
		name := volume.User(u).Name
		if volume.User(u).Unproven {
			name += "?"
		}
		names = append(names, name)
	}
	text := strings.Join(names, ",")
	if len(users) > limit {
		text += fmt.Sprintf(" and %d more", len(users)-limit)
	}
	return text
}

// splitUsers parts VMs that have something from those of which vCenter cannot tell.
func splitUsers[U user](users []U) (using, unproven []U) {
	for _, u := range users {
		if volume.User(u).Unproven {
			unproven = append(unproven, u)
		} else {
			using = append(using, u)
		}
	}
	return using, unproven
}

func vmsText[U user](users []U) string {
	names := make([]string, 0, len(users))
	for _, u := range users {
		names = append(names, volume.User(u).Name+" ("+volume.User(u).VM+")")
	}
	return strings.Join(names, ", ")
}

func unprovenText[U user](users []U) string {
	return "vCenter cannot tell which disks " + vmsText(users) + " has; make it accessible, or unregister it"
}
