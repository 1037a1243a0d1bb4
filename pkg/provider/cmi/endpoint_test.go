// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// endpointOf parses what a test knows to be right.
func endpointOf(t testing.TB, text string) Endpoint {
	t.Helper()
	e, err := ParseEndpoint(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEndpointsAreReadAndWritten(t *testing.T) {
	t.Parallel()
	type view struct {
		Network, Address, Text, Target string
		Loopback                       bool
	}
	long := "/" + strings.Repeat("a", maxSocketPath-1)
	for in, want := range map[string]view{
		DefaultEndpoint:                   {"unix", "/run/vch-driver/cmi.sock", DefaultEndpoint, DefaultEndpoint, true},
		"unix:/run/vch-driver/cmi.sock":   {"unix", "/run/vch-driver/cmi.sock", DefaultEndpoint, DefaultEndpoint, true},
		"unix:///@x":                      {"unix", "/@x", "unix:///@x", "unix:///@x", true},
		"unix:///ä":                       {"unix", "/ä", "unix:///ä", "unix:///%C3%A4", true},
		"unix://" + long:                  {"unix", long, "unix://" + long, "unix://" + long, true},
		"tcp://127.0.0.1:0":               {"tcp", "127.0.0.1:0", "tcp://127.0.0.1:0", "passthrough:///127.0.0.1:0", true},
		"tcp://127.9.9.9:65535":           {"tcp", "127.9.9.9:65535", "tcp://127.9.9.9:65535", "passthrough:///127.9.9.9:65535", true},
		"tcp://[::1]:8443":                {"tcp", "[::1]:8443", "tcp://[::1]:8443", "passthrough:///[::1]:8443", true},
		"tcp://[::ffff:127.0.0.1]:8443":   {"tcp", "[::ffff:127.0.0.1]:8443", "tcp://[::ffff:127.0.0.1]:8443", "passthrough:///[::ffff:127.0.0.1]:8443", true},
		"tcp://LocalHost:08443":           {"tcp", "localhost:8443", "tcp://localhost:8443", "passthrough:///localhost:8443", true},
		"tcp://localhost.example.com:1":   {"tcp", "localhost.example.com:1", "tcp://localhost.example.com:1", "passthrough:///localhost.example.com:1", false},
		"tcp://vch_driver.Mcm.svc:8443":   {"tcp", "vch_driver.mcm.svc:8443", "tcp://vch_driver.mcm.svc:8443", "passthrough:///vch_driver.mcm.svc:8443", false},
		"tcp://10.0.0.1:8443":             {"tcp", "10.0.0.1:8443", "tcp://10.0.0.1:8443", "passthrough:///10.0.0.1:8443", false},
		"tcp://[2001:DB8:0::1]:8443":      {"tcp", "[2001:db8::1]:8443", "tcp://[2001:db8::1]:8443", "passthrough:///[2001:db8::1]:8443", false},
		"tcp://0.0.0.0:8443":              {"tcp", "0.0.0.0:8443", "tcp://0.0.0.0:8443", "passthrough:///0.0.0.0:8443", false},
		"tcp://:8443":                     {"tcp", ":8443", "tcp://:8443", "passthrough:///:8443", false},
		"tcp://1.driver.example.com.:443": {"tcp", "1.driver.example.com.:443", "tcp://1.driver.example.com.:443", "passthrough:///1.driver.example.com.:443", false},
	} {
		e, err := ParseEndpoint(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		got := view{e.Network(), e.Address(), e.String(), e.Target(), e.Loopback()}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", in, diff)
		}
		if again := endpointOf(t, e.String()); again != e {
			t.Errorf("%q: written as %s and read as %s", in, e, again)
		}
	}
}

func TestWrongEndpointsAreRefusedWithTheValueAndWhatWouldBeRight(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                    "empty",
		"/run/vch-driver/cmi.sock":            "scheme is missing",
		"run/cmi.sock":                        "scheme is missing",
		"localhost:8443":                      "scheme must be unix or tcp",
		"UNIX:///run/cmi.sock":                "scheme must be unix or tcp",
		"https://driver.example.com:8443":     "scheme must be unix or tcp",
		"dns:///driver.example.com:8443":      "scheme must be unix or tcp",
		"unix-abstract:cmi":                   "scheme must be unix or tcp",
		"unix:":                               "must be absolute",
		"unix:cmi.sock":                       "as unix:///cmi.sock",
		"unix:./cmi.sock":                     "must be absolute",
		"unix://run/cmi.sock":                 "as unix:///run/cmi.sock",
		"unix:@cmi":                           "abstract sockets",
		"unix://@cmi":                         "abstract sockets",
		"unix:///":                            "must be that of a file",
		"unix:///run/":                        "must be that of a file",
		"unix:////run/cmi.sock":               "as /run/cmi.sock",
		"unix:///run//cmi.sock":               "as /run/cmi.sock",
		"unix:///run/../cmi.sock":             "as /cmi.sock",
		"unix:///run/cmi.sock?mode=0666":      "without ?, # and %",
		"unix:///run/cmi.sock#1":              "without ?, # and %",
		"unix:///run/%63mi.sock":              "without ?, # and %",
		"unix:///run/cmi.sock\n":              "white space",
		" unix:///run/cmi.sock":               "white space",
		"unix:///run/\u202ecmi.sock":          "do not print",
		"unix:///run/\xff":                    "do not print",
		"unix:///run/\x00":                    "do not print",
		"unix:///" + strings.Repeat("a", 107): "has 108 bytes",
		"unix:///" + strings.Repeat("a", 107-1-len(".cmi-0123456789/s")) + "/b": "1 bytes too long",
		"tcp:127.0.0.1:8443":     "two slashes",
		"tcp://127.0.0.1":        "must have one port",
		"tcp://driver":           "must have one port",
		"tcp://":                 "must have one port",
		"tcp://driver:":          "port must be a number",
		"tcp://driver:https":     "port must be a number",
		"tcp://driver:-1":        "port must be a number",
		"tcp://driver:+1":        "port must be a number",
		"tcp://driver:65536":     "port must be a number",
		"tcp://driver:1:2":       "must have one port",
		"tcp://::1":              "in brackets",
		"tcp://2001:db8::1:8443": "in brackets",
		"tcp://[::1]":            "must have one port",
		"tcp://[127.0.0.1]:1":    "must be an IPv6 address",
		"tcp://[driver]:1":       "must be an IPv6 address",
		"tcp://[]:1":             "must be an IPv6 address",
		"tcp://[fe80::1%eth0]:1": "nothing but host and port",
		"tcp://driver:1/":        "nothing but host and port",
		"tcp://driver:1?a=b":     "nothing but host and port",
		"tcp://*:1":              "host must be a name",
		"tcp://dri ver:1":        "white space",
		"tcp://-driver:1":        "host must be a name",
		"tcp://a..b:1":           "host must be a name",
		"tcp://300.1.1.1:1":      "host must be a name",
		"tcp://127.1:1":          "host must be a name",
		"tcp://0x7f000001:1":     "host must be a name",
		"tcp://" + strings.Repeat("a.", 127) + ":1": "host must be a name",
	} {
		e, err := ParseEndpoint(in)
		switch {
		case !errdefs.Is(err, errdefs.InvalidArgument):
			t.Errorf("%q: %v, want InvalidArgument", in, err)
		case !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), strconv.Quote(in)) || !strings.Contains(err.Error(), rightEndpoints):
			t.Errorf("%q: %v, want it to show the value, say %q and what is right", in, err, want)
		case e != Endpoint{}:
			t.Errorf("%q: an endpoint comes with the error: %s", in, e)
		}
	}
}

func TestAPasswordInAnEndpointIsNotShown(t *testing.T) {
	t.Parallel()
	const planted = "hunter2"
	for _, in := range []string{
		"tcp://user:" + planted + "@driver:1",
		"https://user:" + planted + "@driver",
		"user:" + planted + "@driver:1",
		"tcp:user:" + planted + "@driver:1",
		"tcp://user:" + planted + "@driver:1/\x00",
	} {
		_, err := ParseEndpoint(in)
		if err == nil || strings.Contains(err.Error(), planted) || !strings.Contains(err.Error(), "xxxxx@driver") {
			t.Errorf("%q: %v, want an error with the host and without the password", in, err)
		}
	}
}

func TestTheZeroEndpointIsNowhere(t *testing.T) {
	t.Parallel()
	var e Endpoint
	if e.String() != "" || e.Target() != "" || e.Loopback() {
		t.Errorf("got %q, target %q, loopback %t", e, e.Target(), e.Loopback())
	}
	if _, err := Listen(t.Context(), e); !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Errorf("listen: %v, want InvalidArgument", err)
	}
	if _, err := ServerCredentials(e, TLSFiles{}, true); !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Errorf("credentials: %v, want InvalidArgument", err)
	}
}

func FuzzParseEndpoint(f *testing.F) {
	for _, seed := range []string{
		DefaultEndpoint, "unix:/a", "unix:@a", "unix://a/b", "unix:///a?b", "unix:///a%2fb", "tcp://:1", "tcp://[::1]:0",
		"tcp://a.b:65535", "tcp://u:p@h:1", "tcp://[fe80::1%25eth0]:1", "tcp://127.1:1", "tcp://xn--a:1", "http://a:1", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseEndpoint(text)
		if err != nil {
			if !errdefs.Is(err, errdefs.InvalidArgument) || e != (Endpoint{}) {
				t.Fatalf("%q: %v with %q", text, err, e)
			}
			return
		}
		if again := endpointOf(t, e.String()); again != e {
			t.Fatalf("%q: written as %q and read as %q", text, e, again)
		}
		target, err := url.Parse(e.Target())
		if err != nil || target.RawQuery != "" || target.Fragment != "" || target.Host != "" {
			t.Fatalf("%q: target %q: %v", text, e.Target(), err)
		}
		switch e.Network() {
		case networkUnix:
			if !filepath.IsAbs(e.Address()) || filepath.Clean(e.Address()) != e.Address() || len(e.Address()) > maxSocketPath || target.Path != e.Address() {
				t.Fatalf("%q: path %q, target %q", text, e.Address(), e.Target())
			}
		case networkTCP:
			_, port, err := net.SplitHostPort(e.Address())
			number, portErr := strconv.ParseUint(port, 10, 16)
			if err != nil || portErr != nil || port != strconv.FormatUint(number, 10) || target.Path != "/"+e.Address() {
				t.Fatalf("%q: address %q, target %q: %v, %v", text, e.Address(), e.Target(), err, portErr)
			}
		default:
			t.Fatalf("%q: network %q", text, e.Network())
		}
	})
}
