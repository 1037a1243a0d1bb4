// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// nilText is how VIC writes an empty value; as a value it would be read back as empty
// (pkg/vsphere/extraconfig/vmomi/optionvalue.go:45-65).
const nilText = "<nil>"

// badText says why s would not arrive as it is in the guest, or "". vSphere's
// API is XML: what XML cannot carry is replaced silently on the way.
func badText(s string) string {
	if !utf8.ValidString(s) {
		return "must be UTF-8"
	}
	for _, r := range s {
		switch {
		case r == 0:
			return "must not contain NUL"
		case r == '\t' || r == '\n' || r == '\r':
		case r < ' ' || r == 0xFFFE || r == 0xFFFF:
			return fmt.Sprintf("must not contain the control character %U", r)
		}
	}
	return ""
}

// BadListText says why s would not arrive as it is in the guest when VIC joins it
// into a list with others, or "". The text does not have s in it.
func BadListText(s string) string {
	if strings.Contains(s, "|") {
		return "must not contain '|', with which VIC separates the elements of a list and for which it knows no escape"
	}
	return badText(s)
}

// validateName judges a required name of one line.
func validateName(name string, path *field.Path, limit int) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if len(name) > limit {
		errs = append(errs, field.TooLong(path, name, limit))
	}
	if reason := badName(name); reason != "" {
		errs = append(errs, field.Invalid(path, clip(name), reason))
	}
	return errs
}

func badName(name string) string {
	if reason := badText(name); reason != "" {
		return reason
	}
	if strings.ContainsFunc(name, unicode.IsControl) {
		return "must be one line without control characters"
	}
	if strings.TrimSpace(name) != name {
		return "must not begin or end with a blank"
	}
	return ""
}

// clip shortens a value for an error text.
func clip(s string) string {
	if len(s) <= maxPrintedValueBytes {
		return s
	}
	return strings.ToValidUTF8(s[:maxPrintedValueBytes], "") + "…"
}
