// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const (
	// defaultID is whom calls are made as when the location does not say (VIC,
	// lib/apiservers/portlayer/restapi/handlers/storage_handlers.go:826-880).
	defaultID = 1000
	// machineName is the client's name in its credentials, as in VIC.
	machineName = "vic"

	portmapPort = 111
	maxPort     = 1<<16 - 1
	maxID       = 1<<32 - 2 // the largest number stands for nobody at all

	// mountOptions are what the guest mounts with, before addr= (VIC,
	// lib/portlayer/storage/volume/nfs/join.go:26-40).
	mountOptions = "vers=3,rsize=131072,wsize=131072,hard,proto=tcp,timeo=600,sec=sys,mountvers=3,mountproto=tcp,nolock,addr="
)

// place is a location, read.
type place struct {
	// host is as URLs have it, name without brackets.
	host, name string
	// export is what is mounted, clean.
	export   string
	uid, gid uint32
	// port and mountPort are 0 if the port mapper knows.
	port, mountPort uint32
}

// parsePlace reads a location of VIC, nfs://host/path?uid=1000&gid=1000, and the ports
// port and mountport, which VIC passes over, for servers without a port mapper.
func parsePlace(u url.URL) (place, error) {
	p := place{host: u.Host, name: u.Hostname(), export: path.Clean(u.Path)}
	switch {
	case u.Scheme != "nfs":
		return place{}, wrong("the scheme is %q, not nfs", u.Scheme)
	case p.name == "":
		return place{}, wrong("it has no host")
	case u.Port() != "" || strings.HasSuffix(u.Host, ":"):
		return place{}, wrong("the host %q has a port, with which no guest would mount it; port and mountport may be in the query", u.Host)
	case strings.ContainsAny(p.name, ", |"):
		return place{}, wrong("the host %q cannot be an option of a mount", p.name)
	case strings.Contains(mountOptions, p.name):
		// The guest puts the address in for each occurrence of the name (VIC,
		// lib/tether/ops_linux.go:945-985).
		return place{}, wrong("the host %q is a part of the guest's mount options %s, which it would spoil; use another name or the address", p.name, mountOptions)
	case !path.IsAbs(u.Path):
		return place{}, wrong("it has no path")
	case len(p.export) > 1000 || strings.ContainsAny(p.export, "\x00|"):
		return place{}, wrong("the path %.100q cannot be mounted", p.export)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return place{}, wrong("its query %q cannot be read", u.RawQuery)
	}
	if p.uid, err = number(query, "uid", defaultID, maxID); err != nil {
		return place{}, err
	}
	group := uint32(defaultID)
	if query.Has("uid") {
		group = p.uid
	}
	if p.gid, err = number(query, "gid", group, maxID); err != nil {
		return place{}, err
	}
	if p.port, err = number(query, "port", 0, maxPort); err != nil {
		return place{}, err
	}
	p.mountPort, err = number(query, "mountport", 0, maxPort)
	return p, err
}

func wrong(format string, args ...any) error {
	return errdefs.New(errdefs.FailedPrecondition, "the location must be nfs://host/path: "+format, args...)
}

// number is that of a key of the query, or what holds without it.
func number(query url.Values, key string, absent uint32, most uint64) (uint32, error) {
	text := query.Get(key)
	if text == "" {
		return absent, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n > most {
		return 0, wrong("%s=%s in its query is no number from 0 to %d", key, text, most)
	}
	return uint32(n), nil
}

// url is that of something on the export, without the query: it is for guests and people.
func (p place) url(elements ...string) url.URL {
	return url.URL{Scheme: "nfs", Host: p.host, Path: path.Join(append([]string{p.export}, elements...)...)}
}

// options are the guest's for a mount.
func (p place) options() string { return mountOptions + p.name }
