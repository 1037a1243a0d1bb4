// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"fmt"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
)

// nodeImage is the name of the node image in the registry.
const nodeImage = "node:v1"

// serveImages starts the registry, if there is to be one, with the node image in it.
func (s *Sim) serveImages() error {
	if s.options.Registry == nil {
		return nil
	}
	var err error
	if s.images, err = images.Serve(*s.options.Registry); err != nil {
		return fmt.Errorf("start the image registry: %w", err)
	}
	node, err := images.Node()
	if err != nil {
		return fmt.Errorf("make the node image: %w", err)
	}
	s.nodeImage, err = s.images.Push(nodeImage, node)
	return err
}

// Registry returns the image registry of the world, nil if it has none.
func (s *Sim) Registry() *images.Registry { return s.images }

// NodeImage returns the reference of the node image, "" without a registry.
func (s *Sim) NodeImage() string { return s.nodeImage }

// RegistryCA returns the PEM certificate that the registry's certificate is signed
// with, nil if there is none.
func (s *Sim) RegistryCA() []byte {
	if s.images == nil {
		return nil
	}
	return s.images.CA()
}

// ImageSpec is ProviderSpec with the node image instead of ImageDisk: what a
// machine runs is left to the image. The world must have a registry.
func (s *Sim) ImageSpec() *v1alpha1.ProviderSpec {
	spec := s.ProviderSpec()
	spec.RootDisk, spec.Command, spec.Image = nil, nil, s.nodeImage
	if ca := s.RegistryCA(); ca != nil {
		spec.Registries = &v1alpha1.Registries{CABundle: string(ca)}
	} else if s.images != nil {
		spec.Registries = &v1alpha1.Registries{Insecure: []string{s.images.Host()}}
	}
	return spec
}
