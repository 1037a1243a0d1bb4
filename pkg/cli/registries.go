// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/pull"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
)

// registryFlags say how registries are asked.
type registryFlags struct {
	authFile string
	caFile   string
	insecure []string
	mirrors  []string
}

func (f *registryFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.authFile, "auth-file", "", "pull secret: a .dockerconfigjson, docker's config.json, or the YAML of a Secret with one (default: that of --secret-file)")
	cmd.Flags().StringVar(&f.caFile, "registry-ca", "", "PEM file with authorities to trust for registries")
	cmd.Flags().StringArrayVar(&f.insecure, "insecure-registry", nil, "registry whose certificate is not verified, and which may speak http: host[:port], *.domain or a network; may be repeated")
	cmd.Flags().StringArrayVar(&f.mirrors, "mirror", nil, "REGISTRY=ENDPOINT: where images of a registry (or of *) are asked for first: [scheme://]host[:port][/path]; may be repeated")
}

// options joins what flags, ProviderSpec and Secret say; flags come first.
func (f *registryFlags) options(spec *v1alpha1.ProviderSpec, secret map[string][]byte) (registry.Options, error) {
	o := registry.Options{Insecure: f.insecure}
	if f.authFile != "" {
		auth, err := readAuth(f.authFile)
		if err != nil {
			return o, err
		}
		o.Auth = auth
	}
	if f.caFile != "" {
		pem, err := os.ReadFile(filepath.Clean(f.caFile))
		if err != nil {
			return o, errdefs.Wrap(errdefs.InvalidArgument, err, "read --registry-ca")
		}
		o.CABundle = pem
	}
	for _, text := range f.mirrors {
		of, endpoint, ok := strings.Cut(text, "=")
		if !ok || of == "" || endpoint == "" {
			return o, errdefs.New(errdefs.InvalidArgument, "--mirror: want REGISTRY=ENDPOINT, such as docker.io=mirror.example.com/hub")
		}
		o.Mirrors = append(o.Mirrors, registry.Mirror{Registry: of, Endpoint: endpoint})
	}
	o = o.Join(pull.Registries(spec.Registries, secret))
	// The VCH, too, has a say in which mirrors may speak http: that is asked later.
	checked := o
	checked.Mirrors = slices.Clone(o.Mirrors)
	for i, m := range checked.Mirrors {
		if rest, ok := strings.CutPrefix(m.Endpoint, "http://"); ok {
			checked.Mirrors[i].Endpoint = "https://" + rest
		}
	}
	return o, checked.Validate()
}

// readAuth reads a pull secret. No error shows a part of it.
func readAuth(name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Clean(name))
	if err != nil {
		return nil, errdefs.Wrap(errdefs.InvalidArgument, err, "read --auth-file")
	}
	// A Secret is the only one of the three that may hold more than this key.
	if secret, err := parseSecret(data); err == nil && secret[v1alpha1.SecretDockerConfig] != nil {
		return secret[v1alpha1.SecretDockerConfig], nil
	}
	return data, nil
}
