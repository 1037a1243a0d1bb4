// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
)

// The data versions of appliances at which VIC changed something
// (lib/migration/feature/feature.go:17-39).
const (
	hiddenVCHNameVersion = 1
	registryHostVersion  = 5
	adminProxyVersion    = 7
	registryTextVersion  = 8

	hiddenVCHName  = "init/common/name"
	visibleVCHName = "guestinfo.vice./init/common/name"
	adminEnv       = "guestinfo.vice./init/sessions|" + adminSession + "/cmd/Env~"
	insecure       = "guestinfo.vice./registry/insecure_registries"
)

// OldVCHKeys returns what an older version of VIC would have stored where keys (as stored) are
// of a VCH's appliance of today: the whole map. Below 8 insecure registries are URLs with
// keys of their own, below 5 with the host in the path; below 7 the proxies of
// the administration server are everybody's variables; below 1 the name is visible to
// the guest; 0 has no data version. From 10 on only the version differs.
func OldVCHKeys(keys map[string]string, version int) map[string]string {
	old := maps.Clone(keys)
	if name, ok := keys[hiddenVCHName]; ok && version < hiddenVCHNameVersion {
		old[visibleVCHName] = name
		delete(old, hiddenVCHName)
	}
	if list, ok := keys[insecure+"~"]; ok && version < registryTextVersion {
		delete(old, insecure+"~")
		for i, registry := range strings.Split(list, "|") {
			maps.Copy(old, guestinfo.OptionValues(registryURL(fmt.Sprintf("%s|%d/", insecure, i), registry, version)))
		}
	}
	if env, ok := keys[adminEnv]; ok && version < adminProxyVersion {
		old[adminEnv] = strings.ReplaceAll(env, "VICADMIN_", "")
	}
	old[guestinfo.VCHPluginVersionKey] = strconv.Itoa(version)
	if version == 0 {
		delete(old, guestinfo.VCHPluginVersionKey)
	}
	return old
}

// registryURL returns the keys of a registry as the URL that it was. User information
// was never written.
func registryURL(prefix, registry string, version int) map[string]string {
	host, rest, more := strings.Cut(registry, "/")
	if more {
		rest = "/" + rest
	}
	scheme := "https"
	if version < registryHostVersion {
		scheme, host, rest = "", "", registry
	}
	return map[string]string{
		prefix + "Scheme": scheme, prefix + "Host": host, prefix + "Path": rest,
		prefix + "Opaque": "", prefix + "RawPath": "", prefix + "RawQuery": "", prefix + "Fragment": "",
		prefix + "ForceQuery": "false",
	}
}
