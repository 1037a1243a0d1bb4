// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package kvstore_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/kvstore"
)

var update = flag.Bool("update", false, "write the golden files")

// odd are values as stores have them, and worse.
func odd() map[string][]byte {
	return map[string][]byte{
		"docker.images": []byte(`{"CacheByID":{}}`), "context.scopes.bridge": {0, 1, 255}, "empty": {}, "null": nil,
		"": []byte("no name"), "<a&b>\u2028": []byte("escaped"), "ünï": []byte("päss"), `"quoted\`: []byte("x"),
	}
}

func TestAStoresFileIsWhatGosJSONMakesOfTheMap(t *testing.T) {
	got, err := kvstore.Encode(odd())
	must(t, err)
	const file = "testdata/store.dat"
	if *update {
		must(t, os.WriteFile(file, got, 0o600))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	std, err := json.Marshal(odd())
	must(t, err)
	if !bytes.Equal(std, got) {
		t.Errorf("got %s, want %s", got, std)
	}
	back, err := kvstore.Decode(got)
	must(t, err)
	if diff := cmp.Diff(odd(), back); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNoValuesAreAnEmptyObject(t *testing.T) {
	for _, values := range []map[string][]byte{nil, {}} {
		if got, err := kvstore.Encode(values); err != nil || string(got) != "{}" {
			t.Errorf("got %s, %v", got, err)
		}
	}
}

func TestAKeyThatCouldNotBeReadBackIsNotWritten(t *testing.T) {
	_, err := kvstore.Encode(map[string][]byte{"a\xff": []byte("c2VjcmV0")})
	wantKind(t, err, errdefs.InvalidArgument, `key "a\xff" is not UTF-8`)
}

func TestWhatIsNoStoreIsRefusedWithoutShowingAValue(t *testing.T) {
	// base64 of "secret", which no error may show.
	const value = "c2VjcmV0"
	tests := []struct{ name, data, want string }{
		{"nothing", ``, "it does not begin with a JSON object"},
		{"null", `null`, "it does not begin with a JSON object"},
		{"a list", `["` + value + `"]`, "it does not begin with a JSON object"},
		{"a text", `"` + value + `"`, "it does not begin with a JSON object"},
		{"no end", `{"a":"` + value + `"`, "the JSON object has no end; byte 15 should be one"},
		{"an end in a value", `{"a":"` + value, `key "a": its value is no JSON`},
		{"a comma too many", `{"a":"` + value + `",}`, "there is no key at byte 16"},
		{"a key that is none", `{` + value + `:1}`, "there is no key at byte 1"},
		{"a key twice", `{"a":"` + value + `","a":"` + value + `"}`, `key "a" is there twice`},
		{"a key twice, written differently", `{"a":"","\u0061":"` + value + `"}`, `key "a" is there twice`},
		{"a number", `{"a":"` + value + `","b":7}`, `key "b": its value is no text`},
		{"a truth value", `{"b":true}`, `key "b": its value is no text`},
		{"an object", `{"b":{"c":"` + value + `"}}`, `key "b": its value is no text`},
		{"a list in it", `{"b":["` + value + `"]}`, `key "b": its value is no text`},
		{"plain text", `{"b":"` + value + `!"}`, `key "b": its value is not base64`},
		{"base64 of URLs", `{"b":"_-8="}`, `key "b": its value is not base64`},
		{"no padding", `{"b":"YQ"}`, `key "b": its value is not base64`},
		{"another object", `{"a":"` + value + `"}{}`, "something stands behind the JSON object, which ends at byte 16"},
		{"text behind it", `{} ` + value, "something stands behind the JSON object, which ends at byte 2"},
		{"other bytes", "{\"a\":\"\xff\"}", "it is not UTF-8"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := kvstore.Decode([]byte(test.data))
			if got != nil || !errdefs.Is(err, errdefs.InvalidArgument) || err.Error() != test.want {
				t.Errorf("got %v, %v, want %q", got, err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), value) {
				t.Errorf("%q shows a value", err)
			}
		})
	}
}

func TestBlanksAroundTheObjectDoNotMatter(t *testing.T) {
	got, err := kvstore.Decode([]byte(" {\n\t\"a\" : \"Yg==\" }\n \t"))
	if diff := cmp.Diff(map[string][]byte{"a": []byte("b")}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// FuzzDecode: whatever is read, encoding/json reads the same, and it can be written and read again.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":"YQ=="}`, `{"a":null,"b":""}`, `{"a":"Y\nQ=="}`, `{"a":{"a":{}}}`, `{"\ud800":"","\ufffd":""}`, `{"a":"YR=="}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		values, err := kvstore.Decode(data)
		if err != nil {
			return
		}
		var std map[string][]byte
		if err := json.Unmarshal(data, &std); err != nil {
			t.Fatalf("encoding/json refuses what was read: %v", err)
		}
		if diff := cmp.Diff(std, values); diff != "" {
			t.Fatalf("(-json +ours):\n%s", diff)
		}
		encoded, err := kvstore.Encode(values)
		must(t, err)
		again, err := kvstore.Decode(encoded)
		if diff := cmp.Diff(values, again); err != nil || diff != "" {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
	})
}

// FuzzEncode: what is written is what encoding/json writes, and is read back.
func FuzzEncode(f *testing.F) {
	f.Add("a", []byte("b"), "c", []byte{})
	f.Fuzz(func(t *testing.T, k1 string, v1 []byte, k2 string, v2 []byte) {
		values := map[string][]byte{k1: v1, k2: v2}
		encoded, err := kvstore.Encode(values)
		if valid := utf8.ValidString(k1) && utf8.ValidString(k2); valid != (err == nil) {
			t.Fatalf("keys are valid: %v, got %v", valid, err)
		} else if !valid {
			return
		}
		std, err := json.Marshal(values)
		must(t, err)
		if !bytes.Equal(std, encoded) {
			t.Fatalf("got %s, want %s", encoded, std)
		}
		back, err := kvstore.Decode(encoded)
		if diff := cmp.Diff(values, back); err != nil || diff != "" {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
	})
}
