// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package guestinfo

import (
	"net"
	"net/mail"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

func TestWhatCannotBeReadBackIsRefusedByName(t *testing.T) {
	const secret = "s3cr3t"
	env := func(entries ...string) *ExecutorConfig {
		return &ExecutorConfig{Sessions: map[string]*SessionConfig{"s": {Cmd: Cmd{Env: entries}}}}
	}
	networks := func(names ...string) *ExecutorConfig {
		c := &ExecutorConfig{Networks: map[string]*NetworkEndpoint{}}
		for _, name := range names {
			c.Networks[name] = &NetworkEndpoint{}
		}
		return c
	}
	different := func(names ...string) *ExecutorConfig {
		c := networks(names...)
		c.Networks[names[0]].Static = true
		return c
	}
	exitAt := func(at time.Time) *ExecutorConfig {
		return &ExecutorConfig{Diagnostics: Diagnostics{ExitLogs: []ExitLog{{Time: at}}}}
	}
	tests := []struct {
		name   string
		config *ExecutorConfig
		want   string
	}{
		{"no configuration", nil, "encode guestinfo: the configuration is nil"},
		{
			"a pipe in an argument",
			&ExecutorConfig{Sessions: map[string]*SessionConfig{"s": {Cmd: Cmd{Args: []string{"a", "b|" + secret}}}}},
			`Sessions["s"].Cmd.Args[1]: it contains a '|', which separates list elements and cannot be escaped`,
		},
		{
			"a pipe in an environment entry", env("A=1", "TOKEN="+secret+"|"),
			`Sessions["s"].Cmd.Env[1]: it contains a '|', which separates list elements and cannot be escaped`,
		},
		{
			"a pipe in a port",
			&ExecutorConfig{Networks: map[string]*NetworkEndpoint{"n": {Ports: []string{"80|81"}}}},
			`Networks["n"].Ports[0]: it contains a '|', which separates list elements and cannot be escaped`,
		},
		{
			"a pipe in a map key", networks("a|b"),
			`Networks["a|b"]: the map key contains a '|', which separates map keys and cannot be escaped`,
		},
		{
			"map keys that become equal, with different values", different("a.b", "a/b"),
			`Networks["a/b"]: the map key would be stored like "a.b", which has another value: '.' and '/' become one character and text after an '@' is left out`,
		},
		{
			"map keys that are equal up to an at sign, with different values", different("a", "a@b"),
			`Networks["a@b"]: the map key would be stored like "a", which has another value: '.' and '/' become one character and text after an '@' is left out`,
		},
		{
			"an entry inside another one's place", networks("n", "n/network"),
			`Networks["n/network"].Common.ExecutionEnvironment: it would be stored under the key ` +
				`"guestinfo.vice./networks|n/network/Common/ExecutionEnvironment", which belongs to Networks["n"].Network.Common.ExecutionEnvironment`,
		},
		{
			"a lone empty map key", &ExecutorConfig{Annotations: map[string]string{"": secret}},
			"Annotations: its only map key is empty, which cannot be told from an empty map",
		},
		{
			"a year of five digits", exitAt(time.Date(12022, 1, 1, 0, 0, 0, 0, time.UTC)),
			"Diagnostics.ExitLogs[0].Time: the time has a year, zone offset or zone name that cannot be read back",
		},
		{
			"a zone name of two words", exitAt(time.Date(2022, 1, 1, 0, 0, 0, 0, time.FixedZone("my zone", 3600))),
			"Diagnostics.ExitLogs[0].Time: the time has a year, zone offset or zone name that cannot be read back",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			keys, err := EncodeExecutor(test.config)
			if !errdefs.Is(err, errdefs.InvalidArgument) || err.Error() != test.want {
				t.Errorf("got %v, %v\nwant InvalidArgument: %s", keys, err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows a value: %v", err)
			}
		})
	}
}

func TestAListOfPointersIsRefused(t *testing.T) {
	config := &VCHConfig{Certificate: Certificate{UserCertificates: []*RawCertificate{{}}}}
	_, err := EncodeVCH(config)
	if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.HasPrefix(err.Error(), "Certificate.UserCertificates[0]: ") {
		t.Errorf("got %v", err)
	}
}

func TestSeparatorsInMapKeysSurviveWhereVICKeepsThem(t *testing.T) {
	config := &ExecutorConfig{
		Annotations: map[string]string{"a.b": "1", "a/b": "2", "a@b": "3", "": "4"},
		Mounts:      map[string]MountSpec{"v.x": {Path: "/one"}, "w/x": {Path: "/two"}, "with space": {Path: "/three"}},
	}
	keys, err := EncodeExecutor(config)
	if err != nil {
		t.Fatal(err)
	}
	if got := keys["guestinfo.vice./mounts|v/x/dest"]; got != "/one" {
		t.Errorf("the mount v.x is at %q", got)
	}
	back, err := DecodeExecutor(keys)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.Annotations, back.Annotations); diff != "" {
		t.Errorf("annotations (-in +out):\n%s", diff)
	}
	if diff := cmp.Diff(config.Mounts, back.Mounts); diff != "" {
		t.Errorf("mounts (-in +out):\n%s", diff)
	}
}

func TestScopesGiveKeysTheirShape(t *testing.T) {
	ip := func(s string) net.IP { return net.ParseIP(s).To4() }
	mask := net.CIDRMask(24, 32)
	config := &ExecutorConfig{
		Diagnostics: Diagnostics{ExitLogs: []ExitLog{{Time: time.Date(2022, 6, 10, 13, 26, 47, 0, time.UTC)}}},
		Execs: map[string]*SessionConfig{"e": {
			Common: Common{ID: "e", Notes: "hidden and non-persistent: no key"},
			Cmd:    Cmd{Args: []string{"a", "b"}},
		}},
		Networks: map[string]*NetworkEndpoint{"n": {
			IP:       &net.IPNet{IP: ip("10.0.0.5"), Mask: mask},
			Assigned: net.IPNet{IP: ip("10.0.0.6"), Mask: mask},
			Network: ContainerNetwork{
				Aliases:      []string{"c:a"},
				Destinations: []net.IPNet{{IP: ip("10.1.0.0"), Mask: mask}},
				Nameservers:  []net.IP{ip("10.0.0.2"), nil},
				Pools:        []IPRange{{FirstIP: ip("10.0.0.10")}},
				Assigned:     AssignedNetwork{Gateway: net.IPNet{IP: ip("10.0.0.1"), Mask: mask}, Nameservers: []net.IP{ip("10.0.0.3")}},
			},
		}},
	}
	keys, err := EncodeExecutor(config)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"guestinfo.vice./execs@non-persistent":                             "e",
		"guestinfo.vice./execs|e/common/id@non-persistent":                 "e",
		"guestinfo.vice./execs|e/cmd/Args@non-persistent":                  "1",
		"guestinfo.vice./execs|e/cmd/Args~@non-persistent":                 "a|b",
		"guestinfo.vice..execs|e.detail.starttime@non-persistent":          "0",
		"guestinfo.vice./networks|n/ip/IP":                                 "CgAABQ==",
		"guestinfo.vice./networks|n/ip/Mask":                               "////AA==",
		"guestinfo.vice..networks|n.assigned.IP":                           "CgAABg==",
		"guestinfo.vice./networks|n/network/destinations":                  "0",
		"guestinfo.vice./networks|n/network/destinations|0/IP":             "CgEAAA==",
		"guestinfo.vice./networks|n/network/dns":                           "1",
		"guestinfo.vice./networks|n/network/dns|0":                         "CgAAAg==",
		"guestinfo.vice./networks|n/network/pools|0/first":                 "CgAACg==",
		"networks|n/network/aliases":                                       "0",
		"networks|n/network/aliases~":                                      "c:a",
		"guestinfo.vice..networks|n.network.assigned.gateway.IP":           "CgAAAQ==",
		"guestinfo.vice..networks|n.network.assigned.dns|0":                "CgAAAw==",
		"guestinfo.vice..diagnostics.exitlogs|0.Time":                      "2022-06-10 13:26:47 +0000 UTC",
		"guestinfo.vice./networks|n/network/Common/name":                   "",
		"guestinfo.vice./execs|e/diagnostics/debug@non-persistent":         "0",
		"guestinfo.vice..execs|e.diagnostics.resurrections@non-persistent": "0",
	} {
		if got, ok := keys[key]; !ok || got != want {
			t.Errorf("%s: got %q (there: %t), want %q", key, got, ok, want)
		}
	}
	for key := range keys {
		if strings.Contains(key, "execs") && strings.Contains(key, "notes") {
			t.Errorf("%s: a field that is hidden and non-persistent has no key in VIC", key)
		}
	}
	if _, ok := keys["guestinfo.vice./networks|n/network/dns|1"]; ok {
		t.Error("an empty address has a key")
	}
	back, err := DecodeExecutor(keys)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.Networks["n"].Network.Nameservers, back.Networks["n"].Network.Nameservers); diff != "" {
		t.Errorf("name servers (-in +out):\n%s", diff)
	}
	running := PoweredOnKeys(keys)
	if _, ok := running["guestinfo.vice./execs|e/cmd/Args~@non-persistent"]; !ok {
		t.Error("a non-persistent key is not among those for a running VM")
	}
	if _, ok := running["guestinfo.vice..networks|n.assigned.IP"]; ok {
		t.Error("a key of the guest is among those for a running VM")
	}
}

func TestSecretsAndNestedTypesOfAVCHComeBack(t *testing.T) {
	certificate := &RawCertificate{Key: []byte("opaque"), Cert: []byte("pem")}
	config := &VCHConfig{
		Contacts: Contacts{Admin: []mail.Address{{Name: "A", Address: "a@example.com"}}},
		Certificate: Certificate{
			NetworkCertificates:            map[string]*RawCertificate{"10.0.0.0/8": certificate},
			HostCertificates:               map[string]*RawCertificate{"registry.example.com": certificate},
			RegistryCertificateAuthorities: []byte("ca"),
		},
		Storage: Storage{VolumeLocations: map[string]*url.URL{"v": {
			Scheme: "nfs", Host: "h", Path: "/p q", RawPath: "/p%20q", RawQuery: "vers=3", Fragment: "f", Opaque: "o", ForceQuery: true,
		}}},
	}
	keys, err := EncodeVCH(config)
	if err != nil {
		t.Fatal(err)
	}
	if got := keys["guestinfo.vice./cert/NetworkCertificates|10/0/0/0/8/Key@secret"]; got != "b3BhcXVl" {
		t.Errorf("the secret key of a map entry holds %q", got)
	}
	back, err := DecodeVCH(keys)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.NetworkCertificates, back.NetworkCertificates); diff != "" {
		t.Errorf("certificates (-in +out):\n%s", diff)
	}
	if diff := cmp.Diff(config.VolumeLocations, back.VolumeLocations); diff != "" {
		t.Errorf("volume stores (-in +out):\n%s", diff)
	}
	if diff := cmp.Diff(config.Admin, back.Admin); diff != "" {
		t.Errorf("contacts (-in +out):\n%s", diff)
	}
}

func TestUserInformationOfAURLIsLeftOut(t *testing.T) {
	config := &ExecutorConfig{Mounts: map[string]MountSpec{"v": {Source: url.URL{Scheme: "nfs", User: url.UserPassword("u", "planted"), Host: "h"}}}}
	keys, err := EncodeExecutor(config)
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range keys {
		if strings.Contains(key+value, "planted") {
			t.Errorf("%s = %q shows the password", key, value)
		}
	}
}

// A wrong word in a tag would silently change keys.
func TestAllTagsAreWellFormed(t *testing.T) {
	words := []string{"read-only", "read-write", "hidden", "secret", "non-persistent"}
	seen := map[reflect.Type]bool{}
	var visit func(reflect.Type)
	visit = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			visit(typ.Elem())
			return
		case reflect.Struct:
		default:
			return
		}
		if seen[typ] || typ.PkgPath() != reflect.TypeFor[ExecutorConfig]().PkgPath() {
			return
		}
		seen[typ] = true
		for i := range typ.NumField() {
			field := typ.Field(i)
			visit(field.Type)
			tag, tagged := field.Tag.Lookup(tagName)
			if !tagged || tag == "-" {
				continue
			}
			scopes := strings.Split(tag, ",")[1:]
			if len(scopes) == 0 {
				t.Errorf("%s.%s: the tag %q has no scope", typ, field.Name, tag)
			}
			for _, word := range scopes {
				if !slices.Contains(words, word) {
					t.Errorf("%s.%s: the tag %q has the unknown scope %q", typ, field.Name, tag, word)
				}
			}
		}
	}
	visit(reflect.TypeFor[VCHConfig]())
	if len(seen) < 20 {
		t.Errorf("only %d types were visited", len(seen))
	}
}
