// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

func TestSecretsAreReadInAllTheirForms(t *testing.T) {
	tests := []struct {
		name, yaml string
		want       map[string]string
		err        string
	}{
		{"data", "kind: Secret\ndata:\n  vsphereHost: aG9zdA==\n", map[string]string{"vsphereHost": "host"}, ""},
		{"string data", "stringData:\n  vsphereHost: host\n", map[string]string{"vsphereHost": "host"}, ""},
		{
			"both, of which string data wins as in Kubernetes", "kind: Secret\ndata: {a: aG9zdA==, b: Yg==}\nstringData: {a: x}\n",
			map[string]string{"a": "x", "b": "b"},
			"",
		},
		{"JSON of plain values", `{"vsphereHost": "host"}`, map[string]string{"vsphereHost": "host"}, ""},
		{"another kind", "kind: ConfigMap\ndata: {}\n", nil, "it holds a ConfigMap; want a Secret"},
		{"plain text in data", "kind: Secret\ndata:\n  vspherePassword: planted!\n", nil, "it is not the YAML of a Secret: data must be base64, stringData plain texts"},
		{"no YAML", "{", nil, "it is not the YAML of a Secret: data must be base64, stringData plain texts"},
		{"nothing", "", nil, "it is not the YAML of a Secret: it has neither data nor stringData"},
		{"a nested object", "spec: {a: b}\n", nil, "it is not the YAML of a Secret: it has neither data nor stringData"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			secret, err := parseSecret([]byte(test.yaml))
			compare(t, test.want, secret, test.err, err)
		})
	}
}

func TestGovcsVariablesAreUnderstood(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	hosts := file("hosts", "other.example.com:443 AA:AA\nvc.example.com:443 BB:BB\nvc.example.com:8443 CC:CC\n")
	one, two := file("one.pem", "ONE"), file("two.pem", "TWO")
	base := map[string]string{"vsphereHost": "https://vc.example.com", "vsphereUsername": "u", "vspherePassword": "planted"}
	with := func(key, value string) map[string]string {
		out := map[string]string{key: value}
		for k, v := range base {
			if _, ok := out[k]; !ok {
				out[k] = v
			}
		}
		return out
	}
	tests := []struct {
		name string
		env  map[string]string
		want map[string]string
		err  string
	}{
		{"a host", map[string]string{"GOVC_URL": "vc.example.com", "GOVC_USERNAME": "u", "GOVC_PASSWORD": "planted"}, base, ""},
		{"a URL with everything", map[string]string{"GOVC_URL": "https://u:planted@vc.example.com"}, base, ""},
		{"user and password win over the URL", map[string]string{"GOVC_URL": "x:y@vc.example.com", "GOVC_USERNAME": "u", "GOVC_PASSWORD": "planted"}, base, ""},
		{"a path", map[string]string{"GOVC_URL": "u:planted@vc.example.com/sdk"}, with("vsphereHost", "https://vc.example.com/sdk"), ""},
		{"insecure", map[string]string{"GOVC_URL": "u:planted@vc.example.com", "GOVC_INSECURE": "1"}, with("vsphereInsecureSSL", "1"), ""},
		{
			"CA certificates",
			map[string]string{"GOVC_URL": "u:planted@vc.example.com", "GOVC_TLS_CA_CERTS": one + string(filepath.ListSeparator) + two},
			with("vsphereCABundle", "ONE\nTWO\n"), "",
		},
		{"a known host", map[string]string{"GOVC_URL": "u:planted@vc.example.com", "GOVC_TLS_KNOWN_HOSTS": hosts}, with("vsphereThumbprint", "BB:BB"), ""},
		{"an unknown host", map[string]string{"GOVC_URL": "u:planted@vc.example.com", "GOVC_TLS_KNOWN_HOSTS": filepath.Join(dir, "none")}, base, ""},
		{"no user", map[string]string{"GOVC_URL": "vc.example.com", "GOVC_PASSWORD": "planted"}, nil, "GOVC_USERNAME is not set"},
		{"no password", map[string]string{"GOVC_URL": "vc.example.com", "GOVC_USERNAME": "u"}, nil, "GOVC_PASSWORD is not set"},
		{"no URL", map[string]string{}, nil, "which vCenter? Give --secret-file or set GOVC_URL, GOVC_USERNAME and GOVC_PASSWORD"},
		{"a broken URL", map[string]string{"GOVC_URL": "https://u:planted@[vc"}, nil, "GOVC_URL is not a URL; right is for example https://vcenter.example.com/sdk"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var flags connectionFlags
			secret, err := flags.secret(func(name string) string { return test.env[name] })
			compare(t, test.want, secret, test.err, err)
		})
	}
	t.Run("CA certificates that are not there", func(t *testing.T) {
		env := map[string]string{"GOVC_URL": "u:p@h", "GOVC_TLS_CA_CERTS": filepath.Join(dir, "none")}
		var flags connectionFlags
		if _, err := flags.secret(func(name string) string { return env[name] }); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("got %v", err)
		}
	})
}

func compare(t *testing.T, want map[string]string, got map[string][]byte, wantErr string, err error) {
	t.Helper()
	if wantErr != "" || err != nil {
		if err == nil || err.Error() != wantErr || strings.Contains(err.Error(), "planted") {
			t.Errorf("got  %v\nwant %s", err, wantErr)
		}
		return
	}
	texts := map[string]string{}
	for key, value := range got {
		texts[key] = string(value)
	}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNoControlCharacterReachesTheTerminal(t *testing.T) {
	if got := oneLine("a\x1b[31m\nb\u009b\t c\u007f"); got != "a [31m b c" {
		t.Errorf("got %q", got)
	}
}
