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

// adminConfig is what adminProxy reads and writes: the environment of all sessions.
type adminConfig struct {
	Init struct {
		Sessions map[string]struct {
			Cmd struct {
				Env []string `guestinfo:"Env,read-only"`
			} `guestinfo:"cmd,read-only"`
		} `guestinfo:"sessions,read-only"`
	} `guestinfo:"init,read-only"`
}

// adminProxy is VIC's plugin 7 (lib/migration/plugins/plugin7/vicadminProxyVarRename.go:32-111).
// VIC looks for the names anywhere in an entry and cuts values at a second '='; this one takes
// whole names and keeps whole values. An entry whose new name is there already stays.
func adminProxy() migration.Plugin {
	return migration.Plugin{
		Version: 7, Target: migration.Appliance, Name: "admin-proxy",
		About:   "the proxies of the administration server have variables of their own",
		Touches: []string{"guestinfo.vice./init/sessions|" + adminSession + "/cmd/Env~"},
		Step: func(keys map[string]string) (migration.Change, error) {
			var config adminConfig
			if err := guestinfo.DecodePart(keys, &config); err != nil {
				return migration.Change{}, err
			}
			env := config.Init.Sessions[adminSession].Cmd.Env
			renamed := renameVariables(env, map[string]string{"HTTP_PROXY": "VICADMIN_HTTP_PROXY", "HTTPS_PROXY": "VICADMIN_HTTPS_PROXY"})
			if slices.Equal(env, renamed) {
				return migration.Change{}, nil
			}
			return migration.Change{Set: map[string]string{"guestinfo.vice./init/sessions|" + adminSession + "/cmd/Env~": strings.Join(renamed, "|")}}, nil
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
