// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package version names the program and its release, for user agents, marks
// and --version. The values are set by the linker; see the Makefile.
package version

import "runtime/debug"

// Name is the program's name as vCenter sees it in sessions and logs.
const Name = "machine-controller-manager-provider-vch"

//nolint:gochecknoglobals // set by -ldflags -X at link time, never written afterwards
var gitVersion = "v0.0.0-dev"

// Version returns the release, for example v0.1.0; v0.0.0-dev when built without the Makefile.
func Version() string { return gitVersion }

// String returns name, version, commit and Go version in one line, for --version.
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Name + " " + gitVersion
	}
	s := Name + " " + gitVersion + " " + info.GoVersion
	for _, kv := range info.Settings {
		if kv.Key == "vcs.revision" {
			s += " " + kv.Value
		}
	}
	return s
}
