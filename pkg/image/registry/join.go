// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"slices"
)

// Join returns what o and more say together: their lists and authorities, those of
// o first; and of what there can be only one, that of o unless it has none. Neither is changed.
func (o Options) Join(more Options) Options {
	if len(o.Auth) == 0 {
		o.Auth = more.Auth
	}
	separator := []byte(nil)
	if len(o.CABundle) > 0 && len(more.CABundle) > 0 {
		separator = []byte("\n") // the last line of a file may have no end
	}
	o.CABundle = slices.Concat(o.CABundle, separator, more.CABundle)
	o.Insecure = slices.Concat(o.Insecure, more.Insecure)
	o.Mirrors = slices.Concat(o.Mirrors, more.Mirrors)
	o.Allow = slices.Concat(o.Allow, more.Allow)
	o.Deny = slices.Concat(o.Deny, more.Deny)
	o.MaxBytes = cmp.Or(o.MaxBytes, more.MaxBytes)
	o.Attempts = cmp.Or(o.Attempts, more.Attempts)
	o.Stall = cmp.Or(o.Stall, more.Stall)
	if o.Clock == nil {
		o.Clock = more.Clock
	}
	return o
}
