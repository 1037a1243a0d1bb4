// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/cli"
)

var update = flag.Bool("update", false, "write the golden files")

// result is what a run left behind.
type result struct {
	code           int
	stdout, stderr string
}

// vchctl runs a command with a standard input and an environment.
func vchctl(ctx context.Context, stdin string, env map[string]string, args ...string) result {
	var stdout, stderr bytes.Buffer
	code := cli.Run(ctx, args, cli.Options{
		Stdin: strings.NewReader(stdin), Stdout: &stdout, Stderr: &stderr,
		Env: func(name string) string { return env[name] },
	})
	return result{code, stdout.String(), stderr.String()}
}

// golden compares an answer with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

const executor = `{
  "ExecutorConfigCommon": {"ID": "0123456789abcdef", "Name": "web-0"},
  "Annotations": {"a<b": "x&y"},
  "Sessions": {"0123456789abcdef": {
    "Active": true,
    "Cmd": {"Path": "/bin/true", "Args": ["/bin/true", "-v"], "Env": ["A=1"]}
  }},
  "Key": {"base64": "AAE="}
}`

func TestEncodeWritesSortedKeysWithPlainEmptyValues(t *testing.T) {
	got := vchctl(t.Context(), executor, nil, "guestinfo", "encode")
	if got.code != 0 || got.stderr != "" {
		t.Fatalf("exit code %d, %s", got.code, got.stderr)
	}
	golden(t, "encode.json", got.stdout)
}

func TestEncodeWritesOptionValuesOnRequest(t *testing.T) {
	got := vchctl(t.Context(), executor, nil, "guestinfo", "encode", "--option-values")
	if got.code != 0 || got.stderr != "" {
		t.Fatalf("exit code %d, %s", got.code, got.stderr)
	}
	golden(t, "encode-option-values.json", got.stdout)
}

func TestDecodeIsTheInverseOfEncodeForBothForms(t *testing.T) {
	for _, form := range [][]string{nil, {"--option-values"}} {
		keys := vchctl(t.Context(), executor, nil, append([]string{"guestinfo", "encode"}, form...)...)
		got := vchctl(t.Context(), keys.stdout, nil, "guestinfo", "decode")
		if got.code != 0 || got.stderr != "" {
			t.Fatalf("exit code %d, %s", got.code, got.stderr)
		}
		golden(t, "decode.json", got.stdout)
	}
}

// TestVectorsPassThroughTheCommands runs the vectors of pkg/guestinfo through the
// commands, with and without a word about the kind.
func TestVectorsPassThroughTheCommands(t *testing.T) {
	refused := map[string]bool{"session-with-pipes": true, "annotation-key-with-pipe": true}
	for file, kind := range map[string]string{"executor-config.json": "executor", "vch-config.json": "vch"} {
		data, err := os.ReadFile(filepath.Join("..", "guestinfo", "testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		var vectors []struct {
			Name         string            `json:"name"`
			Input        json.RawMessage   `json:"input"`
			OptionValues map[string]string `json:"option_values"`
			Decoded      json.RawMessage   `json:"decoded"`
		}
		if err := json.Unmarshal(data, &vectors); err != nil {
			t.Fatal(err)
		}
		for _, v := range vectors {
			t.Run(v.Name, func(t *testing.T) {
				options, err := json.Marshal(v.OptionValues)
				if err != nil {
					t.Fatal(err)
				}
				for key := range v.OptionValues { // of Go versions newer than VIC's
					if strings.HasSuffix(key, "/OmitHost") || strings.HasSuffix(key, "/RawFragment") {
						delete(v.OptionValues, key)
					}
				}
				for _, args := range [][]string{nil, {"--kind", kind}} {
					encoded := vchctl(t.Context(), string(v.Input), nil, append([]string{"guestinfo", "encode", "--option-values"}, args...)...)
					if refused[v.Name] != (encoded.code == 1) || encoded.code == 1 && encoded.stdout != "" {
						t.Fatalf("exit code %d, %s", encoded.code, encoded.stderr)
					}
					if encoded.code == 0 {
						sameJSON(t, v.OptionValues, encoded.stdout)
					}
					decoded := vchctl(t.Context(), string(options), nil, append([]string{"guestinfo", "decode"}, args...)...)
					if decoded.code != 0 {
						t.Fatalf("exit code %d, %s", decoded.code, decoded.stderr)
					}
					sameJSON(t, v.Decoded, decoded.stdout)
				}
			})
		}
	}
}

func sameJSON(t *testing.T, want any, got string) {
	t.Helper()
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	for text, to := range map[string]*any{string(data): &a, got: &b} {
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.UseNumber()
		if err := decoder.Decode(to); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
	}
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBadInputIsOneLineAndExitCode1(t *testing.T) {
	tests := []struct {
		name  string
		stdin string
		args  []string
		want  string
	}{
		{"nothing on stdin", " \n", []string{"guestinfo", "decode"}, "the standard input is empty; it should be a JSON object"},
		{"broken keys", `{"a"`, []string{"guestinfo", "decode"}, "read the keys as a JSON object of texts: unexpected EOF"},
		{"keys in a list", `[]`, []string{"guestinfo", "decode"}, "read the keys as a JSON object of texts: want exactly one object"},
		{"null", `null`, []string{"guestinfo", "decode"}, "read the keys as a JSON object of texts: want exactly one object"},
		{"two objects", `{} {}`, []string{"guestinfo", "decode"}, "read the keys as a JSON object of texts: want exactly one object"},
		{"a number as value", `{"a": 1}`, []string{"guestinfo", "decode"}, `key "a": the value must be a text`},
		{
			"a list that VIC panics on",
			`{"guestinfo.vice./networks": "n", "guestinfo.vice./networks|n/network/dns": "-5"}`,
			[]string{"guestinfo", "decode"},
			`key "guestinfo.vice./networks|n/network/dns": the index of the last element is -5; it must be between -1 and 65535`,
		},
		{"broken configuration", `{`, []string{"guestinfo", "encode"}, "read the configuration as JSON: unexpected EOF"},
		{"an unknown field", `{"Sessionz": {}}`, []string{"guestinfo", "encode"}, "Sessionz: there is no such field"},
		{"a VCH's field in a container VM", `{"Storage": {}}`, []string{"guestinfo", "encode", "--kind", "executor"}, "Storage: there is no such field"},
		{
			"a pipe", `{"Sessions": {"s": {"Cmd": {"Env": ["PASSWORD=planted|"]}}}}`,
			[]string{"guestinfo", "encode"},
			`Sessions["s"].Cmd.Env[0]: it contains a '|', which separates list elements and cannot be escaped`,
		},
		{"an unknown kind", `{}`, []string{"guestinfo", "encode", "--kind", "pod"}, `--kind must be auto, executor or vch, got "pod"`},
		{"an unknown flag", ``, []string{"guestinfo", "encode", "--nope"}, "unknown flag: --nope"},
		{"an argument too many", ``, []string{"guestinfo", "encode", "x"}, `unknown command "x" for "vchctl guestinfo encode"`},
		{"an unknown command", ``, []string{"guestinfo", "x"}, `vchctl guestinfo has no command "x"; see vchctl guestinfo --help`},
		{"half a command", ``, []string{"machines"}, "vchctl machines needs a command; see vchctl machines --help"},
		{
			"no vCenter", ``,
			[]string{"guestinfo", "decode", "--vm", "x"},
			"which vCenter? Give --secret-file or set GOVC_URL, GOVC_USERNAME and GOVC_PASSWORD",
		},
		{"an unknown output", ``, []string{"machines", "ls", "-o", "xml"}, `--output must be wide or json, got "xml"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := vchctl(t.Context(), test.stdin, nil, test.args...)
			want := result{1, "", "vchctl: " + test.want + "\n"}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestVersionIsOneLine(t *testing.T) {
	got := vchctl(t.Context(), "", nil, "version")
	if got.code != 0 || !strings.HasPrefix(got.stdout, "machine-controller-manager-provider-vch v") || strings.Count(got.stdout, "\n") != 1 {
		t.Errorf("exit code %d, %q, %q", got.code, got.stdout, got.stderr)
	}
}
