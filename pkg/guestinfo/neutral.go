// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package guestinfo

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// The neutral JSON is the form in which people and tests read and write the
// configurations. An object has the Go field names, embedded structs under their
// type's name. What is zero is left out; an empty list or map that is not nil is
// [] or {}. Special values are objects or texts:
//
//	bytes        {"base64": "AAE="}
//	IP           {"ip": "10.0.0.1", "bytes": 4}, bytes being the length of its storage
//	IP network   {"ip": "10.0.0.1", "ip_bytes": 4, "mask_hex": "ffffff00"}
//	IP mask      {"mask_hex": "ffffff00"}
//	URL          {"scheme": "nfs", "host": "h", "path": "/p"}, further opaque, user,
//	             raw_path, force_query, raw_query, fragment, omit_host and raw_fragment
//	time         RFC 3339, with fractions of a second
//	duration     nanoseconds
//
// A nil pointer as the value of a map is {}, since both decode to the same.

// ParseExecutorJSON reads the neutral JSON of a container VM's configuration.
// The error is of kind InvalidArgument and names the field: one that does not
// exist, or a value of the wrong form.
func ParseExecutorJSON(data []byte) (*ExecutorConfig, error) {
	config := new(ExecutorConfig)
	if err := parseNeutral(data, config); err != nil {
		return nil, err
	}
	return config, nil
}

// FormatExecutorJSON returns the neutral JSON of a container VM's configuration,
// indented, names sorted, with a newline at the end. It shows secrets; see
// RedactExecutor.
func FormatExecutorJSON(config *ExecutorConfig) ([]byte, error) {
	return formatNeutral(config)
}

// ParseVCHJSON is ParseExecutorJSON for the configuration of a VCH.
func ParseVCHJSON(data []byte) (*VCHConfig, error) {
	config := new(VCHConfig)
	if err := parseNeutral(data, config); err != nil {
		return nil, err
	}
	return config, nil
}

// FormatVCHJSON is FormatExecutorJSON for the configuration of a VCH.
func FormatVCHJSON(config *VCHConfig) ([]byte, error) {
	return formatNeutral(config)
}

func parseNeutral(data []byte, config any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var raw any
	if err := decoder.Decode(&raw); err != nil {
		return errdefs.Wrap(errdefs.InvalidArgument, err, "read the configuration as JSON")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errdefs.New(errdefs.InvalidArgument, "read the configuration as JSON: there is more after the object")
	}
	object, ok := raw.(map[string]any)
	if !ok {
		return errdefs.New(errdefs.InvalidArgument, "read the configuration as JSON: want an object, got %s", jsonKind(raw))
	}
	return parseStruct(object, reflect.ValueOf(config).Elem(), "")
}

func formatNeutral(config any) ([]byte, error) {
	v := reflect.ValueOf(config)
	if v.IsNil() {
		return nil, errdefs.New(errdefs.InvalidArgument, "format guestinfo: the configuration is nil")
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(formatStruct(v.Elem())); err != nil {
		return nil, errdefs.Wrap(errdefs.Internal, err, "format guestinfo as JSON")
	}
	return out.Bytes(), nil
}

func jsonKind(raw any) string {
	switch raw.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case json.Number:
		return "a number"
	case string:
		return "a text"
	case []any:
		return "a list"
	default:
		return "an object"
	}
}
