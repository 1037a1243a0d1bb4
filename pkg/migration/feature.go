// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package migration

// Feature is something that a container VM can do from a stored data version on:
// the number of VIC's that came with it (lib/migration/feature/feature.go:17-39). What
// counts is the version that is stored, not what data becomes in memory.
type Feature struct {
	// Name is what people call it.
	Name string
	// Since is the first data version of Container data that has it.
	Since int
}

// Rename is a feature since the name is hidden from the guest, so that it can be changed, on
// a running VM too. (VIC's other features hang on what the tether can do; nothing here asks for them.)
func Rename() Feature { return Feature{Name: "rename", Since: 4} }

// In reports whether a container VM with that stored data version has the feature.
func (f Feature) In(stored int) bool { return stored >= f.Since }
