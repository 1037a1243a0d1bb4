// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package migration

import (
	"maps"
	"slices"
)

// Difference is one key that two maps have different. Old is nil for a key that is
// new, New for one that is gone.
type Difference struct {
	Key      string
	Old, New *string
}

// Diff returns what makes after of before, sorted by key.
func Diff(before, after map[string]string) []Difference {
	keys := maps.Clone(before)
	if keys == nil {
		keys = map[string]string{}
	}
	maps.Copy(keys, after)
	var out []Difference
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		d := Difference{Key: key}
		if old, there := before[key]; there {
			d.Old = &old
		}
		if changed, there := after[key]; there {
			d.New = &changed
		}
		if d.Old == nil || d.New == nil || *d.Old != *d.New {
			out = append(out, d)
		}
	}
	return out
}
