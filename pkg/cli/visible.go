// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"path"
	"slices"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
)

// harmless are the keys whose values anybody may see, as patterns of path.Match. What
// is not here is hidden: arguments, labels, options that a VCH was made with, and
// what a program of tomorrow stores may hold a password.
func harmless() []string {
	var out []string
	for _, at := range []string{"", "init/"} {
		out = append(
			out,
			at+"common/name",
			"guestinfo.vice./"+at+"common/id",
			"guestinfo.vice./"+at+"common/name",
			"guestinfo.vice./"+at+"version/*",
			"guestinfo.vice./"+at+"sessions",
			"guestinfo.vice./"+at+"sessions|*/stopSignal",
			// How many there are.
			"guestinfo.vice./"+at+"sessions|*/cmd/Args",
			"guestinfo.vice./"+at+"sessions|*/cmd/Env",
		)
	}
	return append(
		out,
		"guestinfo.vice..createtime",
		"guestinfo.vice./hostname",
		"guestinfo.vice./imageid",
		"guestinfo.vice./layerid",
		"guestinfo.vice./mounts",
		"guestinfo.vice./networks",
		"guestinfo.vice./repo",
		"guestinfo.vice./container/bootstrap_image_path",
		"guestinfo.vice./registry/*_registries",
		"guestinfo.vice./registry/*_registries~",
		"guestinfo.vice./registry/insecure_registries|*/Host",
		"guestinfo.vice./registry/insecure_registries|*/Opaque",
		"guestinfo.vice./registry/insecure_registries|*/Path",
		"guestinfo.vice./registry/insecure_registries|*/Scheme",
	)
}

// visible returns the value of a key as it may be shown: the environment without its values,
// registries without users and passwords, and guestinfo.Redacted for all that
// is not known to be harmless. An empty value stays empty.
func visible(key, value string) string {
	switch {
	case value == "":
		return ""
	case strings.HasSuffix(key, "/cmd/Env~"):
		return visibleEnvironment(value)
	case key == guestinfo.AnnotationKey(identity.MarkAnnotation) && isMark(value):
		return value
	case !slices.ContainsFunc(harmless(), func(pattern string) bool { ok, err := path.Match(pattern, key); return ok && err == nil }):
		return guestinfo.Redacted
	case strings.Contains(key, "/registry/"):
		return withoutUsers(value)
	}
	return value
}

// visibleEnvironment keeps the names of variables.
func visibleEnvironment(joined string) string {
	entries := guestinfo.Names(joined)
	for i, entry := range entries {
		entries[i] = guestinfo.Redacted
		if name, _, ok := strings.Cut(entry, "="); ok {
			entries[i] = name + "=" + guestinfo.Redacted
		}
	}
	return strings.Join(entries, "|")
}

// withoutUsers hides what stands before an '@' in each element of a list.
func withoutUsers(joined string) string {
	elements := strings.Split(joined, "|")
	for i, element := range elements {
		if at := strings.LastIndex(element, "@"); at >= 0 {
			elements[i] = guestinfo.Redacted + element[at:]
		}
	}
	return strings.Join(elements, "|")
}

// isMark reports whether a text is a mark, and nothing but one.
func isMark(text string) bool {
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.DisallowUnknownFields()
	var mark identity.Mark
	return decoder.Decode(&mark) == nil && !decoder.More()
}
