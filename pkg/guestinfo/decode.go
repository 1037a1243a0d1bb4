// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package guestinfo

import (
	"encoding/base64"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// maxElements is the largest list that is believed: VIC would allocate whatever
// a stored length asks for.
const maxElements = 1 << 16

// decoder fills values from a source of keys.
//
// Its methods report whether VIC would consider the value as found. That is not
// the same as "has data": a list of structs and a pointer always count, because
// VIC's decoder returns them without an error even when no key exists. Found
// decides whether a pointer is set and whether an entry of a map stays
// (VIC: pkg/vsphere/extraconfig/decode.go:119-213,275-301).
type decoder struct {
	get func(key string) (string, bool)
}

func decode(keys map[string]string, config any) error {
	d := decoder{get: func(key string) (string, bool) {
		value, ok := keys[key]
		return value, ok
	}}
	_, err := d.value(reflect.ValueOf(config).Elem(), "")
	return err
}

// value fills v, which must be settable.
func (d *decoder) value(v reflect.Value, key string) (bool, error) {
	switch v.Kind() {
	case reflect.Pointer:
		return d.pointer(v, key)
	case reflect.Struct:
		switch x := v.Addr().Interface().(type) {
		case *time.Time:
			return d.time(x, key), nil
		case *url.URL:
			return d.url(x, key)
		}
		return d.structure(v, key)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return d.bytes(v, key), nil
		}
		return d.slice(v, key)
	case reflect.Map:
		return d.mapping(v, key)
	default:
		text, ok := d.get(key)
		if ok {
			setScalar(v, text)
		}
		return ok, nil
	}
}

func (d *decoder) pointer(v reflect.Value, key string) (bool, error) {
	target := reflect.New(v.Type().Elem())
	found, err := d.value(target.Elem(), key)
	if found {
		v.Set(target)
	}
	return true, err
}

func (d *decoder) structure(v reflect.Value, parent string) (bool, error) {
	found := false
	for i := range v.NumField() {
		key, ok := fieldKey(parent, v.Type().Field(i))
		if !ok {
			continue
		}
		has, err := d.value(v.Field(i), key)
		if err != nil {
			return false, err
		}
		found = found || has
	}
	return found, nil
}

func (d *decoder) bytes(v reflect.Value, key string) bool {
	text, ok := d.get(key)
	if !ok {
		return false
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return false
	}
	v.SetBytes(data)
	return true
}

func (d *decoder) slice(v reflect.Value, key string) (bool, error) {
	length, err := d.length(key)
	if err != nil {
		return false, err
	}
	v.Set(reflect.MakeSlice(v.Type(), length, length))
	if hasEntryKeys(v.Type()) {
		for i := range length {
			element := reflect.New(v.Type().Elem()).Elem()
			found, err := d.value(element, entryKey(key, listSeparator+strconv.Itoa(i)))
			if err != nil {
				return false, err
			}
			if found {
				v.Index(i).Set(element)
			}
		}
		return true, nil
	}
	joined, ok := d.get(entryKey(key, listSuffix))
	if !ok {
		return false, nil
	}
	elements := strings.Split(joined, listSeparator)
	if length > len(elements) {
		return false, errdefs.New(errdefs.InvalidArgument, "key %q: %d elements are announced, %q holds %d",
			key, length, entryKey(key, listSuffix), len(elements))
	}
	for i := range length {
		setScalar(v.Index(i), elements[i])
	}
	return true, nil
}

// length reads the number of elements; stored is one less. Text that is no
// number counts as 0.
func (d *decoder) length(key string) (int, error) {
	text, ok := d.get(key)
	if !ok || text == "" {
		return 0, nil
	}
	last, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		last = 0
	}
	if last < -1 || last >= maxElements {
		return 0, errdefs.New(errdefs.InvalidArgument, "key %q: the index of the last element is %d; it must be between -1 and %d",
			key, last, maxElements-1)
	}
	return int(last) + 1, nil
}

func (d *decoder) mapping(v reflect.Value, key string) (bool, error) {
	v.Set(reflect.MakeMap(v.Type()))
	list, ok := d.get(key)
	if list == "" {
		return ok, nil
	}
	for name := range strings.SplitSeq(list, listSeparator) {
		entry := reflect.New(v.Type().Elem()).Elem()
		found, err := d.value(entry, entryKey(key, listSeparator+name))
		if err != nil {
			return false, err
		}
		if found {
			v.SetMapIndex(reflect.ValueOf(name), entry)
		}
	}
	return true, nil
}

func (d *decoder) time(t *time.Time, key string) bool {
	text, ok := d.get(key)
	if !ok {
		return false
	}
	parsed, err := time.Parse(timeLayout, text)
	if err != nil {
		parsed = time.Time{}
	}
	*t = parsed
	return true
}

// url always counts as found, since url.URL has a pointer among its fields.
func (d *decoder) url(u *url.URL, parent string) (bool, error) {
	for _, part := range urlParts(u) {
		key, ok := childKey(parent, part.name, inherited(parent))
		if !ok {
			continue
		}
		if _, err := d.value(reflect.ValueOf(part.field).Elem(), key); err != nil {
			return false, err
		}
	}
	return true, nil
}

// setScalar leaves v zero when the text does not fit. An element of a list that
// is a pointer has no text form and stays nil.
func setScalar(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		v.SetBool(err == nil && b)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			n = 0
		}
		v.SetInt(n)
	default:
	}
}
