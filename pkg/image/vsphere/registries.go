// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// Registries returns what a VCH says of registries: those that it allows, trusts and
// calls insecure count for machines as they do for docker's users.
func Registries(host *vch.Config) registry.Options {
	r := host.Registries
	return registry.Options{CABundle: r.CABundle, Insecure: r.Insecure, Allow: r.Whitelist}
}
