// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volume

import "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"

// Bind is a volume as one string, as docker's -v has it.
type Bind struct {
	// Name is empty for an anonymous volume.
	Name string
	Mount
}

// ParseBind reads name:/path:flags, name:/path or /path, as VIC takes them
// (lib/apiservers/engine/proxy/storage_proxy.go:540-576). Flags are separated by
// commas: rw (the default), ro and nocopy. What the others of docker mean no
// container VM can do, and VIC passes them over in silence; here they are refused:
// z and Z, and shared, slave and private with or without r. Errors are
// InvalidArgument and say what would be right. Name and path are not judged.
func ParseBind(s string) (Bind, error) {
	return Bind{}, errdefs.New(errdefs.Unimplemented, "parse volume %q", s)
}
