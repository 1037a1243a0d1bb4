// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
)

// The values of --kind.
const (
	kindAuto     = "auto"
	kindExecutor = "executor"
	kindVCH      = "vch"
)

func guestinfoCommand(opts Options) *cobra.Command {
	return group("guestinfo", "Translate VIC's guestinfo keys to and from JSON", decodeCommand(opts), encodeCommand(opts))
}

func decodeCommand(opts Options) *cobra.Command {
	var kind string
	var vm vmFlags
	cmd := &cobra.Command{
		Use:   "decode",
		Short: "Turn guestinfo keys into readable JSON",
		Long: `Turn guestinfo keys into readable JSON.

The keys are a JSON object of texts on the standard input, or with --vm those of
a VM in vCenter. Empty values may be "" or "<nil>". Keys that are not VIC's are
ignored.

The keys of a VM are those that the driver reads: data of older versions is migrated in
memory before. --stored shows what is stored.`,
		Example: `  vchctl guestinfo decode < keys.json
  vchctl guestinfo decode --vm shoot-worker-0-6b9a5f2c0d1e`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkKind(kind); err != nil {
				return err
			}
			if vm.name == "" {
				keys, err := readKeys(opts.Stdin, standardInput)
				if err != nil {
					return err
				}
				return decodeKeys(opts.Stdout, kind, keys, false)
			}
			keys, err := vm.keys(cmd.Context(), opts)
			if err != nil {
				return err
			}
			return decodeKeys(opts.Stdout, kind, keys, !vm.showSecrets)
		},
	}
	addKindFlag(cmd, &kind, "keys")
	vm.add(cmd)
	return cmd
}

func encodeCommand(opts Options) *cobra.Command {
	var kind string
	var options bool
	cmd := &cobra.Command{
		Use:   "encode",
		Short: "Turn JSON into guestinfo keys",
		Long: `Turn JSON, in the form that decode writes, into guestinfo keys.

What VIC could not read back is refused, with the name of the field.`,
		Example: `  vchctl guestinfo encode < config.json
  vchctl guestinfo encode --option-values < config.json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := checkKind(kind); err != nil {
				return err
			}
			data, err := readAll(opts.Stdin, standardInput)
			if err != nil {
				return err
			}
			keys, err := encodeKeys(kind, data)
			if err != nil {
				return err
			}
			if options {
				keys = guestinfo.OptionValues(keys)
			}
			return writeJSON(opts.Stdout, keys)
		},
	}
	addKindFlag(cmd, &kind, "fields")
	cmd.Flags().BoolVar(&options, "option-values", false, `write empty values as "<nil>", as vSphere's ExtraConfig needs them`)
	return cmd
}

func addKindFlag(cmd *cobra.Command, kind *string, by string) {
	cmd.Flags().StringVar(kind, "kind", kindAuto, "executor (a container VM), vch (an appliance), or auto to decide by the "+by)
}

func checkKind(kind string) error {
	if !slices.Contains([]string{kindAuto, kindExecutor, kindVCH}, kind) {
		return errdefs.New(errdefs.InvalidArgument, "--kind must be %s, %s or %s, got %q", kindAuto, kindExecutor, kindVCH, kind)
	}
	return nil
}

func decodeKeys(w io.Writer, kind string, keys map[string]string, redact bool) error {
	keys = guestinfo.FromOptionValues(keys)
	if kind == kindVCH || (kind == kindAuto && areOfVCH(keys)) {
		config, err := guestinfo.DecodeVCH(keys)
		if err != nil {
			return err
		}
		if redact {
			config = guestinfo.RedactVCH(config)
		}
		data, err := guestinfo.FormatVCHJSON(config)
		if err != nil {
			return err
		}
		return write(w, data)
	}
	config, err := guestinfo.DecodeExecutor(keys)
	if err != nil {
		return err
	}
	if redact {
		config = guestinfo.RedactExecutor(config)
	}
	data, err := guestinfo.FormatExecutorJSON(config)
	if err != nil {
		return err
	}
	return write(w, data)
}

func encodeKeys(kind string, data []byte) (map[string]string, error) {
	if kind == kindVCH || (kind == kindAuto && looksLikeVCH(data)) {
		config, err := guestinfo.ParseVCHJSON(data)
		if err != nil {
			return nil, err
		}
		return guestinfo.EncodeVCH(config)
	}
	config, err := guestinfo.ParseExecutorJSON(data)
	if err != nil {
		return nil, err
	}
	return guestinfo.EncodeExecutor(config)
}

// areOfVCH reports whether keys are those of an appliance, whose own
// configuration stands below init.
func areOfVCH(keys map[string]string) bool {
	below, _ := strings.CutSuffix(guestinfo.VCHIDKey, "common/id")
	for key := range keys {
		if strings.HasPrefix(key, below) {
			return true
		}
	}
	return false
}

// looksLikeVCH reports whether a configuration has a part that only a VCH's has.
func looksLikeVCH(data []byte) bool {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return false // the parser for executors says what is wrong
	}
	for _, name := range []string{"ExecutorConfig", "Connection", "Contacts", "Certificate", "Storage", "Network", "Container", "Registry"} {
		if _, ok := fields[name]; ok {
			return true
		}
	}
	return false
}

// standardInput is what the standard input is called.
const standardInput = "the standard input"

// readKeys reads a JSON object of texts from something with a name. Errors never show a
// value: it may be a secret.
func readKeys(r io.Reader, name string) (map[string]string, error) {
	data, err := readAll(r, name)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	var raw any
	if err := decoder.Decode(&raw); err != nil {
		return nil, errdefs.Wrap(errdefs.InvalidArgument, err, "read the keys as a JSON object of texts")
	}
	object, ok := raw.(map[string]any)
	if _, err := decoder.Token(); !ok || !errors.Is(err, io.EOF) {
		return nil, errdefs.New(errdefs.InvalidArgument, "read the keys as a JSON object of texts: want exactly one object")
	}
	keys := make(map[string]string, len(object))
	for _, key := range slices.Sorted(maps.Keys(object)) {
		text, ok := object[key].(string)
		if !ok {
			return nil, errdefs.New(errdefs.InvalidArgument, "key %q: the value must be a text", key)
		}
		keys[key] = text
	}
	return keys, nil
}

func readAll(r io.Reader, name string) ([]byte, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, errdefs.Wrap(errdefs.Unavailable, err, "read %s", name)
	}
	if strings.TrimSpace(string(data)) == "" {
		return nil, errdefs.New(errdefs.InvalidArgument, "%s is empty; it should be a JSON object", name)
	}
	return data, nil
}
