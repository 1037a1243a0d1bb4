// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "strings"

// Placeholders, expanded in env, args and userData.
const (
	PlaceholderProviderID  = "<<PROVIDER_ID>>"
	PlaceholderContainerID = "<<CONTAINER_ID>>"
	PlaceholderMachineName = "<<MACHINE_NAME>>"
)

// Expand replaces the keys of values (placeholders, with their angle brackets)
// in s by their values, in one pass: what was put in is not expanded again.
// Placeholders that are not in values stay as they are.
func Expand(s string, values map[string]string) string {
	if !strings.Contains(s, "<<") {
		return s
	}
	pairs := make([]string, 0, 2*len(values))
	for placeholder, value := range values {
		pairs = append(pairs, placeholder, value)
	}
	return strings.NewReplacer(pairs...).Replace(s)
}
