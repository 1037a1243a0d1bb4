// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package inventory

// InPages returns a Reader whose answers have n VMs at most.
func (r *Reader) InPages(n int32) *Reader { return &Reader{o: r.o, page: n} }
