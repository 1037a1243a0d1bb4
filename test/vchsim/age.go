// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// DataVersions are the data versions of container VMs that Age knows: those at which
// something was different.
func DataVersions() []int { return []int{0, 1, 3, 5, 8, 9, 10} }

// OldKeys returns what an older version of VIC, and of this provider, would have stored where
// keys (as stored, "<nil>" for empty values) are of today: the whole map. Below 2 the
// name is visible to the guest and not hidden; below 9 the time of creation is in
// seconds; below 10 the mark is of format 1; 0 has no data version.
func OldKeys(keys map[string]string, version int) map[string]string {
	return nil
}

// Age makes a container VM, by its display name, one of a data version.
func (s *Sim) Age(vm string, version int) error {
	return errdefs.New(errdefs.Unimplemented, "TODO")
}
