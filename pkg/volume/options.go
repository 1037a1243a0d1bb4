// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volume

import "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"

// Options are VIC's driver options of a volume, as docker volume create --opt has them.
type Options struct {
	// Store is the label of the store; empty if none was named.
	Store string
	// Capacity is in bytes; 0 if none was given.
	Capacity int64
}

// ParseOptions reads driver options by VIC's rules (lib/apiservers/engine/proxy/storage_proxy.go:72-89,658-703):
// volumestore and capacity, in letters of either case, and no others. A capacity without unit is
// in MB, at least 1; one with a unit is a decimal size such as 2GB. VIC takes one MB of either for 1 MiB.
// Errors are InvalidArgument and name the option.
func ParseOptions(options map[string]string) (Options, error) {
	return Options{}, errdefs.New(errdefs.Unimplemented, "parse %d options", len(options))
}
