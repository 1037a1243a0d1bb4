// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"slices"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

// adminSession is the process of the VCH's administration server.
const adminSession = "vicadmin"

const (
	sessionNames = "guestinfo.vice./init/sessions"
	adminEnvText = sessionNames + "|" + adminSession + "/cmd/Env~"
)

// adminEnv is the environment of the administration server.
type adminEnv struct {
	Env []string `guestinfo:"init/sessions|vicadmin/cmd/Env,read-only"`
}

// adminProxy is VIC's plugin 7 (lib/migration/plugins/plugin7/vicadminProxyVarRename.go:32-111).
// VIC looks for the names anywhere in an entry and cuts values at a second '='; this one takes
// whole names and keeps whole values. An entry whose new name is there already stays, and so
// does what lies behind the end of a list that says it is shorter than it is.
func adminProxy() migration.Plugin {
	return migration.Plugin{
		Version: 7, Target: migration.Appliance, Name: "admin-proxy",
		About:   "the proxies of the administration server have variables of their own",
		Touches: []string{adminEnvText},
		Step: func(keys map[string]string) (migration.Change, error) {
			if !slices.Contains(guestinfo.Names(keys[sessionNames]), adminSession) {
				return migration.Change{}, nil // nobody reads the keys of a session that is not listed
			}
			var config adminEnv
			if err := guestinfo.DecodePart(keys, &config); err != nil {
				return migration.Change{}, err
			}
			stored, there := keys[adminEnvText]
			if !there {
				return migration.Change{}, nil
			}
			renamed := renameVariables(config.Env, map[string]string{"HTTP_PROXY": "VICADMIN_HTTP_PROXY", "HTTPS_PROXY": "VICADMIN_HTTPS_PROXY"})
			all := strings.Split(stored, "|")
			copy(all, renamed)
			return migration.Change{Set: map[string]string{adminEnvText: strings.Join(all, "|")}}, nil
		},
	}
}

// renameVariables returns the environment with other names.
func renameVariables(env []string, names map[string]string) []string {
	has := func(name string) bool {
		return slices.ContainsFunc(env, func(entry string) bool { return strings.HasPrefix(entry, name+"=") })
	}
	out := slices.Clone(env)
	for i, entry := range env {
		name, value, ok := strings.Cut(entry, "=")
		if to, wanted := names[name]; ok && wanted && !has(to) {
			out[i] = to + "=" + value
		}
	}
	return out
}
