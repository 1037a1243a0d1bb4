// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Config says which vCenter, as whom, and why its certificate is believed.
// It prints without the password, whatever the verb.
type Config struct {
	// Endpoint is a host name, an IP address, host:port or an https URL with the
	// path /sdk or none. http is accepted for loopback addresses only.
	Endpoint string
	// Username and Password are the credentials; both are required.
	Username string
	Password string `json:"-"`
	// CABundle holds the PEM certificates that sign vCenter's certificate. Empty: the system's roots.
	CABundle []byte
	// Thumbprint is the SHA-1 or SHA-256 of vCenter's certificate in hex, with or
	// without colons. If it is set, it alone decides.
	Thumbprint string
	// Insecure accepts every certificate.
	Insecure bool
}

// Format prints the Config without the password.
func (c Config) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "{Endpoint:%s Username:%s CABundle:%d bytes Thumbprint:%s Insecure:%t}",
		redactedEndpoint(c.Endpoint), c.Username, len(c.CABundle), c.Thumbprint, c.Insecure)
}

// MarshalLog is the Config as structured loggers show it.
func (c Config) MarshalLog() any { return fmt.Sprint(c) }

// ConfigFromSecret reads a Config from a Secret's data (the keys are in
// v1alpha1). A missing host, user or password is Unauthenticated, every other fault
// InvalidArgument; the text names the key and never shows the password.
func ConfigFromSecret(data map[string][]byte) (Config, error) {
	text := func(key string) string { return strings.TrimSpace(string(data[key])) }
	c := Config{
		Endpoint:   text(v1alpha1.SecretHost),
		Username:   text(v1alpha1.SecretUsername),
		Password:   string(data[v1alpha1.SecretPassword]),
		Thumbprint: text(v1alpha1.SecretThumbprint),
	}
	if bundle := text(v1alpha1.SecretCABundle); bundle != "" {
		c.CABundle = []byte(bundle)
	}
	if s := text(v1alpha1.SecretInsecure); s != "" {
		insecure, err := strconv.ParseBool(s)
		if err != nil {
			return Config{}, errdefs.New(errdefs.InvalidArgument, "secret key %s must be true or false, got %q", v1alpha1.SecretInsecure, s)
		}
		c.Insecure = insecure
	}
	if _, err := c.check(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// target is a checked Config.
type target struct {
	Config
	url        *url.URL
	thumbprint []byte
}

// host names the vCenter in messages.
func (t *target) host() string { return t.url.Host }

// check validates the Config. Its errors name the Secret's keys, because that is
// where people correct them.
func (c Config) check() (*target, error) {
	u, err := parseEndpoint(c.Endpoint)
	if err != nil {
		return nil, err
	}
	t := &target{Config: c, url: u}
	for _, f := range []struct{ key, value string }{
		{v1alpha1.SecretUsername, c.Username},
		{v1alpha1.SecretPassword, c.Password},
	} {
		if f.value == "" {
			return nil, errdefs.New(errdefs.Unauthenticated, "secret key %s is missing or empty", f.key)
		}
	}
	if c.Thumbprint != "" {
		if t.thumbprint, err = parseThumbprint(c.Thumbprint); err != nil {
			return nil, err
		}
	}
	if len(c.CABundle) > 0 {
		if _, err := certPool(c.CABundle); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// key identifies the session that a Config leads to. It is a digest, so that
// no credential stands in a map key.
func (t *target) key() [sha256.Size]byte {
	h := sha256.New()
	for _, part := range []string{
		t.url.String(), t.Username, t.Password, string(t.CABundle), string(t.thumbprint), strconv.FormatBool(t.Insecure),
	} {
		_ = binary.Write(h, binary.BigEndian, uint64(len(part)))
		_, _ = io.WriteString(h, part)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// parseEndpoint returns the URL of the SDK in a form that is equal for equal
// endpoints: lower case, no default port, path /sdk.
func parseEndpoint(endpoint string) (*url.URL, error) {
	bad := func(why string) (*url.URL, error) {
		return nil, errdefs.New(errdefs.InvalidArgument, "secret key %s: %s, got %q; right are vcenter.example.com, vcenter.example.com:443 and https://vcenter.example.com/sdk",
			v1alpha1.SecretHost, why, redactedEndpoint(endpoint))
	}
	s := strings.TrimSpace(endpoint)
	if s == "" {
		return nil, errdefs.New(errdefs.Unauthenticated, "secret key %s is missing or empty; right is for example vcenter.example.com", v1alpha1.SecretHost)
	}
	if !strings.Contains(s, "://") {
		if ip, err := netip.ParseAddr(s); err == nil && ip.Is6() {
			s = "[" + s + "]"
		}
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return bad("it is not a host or URL") // the parser's own text would show a password in the URL
	}
	if why := objection(u); why != "" {
		return bad(why)
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if (u.Scheme == "https" && port == "443") || (u.Scheme == "http" && port == "80") {
		port = ""
	}
	out := &url.URL{Scheme: u.Scheme, Host: host, Path: "/sdk"}
	switch {
	case port != "":
		out.Host = net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		out.Host = "[" + host + "]"
	}
	return out, nil
}

// objection says why a URL cannot be that of a vCenter, or nothing.
func objection(u *url.URL) string {
	switch {
	case u.User != nil:
		return "credentials do not belong in the URL"
	case u.Hostname() == "":
		return "the host is missing"
	case strings.ContainsAny(u.Hostname(), " \t\r\n/\\@"):
		return "the host name is malformed"
	case u.Scheme != "https" && u.Scheme != "http":
		return "the scheme must be https"
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return "plain http is allowed for loopback addresses only"
	case strings.Trim(u.Path, "/") != "" && strings.Trim(u.Path, "/") != "sdk":
		return "the path must be /sdk"
	case u.RawQuery != "" || u.Fragment != "":
		return "query and fragment are not allowed"
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "the port must be 1 to 65535"
		}
	}
	return ""
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// redactedEndpoint hides what stands before an @, which may be a password.
func redactedEndpoint(s string) string {
	i := strings.LastIndex(s, "@")
	if i < 0 {
		return s
	}
	scheme, _, ok := strings.Cut(s, "://")
	if !ok {
		return "xxxxx" + s[i:]
	}
	return scheme + "://xxxxx" + s[i:]
}

// parseThumbprint reads a SHA-1 or SHA-256 in hex, with or without colons.
func parseThumbprint(s string) ([]byte, error) {
	b, err := hex.DecodeString(strings.NewReplacer(":", "", "-", "", " ", "").Replace(s))
	if err != nil || (len(b) != sha1Size && len(b) != sha256.Size) {
		return nil, errdefs.New(errdefs.InvalidArgument, "secret key %s must be the SHA-1 or SHA-256 of vCenter's certificate, 40 or 64 hex digits with or without colons, got %q",
			v1alpha1.SecretThumbprint, s)
	}
	return b, nil
}
