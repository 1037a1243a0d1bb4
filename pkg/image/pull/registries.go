// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
)

// Registries returns how registries are asked for a ProviderSpec, whose registries
// may be nil, and the data of its Secret. What the VCH says is to be joined to it.
func Registries(spec *v1alpha1.Registries, secret map[string][]byte) registry.Options {
	o := registry.Options{Auth: secret[v1alpha1.SecretDockerConfig]}
	if spec == nil {
		return o
	}
	o.Insecure = spec.Insecure
	if spec.CABundle != "" {
		o.CABundle = []byte(spec.CABundle)
	}
	for _, m := range spec.Mirrors {
		o.Mirrors = append(o.Mirrors, registry.Mirror{Registry: m.Registry, Endpoint: m.Endpoint})
	}
	return o
}
