// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package guestinfo

import (
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

func TestWrongNeutralJSONIsRefusedByName(t *testing.T) {
	tests := []struct {
		name, json, want string
	}{
		{"no JSON", `{`, "read the configuration as JSON: unexpected EOF"},
		{"no object", `[]`, "read the configuration as JSON: want an object, got a list"},
		{"two objects", `{} {}`, "read the configuration as JSON: there is more after the object"},
		{"an unknown field", `{"Hostnam": "a"}`, "Hostnam: there is no such field"},
		{"the name of an embedded field", `{"ID": "a"}`, "ID: there is no such field"},
		{"an unknown inner field", `{"Sessions": {"s": {"Cmd": {"Arg": []}}}}`, `Sessions["s"].Cmd.Arg: there is no such field`},
		{"a number for a text", `{"Hostname": 1}`, "Hostname: want a text, got a number"},
		{"a text for a boolean", `{"AsymmetricRouting": "true"}`, "AsymmetricRouting: want true or false, got a text"},
		{"a boolean for a number", `{"CreateTime": true}`, "CreateTime: want a number, got a boolean"},
		{"a fraction", `{"CreateTime": 1.5}`, "CreateTime: 1.5 is not a whole number of 64 bits"},
		{"a number of 65 bits", `{"CreateTime": 9223372036854775808}`, "CreateTime: 9223372036854775808 is not a whole number of 64 bits"},
		{"an object for a list", `{"Sessions": {"s": {"Cmd": {"Args": {}}}}}`, `Sessions["s"].Cmd.Args: want a list, got an object`},
		{"a number in a list of texts", `{"Sessions": {"s": {"Cmd": {"Args": [1]}}}}`, `Sessions["s"].Cmd.Args[0]: want a text, got a number`},
		{"a list for a map", `{"Sessions": []}`, "Sessions: want an object, got a list"},
		{"a text for bytes", `{"Key": "AA=="}`, "Key: want an object, got a text"},
		{"bytes without base64", `{"Key": {}}`, "Key.base64: want a text, got null"},
		{"bad base64", `{"Key": {"base64": "*planted*"}}`, "Key.base64: it is not padded standard base64"},
		{
			"an unknown field of bytes", `{"Key": {"base64": "", "hex": ""}}`,
			"Key.hex: there is no such field; known are base64",
		},
		{
			"a bad time", `{"Diagnostics": {"ExitLogs": [{"Time": "yesterday"}]}}`,
			`Diagnostics.ExitLogs[0].Time: "yesterday" is not a time in RFC 3339 form`,
		},
		{
			"a bad address", `{"Networks": {"n": {"Network": {"Nameservers": [{"ip": "10.0.0"}]}}}}`,
			`Networks["n"].Network.Nameservers[0].ip: "10.0.0" is not an IP address`,
		},
		{
			"an address too long", `{"Networks": {"n": {"IP": {"ip": "fe80::1", "ip_bytes": 4}}}}`,
			`Networks["n"].IP.ip_bytes: fe80::1 cannot be held in 4 bytes; use 4 or 16`,
		},
		{
			"a bad mask", `{"Networks": {"n": {"IP": {"mask_hex": "/24"}}}}`,
			`Networks["n"].IP.mask_hex: "/24" is not hexadecimal`,
		},
		{
			"an unknown part of a URL", `{"Mounts": {"m": {"Source": {"schema": "nfs"}}}}`,
			`Mounts["m"].Source.schema: there is no such field; known are force_query, fragment, host, omit_host, opaque, path, raw_fragment, raw_path, raw_query, scheme, user`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseExecutorJSON([]byte(test.json))
			if !errdefs.Is(err, errdefs.InvalidArgument) || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestNeutralJSONKeepsEveryValue(t *testing.T) {
	config := &VCHConfig{
		ExecutorConfig: ExecutorConfig{
			CreateTime:  1<<63 - 1,
			Annotations: map[string]string{"<&>": "<&>", "empty": ""},
			Diagnostics: Diagnostics{ExitLogs: []ExitLog{
				{Time: time.Date(2022, 6, 10, 1, 2, 3, 4, time.FixedZone("CET", 3600))},
				{Time: time.Date(2022, 6, 10, 1, 2, 3, 4, time.FixedZone("CEST", 7200))},
				{Time: time.Date(2022, 6, 10, 1, 2, 3, 4, time.FixedZone("", -16200)), ExitStatus: -1},
				{},
			}},
			Sessions: map[string]*SessionConfig{"nil": nil},
			Networks: map[string]*NetworkEndpoint{"n": {
				IP: &net.IPNet{IP: net.IP{10, 0, 0, 1}, Mask: net.IPMask{255, 0, 255, 0}},
				Network: ContainerNetwork{
					Nameservers: []net.IP{net.ParseIP("fe80::1"), net.ParseIP("10.0.0.1"), {1, 2, 3}, nil},
					TrustLevel:  TrustPeers,
				},
			}},
		},
		Connection: Connection{Keepalive: time.Minute},
		Storage: Storage{ImageStores: []url.URL{{
			Scheme: "s", Opaque: "o", Host: "h", Path: "p", RawPath: "rp", ForceQuery: true, RawQuery: "rq", Fragment: "f", User: url.User("u"), OmitHost: true, RawFragment: "rf",
		}, {}}},
		Network:  Network{BridgeNetworkWidth: &net.IPMask{255, 255, 0, 0}},
		Registry: Registry{RegistryBlacklist: []string{"a|b"}, InsecureRegistries: []string{}},
	}
	data, err := FormatVCHJSON(config)
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseVCHJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	sameTime := cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) && a.String() == b.String() })
	sameUser := cmp.Comparer(func(a, b *url.Userinfo) bool { return a.String() == b.String() })
	if diff := cmp.Diff(config, back, sameTime, sameUser); diff != "" {
		t.Errorf("(-in +out):\n%s\nin the form\n%s", diff, data)
	}
	if strings.Contains(string(data), `\u003c`) {
		t.Error("'<' is escaped")
	}
}

func TestAURLMayBeSpelledAsInGo(t *testing.T) {
	config, err := ParseExecutorJSON([]byte(`{"Mounts": {"m": {"Source": {"Scheme": "nfs", "RawQuery": "a=b", "rawpath": "/x", "force_query": true}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := url.URL{Scheme: "nfs", RawQuery: "a=b", RawPath: "/x", ForceQuery: true}
	if diff := cmp.Diff(want, config.Mounts["m"].Source); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestANilConfigurationHasNoJSON(t *testing.T) {
	if _, err := FormatExecutorJSON(nil); !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Errorf("got %v", err)
	}
	if _, err := FormatVCHJSON(nil); !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Errorf("got %v", err)
	}
	for _, form := range []string{"null", `"x"`, "1", "true"} {
		if _, err := ParseVCHJSON([]byte(form)); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%s: got %v", form, err)
		}
	}
}

func TestARedactedConfigurationShowsNoSecret(t *testing.T) {
	const secret = "planted"
	session := func() *SessionConfig {
		return &SessionConfig{Cmd: Cmd{Args: []string{"shown"}, Env: []string{"TOKEN=" + secret, secret}}}
	}
	certificate := &RawCertificate{Key: []byte(secret), Cert: []byte("shown")}
	config := &VCHConfig{
		ExecutorConfig: ExecutorConfig{
			Key:      []byte(secret),
			Sessions: map[string]*SessionConfig{"s": session(), "nil": nil},
			Execs:    map[string]*SessionConfig{"e": session()},
		},
		Connection: Connection{Token: secret},
		Certificate: Certificate{
			HostCertificate:     certificate,
			HostCertificates:    map[string]*RawCertificate{"h": certificate},
			NetworkCertificates: map[string]*RawCertificate{"n": certificate, "nil": nil},
		},
	}
	redacted := RedactVCH(config)
	keys, err := EncodeVCH(redacted)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := EncodeVCH(config)
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != len(plain) {
		t.Errorf("%d keys became %d", len(plain), len(keys))
	}
	for key, value := range keys {
		if strings.Contains(value, secret) || strings.Contains(value, "cGxhbnRlZA==") {
			t.Errorf("%s = %q shows the secret", key, value)
		}
	}
	env := redacted.Sessions["s"].Cmd.Env
	if diff := cmp.Diff([]string{"TOKEN=REDACTED", "REDACTED"}, env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if got := config.Sessions["s"].Cmd.Env[0]; got != "TOKEN="+secret {
		t.Errorf("the original was changed to %q", got)
	}
	if RedactExecutor(&ExecutorConfig{}).Key != nil {
		t.Error("a missing key became one")
	}
}
