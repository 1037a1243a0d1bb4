// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package guestinfo

import (
	"reflect"
	"strings"
)

const (
	// visiblePrefix begins every key that the guest can see.
	visiblePrefix = "guestinfo.vice."
	// listSeparator stands between list elements, between map keys, and before
	// the index or map key in the key of an entry. VIC has no escape for it.
	listSeparator = "|"
	// listSuffix marks the key that holds the joined elements of a list.
	listSuffix = "~"

	secretSuffix    = "@secret"
	transientSuffix = "@non-persistent"

	tagName = "guestinfo"
)

// scope says who may see a field. Neither hidden nor writable is read-only.
type scope struct {
	hidden    bool
	writable  bool
	secret    bool
	transient bool
}

// inherited returns the scope that a key passes on to a field without a tag. It
// is read back from the key's text, not remembered: text after an '@' in a map
// key counts as a suffix, as it does for VIC.
func inherited(key string) scope {
	s := scope{hidden: !strings.HasPrefix(key, visiblePrefix), writable: !strings.Contains(key, "/")}
	_, suffixes, _ := strings.Cut(key, "@")
	for word := range strings.SplitSeq(suffixes, "@") {
		s.secret = s.secret || "@"+word == secretSuffix
		s.transient = s.transient || "@"+word == transientSuffix
	}
	return s
}

// fieldKey returns the key of a field of the struct that is kept under parent,
// or false for a field that has none.
func fieldKey(parent string, field reflect.StructField) (string, bool) {
	if !field.IsExported() {
		return "", false
	}
	tag, tagged := field.Tag.Lookup(tagName)
	if tag == "-" {
		return "", false
	}
	s := inherited(parent)
	part, words, _ := strings.Cut(tag, ",")
	if part == "" {
		part = field.Name
	}
	if tagged {
		// Only non-persistence outlives a scope of the field's own.
		s = scope{transient: s.transient}
		for word := range strings.SplitSeq(words, ",") {
			s.hidden = s.hidden || word == "hidden"
			s.writable = s.writable || word == "read-write"
			s.secret = s.secret || word == "secret"
			s.transient = s.transient || word == "non-persistent"
		}
	}
	return childKey(parent, part, s)
}

// childKey joins a part to its parent's key in the shape that the scope asks
// for. The child's scope alone decides, whatever the parent's shape was: its
// separators replace the others in the whole key, map keys included. Hidden and
// non-persistent exclude each other; such a field has no key.
func childKey(parent, part string, s scope) (string, bool) {
	visible := strings.HasPrefix(parent, visiblePrefix)
	key, _, _ := strings.Cut(parent, "@")
	own, other := "/", "."
	if s.writable && !s.hidden {
		own, other = other, own
	}
	if key != "" {
		key += own
	}
	key += part
	if s.hidden {
		if visible {
			key = key[len(visiblePrefix)+1:]
		}
		return key, !s.transient
	}
	if visible {
		key = key[len(visiblePrefix):]
	} else {
		key = own + key
	}
	key = visiblePrefix + strings.ReplaceAll(key, other, own)
	if s.secret {
		key += secretSuffix
	}
	if s.transient {
		key += transientSuffix
	}
	return key, true
}

// entryKey appends text to a key, before its suffixes.
func entryKey(key, text string) string {
	base, suffixes, found := strings.Cut(key, "@")
	if found {
		return base + text + "@" + suffixes
	}
	return base + text
}
