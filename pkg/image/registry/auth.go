// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"encoding/json"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// maxAuth is what a Secret can hold.
const maxAuth = 1 << 20

// keychain is what a pull secret holds, the most specific entries first.
type keychain []credential

type credential struct {
	host, path string // the path has / at its end, or is empty
	config     authn.AuthConfig
}

// parseAuth reads the content of a Secret's .dockerconfigjson. Errors name the
// entry, never a value. Registries are matched here, and not by the library's
// keychain for pull secrets, which needs another version of Kubernetes' modules,
// knows only one name of Docker's registry, and reads "team" as a prefix of "teams".
func parseAuth(data []byte) (keychain, error) {
	if len(data) == 0 {
		return nil, nil
	}
	var file struct {
		Auths map[string]json.RawMessage `json:"auths"`
	}
	if len(data) > maxAuth {
		return nil, errdefs.New(errdefs.InvalidArgument, "pull secret: has %d bytes, want at most %d", len(data), maxAuth)
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, errdefs.New(errdefs.InvalidArgument, "pull secret: is not the JSON of a .dockerconfigjson: want {\"auths\": {\"registry\": {...}}}")
	}
	var chain keychain
	for key, raw := range file.Auths {
		var c credential
		if json.Unmarshal(raw, &c.config) != nil {
			return nil, errdefs.New(errdefs.InvalidArgument,
				"pull secret: entry %q: want strings for username, password, identitytoken and registrytoken, and for auth base64 of user:password", shown(key))
		}
		c.host, c.path = splitKey(key)
		if _, err := path.Match(c.host, ""); err != nil || c.host == "" {
			return nil, errdefs.New(errdefs.InvalidArgument, "pull secret: entry %q: want a registry, with or without https:// and a path", shown(key))
		}
		if c.config == (authn.AuthConfig{}) {
			continue // what docker leaves behind when a helper keeps the credentials
		}
		chain = append(chain, c)
	}
	slices.SortFunc(chain, func(a, b credential) int {
		if len(a.path) != len(b.path) {
			return len(b.path) - len(a.path)
		}
		if stars := strings.Count(a.host, "*") - strings.Count(b.host, "*"); stars != 0 {
			return stars
		}
		return strings.Compare(b.host+b.path, a.host+a.path)
	})
	return chain, nil
}

// splitKey divides a key into host and path. The API's version is not a path.
func splitKey(key string) (host, prefix string) {
	if _, rest, ok := strings.Cut(key, "://"); ok {
		key = rest
	}
	host, prefix, _ = strings.Cut(key, "/")
	for _, version := range []string{"v1", "v2"} {
		if rest, ok := strings.CutPrefix(prefix+"/", version+"/"); ok {
			prefix = rest
			break
		}
	}
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		prefix += "/"
	}
	return withoutDefaultPort(canonicalHost(host)), prefix
}

func withoutDefaultPort(host string) string { return strings.TrimSuffix(host, ":443") }

// find returns the credentials for a repository.
func (k keychain) find(host, repository string) (authn.Authenticator, bool) {
	host = withoutDefaultPort(canonicalHost(host))
	for _, c := range k {
		if strings.HasPrefix(repository+"/", c.path) && labelsMatch(c.host, host) {
			config := c.config
			config.Auth = "" // decoded, and an identity token beside it counts more
			return authn.FromConfig(config), true
		}
	}
	return authn.Anonymous, false
}

// labelsMatch compares hosts label by label; * stands for characters of one.
func labelsMatch(pattern, host string) bool {
	patterns, labels := strings.Split(pattern, "."), strings.Split(host, ".")
	if len(patterns) != len(labels) {
		return false
	}
	for i := range labels {
		// The last one includes the port, in which no star is allowed.
		p, port := splitPort(patterns[i])
		l, wantPort := splitPort(labels[i])
		if ok, err := path.Match(p, l); !ok || err != nil || port != wantPort {
			return false
		}
	}
	return true
}

// secrets lists what must be in no text.
func (k keychain) secrets() []string {
	var all []string
	for _, c := range k {
		all = append(all, c.config.Password, c.config.Auth, c.config.IdentityToken, c.config.RegistryToken)
	}
	return all
}
