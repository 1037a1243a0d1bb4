// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package guestinfo_test

import (
	"maps"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
)

// part names fields at several depths, in each shape that a key can have.
type part struct {
	Name     string    `guestinfo:"common/name,hidden"`
	Deep     []string  `guestinfo:"init/sessions|vicadmin/cmd/Env,read-only"`
	Stores   []url.URL `guestinfo:"storage/image_stores,read-only"`
	Sessions map[string]struct {
		Started    string `guestinfo:"started,read-write"`
		StopSignal string `guestinfo:"stopSignal,read-only"`
	} `guestinfo:"sessions,read-only"`
	Version struct {
		PluginVersion int
	} `guestinfo:"version,read-only"`
}

func partKeys() map[string]string {
	return map[string]string{
		"common/name": "web-0",
		"guestinfo.vice./init/sessions|vicadmin/cmd/Env":  "1",
		"guestinfo.vice./init/sessions|vicadmin/cmd/Env~": "A=1|B=2",
		"guestinfo.vice./storage/image_stores":            "0",
		"guestinfo.vice./storage/image_stores|0/Scheme":   "ds",
		"guestinfo.vice./storage/image_stores|0/Host":     "ds1",
		"guestinfo.vice./sessions":                        "s",
		"guestinfo.vice..sessions|s.started":              "true",
		"guestinfo.vice./sessions|s/stopSignal":           "TERM",
		"guestinfo.vice./version/PluginVersion":           "8",
	}
}

func TestAPartIsReadFromItsOwnKeys(t *testing.T) {
	keys := partKeys()
	maps.Copy(keys, map[string]string{ // what others have to do with may be as broken as it likes
		"guestinfo.vice./mounts|m/dest":        "/m",
		"guestinfo.vice./networks":             "n",
		"guestinfo.vice./networks|n/ports":     "-9",
		"guestinfo.vice./sessions|s/cmd/Args":  "12",
		"guestinfo.vice./sessions|s/cmd/Args~": "one",
	})
	before := maps.Clone(keys)
	var got part
	if err := guestinfo.DecodePart(keys, &got); err != nil {
		t.Fatal(err)
	}
	var want part
	want.Name, want.Deep, want.Version.PluginVersion = "web-0", []string{"A=1", "B=2"}, 8
	want.Stores = []url.URL{{Scheme: "ds", Host: "ds1"}}
	want.Sessions = got.Sessions
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s := got.Sessions["s"]; len(got.Sessions) != 1 || s.Started != "true" || s.StopSignal != "TERM" {
		t.Errorf("sessions are %+v", got.Sessions)
	}
	if diff := cmp.Diff(before, keys); diff != "" {
		t.Errorf("the keys were changed (-before +after):\n%s", diff)
	}
}

func TestAPartIsWrittenToTheKeysThatItIsReadFrom(t *testing.T) {
	want := partKeys()
	var config part
	if err := guestinfo.DecodePart(want, &config); err != nil {
		t.Fatal(err)
	}
	got, err := guestinfo.EncodePart(&config)
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s is %q, want %q", key, got[key], value)
		}
	}
	for key := range got { // a URL is written with all that it has
		if _, ok := want[key]; !ok && !strings.HasPrefix(key, "guestinfo.vice./storage/image_stores|0/") {
			t.Errorf("nobody asked for %s", key)
		}
	}
	var again part
	if err := guestinfo.DecodePart(got, &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config, again); diff != "" {
		t.Errorf("(-first +second):\n%s", diff)
	}
}

func TestAnEmptyMapGivesAnEmptyPart(t *testing.T) {
	for _, keys := range []map[string]string{nil, {}} {
		var got part
		if err := guestinfo.DecodePart(keys, &got); err != nil {
			t.Fatal(err)
		}
		if got.Name != "" || len(got.Deep) != 0 || len(got.Stores) != 0 || len(got.Sessions) != 0 || got.Version.PluginVersion != 0 {
			t.Errorf("got %+v", got)
		}
	}
}

func TestAPartThatCannotBeReadIsRefusedByItsKey(t *testing.T) {
	const env = "guestinfo.vice./init/sessions|vicadmin/cmd/Env"
	tests := map[string]struct {
		change map[string]string
		want   string
	}{
		"a length below -1":              {map[string]string{env: "-2"}, `key "` + env + `": the index of the last element is -2`},
		"a length beyond the list":       {map[string]string{env: "2"}, `key "` + env + `": 3 elements are announced, "` + env + `~" holds 2`},
		"a length beyond sense":          {map[string]string{env: "65536"}, `key "` + env + `": the index of the last element is 65536`},
		"a length of URLs below -1":      {map[string]string{"guestinfo.vice./storage/image_stores": "-3"}, `key "guestinfo.vice./storage/image_stores"`},
		"a length of URLs beyond memory": {map[string]string{"guestinfo.vice./storage/image_stores": "4000000000"}, `key "guestinfo.vice./storage/image_stores"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			keys := partKeys()
			maps.Copy(keys, test.change)
			keys[env+"~"] = "planted|secret"
			err := guestinfo.DecodePart(keys, new(part))
			if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "planted") {
				t.Errorf("the error shows a value: %v", err)
			}
		})
	}
}

func TestAPartThatCannotBeWrittenIsRefusedByItsField(t *testing.T) {
	tests := map[string]struct {
		part any
		want string
	}{
		"nothing":                 {(*part)(nil), "the configuration is nil"},
		"a separator in a list":   {&part{Deep: []string{"a", "planted|b"}}, "Deep[1]: it contains a '|'"},
		"a type that VIC has not": {&struct{ Ratio float64 }{1}, "Ratio: VIC has no form for a value of type float64"},
		"two fields of one key": {&struct {
			A string `guestinfo:"x,hidden"`
			B string `guestinfo:"x,hidden"`
		}{"a", "b"}, `B: it would be stored under the key "x", which belongs to A`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := guestinfo.EncodePart(test.part)
			if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "planted") {
				t.Errorf("the error shows a value: %v", err)
			}
		})
	}
}
