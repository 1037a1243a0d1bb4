// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

func TestEndpointsAreNormalised(t *testing.T) {
	for in, want := range map[string]string{
		"vcenter.example.com":             "https://vcenter.example.com/sdk",
		" VCenter.Example.com\n":          "https://vcenter.example.com/sdk",
		"vcenter.example.com:443":         "https://vcenter.example.com/sdk",
		"vcenter.example.com:8443":        "https://vcenter.example.com:8443/sdk",
		"https://vcenter.example.com":     "https://vcenter.example.com/sdk",
		"https://vcenter.example.com/":    "https://vcenter.example.com/sdk",
		"https://vcenter.example.com/sdk": "https://vcenter.example.com/sdk",
		"https://10.0.0.1:443/sdk/":       "https://10.0.0.1/sdk",
		"::1":                             "https://[::1]/sdk",
		"[2001:db8::1]:8443":              "https://[2001:db8::1]:8443/sdk",
		"http://127.0.0.1:8989/sdk":       "http://127.0.0.1:8989/sdk",
		"http://localhost":                "http://localhost/sdk",
		"http://[::1]:80":                 "http://[::1]/sdk",
	} {
		u, err := parseEndpoint(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		if u.String() != want {
			t.Errorf("%q: got %s, want %s", in, u, want)
		}
	}
}

func TestBadEndpointsAreRefusedWithoutShowingAPassword(t *testing.T) {
	for in, want := range map[string]string{
		"https://":                        "host is missing",
		"https://u:" + planted + "@vc":    "credentials do not belong",
		"u:" + planted + "@vc":            "credentials do not belong",
		"https://u:" + planted + "%zz@vc": "not a host or URL",
		"http://vcenter.example.com":      "plain http",
		"ftp://vcenter.example.com":       "scheme must be https",
		"https://vcenter.example.com/ui":  "path must be /sdk",
		"https://vcenter.example.com?a=b": "query and fragment",
		"vcenter.example.com:0":           "port must be",
		"vcenter.example.com:99999":       "port must be",
		"vcenter example.com":             "not a host or URL",
	} {
		_, err := parseEndpoint(in)
		switch {
		case !errdefs.Is(err, errdefs.InvalidArgument):
			t.Errorf("%q: %v, want InvalidArgument", in, err)
		case strings.Contains(err.Error(), planted):
			t.Errorf("%q: the password is shown: %v", in, err)
		case !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), v1alpha1.SecretHost):
			t.Errorf("%q: %v, want it to name %s and say %q", in, err, v1alpha1.SecretHost, want)
		}
	}
}

func secret(changes map[string]string) map[string][]byte {
	data := map[string][]byte{
		v1alpha1.SecretHost:     []byte("vcenter.example.com\n"),
		v1alpha1.SecretUsername: []byte(testUser),
		v1alpha1.SecretPassword: []byte(" " + planted + " "),
		v1alpha1.SecretUserData: []byte("#!/bin/sh"),
	}
	for k, v := range changes {
		data[k] = []byte(v)
	}
	return data
}

func TestConfigFromSecret(t *testing.T) {
	got, err := ConfigFromSecret(secret(map[string]string{v1alpha1.SecretInsecure: "true", v1alpha1.SecretThumbprint: strings.Repeat("AB:", 19) + "AB\n"}))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{Endpoint: "vcenter.example.com", Username: testUser, Password: " " + planted + " ", Insecure: true, Thumbprint: strings.Repeat("AB:", 19) + "AB"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

func TestBadSecretsNameTheKey(t *testing.T) {
	for key, tc := range map[string]struct {
		value string
		want  errdefs.Kind
	}{
		v1alpha1.SecretHost:       {"", errdefs.Unauthenticated},
		v1alpha1.SecretUsername:   {" ", errdefs.Unauthenticated},
		v1alpha1.SecretPassword:   {"", errdefs.Unauthenticated},
		v1alpha1.SecretInsecure:   {"maybe", errdefs.InvalidArgument},
		v1alpha1.SecretCABundle:   {"no PEM", errdefs.InvalidArgument},
		v1alpha1.SecretThumbprint: {"AB:CD", errdefs.InvalidArgument},
	} {
		_, err := ConfigFromSecret(secret(map[string]string{key: tc.value}))
		if !errdefs.Is(err, tc.want) || !strings.Contains(err.Error(), key) || strings.Contains(err.Error(), planted) {
			t.Errorf("%s = %q: got %v, want %s naming the key", key, tc.value, err, tc.want)
		}
	}
	if _, err := ConfigFromSecret(nil); !errdefs.Is(err, errdefs.Unauthenticated) {
		t.Errorf("no data: %v, want Unauthenticated", err)
	}
}

func TestAConfigPrintsWithoutItsPassword(t *testing.T) {
	c := Config{Endpoint: "https://u:" + planted + "@vc", Username: testUser, Password: planted}
	b, err := json.Marshal(Config{Username: testUser, Password: planted})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprint(c), fmt.Sprintf("%v %+v %#v %s", c, &c, c, c), fmt.Sprint(c.MarshalLog()), string(b)} {
		if strings.Contains(s, planted) || !strings.Contains(s, testUser) {
			t.Errorf("printed as %s", s)
		}
	}
}

func TestEqualConfigsShareASessionAndOthersDoNot(t *testing.T) {
	base := Config{Endpoint: "vcenter.example.com", Username: testUser, Password: planted}
	key := func(change func(*Config)) [32]byte {
		c := base
		change(&c)
		to, err := c.check()
		if err != nil {
			t.Fatal(err)
		}
		return to.key()
	}
	want := key(func(*Config) {})
	if key(func(c *Config) { c.Endpoint = "https://VCENTER.example.com:443/sdk" }) != want {
		t.Error("another spelling of the endpoint makes another session")
	}
	for what, change := range map[string]func(*Config){
		"endpoint":   func(c *Config) { c.Endpoint = "vcenter.example.com:8443" },
		"user":       func(c *Config) { c.Username = "other" },
		"password":   func(c *Config) { c.Password = "other" },
		"thumbprint": func(c *Config) { c.Thumbprint = strings.Repeat("AB", 20) },
		"insecure":   func(c *Config) { c.Insecure = true },
		"border":     func(c *Config) { c.Username, c.Password = testUser+planted[:1], planted[1:] },
	} {
		if key(change) == want {
			t.Errorf("another %s shares the session", what)
		}
	}
}

func TestTrust(t *testing.T) {
	s := startSim(t)
	raw := s.Certificate().Raw
	sum1, sum256 := sha1.Sum(raw), sha256.Sum256(raw)
	other := s.config().CABundle
	for name, tc := range map[string]struct {
		trust func(*Config)
		want  string
	}{
		"CA bundle":                       {func(c *Config) { c.CABundle = other }, ""},
		"SHA-1 thumbprint":                {func(c *Config) { c.Thumbprint = colons(sum1[:]) }, ""},
		"SHA-256 thumbprint":              {func(c *Config) { c.Thumbprint = strings.ToLower(colons(sum256[:])) }, ""},
		"thumbprint without colons":       {func(c *Config) { c.Thumbprint = hex.EncodeToString(sum256[:]) }, ""},
		"insecure":                        {func(c *Config) { c.Insecure = true }, ""},
		"system roots":                    {func(*Config) {}, colons(sum256[:])},
		"wrong thumbprint":                {func(c *Config) { c.Thumbprint = strings.Repeat("AB", 32) }, colons(sum256[:])},
		"wrong thumbprint beats insecure": {func(c *Config) { c.Thumbprint, c.Insecure = strings.Repeat("AB", 20), true }, colons(sum1[:])},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := s.config()
			cfg.CABundle = nil
			tc.trust(&cfg)
			_, err := newPool(t, Options{}).Client(t.Context(), cfg)
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), v1alpha1.SecretThumbprint) {
				t.Errorf("got %v, want FailedPrecondition with the thumbprint %s and the key to set", err, tc.want)
			}
		})
	}
}

func TestTheOlderVersionIsSpoken(t *testing.T) {
	for _, tc := range []struct{ a, b, want string }{
		{"6.5", "9.1.0.0", "6.5"},
		{"9.2.0.0", "9.1.0.0", "9.1.0.0"},
		{"10.0", "9.1.0.0", "9.1.0.0"},
		{"6.7.3", "6.7", "6.7"},
		{"8.0.3.0", "8.0.3", "8.0.3.0"},
	} {
		if got := olderVersion(tc.a, tc.b); got != tc.want {
			t.Errorf("olderVersion(%s, %s) = %s, want %s", tc.a, tc.b, got, tc.want)
		}
	}
}
