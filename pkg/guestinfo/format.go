// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package guestinfo

import (
	"encoding/base64"
	"encoding/hex"
	"net"
	"net/url"
	"reflect"
	"time"
)

// formatStruct returns the fields that are not zero.
func formatStruct(v reflect.Value) map[string]any {
	out := make(map[string]any)
	for i := range v.NumField() {
		if field := v.Field(i); !field.IsZero() {
			if x := formatValue(field); !showsNothing(field, x) {
				out[v.Type().Field(i).Name] = x
			}
		}
	}
	return out
}

// showsNothing reports whether a struct that is not all zero bytes is zero to a
// reader: the first instant in some zone, or a URL with fields of no neutral form.
func showsNothing(v reflect.Value, formatted any) bool {
	if v.Kind() != reflect.Struct {
		return false
	}
	if t, ok := v.Interface().(time.Time); ok {
		return t.IsZero()
	}
	object, ok := formatted.(map[string]any)
	return ok && len(object) == 0
}

// formatValue returns a value that encoding/json writes in the neutral form.
func formatValue(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return map[string]any{}
		}
		return formatValue(v.Elem())
	case reflect.Struct:
		switch x := v.Interface().(type) {
		case time.Time:
			return x.Format(time.RFC3339Nano)
		case url.URL:
			return formatURL(x)
		case net.IPNet:
			return formatIPNet(x)
		}
		return formatStruct(v)
	case reflect.Slice:
		return formatSlice(v)
	case reflect.Map:
		out := make(map[string]any, v.Len())
		for _, key := range v.MapKeys() {
			out[key.String()] = formatValue(v.MapIndex(key))
		}
		return out
	case reflect.String:
		return v.String()
	case reflect.Bool:
		return v.Bool()
	default:
		return v.Int()
	}
}

func formatSlice(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case []byte:
		return map[string]any{"base64": base64.StdEncoding.EncodeToString(x)}
	case net.IP:
		if len(x) == 0 {
			return map[string]any{}
		}
		return map[string]any{"ip": x.String(), "bytes": len(x)}
	case net.IPMask:
		if len(x) == 0 {
			return map[string]any{}
		}
		return map[string]any{"mask_hex": hex.EncodeToString(x)}
	}
	out := make([]any, v.Len())
	for i := range out {
		out[i] = formatValue(v.Index(i))
	}
	return out
}

func formatIPNet(n net.IPNet) any {
	out := make(map[string]any)
	if len(n.IP) > 0 {
		out["ip"] = n.IP.String()
		out["ip_bytes"] = len(n.IP)
	}
	if len(n.Mask) > 0 {
		out["mask_hex"] = hex.EncodeToString(n.Mask)
	}
	return out
}

func formatURL(u url.URL) any {
	out := make(map[string]any)
	for name, field := range neutralURL(&u) {
		switch x := field.(type) {
		case *string:
			if *x != "" {
				out[name] = *x
			}
		case *bool:
			if *x {
				out[name] = true
			}
		}
	}
	if u.User != nil {
		out["user"] = u.User.String()
	}
	return out
}

// neutralURL returns the fields of a URL by their neutral names, without the user.
func neutralURL(u *url.URL) map[string]any {
	return map[string]any{
		"scheme":       &u.Scheme,
		"opaque":       &u.Opaque,
		"host":         &u.Host,
		"path":         &u.Path,
		"raw_path":     &u.RawPath,
		"force_query":  &u.ForceQuery,
		"omit_host":    &u.OmitHost,
		"raw_query":    &u.RawQuery,
		"fragment":     &u.Fragment,
		"raw_fragment": &u.RawFragment,
	}
}
