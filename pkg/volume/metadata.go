// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"encoding/json"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const (
	// MetadataKey names the file with the metadata: a volume without it makes the
	// persona's list fail for all (VIC, lib/apiservers/engine/backends/volume.go:106-109).
	MetadataKey = "DockerMetaData"
	// PersonaDriver is the driver that VIC writes into every volume, of whichever store.
	PersonaDriver = "vsphere"
	// MaxMetadata is how many bytes of metadata are read.
	MaxMetadata = 1 << 20
)

// Labels of volumes that machines made.
const (
	// LabelCluster and LabelMachine say for whom a volume was made.
	LabelCluster = "vch.provider.machine.sapcloud.io/cluster"
	LabelMachine = "vch.provider.machine.sapcloud.io/machine"
	// LabelAnonymous is "true" on volumes without a name of their own that go with their machine.
	LabelAnonymous = "vch.provider.machine.sapcloud.io/anonymous"
	// LabelCreated is when the volume was made, in RFC 3339.
	LabelCreated = "vch.provider.machine.sapcloud.io/created"
)

// Metadata is what VIC's docker persona keeps with a volume, under the names that it
// reads (lib/apiservers/engine/proxy/storage_proxy.go:63-80).
type Metadata struct {
	// Driver is always PersonaDriver in VIC.
	Driver string
	// DriverOpts are the driver's options as they were given.
	DriverOpts map[string]string
	// Name is the volume's.
	Name   string
	Labels map[string]string
	// AttachHistory has the container that the volume was made for, Image what that ran.
	AttachHistory []string
	Image         string
}

// EncodeMetadata returns the content of the file.
func EncodeMetadata(m Metadata) ([]byte, error) {
	content, err := json.Marshal(m)
	if err != nil {
		return nil, errdefs.Wrap(errdefs.Internal, err, "encode the metadata of volume %s", m.Name)
	}
	return content, nil
}

// DecodeMetadata reads the content of the file, as VIC does: fields that are not
// known are passed over. Anything that VIC could not read is InvalidArgument.
func DecodeMetadata(content []byte) (Metadata, error) {
	var m Metadata
	if err := json.Unmarshal(content, &m); err != nil {
		return Metadata{}, errdefs.Wrap(errdefs.InvalidArgument, err, "read the metadata of a volume")
	}
	return m, nil
}
