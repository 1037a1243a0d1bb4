// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package guestinfo

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// vector is one case of the files in testdata. All were made with VIC's own
// packages.
type vector struct {
	Name              string            `json:"name"`
	Input             json.RawMessage   `json:"input"`
	Encoded           map[string]string `json:"encoded"`
	OptionValues      map[string]string `json:"option_values"`
	ModernGoOnlyKeys  []string          `json:"modern_go_only_keys"`
	PoweredOffDrops   []string          `json:"powered_off_filter_drops"`
	PoweredOnKeeps    []string          `json:"powered_on_filter_keeps"`
	Decoded           json.RawMessage   `json:"decoded"`
	Raw               map[string]string `json:"raw"`
	Unread            []string          `json:"unread"`
	RoundTrip         string            `json:"roundtrip"`
	RoundTripMismatch []string          `json:"roundtrip_differences"`
}

// refused lists the vectors whose input VIC stores in a way that cannot be read
// back, with the field that the refusal must name.
func refused() map[string]string {
	const session = `Sessions["6b9a5f2c0d1e4f3a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a"]`
	return map[string]string{
		"session-with-pipes":       session + ".Cmd.Args[2]",
		"annotation-key-with-pipe": `Annotations["a|b"]`,
	}
}

func readVectors(tb testing.TB, file string) []vector {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		tb.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(data, &vectors); err != nil {
		tb.Fatalf("%s: %v", file, err)
	}
	if len(vectors) == 0 {
		tb.Fatalf("%s holds no vectors", file)
	}
	return vectors
}

// without returns a copy that lacks the given keys.
func without(keys map[string]string, drop []string) map[string]string {
	out := maps.Clone(keys)
	for _, key := range drop {
		delete(out, key)
	}
	return out
}

func diffJSON(tb testing.TB, want, got []byte) string {
	tb.Helper()
	parse := func(data []byte) (out any) {
		decoder := json.NewDecoder(strings.NewReader(string(data)))
		decoder.UseNumber()
		if err := decoder.Decode(&out); err != nil {
			tb.Fatalf("%v in %s", err, data)
		}
		return out
	}
	return cmp.Diff(parse(want), parse(got))
}

func TestEncodingAContainerVMGivesTheKeysOfVIC(t *testing.T) {
	for _, v := range readVectors(t, "executor-config.json") {
		t.Run(v.Name, func(t *testing.T) {
			config, err := ParseExecutorJSON(v.Input)
			if err != nil {
				t.Fatal(err)
			}
			got, err := EncodeExecutor(config)
			if field, ok := refused()[v.Name]; ok {
				if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.HasPrefix(err.Error(), field+": ") {
					t.Fatalf("want a refusal that begins with %s, got %v", field, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(without(v.Encoded, v.ModernGoOnlyKeys), got); diff != "" {
				t.Errorf("keys differ (-VIC +ours):\n%s", diff)
			}
			if diff := cmp.Diff(without(v.OptionValues, v.ModernGoOnlyKeys), OptionValues(got)); diff != "" {
				t.Errorf("option values differ (-VIC +ours):\n%s", diff)
			}
		})
	}
}

func TestDecodingAContainerVMGivesTheConfigurationThatVICReads(t *testing.T) {
	for _, v := range readVectors(t, "executor-config.json") {
		t.Run(v.Name, func(t *testing.T) {
			for form, keys := range map[string]map[string]string{
				"plain":         v.Encoded,
				"option values": FromOptionValues(v.OptionValues),
				"of VIC's Go":   without(v.Encoded, v.ModernGoOnlyKeys),
			} {
				config, err := DecodeExecutor(keys)
				if err != nil {
					t.Fatalf("%s: %v", form, err)
				}
				got, err := FormatExecutorJSON(config)
				if err != nil {
					t.Fatal(err)
				}
				if diff := diffJSON(t, v.Decoded, got); diff != "" {
					t.Errorf("%s: decoded differs (-VIC +ours):\n%s", form, diff)
				}
			}
		})
	}
}

func TestDecodingOddKeysGivesWhatVICMakesOfThem(t *testing.T) {
	for _, v := range readVectors(t, "decode-cases.json") {
		t.Run(v.Name, func(t *testing.T) {
			config, err := DecodeExecutor(v.Raw)
			if err != nil {
				t.Fatal(err)
			}
			got, err := FormatExecutorJSON(config)
			if err != nil {
				t.Fatal(err)
			}
			if diff := diffJSON(t, v.Decoded, got); diff != "" {
				t.Errorf("decoded differs (-VIC +ours):\n%s", diff)
			}
		})
	}
}

func TestTheKeysOfAVCHAreThoseOfVIC(t *testing.T) {
	for _, v := range readVectors(t, "vch-config.json") {
		t.Run(v.Name, func(t *testing.T) {
			config, err := ParseVCHJSON(v.Input)
			if err != nil {
				t.Fatal(err)
			}
			keys, err := EncodeVCH(config)
			if err != nil {
				t.Fatal(err)
			}
			// The file has no list of the keys that only newer Go writes.
			modern := func(key, _ string) bool {
				return strings.HasSuffix(key, "/OmitHost") || strings.HasSuffix(key, "/RawFragment")
			}
			maps.DeleteFunc(v.Encoded, modern)
			maps.DeleteFunc(v.OptionValues, modern)
			if diff := cmp.Diff(v.Encoded, keys); diff != "" {
				t.Errorf("keys differ (-VIC +ours):\n%s", diff)
			}
			if diff := cmp.Diff(v.OptionValues, OptionValues(keys)); diff != "" {
				t.Errorf("option values differ (-VIC +ours):\n%s", diff)
			}
			decoded, err := DecodeVCH(FromOptionValues(v.OptionValues))
			if err != nil {
				t.Fatal(err)
			}
			got, err := FormatVCHJSON(decoded)
			if err != nil {
				t.Fatal(err)
			}
			if diff := diffJSON(t, v.Decoded, got); diff != "" {
				t.Errorf("decoded differs (-VIC +ours):\n%s", diff)
			}
		})
	}
}

func TestOnlyHiddenAndNonPersistentKeysMayBeWrittenToARunningVM(t *testing.T) {
	for _, v := range readVectors(t, "executor-config.json") {
		t.Run(v.Name, func(t *testing.T) {
			got := slices.Sorted(maps.Keys(PoweredOnKeys(v.Encoded)))
			slices.Sort(v.PoweredOnKeeps)
			if diff := cmp.Diff(v.PoweredOnKeeps, got); diff != "" {
				t.Errorf("keys differ (-VIC +ours):\n%s", diff)
			}
			if len(v.PoweredOffDrops) > 0 {
				t.Errorf("VIC drops %q of a VM that is off; all keys were thought to be written then", v.PoweredOffDrops)
			}
		})
	}
}
