// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package guestinfo

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parseStruct fills a struct from an object; unknown names are errors.
func parseStruct(object map[string]any, v reflect.Value, path string) error {
	for _, name := range slices.Sorted(maps.Keys(object)) {
		field := fieldPath(path, name)
		structField, ok := v.Type().FieldByName(name)
		if !ok || len(structField.Index) != 1 {
			return refuse(field, "there is no such field")
		}
		if err := parseValue(object[name], v.FieldByIndex(structField.Index), field); err != nil {
			return err
		}
	}
	return nil
}

// parseValue fills v, which must be settable and zero; null leaves it zero.
func parseValue(raw any, v reflect.Value, field string) error {
	if raw == nil {
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return parseValue(raw, v.Elem(), field)
	case reflect.Struct:
		return parseObject(raw, v, field)
	case reflect.Slice:
		return parseSlice(raw, v, field)
	case reflect.Map:
		return parseMap(raw, v, field)
	case reflect.String:
		text, err := want[string](raw, field, "a text")
		v.SetString(text)
		return err
	case reflect.Bool:
		b, err := want[bool](raw, field, "true or false")
		v.SetBool(b)
		return err
	default:
		n, err := wantInt(raw, field)
		v.SetInt(n)
		return err
	}
}

func parseObject(raw any, v reflect.Value, field string) error {
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		return parseTime(raw, x, field)
	case *url.URL:
		return parseURL(raw, x, field)
	case *net.IPNet:
		return parseIPNet(raw, x, field)
	}
	object, err := want[map[string]any](raw, field, "an object")
	if err != nil {
		return err
	}
	return parseStruct(object, v, field)
}

func parseSlice(raw any, v reflect.Value, field string) error {
	switch x := v.Addr().Interface().(type) {
	case *[]byte:
		return parseBytes(raw, x, field)
	case *net.IP:
		return parseIP(raw, x, field)
	case *net.IPMask:
		object, err := wantObject(raw, field, "mask_hex")
		if err != nil {
			return err
		}
		return parseMask(object, x, field)
	}
	list, err := want[[]any](raw, field, "a list")
	if err != nil {
		return err
	}
	v.Set(reflect.MakeSlice(v.Type(), len(list), len(list)))
	for i, element := range list {
		if err := parseValue(element, v.Index(i), indexPath(field, i)); err != nil {
			return err
		}
	}
	return nil
}

func parseMap(raw any, v reflect.Value, field string) error {
	object, err := want[map[string]any](raw, field, "an object")
	if err != nil {
		return err
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, name := range slices.Sorted(maps.Keys(object)) {
		entry := reflect.New(v.Type().Elem()).Elem()
		// {} is how a nil pointer is shown.
		if inner, ok := object[name].(map[string]any); !ok || len(inner) > 0 || entry.Kind() != reflect.Pointer {
			if err := parseValue(object[name], entry, keyPath(field, name)); err != nil {
				return err
			}
		}
		v.SetMapIndex(reflect.ValueOf(name), entry)
	}
	return nil
}

func parseBytes(raw any, b *[]byte, field string) error {
	object, err := wantObject(raw, field, "base64")
	if err != nil {
		return err
	}
	text, err := want[string](object["base64"], fieldPath(field, "base64"), "a text")
	if err != nil {
		return err
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return refuse(fieldPath(field, "base64"), "it is not padded standard base64")
	}
	*b = data
	return nil
}

func parseIP(raw any, ip *net.IP, field string) error {
	object, err := wantObject(raw, field, "ip", "bytes")
	if err != nil {
		return err
	}
	return parseAddress(object, "bytes", ip, field)
}

func parseIPNet(raw any, n *net.IPNet, field string) error {
	object, err := wantObject(raw, field, "ip", "ip_bytes", "mask_hex")
	if err != nil {
		return err
	}
	if err := parseAddress(object, "ip_bytes", &n.IP, field); err != nil {
		return err
	}
	return parseMask(object, &n.Mask, field)
}

// parseAddress reads "ip" and the length of its storage. "?" and hex digits are
// how an address of an impossible length is shown.
func parseAddress(object map[string]any, lengthName string, ip *net.IP, field string) error {
	raw, ok := object["ip"]
	if !ok {
		return nil
	}
	text, err := want[string](raw, fieldPath(field, "ip"), "a text")
	if err != nil {
		return err
	}
	if digits, odd := strings.CutPrefix(text, "?"); odd {
		if *ip, err = hex.DecodeString(digits); err != nil {
			return refuse(fieldPath(field, "ip"), "there must be hex digits after the '?'")
		}
		return nil
	}
	address := net.ParseIP(text)
	if address == nil {
		return refuse(fieldPath(field, "ip"), "%q is not an IP address", text)
	}
	length := int64(len(address))
	if raw, ok := object[lengthName]; ok {
		if length, err = wantInt(raw, fieldPath(field, lengthName)); err != nil {
			return err
		}
	}
	switch {
	case length == net.IPv4len && address.To4() != nil:
		address = address.To4()
	case length == net.IPv6len:
	default:
		return refuse(fieldPath(field, lengthName), "%s cannot be held in %d bytes; use 4 or 16", text, length)
	}
	*ip = address
	return nil
}

func parseMask(object map[string]any, mask *net.IPMask, field string) error {
	raw, ok := object["mask_hex"]
	if !ok {
		return nil
	}
	text, err := want[string](raw, fieldPath(field, "mask_hex"), "a text")
	if err != nil {
		return err
	}
	data, err := hex.DecodeString(text)
	if err != nil {
		return refuse(fieldPath(field, "mask_hex"), "%q is not hexadecimal", text)
	}
	*mask = data
	return nil
}

func parseURL(raw any, u *url.URL, field string) error {
	object, err := want[map[string]any](raw, field, "an object")
	if err != nil {
		return err
	}
	fields := neutralURL(u)
	user := ""
	fields["user"] = &user
	for _, given := range slices.Sorted(maps.Keys(object)) {
		at := fieldPath(field, given)
		to, ok := fields[neutralName(fields, given)]
		if !ok {
			return refuse(at, "there is no such field; known are %s", strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		}
		if err := parseValue(object[given], reflect.ValueOf(to).Elem(), at); err != nil {
			return err
		}
	}
	if user != "" {
		u.User = url.User(user)
	}
	return nil
}

// neutralName finds a field of a URL under another spelling: Go's own RawPath
// and rawpath mean raw_path.
func neutralName(fields map[string]any, given string) string {
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }
	for name := range fields {
		if plain(name) == plain(given) {
			return name
		}
	}
	return given
}

func parseTime(raw any, t *time.Time, field string) error {
	text, err := want[string](raw, field, "a text")
	if err != nil {
		return err
	}
	parsed, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return refuse(field, "%q is not a time in RFC 3339 form", text)
	}
	*t = withZoneName(parsed)
	return nil
}

// withZoneName gives a time the zone name that VIC's text form holds besides the
// offset and that RFC 3339 does not have. Readers use the offset only. Two
// offsets have a usual name; the others are named by their digits.
func withZoneName(t time.Time) time.Time {
	_, offset := t.Zone()
	switch offset {
	case 0:
		return t.UTC()
	case int(time.Hour / time.Second):
		return t.In(time.FixedZone("CET", offset))
	case int(2 * time.Hour / time.Second):
		return t.In(time.FixedZone("CEST", offset))
	default:
		return t.In(time.FixedZone("", offset))
	}
}

// want checks the JSON type of a value.
func want[T any](raw any, field, form string) (T, error) {
	x, ok := raw.(T)
	if !ok {
		return x, refuse(field, "want %s, got %s", form, jsonKind(raw))
	}
	return x, nil
}

// wantObject checks that raw is an object with no other names than these.
func wantObject(raw any, field string, names ...string) (map[string]any, error) {
	object, err := want[map[string]any](raw, field, "an object")
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(names, name) {
			slices.Sort(names)
			return nil, refuse(fieldPath(field, name), "there is no such field; known are %s", strings.Join(names, ", "))
		}
	}
	return object, nil
}

func wantInt(raw any, field string) (int64, error) {
	number, err := want[json.Number](raw, field, "a number")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(number.String(), 10, 64)
	if err != nil {
		return 0, refuse(field, "%s is not a whole number of 64 bits", number)
	}
	return n, nil
}
