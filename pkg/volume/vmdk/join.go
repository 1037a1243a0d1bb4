// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import (
	"net/url"
	"path"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// Join implements volume.Store: the guest finds the disk by the label of its file
// system (VIC, lib/portlayer/storage/volume/vsphere/join.go:28-82). It takes no notice of ro
// (VIC, lib/tether/ops_linux.go:833,936), so that the disk does.
func (s *Store) Join(v *volume.Volume, m volume.Mount) (*volume.Joint, error) {
	if err := s.named(v.Name); err != nil {
		return nil, err
	}
	switch {
	case v.Store != s.o.Label || v.Driver != volume.VMDK:
		return nil, errdefs.New(errdefs.InvalidArgument, "%s: join volume %s: it is of store %q (%s)", s, v.Name, v.Store, v.Driver)
	case !path.IsAbs(m.Path) || path.Clean(m.Path) != m.Path:
		return nil, errdefs.New(errdefs.InvalidArgument, "%s: join volume %s: mount path %q is not absolute and clean", s, v.Name, m.Path)
	case v.Damage != "" || v.Disk == "":
		return nil, errdefs.New(errdefs.FailedPrecondition, "%s: join volume %s: it is damaged: %s", s, v.Name, v.Damage)
	}
	j := &volume.Joint{
		Volume: v.Name, Disk: v.Disk, Discard: m.ReadOnly,
		Spec: guestinfo.MountSpec{
			Source: url.URL{Scheme: "label", Path: volume.Label(v.Name)},
			Path:   m.Path, Mode: "rw", CopyMode: guestinfo.CopyNew,
		},
	}
	if m.ReadOnly {
		j.Spec.Mode = "ro"
	}
	if m.NoCopy {
		j.Spec.CopyMode = guestinfo.CopyNever
	}
	return j, nil
}
