// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

const (
	insecureRegistries     = "guestinfo.vice./registry/insecure_registries"
	insecureRegistriesText = insecureRegistries + "~"
)

// registryURLs are insecure registries before version 8: URLs, each with keys of its own.
type registryURLs struct {
	Registry struct {
		Insecure []url.URL `guestinfo:"insecure_registries,read-only"`
	} `guestinfo:"registry,read-only"`
}

// registryHosts is VIC's plugin 5 (lib/migration/plugins/plugin5/migrate_registry.go:64-120): Go 1.7 took the host
// of a URL without a scheme for its path, Go 1.8 does not.
func registryHosts() migration.Plugin {
	return migration.Plugin{
		Version: 5, Target: migration.Appliance, Name: "registry-hosts",
		About:   "insecure registries without a scheme have their host where it belongs",
		Touches: []string{insecureRegistries + "|*/Host", insecureRegistries + "|*/Path"},
		Step: func(keys map[string]string) (migration.Change, error) {
			var config registryURLs
			if err := guestinfo.DecodePart(keys, &config); err != nil {
				return migration.Change{}, err
			}
			set := map[string]string{}
			for i, u := range config.Registry.Insecure {
				if u.Host != "" || u.Path == "" {
					continue
				}
				host, rest, more := strings.Cut(u.Path, "/")
				if host == "" {
					continue // a path that begins with a slash has no host
				}
				if more {
					rest = "/" + rest
				}
				entry := fmt.Sprintf("%s|%d", insecureRegistries, i)
				maps.Copy(set, map[string]string{entry + "/Host": host, entry + "/Path": rest})
			}
			return migration.Change{Set: set}, nil
		},
	}
}

// registryTexts is VIC's plugin 8 (lib/migration/plugins/plugin8/insecure_registries_type_change.go:65-90). VIC
// makes //host of what has no scheme, which no registry is called, and an entry of
// nothing; this one does neither. The old keys stay.
func registryTexts() migration.Plugin {
	return migration.Plugin{
		Version: 8, Target: migration.Appliance, Name: "registry-texts",
		About:   "insecure registries are texts instead of URLs",
		Touches: []string{insecureRegistries, insecureRegistriesText},
		Step: func(keys map[string]string) (migration.Change, error) {
			if keys[insecureRegistriesText] != "" {
				return migration.Change{}, nil // texts already
			}
			var config registryURLs
			if err := guestinfo.DecodePart(keys, &config); err != nil {
				return migration.Change{}, err
			}
			var texts []string
			for _, u := range config.Registry.Insecure {
				if text := registryText(u); text != "" {
					texts = append(texts, text)
				}
			}
			if len(texts) == 0 {
				return migration.Change{}, nil
			}
			if slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(t, "|") }) {
				return migration.Change{}, refuse("key %q: a registry contains a '|', which a list of texts cannot hold", insecureRegistries)
			}
			return migration.Change{Set: map[string]string{
				insecureRegistries:     fmt.Sprint(len(texts) - 1),
				insecureRegistriesText: strings.Join(texts, "|"),
			}}, nil
		},
	}
}

// registryText is a registry without its scheme. Go reads host:port as a scheme
// with the port behind it.
func registryText(u url.URL) string {
	if u.Opaque != "" {
		return u.Scheme + ":" + u.Opaque
	}
	return u.Host + u.Path
}
