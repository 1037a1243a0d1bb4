// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Bind is a volume as one string, as docker's -v has it.
type Bind struct {
	// Name is empty for an anonymous volume.
	Name string
	Mount
}

// The flags that there are.
const (
	flagReadWrite = "rw"
	flagReadOnly  = "ro"
	flagNoCopy    = "nocopy"
)

// ParseBind reads name:/path:flags, name:/path or /path, as VIC takes them
// (lib/apiservers/engine/proxy/storage_proxy.go:540-576). Flags are separated by
// commas: rw (the default), ro and nocopy. What the others of docker mean no
// container VM can do, and VIC passes them over in silence; here they are refused:
// z and Z, and shared, slave and private with or without r. Errors are
// InvalidArgument and say what would be right. Name and path are not judged, but
// where there is a colon neither is empty.
func ParseBind(s string) (Bind, error) {
	fields := strings.Split(s, ":")
	switch {
	case s == "":
		return Bind{}, invalidBind(s, "it is empty; write name:/path, name:/path:flags or /path")
	case len(fields) == 1:
		return Bind{Mount: Mount{Path: s}}, nil
	case strings.HasPrefix(s, "/"):
		return Bind{}, invalidBind(s, "mounting directories as a data volume is not supported; begin with the name of a volume, or write nothing but the path for an anonymous one")
	case len(fields) > 3:
		return Bind{}, invalidBind(s, "it has %d fields, and 3 at most are allowed: name:/path:flags", len(fields))
	case fields[0] == "":
		return Bind{}, invalidBind(s, "the name is empty; write nothing but the path for an anonymous volume")
	case fields[1] == "":
		return Bind{}, invalidBind(s, "the path is empty; write name:/path")
	}
	b := Bind{Name: fields[0], Mount: Mount{Path: fields[1]}}
	if len(fields) == 2 {
		return b, nil
	}
	seen := map[string]bool{}
	for flag := range strings.SplitSeq(fields[2], ",") {
		if seen[flag] {
			return Bind{}, invalidBind(s, "flag %q is given twice", flag)
		}
		seen[flag] = true
		if why := refusedFlag(flag); why != "" {
			return Bind{}, invalidBind(s, "%s", why)
		}
	}
	if seen[flagReadWrite] && seen[flagReadOnly] {
		return Bind{}, invalidBind(s, "flags rw and ro contradict each other")
	}
	b.ReadOnly, b.NoCopy = seen[flagReadOnly], seen[flagNoCopy]
	return b, nil
}

// refusedFlag says why a flag is not allowed; empty if it is.
func refusedFlag(flag string) string {
	const allowed = "allowed are rw, ro and nocopy"
	switch flag {
	case flagReadWrite, flagReadOnly, flagNoCopy:
		return ""
	case "":
		return "a flag is empty; " + allowed
	case "z", "Z":
		return "flag " + flag + " asks for SELinux labels of a host's files, and a container VM shares no files with a host; leave it out: " + allowed
	case "shared", "slave", "private", "rshared", "rslave", "rprivate":
		return "flag " + flag + " asks to propagate mounts between host and container, and a container VM shares no mounts with a host; leave it out: " + allowed
	}
	return "flag " + quoted(flag) + " is unknown; " + allowed
}

func invalidBind(s, format string, args ...any) error {
	return errdefs.New(errdefs.InvalidArgument, "volume %s: "+format, append([]any{quoted(s)}, args...)...)
}
