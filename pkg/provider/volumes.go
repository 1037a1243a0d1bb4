// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"regexp"

	corev1 "k8s.io/api/core/v1"
)

const (
	// VolumeDriver is the CSI driver name that marks a PersistentVolume as a volume
	// of a VCH's volume store; its volumeHandle is the volume's name. A PV's
	// specification is all that MCM shows, so a name in it is the only mark possible.
	VolumeDriver = "vch.provider.machine.sapcloud.io"
	// vsphereDriver is vSphere's own CSI driver.
	vsphereDriver = "csi.vsphere.vmware.com"
)

// Names of attached volumes as a Node's status shows them, without driver and volume
// (kubernetes pkg/volume/util/util.go:261, pkg/volume/csi/csi_plugin.go:444).
const (
	inTreeName = "kubernetes.io/vsphere-volume/"
	csiName    = "kubernetes.io/csi/"
)

// volumeIDs returns an anchored regular expression for each volume that is ours
// or vSphere's. MCM asks for one volume at a time and uses the first id.
func volumeIDs(specs []*corev1.PersistentVolumeSpec) []string {
	ids := []string{}
	for _, spec := range specs {
		if id := volumeID(spec); id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

func volumeID(spec *corev1.PersistentVolumeSpec) string {
	switch {
	case spec == nil:
		return ""
	case spec.VsphereVolume != nil && spec.VsphereVolume.VolumePath != "":
		// With CSI migration, which is always on today, the attach controller shows the
		// volume as the CSI driver's, with the path as handle (csi-translation-lib,
		// plugins/vsphere_volume.go:163).
		return "^(" + regexp.QuoteMeta(inTreeName) + "|" + regexp.QuoteMeta(csiName+vsphereDriver+"^") + ")" +
			regexp.QuoteMeta(spec.VsphereVolume.VolumePath) + "$"
	case spec.CSI != nil && spec.CSI.VolumeHandle != "" && (spec.CSI.Driver == vsphereDriver || spec.CSI.Driver == VolumeDriver):
		return "^" + regexp.QuoteMeta(csiName+spec.CSI.Driver+"^"+spec.CSI.VolumeHandle) + "$"
	default:
		return ""
	}
}
