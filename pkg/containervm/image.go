// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// parentOf returns the datastore path of the disk that the root disk is a child of.
func parentOf(r Request) (string, error) {
	switch {
	case r.Image != nil && r.Image.Path != "":
		return r.Image.Path, nil
	case r.Spec.Image != "":
		return "", errdefs.New(errdefs.Internal, "plan machine %s: image %s has no disk yet", r.Machine, r.Spec.Image)
	case r.Spec.RootDisk == nil || r.Spec.RootDisk.VMDK == "":
		return "", errdefs.New(errdefs.InvalidArgument, "rootDisk: image or rootDisk.vmdk is required")
	}
	return r.Spec.RootDisk.VMDK, nil
}

// imageOf returns what the VM says of its image to a VCH that adopts it, in VIC's
// form: digests are 64 digits without algorithm (VIC, lib/imagec/imagec.go:229-275,377-474).
// VIC takes the layer for one of its own image store, which it then does not
// delete; a manifest's digest is none of those, and no layer of the VCH is our parent.
func imageOf(r Request) (layer, image, repo string) {
	if r.Image == nil {
		return "", "", ""
	}
	return digits(r.Image.Digest), digits(r.Image.ConfigDigest), publicReference(r.Spec.Image)
}

func digits(digest string) string {
	_, hex, ok := strings.Cut(digest, ":")
	if !ok {
		return digest
	}
	return hex
}

// publicReference is a reference without what could be a password: the guest can
// read it. References have no place for one, but validation is not here.
func publicReference(ref string) string {
	if _, rest, ok := strings.Cut(ref, "://"); ok {
		ref = rest
	}
	_, digest, pinned := strings.Cut(ref, "@")
	if !pinned || strings.HasPrefix(digest, "sha256:") {
		return ref
	}
	return digest
}
