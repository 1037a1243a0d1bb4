// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
)

const (
	// defaultConvention is VIC's template for display names (lib/config/virtual_container_host.go:38-44).
	defaultConvention = nameToken + "-" + idToken
	nameToken         = "{name}"
	idToken           = "{id}"
	// maxDisplayName is vSphere's limit, in bytes.
	maxDisplayName = 80
)

// DisplayName applies a VCH's name convention as VIC does (lib/portlayer/util/util.go:74-150):
// the first {id} becomes the short id, the first {name} the name, cut so that
// the whole fits into 80 bytes. Cuts are in bytes and may split a multi-byte
// character, as VIC's do; further tokens stay as they are. An empty convention,
// or one that leaves no room, is VIC's default {name}-{id}.
func DisplayName(convention, name, containerID string) string {
	if convention == "" {
		convention = defaultConvention
	}
	room := roomIn(convention)
	if room <= 0 {
		convention = defaultConvention
		room = roomIn(convention)
	}
	// The tokens are looked for in the template only: a name may itself contain {id}.
	out := convention
	replace := func(token, value string) {
		value = value[:min(len(value), max(room, 0))]
		if strings.Contains(convention, token) {
			room -= len(value)
		}
		out = strings.Replace(out, token, value, 1)
	}
	replace(idToken, containerID[:min(len(containerID), identity.ShortLength)])
	replace(nameToken, name)
	return out
}

func roomIn(convention string) int {
	rest := strings.Replace(convention, nameToken, "", 1)
	return maxDisplayName - len(strings.Replace(rest, idToken, "", 1))
}
