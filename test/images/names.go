// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package images

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Names for packages that may use the library only through this one.
type (
	// Config is the configuration of an image.
	Config = v1.Config
	// ImageLayer is a layer.
	ImageLayer = v1.Layer
)
