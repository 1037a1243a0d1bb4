// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

const insecureRegistries = "guestinfo.vice./registry/insecure_registries"

// registryURLs are insecure registries before version 8: URLs, each with keys of its own.
type registryURLs struct {
	Insecure []url.URL `guestinfo:"registry/insecure_registries,read-only"`
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
			for i, u := range config.Insecure {
				if u.Host != "" || u.Opaque != "" {
					continue
				}
				host, path := splitHost(u.Path)
				if host == "" {
					continue // a path that begins with a slash has no host
				}
				entry := fmt.Sprintf("%s|%d/", insecureRegistries, i)
				// As in VIC, what follows the host has no slash in front; URLs get it when they are written.
				set[entry+"Host"], set[entry+"Path"] = host, strings.TrimPrefix(path, "/")
			}
			return migration.Change{Set: set}, nil
		},
	}
}

// splitHost cuts host/path before the slash.
func splitHost(text string) (host, path string) {
	if i := strings.Index(text, "/"); i >= 0 {
		return text[:i], text[i:]
	}
	return text, ""
}
