// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package guestinfo

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// FuzzDecodeExecutor: whatever keys a VM has, decoding gives a configuration or
// an error of the input, and what it gives can be shown and read again.
func FuzzDecodeExecutor(f *testing.F) {
	for _, file := range []string{"executor-config.json", "decode-cases.json"} {
		for _, v := range readVectors(f, file) {
			keys := v.Encoded
			if keys == nil {
				keys = v.Raw
			}
			seed, err := json.Marshal(keys)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(seed)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var keys map[string]string
		if json.Unmarshal(data, &keys) != nil {
			t.Skip("not a map of texts")
		}
		config, err := DecodeExecutor(keys)
		if err != nil {
			if !errdefs.Is(err, errdefs.InvalidArgument) {
				t.Fatalf("kind %s: %v", errdefs.KindOf(err), err)
			}
			return
		}
		first, err := FormatExecutorJSON(config)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseExecutorJSON(first)
		if err != nil {
			t.Fatalf("the decoded configuration cannot be read again: %v\n%s", err, first)
		}
		second, err := FormatExecutorJSON(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(first), string(second)); diff != "" {
			t.Fatalf("showing and reading changes (-first +second):\n%s", diff)
		}
		if _, err := DecodeVCH(keys); err != nil && !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Fatalf("kind %s: %v", errdefs.KindOf(err), err)
		}
	})
}

// FuzzRoundTrip: whatever the encoder accepts, the decoder gives back.
func FuzzRoundTrip(f *testing.F) {
	for _, v := range readVectors(f, "executor-config.json") {
		f.Add([]byte(v.Input))
	}
	for _, v := range readVectors(f, "decode-cases.json") {
		f.Add([]byte(v.Decoded))
	}
	f.Add([]byte(`{"Networks": {"n": {}, "n/network": {"Static": true}, "n.network.assigned": {"Ports": [""]}}}`))
	f.Add([]byte(`{"Networks": {"n": {"Static": true, "Ports": ["", ""], "IP": {"ip": "10.0.0.1"}}, "n/network": {"Static": true}}}`))
	f.Add([]byte(`{"Execs": {"x": {"Cmd": {"Env": [""]}, "Attach": true}}, "Annotations": {"": "x", "a": ""}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		config, err := ParseExecutorJSON(data)
		if err != nil {
			t.Skip("not a configuration")
		}
		keys, err := EncodeExecutor(config)
		if err != nil {
			if !errdefs.Is(err, errdefs.InvalidArgument) {
				t.Fatalf("kind %s: %v", errdefs.KindOf(err), err)
			}
			return
		}
		back, err := DecodeExecutor(keys)
		if err != nil {
			t.Fatalf("own keys cannot be decoded: %v", err)
		}
		if diff := cmp.Diff(essence(t, config), essence(t, back)); diff != "" {
			t.Fatalf("(-in +out):\n%s", diff)
		}
	})
}

// essence returns the neutral form without what the encoding does not hold on
// purpose: the difference between empty and absent, the fields of URLs that VIC
// does not know, and notes of sessions that are not persistent.
func essence(t *testing.T, config *ExecutorConfig) any {
	t.Helper()
	data, err := FormatExecutorJSON(config)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	if execs, ok := out["Execs"].(map[string]any); ok {
		for _, exec := range execs {
			if common, ok := exec.(map[string]any)["Common"].(map[string]any); ok {
				delete(common, "Notes")
			}
		}
	}
	if mounts, ok := out["Mounts"].(map[string]any); ok {
		for _, mount := range mounts {
			if source, ok := mount.(map[string]any)["Source"].(map[string]any); ok {
				delete(source, "user")
				delete(source, "omit_host")
				delete(source, "raw_fragment")
			}
		}
	}
	if config.Key != nil && len(config.Key) == 0 {
		delete(out, "Key")
	}
	for _, name := range []string{"Sessions", "Execs", "Networks", "Mounts"} {
		// The entry itself counts, even when nothing is left of it.
		entries, _ := out[name].(map[string]any)
		for key, entry := range entries {
			entries[key] = map[string]any{"entry": prune(entry), "there": true}
		}
	}
	return prune(out)
}

// prune removes what is empty, at any depth, but not from lists.
func prune(x any) any {
	switch x := x.(type) {
	case map[string]any:
		for key, value := range x {
			if value = prune(value); value == nil {
				delete(x, key)
			} else {
				x[key] = value
			}
		}
		if len(x) == 0 {
			return nil
		}
		return x
	case []any:
		if len(x) == 0 {
			return nil
		}
		for i := range x {
			x[i] = prune(x[i])
		}
		return x
	default:
		return x
	}
}
