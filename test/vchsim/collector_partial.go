// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// nested says how two values of a property differ, as far down as there are paths for
// it: fields, and elements that have a key. It is what a filter with partialUpdates
// reports.
func nested(name string, was, is types.AnyType) []types.PropertyChange {
	changes, ok := differ(name, reflect.ValueOf(was), reflect.ValueOf(is))
	if !ok {
		return []types.PropertyChange{{Name: name, Op: types.PropertyChangeOpAssign, Val: is}}
	}
	return changes
}

// differ returns false if there is no path for what differs.
func differ(name string, was, is reflect.Value) ([]types.PropertyChange, bool) {
	was, is = plain(was), plain(is)
	if !was.IsValid() || !is.IsValid() || was.Type() != is.Type() || is.Kind() != reflect.Struct || is.Type() == reflect.TypeFor[ref]() {
		return nil, false
	}
	if strings.HasPrefix(is.Type().Name(), "ArrayOf") {
		return differElements(name, was.Field(0), is.Field(0))
	}
	var all []types.PropertyChange
	for i := range is.NumField() {
		f := is.Type().Field(i)
		if reflect.DeepEqual(was.Field(i).Interface(), is.Field(i).Interface()) {
			continue
		}
		below := name + "." + strings.ToLower(f.Name[:1]) + f.Name[1:]
		if f.Anonymous {
			below = name
		}
		changes, ok := differField(below, was.Field(i), is.Field(i))
		if !ok {
			return nil, false
		}
		all = append(all, changes...)
	}
	return all, true
}

func differField(name string, was, is reflect.Value) ([]types.PropertyChange, bool) {
	if is.Kind() == reflect.Slice {
		return differElements(name, was, is)
	}
	if changes, ok := differ(name, was, is); ok {
		return changes, true
	}
	change := types.PropertyChange{Name: name, Op: types.PropertyChangeOpAssign}
	if is = plain(is); is.IsValid() {
		change.Val = is.Interface()
	}
	return []types.PropertyChange{change}, true
}

// differElements compares lists of which each element has a key of its own.
func differElements(name string, was, is reflect.Value) ([]types.PropertyChange, bool) {
	before, order, ok := keyed(was)
	after, orderNow, okNow := keyed(is)
	if !ok || !okNow {
		return nil, false
	}
	var all []types.PropertyChange
	for _, key := range order {
		if _, ok := after[key]; !ok {
			all = append(all, types.PropertyChange{Name: name + key, Op: types.PropertyChangeOpRemove})
		}
	}
	for _, key := range orderNow {
		old, ok := before[key]
		switch {
		case !ok:
			all = append(all, types.PropertyChange{Name: name + key, Op: types.PropertyChangeOpAdd, Val: after[key]})
		case !reflect.DeepEqual(old, after[key]):
			all = append(all, types.PropertyChange{Name: name + key, Op: types.PropertyChangeOpAssign, Val: after[key]})
		}
	}
	return all, true
}

// keyed returns elements by the text of their keys in paths.
func keyed(list reflect.Value) (elements map[string]any, order []string, ok bool) {
	elements = map[string]any{}
	for i := range list.Len() {
		v := plain(list.Index(i))
		if v.Kind() != reflect.Struct || !v.FieldByName("Key").IsValid() {
			return nil, nil, false
		}
		var text string
		switch key := v.FieldByName("Key").Interface().(type) {
		case string:
			text = fmt.Sprintf("[%q]", key)
		case int32:
			text = fmt.Sprintf("[%d]", key)
		default:
			return nil, nil, false
		}
		if _, twice := elements[text]; twice {
			return nil, nil, false
		}
		elements[text] = v.Interface()
		order = append(order, text)
	}
	return elements, order, true
}

// plain follows pointers and interfaces.
func plain(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	return v
}
