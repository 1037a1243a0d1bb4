// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vch

import (
	"net/url"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

func TestTheDirectoryOfAVolumeStore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		location url.URL
		want     string
	}{
		{url.URL{Scheme: "ds", Host: "ds1", Path: "[ds1] VIC"}, "[ds1] VIC"},
		{url.URL{Scheme: "ds", Host: "ds1", Path: "/[ds1] VIC/a b/"}, "[ds1] VIC/a b"},
		{url.URL{Scheme: "ds", Host: "ds 1 (x)", Path: "[ds 1 (x)] volumes"}, "[ds 1 (x)] volumes"},
		{url.URL{Scheme: "ds", Host: "ds1", Path: "[ds1]VIC//b"}, "[ds1] VIC/b"},
		{url.URL{Scheme: "ds", Host: "ds1", Path: "[ds1] /VIC/b"}, "[ds1] VIC/b"},
		{url.URL{Scheme: "ds", Path: "[ds1] VIC"}, "[ds1] VIC"},
		{url.URL{Scheme: "ds", Host: "ds1", Path: "/VIC/b/"}, "[ds1] VIC/b"},
		{url.URL{Scheme: "ds", Host: "ds1"}, "[ds1] "},
		{url.URL{Scheme: "ds", Host: "ds1", Path: "[ds1]"}, "[ds1] "},
		{url.URL{Scheme: "ds", Host: "vsan", Path: "[vsan] 5e2bd45f-1fb0-c0d3-b9b2-0050560105a8/x"}, "[vsan] 5e2bd45f-1fb0-c0d3-b9b2-0050560105a8/x"},
		{url.URL{Scheme: "ds", Host: "ds1", Path: "[ds2] VIC"}, ""},
		{url.URL{Scheme: "ds", Host: "ds1", Path: "[ds1 VIC"}, ""},
		{url.URL{Scheme: "ds", Path: "/VIC"}, ""},
		{url.URL{Scheme: "nfs", Host: "host", Path: "/export"}, ""},
		{url.URL{}, ""},
	} {
		got, err := VolumeStorePath(c.location)
		switch {
		case c.want == "" && !errdefs.Is(err, errdefs.FailedPrecondition):
			t.Errorf("%+v: %v, %v", c.location, got, err)
		case c.want != "" && (err != nil || got.String() != c.want):
			t.Errorf("%+v: %v, %v, want %s", c.location, got, err, c.want)
		}
	}
}
