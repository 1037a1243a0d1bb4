// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vch

import (
	"net/url"
	"path"
	"strings"

	"github.com/vmware/govmomi/object"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// VolumeStorePath returns the directory that a volume store on a datastore is at. The
// path of such a location is a whole datastore path, a quirk of VIC
// (lib/install/management/store_files.go:291-318); one that is a directory of the
// datastore Host is understood, too. Everything else is FailedPrecondition.
func VolumeStorePath(location url.URL) (StorePath, error) {
	bad := func(why string) (StorePath, error) {
		return StorePath{}, errdefs.New(errdefs.FailedPrecondition, "location %s of a volume store: %s; correct the VCH's volume stores", location.Redacted(), why)
	}
	if location.Scheme != "ds" {
		return bad("it is on no datastore, whose scheme is ds")
	}
	p := StorePath{Datastore: location.Host, Path: location.Path}
	if whole := strings.TrimPrefix(location.Path, "/"); strings.HasPrefix(whole, "[") {
		var parsed object.DatastorePath
		if !parsed.FromString(whole) {
			return bad("its path has no datastore in brackets")
		}
		p = StorePath(parsed)
	}
	switch {
	case p.Datastore == "":
		return bad("it names no datastore")
	case location.Host != "" && location.Host != p.Datastore:
		return bad("it names two datastores")
	}
	p.Path = path.Clean("/" + strings.Trim(p.Path, " "))[1:]
	return p, nil
}
