// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// defaultTimeout is long enough for a large inventory over a slow line.
const defaultTimeout = 2 * time.Minute

// closeTimeout bounds the logout, which must not keep anybody waiting.
const closeTimeout = 5 * time.Second

// connectionFlags say how to reach vCenter.
type connectionFlags struct {
	secretFile string
	timeout    time.Duration
}

// add adds the flags. A timeout that is set is the default.
func (f *connectionFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.secretFile, "secret-file", "", "YAML or JSON of the MachineClass's Secret, with data or stringData (default: govc's variables)")
	cmd.Flags().DurationVar(&f.timeout, "timeout", cmp.Or(f.timeout, defaultTimeout), "give up after this time")
}

// within runs fn with the time limit and a session pool that is closed behind it.
func (f *connectionFlags) within(ctx context.Context, opts Options, fn func(context.Context, *vcenter.Pool) error) error {
	if f.timeout <= 0 {
		return errdefs.New(errdefs.InvalidArgument, "--timeout must be positive, got %s", f.timeout)
	}
	limited, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	pool := vcenter.NewPool(opts.VCenter)
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		// A session that could not be logged out ends by itself in vCenter.
		_ = pool.Close(closing)
	}()
	return fn(limited, pool)
}

// client is within for commands that only work with a session.
func (f *connectionFlags) client(ctx context.Context, opts Options, fn func(context.Context, *vcenter.Client) error) error {
	secret, err := f.secret(opts.Env)
	if err != nil {
		return err
	}
	config, err := vcenter.ConfigFromSecret(secret)
	if err != nil {
		return err
	}
	return f.within(ctx, opts, func(ctx context.Context, pool *vcenter.Pool) error {
		client, err := pool.Client(ctx, config)
		if err != nil {
			return err
		}
		return fn(ctx, client)
	})
}

// secret returns the data of the Secret, or what govc's variables say in the
// same keys.
func (f *connectionFlags) secret(env func(string) string) (map[string][]byte, error) {
	if f.secretFile != "" {
		data, err := os.ReadFile(filepath.Clean(f.secretFile))
		if err != nil {
			return nil, errdefs.Wrap(errdefs.InvalidArgument, err, "read --secret-file")
		}
		secret, err := parseSecret(data)
		if err != nil {
			return nil, errdefs.Wrap(errdefs.InvalidArgument, err, "--secret-file %s", f.secretFile)
		}
		return secret, nil
	}
	if env("GOVC_URL") == "" {
		return nil, errdefs.New(errdefs.InvalidArgument, "which vCenter? Give --secret-file or set GOVC_URL, GOVC_USERNAME and GOVC_PASSWORD")
	}
	return govcSecret(env)
}

// govc returns the environment for further variables of govc: they go with its
// URL, not with a Secret.
func (f *connectionFlags) govc(env func(string) string) func(string) string {
	if f.secretFile != "" {
		return func(string) string { return "" }
	}
	return env
}

// parseSecret reads a Secret manifest, or a plain map of its values. No error
// shows a value.
func parseSecret(raw []byte) (map[string][]byte, error) {
	var manifest struct {
		Kind       string            `json:"kind"`
		Data       map[string][]byte `json:"data"`
		StringData map[string]string `json:"stringData"`
	}
	if err := yaml.Unmarshal(raw, &manifest); err != nil {
		return nil, errdefs.New(errdefs.InvalidArgument, "it is not the YAML of a Secret: data must be base64, stringData plain texts")
	}
	out := map[string][]byte{}
	if manifest.Kind == "" && manifest.Data == nil && manifest.StringData == nil {
		if err := yaml.Unmarshal(raw, &manifest.StringData); err != nil || len(manifest.StringData) == 0 {
			return nil, errdefs.New(errdefs.InvalidArgument, "it is not the YAML of a Secret: it has neither data nor stringData")
		}
	} else if manifest.Kind != "" && manifest.Kind != "Secret" {
		return nil, errdefs.New(errdefs.InvalidArgument, "it holds a %s; want a Secret", manifest.Kind)
	}
	for key, value := range manifest.Data {
		out[key] = value
	}
	for key, value := range manifest.StringData {
		out[key] = []byte(value)
	}
	return out, nil
}

// govcSecret translates govc's variables to the keys of a Secret.
func govcSecret(env func(string) string) (map[string][]byte, error) {
	raw := env("GOVC_URL")
	if !strings.Contains(raw, "://") {
		raw = "https://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil {
		// The parser's text would show a password in the URL.
		return nil, errdefs.New(errdefs.InvalidArgument, "GOVC_URL is not a URL; right is for example https://vcenter.example.com/sdk")
	}
	username, password := env("GOVC_USERNAME"), env("GOVC_PASSWORD")
	if u.User != nil {
		if username == "" {
			username = u.User.Username()
		}
		if inURL, ok := u.User.Password(); ok && password == "" {
			password = inURL
		}
		u.User = nil
	}
	if username == "" {
		return nil, errdefs.New(errdefs.Unauthenticated, "GOVC_USERNAME is not set")
	}
	if password == "" {
		return nil, errdefs.New(errdefs.Unauthenticated, "GOVC_PASSWORD is not set")
	}
	secret := map[string][]byte{
		v1alpha1.SecretHost:     []byte(u.String()),
		v1alpha1.SecretUsername: []byte(username),
		v1alpha1.SecretPassword: []byte(password),
	}
	if insecure := env("GOVC_INSECURE"); insecure != "" {
		secret[v1alpha1.SecretInsecure] = []byte(insecure)
	}
	for _, name := range filepath.SplitList(env("GOVC_TLS_CA_CERTS")) {
		pem, err := os.ReadFile(filepath.Clean(name))
		if err != nil {
			return nil, errdefs.Wrap(errdefs.InvalidArgument, err, "read GOVC_TLS_CA_CERTS")
		}
		secret[v1alpha1.SecretCABundle] = append(secret[v1alpha1.SecretCABundle], append(pem, '\n')...)
	}
	for _, name := range filepath.SplitList(env("GOVC_TLS_KNOWN_HOSTS")) {
		thumbprint, err := knownHost(name, u)
		if err != nil {
			return nil, err
		}
		if thumbprint != "" {
			secret[v1alpha1.SecretThumbprint] = []byte(thumbprint)
		}
	}
	return secret, nil
}

// knownHost returns the thumbprint of a vCenter in one of govc's files, which
// have lines of host:port and thumbprint. Like govc, it takes a missing file for
// an empty one.
func knownHost(name string, u *url.URL) (string, error) {
	data, err := os.ReadFile(filepath.Clean(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", errdefs.Wrap(errdefs.InvalidArgument, err, "read GOVC_TLS_KNOWN_HOSTS")
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) == 2 && (fields[0] == net.JoinHostPort(u.Hostname(), port) || fields[0] == u.Host) {
			return fields[1], nil
		}
	}
	return "", nil
}
