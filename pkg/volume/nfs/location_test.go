// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"context"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

func at(t *testing.T, location string) *Store {
	t.Helper()
	u, err := url.Parse(location)
	if err != nil {
		t.Fatal(err)
	}
	return New(Options{Host: &vch.Config{Name: "vch-1"}, Label: "shared", Location: *u, Dial: func(context.Context, string, string) (net.Conn, error) {
		t.Error("something is sent")
		return nil, net.ErrClosed
	}})
}

func TestLocations(t *testing.T) {
	t.Parallel()
	for location, want := range map[string]place{
		"nfs://db.local/export":                        {host: "db.local", name: "db.local", export: "/export", uid: 1000, gid: 1000},
		"nfs://db.local/":                              {host: "db.local", name: "db.local", export: "/", uid: 1000, gid: 1000},
		"nfs://db.local//a/./b/?uid=0":                 {host: "db.local", name: "db.local", export: "/a/b"},
		"nfs://[fd00::1]/e?uid=5&gid=6":                {host: "[fd00::1]", name: "fd00::1", export: "/e", uid: 5, gid: 6},
		"nfs://10.0.0.1/e?port=2049&mountport=635&a=b": {host: "10.0.0.1", name: "10.0.0.1", export: "/e", uid: 1000, gid: 1000, port: 2049, mountPort: 635},
		"nfs://10.0.0.1/e?uid=4294967294":              {host: "10.0.0.1", name: "10.0.0.1", export: "/e", uid: 4294967294, gid: 4294967294},
	} {
		if s := at(t, location); s.unusable != nil || s.place != want {
			t.Errorf("%s: %+v, %v, want %+v", location, s.place, s.unusable, want)
		}
	}
	for location, text := range map[string]string{
		"ds://db.local/export":              "scheme",
		"nfs:///export":                     "no host",
		"nfs://db.local":                    "no path",
		"nfs://db.local:2049/export":        "has a port",
		"nfs://db.local:/export":            "has a port",
		"nfs://tcp/export":                  "part of the guest's mount options",
		"nfs://db,local/export":             "option of a mount",
		"nfs://db.local/e?uid=-1":           "uid=-1",
		"nfs://db.local/e?gid=x":            "gid=x",
		"nfs://db.local/e?uid=4294967295":   "uid=4294967295",
		"nfs://db.local/e?port=65536":       "port=65536",
		"nfs://db.local/e?mountport=-1":     "mountport=-1",
		"nfs://db.local/e?uid=1;gid=2":      "query",
		"nfs://db.local/a%7Cb":              "cannot be mounted",
		"nfs://db.local/" + longPath():      "cannot be mounted",
		"nfs://user:secret@db.local?uid=-1": "no path",
	} {
		s := at(t, location)
		err := everyMethod(t, s)
		if !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), "volume store shared") {
			t.Errorf("%s: %v of kind %s, want %q", location, err, errdefs.KindOf(err), text)
		}
		if strings.Contains(s.String(), "secret") || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: a secret is told: %v", location, err)
		}
	}
}

func longPath() string { return strings.Repeat("d/", 600) }

// everyMethod returns the error that all methods have.
func everyMethod(t *testing.T, s *Store) error {
	t.Helper()
	_, want := s.List(t.Context())
	errs := map[string]error{"remove": s.Remove(t.Context(), "data"), "clean": s.Clean(t.Context())}
	_, errs["create"] = s.Create(t.Context(), volume.Request{Name: "data"})
	_, errs["get"] = s.Get(t.Context(), "data")
	_, errs["users"] = s.Users(t.Context(), "data")
	_, errs["join"] = s.Join(&volume.Volume{Name: "data"}, volume.Mount{Path: "/"})
	_, errs["leftovers"] = s.Leftovers(t.Context())
	for what, err := range errs {
		if err == nil || want == nil || err.Error() != want.Error() {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	return want
}

func TestAJointIsOfHostAndPathOnly(t *testing.T) {
	t.Parallel()
	const options = "vers=3,rsize=131072,wsize=131072,hard,proto=tcp,timeo=600,sec=sys,mountvers=3,mountproto=tcp,nolock,addr="
	for location, want := range map[string]guestinfo.MountSpec{
		"nfs://db.local/a/b/?uid=1&port=3":   {Source: url.URL{Scheme: "nfs", Host: "db.local", Path: "/a/b/volumes/x.y"}, Mode: options + "db.local"},
		"nfs://u:p@10.0.0.1/":                {Source: url.URL{Scheme: "nfs", Host: "10.0.0.1", Path: "/volumes/x.y"}, Mode: options + "10.0.0.1"},
		"nfs://[fd00::1]/e?mountport=1#frag": {Source: url.URL{Scheme: "nfs", Host: "[fd00::1]", Path: "/e/volumes/x.y"}, Mode: options + "fd00::1"},
	} {
		s := at(t, location)
		v := &volume.Volume{Name: "x.y", Store: "shared", Driver: volume.NFS}
		got, err := s.Join(v, volume.Mount{Path: "/data"})
		want.Path, want.CopyMode = "/data", guestinfo.CopyNew
		if diff := cmp.Diff(&volume.Joint{Volume: "x.y", Spec: want}, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", location, err, diff)
		}
	}
	s := at(t, "nfs://db.local/e")
	for what, tc := range map[string]struct {
		v    volume.Volume
		m    volume.Mount
		kind errdefs.Kind
	}{
		"of another store":  {volume.Volume{Name: "x", Store: "other", Driver: volume.NFS}, volume.Mount{Path: "/x"}, errdefs.InvalidArgument},
		"of another driver": {volume.Volume{Name: "x", Store: "shared", Driver: volume.VMDK}, volume.Mount{Path: "/x"}, errdefs.InvalidArgument},
		"without a name":    {volume.Volume{Store: "shared", Driver: volume.NFS}, volume.Mount{Path: "/x"}, errdefs.InvalidArgument},
		"damaged":           {volume.Volume{Name: "x", Store: "shared", Driver: volume.NFS, Damage: "d"}, volume.Mount{Path: "/x"}, errdefs.FailedPrecondition},
		"relative":          {volume.Volume{Name: "x", Store: "shared", Driver: volume.NFS}, volume.Mount{Path: "x"}, errdefs.InvalidArgument},
		"not clean":         {volume.Volume{Name: "x", Store: "shared", Driver: volume.NFS}, volume.Mount{Path: "/x/"}, errdefs.InvalidArgument},
		"read only":         {volume.Volume{Name: "x", Store: "shared", Driver: volume.NFS}, volume.Mount{Path: "/x", ReadOnly: true}, errdefs.InvalidArgument},
	} {
		if j, err := s.Join(&tc.v, tc.m); j != nil || !errdefs.Is(err, tc.kind) {
			t.Errorf("%s: %v, %v", what, j, err)
		}
	}
}
