// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package guestinfo

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// timeLayout is what time.Time.String writes and VIC's decoder reads.
const timeLayout = "2006-01-02 15:04:05.999999999 -0700 MST"

// encoder collects keys and remembers which field each one came from.
type encoder struct {
	keys   map[string]string
	fields map[string]string
}

func encode(config any) (map[string]string, error) {
	v := reflect.ValueOf(config)
	if v.IsNil() {
		return nil, errdefs.New(errdefs.InvalidArgument, "encode guestinfo: the configuration is nil")
	}
	e := &encoder{keys: make(map[string]string), fields: make(map[string]string)}
	if err := e.value(v.Elem(), "", ""); err != nil {
		return nil, err
	}
	return e.keys, nil
}

// put stores one pair. A key that another field has taken already would lose
// one of the two values.
func (e *encoder) put(key, value, field string) error {
	if other, taken := e.fields[key]; taken {
		return refuse(field, "it would be stored under the key %q, which belongs to %s", key, other)
	}
	e.keys[key] = value
	e.fields[key] = field
	return nil
}

func (e *encoder) value(v reflect.Value, key, field string) error {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return e.value(v.Elem(), key, field)
	case reflect.Struct:
		switch x := v.Interface().(type) {
		case time.Time:
			return e.time(x, key, field)
		case url.URL:
			return e.url(x, key, field)
		}
		return e.structure(v, key, field)
	case reflect.Slice:
		return e.slice(v, key, field)
	case reflect.Map:
		return e.mapping(v, key, field)
	default:
		text, err := scalarText(v, field)
		if err != nil {
			return err
		}
		return e.put(key, text, field)
	}
}

func (e *encoder) structure(v reflect.Value, parent, path string) error {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key, ok := fieldKey(parent, field)
		if !ok {
			continue
		}
		if err := e.value(v.Field(i), key, fieldPath(path, field.Name)); err != nil {
			return err
		}
	}
	return nil
}

func (e *encoder) slice(v reflect.Value, key, field string) error {
	if v.Len() == 0 {
		return nil
	}
	if v.Type().Elem().Kind() == reflect.Uint8 {
		return e.put(key, base64.StdEncoding.EncodeToString(v.Bytes()), field)
	}
	if hasEntryKeys(v.Type()) {
		for i := range v.Len() {
			if err := e.value(v.Index(i), entryKey(key, listSeparator+strconv.Itoa(i)), indexPath(field, i)); err != nil {
				return err
			}
		}
	} else {
		elements := make([]string, v.Len())
		for i := range elements {
			text, err := scalarText(v.Index(i), indexPath(field, i))
			if err != nil {
				return err
			}
			if strings.Contains(text, listSeparator) {
				return refuse(indexPath(field, i), "it contains a '|', which separates list elements and cannot be escaped")
			}
			elements[i] = text
		}
		if err := e.put(entryKey(key, listSuffix), strings.Join(elements, listSeparator), field); err != nil {
			return err
		}
	}
	return e.put(key, strconv.Itoa(v.Len()-1), field)
}

func (e *encoder) mapping(v reflect.Value, key, field string) error {
	if v.Len() == 0 {
		return nil
	}
	entries := make(map[string]reflect.Value, v.Len())
	for _, k := range v.MapKeys() {
		entries[k.String()] = v.MapIndex(k)
	}
	names := slices.Sorted(maps.Keys(entries))
	if err := checkMapKeys(names, field); err != nil {
		return err
	}
	stored := make(map[string]string, len(names))
	for _, name := range names {
		if strings.HasPrefix(key, visiblePrefix) {
			if other, taken := stored[fold(name)]; taken {
				if !reflect.DeepEqual(entries[name].Interface(), entries[other].Interface()) {
					return refuse(keyPath(field, name), "the map key would be stored like %q, which has another value: '.' and '/' become one character and text after an '@' is left out", other)
				}
				continue // both names read the same keys
			}
			stored[fold(name)] = name
		}
		if err := e.value(entries[name], entryKey(key, listSeparator+name), keyPath(field, name)); err != nil {
			return err
		}
	}
	return e.put(key, strings.Join(names, listSeparator), field)
}

// fold returns how the key of a guest-visible map shows in the keys of its entry.
func fold(name string) string {
	name, _, _ = strings.Cut(name, "@")
	return strings.ReplaceAll(name, ".", "/")
}

// checkMapKeys refuses what VIC would store in a way that cannot be read back.
func checkMapKeys(names []string, field string) error {
	if len(names) == 1 && names[0] == "" {
		return refuse(field, "its only map key is empty, which cannot be told from an empty map")
	}
	for _, name := range names {
		if strings.Contains(name, listSeparator) {
			return refuse(keyPath(field, name), "the map key contains a '|', which separates map keys and cannot be escaped")
		}
	}
	return nil
}

// url writes the fields that VIC's release writes; newer fields of url.URL and
// the user information have no key.
func (e *encoder) url(u url.URL, parent, path string) error {
	for _, part := range urlParts(&u) {
		key, ok := childKey(parent, part.name, inherited(parent))
		if !ok {
			continue
		}
		if err := e.value(reflect.ValueOf(part.field).Elem(), key, fieldPath(path, part.name)); err != nil {
			return err
		}
	}
	return nil
}

func (e *encoder) time(t time.Time, key, field string) error {
	text := t.Format(timeLayout)
	if back, err := time.Parse(timeLayout, text); err != nil || !back.Equal(t) {
		return refuse(field, "the time has a year, zone offset or zone name that cannot be read back")
	}
	return e.put(key, text, field)
}

// urlPart is a field of a URL under the name that it has in a key.
type urlPart struct {
	name  string
	field any
}

func urlParts(u *url.URL) []urlPart {
	return []urlPart{
		{"Scheme", &u.Scheme},
		{"Opaque", &u.Opaque},
		{"Host", &u.Host},
		{"Path", &u.Path},
		{"RawPath", &u.RawPath},
		{"ForceQuery", &u.ForceQuery},
		{"RawQuery", &u.RawQuery},
		{"Fragment", &u.Fragment},
	}
}

// hasEntryKeys reports whether each element of a list has a key of its own.
func hasEntryKeys(list reflect.Type) bool {
	return list.Elem().Kind() == reflect.Struct || list.Elem() == reflect.TypeFor[net.IP]()
}

func scalarText(v reflect.Value, field string) (string, error) {
	switch v.Kind() {
	case reflect.String:
		return v.String(), nil
	case reflect.Bool:
		return strconv.FormatBool(v.Bool()), nil
	case reflect.Int, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10), nil
	default:
		return "", refuse(field, "VIC has no form for a value of type %s here", v.Type())
	}
}

func refuse(field, format string, args ...any) error {
	return errdefs.New(errdefs.InvalidArgument, "%s: %s", field, fmt.Sprintf(format, args...))
}

func fieldPath(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func indexPath(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func keyPath(path, key string) string { return path + "[" + strconv.Quote(key) + "]" }
