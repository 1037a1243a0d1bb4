// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

const insecureRegistriesText = insecureRegistries + "~"

// registryList is insecure registries from version 8 on. Its length is where that of the
// URLs was.
type registryList struct {
	Insecure []string `guestinfo:"registry/insecure_registries,read-only"`
}

// registryTexts is VIC's plugin 8 (lib/migration/plugins/plugin8/insecure_registries_type_change.go:65-90). VIC
// makes //host of what has no scheme, which no registry is called, and an entry of what names no host; this one
// does neither. Queries and fragments, which no registry has, are left out. The URLs' own keys stay.
func registryTexts() migration.Plugin {
	return migration.Plugin{
		Version: 8, Target: migration.Appliance, Name: "registry-texts",
		About:   "insecure registries are texts instead of URLs",
		Touches: []string{insecureRegistries, insecureRegistriesText},
		Step: func(keys map[string]string) (migration.Change, error) {
			var texts []string
			var misfit error
			if stored := keys[insecureRegistriesText]; stored != "" {
				if misfit = guestinfo.DecodePart(keys, &registryList{}); misfit == nil {
					return migration.Change{}, nil // texts already
				}
				texts = strings.Split(stored, "|")
			}
			var config registryURLs
			if err := guestinfo.DecodePart(keys, &config); err != nil {
				return migration.Change{}, err
			}
			before := len(texts)
			for _, u := range config.Insecure {
				if text := registryText(u); text != "" && !slices.Contains(texts, text) {
					texts = append(texts, text)
				}
			}
			switch {
			case misfit != nil && len(texts) == before:
				return migration.Change{}, misfit // the URLs do not explain the length
			case len(config.Insecure) == 0:
				return migration.Change{}, nil
			case len(texts) == 0: // else the length would be read as so many registries without a name
				return migration.Change{Set: map[string]string{insecureRegistries: ""}}, nil
			}
			return migration.Change{Set: map[string]string{
				insecureRegistries:     strconv.Itoa(len(texts) - 1),
				insecureRegistriesText: strings.Join(texts, "|"),
			}}, nil
		},
	}
}

// registryText is what a registry is called: host[:port][/path], or "" for what names no
// host or cannot stand in a list of texts. Go reads host:port without a scheme as a
// scheme and what is behind it.
func registryText(u url.URL) string {
	host, path := u.Host, u.Path
	switch {
	case u.Opaque != "":
		host, path = splitHost(u.Opaque)
		if _, err := strconv.ParseUint(host, 10, 16); err == nil && u.Scheme != "" {
			host = u.Scheme + ":" + host
		}
	case host == "":
		host, path = splitHost(path)
	case path != "" && !strings.HasPrefix(path, "/"):
		path = "/" + path
	}
	if host == "" || strings.Contains(host+path, "|") {
		return ""
	}
	return host + path
}
