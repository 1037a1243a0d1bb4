// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const (
	// DefaultCapacity is that of a volume for which none is given, as in VIC
	// (lib/apiservers/portlayer/restapi/handlers/storage_handlers.go:445-452).
	DefaultCapacity = int64(1 << 30)
	// MinCapacity leaves room for a journal.
	MinCapacity = int64(8 << 20)
	// MaxCapacity is that of the largest disk.
	MaxCapacity = int64(2 << 40)
	// CapacityUnit is what capacities are multiples of.
	CapacityUnit = int64(1 << 20)
)

// ValidateCapacity reports what is wrong with a capacity in bytes, as InvalidArgument.
func ValidateCapacity(bytes int64) error {
	if bytes < MinCapacity || bytes > MaxCapacity || bytes%CapacityUnit != 0 {
		return errdefs.New(errdefs.InvalidArgument, "capacity of a volume is %d bytes: it must be of whole MiB, between 8Mi and 2Ti", bytes)
	}
	return nil
}
