// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package kvstore

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Encode returns the content of a store's file: what encoding/json makes of the map,
// which is sorted by key. A nil map is an empty one; a nil value is null, as in VIC.
// InvalidArgument for a key that is not UTF-8, which could not be read back.
func Encode(values map[string][]byte) ([]byte, error) {
	if values == nil {
		return []byte("{}"), nil
	}
	for key := range values {
		if !utf8.ValidString(key) {
			return nil, errdefs.New(errdefs.InvalidArgument, "key %q is not UTF-8", key)
		}
	}
	b, err := json.Marshal(values)
	if err != nil {
		return nil, errdefs.New(errdefs.Internal, "encode the values of a key/value store")
	}
	return b, nil
}

// Decode reads the content of a store's file, one JSON object of texts in base64. It is
// stricter than VIC: a key that is there twice, anything behind the object, and a value that is
// neither a text nor null is refused. The error is InvalidArgument and names the key, never the value.
func Decode(data []byte) (map[string][]byte, error) {
	bad := func(format string, args ...any) (map[string][]byte, error) {
		return nil, errdefs.New(errdefs.InvalidArgument, format, args...)
	}
	if !utf8.Valid(data) {
		return bad("it is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return bad("it does not begin with a JSON object")
	}
	values := map[string][]byte{}
	for d.More() {
		token, err := d.Token()
		key, isText := token.(string)
		if err != nil || !isText {
			return bad("there is no key at byte %d", d.InputOffset())
		}
		if _, twice := values[key]; twice {
			return bad("key %q is there twice", key)
		}
		token, err = d.Token()
		if err != nil {
			return bad("key %q: its value is no JSON", key) // the decoder's text would show some of it
		}
		if values[key], err = decodeValue(token); err != nil {
			return bad("key %q: %s", key, err)
		}
	}
	if _, err := d.Token(); err != nil {
		return bad("the JSON object has no end; byte %d should be one", d.InputOffset())
	}
	end := d.InputOffset()
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return bad("something stands behind the JSON object, which ends at byte %d", end)
	}
	return values, nil
}

// decodeValue reads a value. The errors do not show it.
func decodeValue(token json.Token) ([]byte, error) {
	switch token := token.(type) {
	case nil:
		return nil, nil
	case string:
		value, err := base64.StdEncoding.DecodeString(token)
		if err != nil {
			return nil, errors.New("its value is not base64")
		}
		return value, nil
	default:
		return nil, errors.New("its value is no text")
	}
}
