// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"bytes"
	"compress/gzip"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// redacted stands for a value of the Secret in all errors.
const redacted = "<redacted>"

// Limits of the Secret's values.
const (
	MaxHostBytes       = 512
	MaxCredentialBytes = 1024
	MaxCABundleBytes   = 512 << 10
	// MaxDockerConfigBytes is what Kubernetes allows a Secret.
	MaxDockerConfigBytes = 1 << 20
)

// ConnectionKeys are the keys of the Secret that say where and as whom to connect.
// They belong together: those of one Secret are never completed from another.
// SecretDockerConfig is none of them: it opens registries, and another Secret with
// another way to vCenter has nothing to say about it.
func ConnectionKeys() []string {
	return []string{SecretHost, SecretUsername, SecretPassword, SecretInsecure, SecretCABundle, SecretThumbprint}
}

// CheckSecret is ValidateSecret as one error that lists all faults, sorted: of
// the kind Unauthenticated when host, user or password are missing or empty
// (as when the Secret does not exist), else InvalidArgument. No value of the
// Secret is in its text.
func CheckSecret(data map[string][]byte, spec *ProviderSpec) error {
	errs := ValidateSecret(data, spec)
	if len(errs) == 0 {
		return nil
	}
	found := messages(errs)
	slices.Sort(found)
	kind := errdefs.InvalidArgument
	if slices.ContainsFunc(errs, isMissingCredential) {
		kind = errdefs.Unauthenticated
	}
	return errdefs.New(kind, "secret of the machine class: %s", strings.Join(found, "; "))
}

func isMissingCredential(e *field.Error) bool {
	root := secretPath()
	return e.Type == field.ErrorTypeRequired && slices.ContainsFunc([]string{SecretHost, SecretUsername, SecretPassword},
		func(key string) bool { return e.Field == root.Child(key).String() })
}

func secretPath() *field.Path { return field.NewPath("secret") }

// ValidateSecret returns all faults of the data of a class's Secret; no value
// of it is in them. Blanks and line breaks around a value do not count, but
// for the password and userData. With a nil spec only the keys for the connection to vCenter
// are judged: enough for calls that make nothing, which must work even when
// what a new machine needs is missing. Keys that nobody asks for are allowed.
func ValidateSecret(data map[string][]byte, spec *ProviderSpec) field.ErrorList {
	errs := validateConnection(data, secretPath())
	if spec == nil {
		return errs
	}
	errs = append(errs, validateSecretEnv(data, spec)...)
	if spec.Image != "" {
		errs = append(errs, validateDockerConfig(data[SecretDockerConfig], secretPath().Key(SecretDockerConfig))...)
	}
	return append(errs, validateUserData(data[SecretUserData], spec)...)
}

func validateConnection(data map[string][]byte, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, c := range []struct {
		key   string
		limit int
		judge func(string) string
	}{
		{SecretHost, MaxHostBytes, badHost},
		{SecretUsername, MaxCredentialBytes, badCredential},
		{SecretPassword, MaxCredentialBytes, badCredential},
	} {
		at, value := path.Child(c.key), string(data[c.key])
		if c.key != SecretPassword {
			value = strings.TrimSpace(value)
		}
		switch {
		case value == "":
			errs = append(errs, field.Required(at, ""))
		case len(value) > c.limit:
			errs = append(errs, field.TooLong(at, nil, c.limit))
		default:
			if reason := c.judge(value); reason != "" {
				errs = append(errs, field.Invalid(at, redacted, reason))
			}
		}
	}
	if insecure := strings.TrimSpace(string(data[SecretInsecure])); insecure != "" {
		if _, err := strconv.ParseBool(insecure); err != nil {
			errs = append(errs, field.Invalid(path.Child(SecretInsecure), redacted, "must be true or false"))
		}
	}
	if thumbprint := strings.TrimSpace(string(data[SecretThumbprint])); thumbprint != "" && !thumbprintPattern.MatchString(thumbprint) {
		errs = append(errs, field.Invalid(path.Child(SecretThumbprint), redacted,
			"must be a SHA-1 or SHA-256 thumbprint, 20 or 32 bytes in hexadecimal, with or without colons"))
	}
	return append(errs, validateCABundle(data[SecretCABundle], path.Child(SecretCABundle))...)
}

var (
	thumbprintPattern = regexp.MustCompile(`^[0-9A-Fa-f]{2}([: -]?[0-9A-Fa-f]{2}){19}(([: -]?[0-9A-Fa-f]{2}){12})?$`)
	hostPattern       = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
)

// badHost says what is wrong with a host name, address, host:port or https URL, or "".
func badHost(s string) string {
	if reason := badName(s); reason != "" {
		return reason
	}
	const must = "must be a host name or address, host:port, or an https URL without user"
	text := s
	if !strings.Contains(s, "://") {
		if addr, err := netip.ParseAddr(s); err == nil && addr.Is6() {
			return ""
		}
		if strings.ContainsAny(s, "/?#@") {
			return must
		}
		text = "https://" + s
	}
	u, err := url.Parse(text)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return must
	}
	if reason := badURL(u); reason != "" {
		return must + reason
	}
	return ""
}

// badURL judges what a URL without user and query consists of.
func badURL(u *url.URL) string {
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return "; http is for loopback addresses only"
	}
	if u.Path != "" && u.Path != "/" && u.Path != "/sdk" {
		return "; its path can be /sdk only"
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return "; the port must be between 1 and 65535"
		}
	}
	if _, err := netip.ParseAddr(u.Hostname()); err != nil && !hostPattern.MatchString(u.Hostname()) {
		return "; the host is malformed"
	}
	return ""
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && addr.IsLoopback())
}

func badCredential(s string) string {
	if strings.ContainsAny(s, "\r\n") {
		return "must not contain a line break; one at the end often comes from encoding with echo instead of echo -n"
	}
	return badText(s)
}

func validateCABundle(bundle []byte, path *field.Path) field.ErrorList {
	if len(bytes.TrimSpace(bundle)) == 0 {
		return nil
	}
	if len(bundle) > MaxCABundleBytes {
		return field.ErrorList{field.TooLong(path, nil, MaxCABundleBytes)}
	}
	count := 0
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		count++
		bundle = rest
		if block.Type != "CERTIFICATE" {
			return field.ErrorList{field.Invalid(path, redacted, fmt.Sprintf("PEM block %d must be a CERTIFICATE", count))}
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return field.ErrorList{field.Invalid(path, redacted, fmt.Sprintf("PEM block %d must be a well-formed certificate", count))}
		}
	}
	if count == 0 || bytes.Contains(bundle, []byte("-----BEGIN")) {
		return field.ErrorList{field.Invalid(path, redacted, "must be certificates in PEM form")}
	}
	return nil
}

// validateDockerConfig judges the credentials for registries as far as Kubernetes
// does: whose they are is read by those who pull.
func validateDockerConfig(config []byte, path *field.Path) field.ErrorList {
	if len(config) > MaxDockerConfigBytes {
		return field.ErrorList{field.TooLong(path, nil, MaxDockerConfigBytes)}
	}
	config = bytes.TrimSpace(config)
	if len(config) > 0 && (config[0] != '{' || !json.Valid(config)) {
		return field.ErrorList{field.Invalid(path, redacted, "must be a JSON object, as of a Secret of type kubernetes.io/dockerconfigjson")}
	}
	return nil
}

// validateSecretEnv judges the environment as it will be with the values of the Secret in it.
func validateSecretEnv(data map[string][]byte, spec *ProviderSpec) field.ErrorList {
	var errs field.ErrorList
	size := 0
	for i, e := range spec.Env {
		size += len(e.Name) + len(ptr.Deref(e.Value, "")) + 2
		if e.ValueFrom == nil {
			continue
		}
		value, ok := data[e.ValueFrom.SecretKey]
		if !ok {
			errs = append(errs, field.NotFound(field.NewPath("env").Index(i).Child("valueFrom", "secretKey"), clip(e.ValueFrom.SecretKey)))
			continue
		}
		size += len(value)
		if reason := BadListText(string(value)); reason != "" {
			errs = append(errs, field.Invalid(secretPath().Child(e.ValueFrom.SecretKey), redacted, "as value of env "+clip(e.Name)+" "+reason))
		}
	}
	if size > MaxGuestInfoBytes {
		errs = append(errs, field.TooLong(field.NewPath("env"), nil, MaxGuestInfoBytes))
	}
	return errs
}

func validateUserData(userData []byte, spec *ProviderSpec) field.ErrorList {
	path := secretPath().Child(SecretUserData)
	exec, publish := false, true
	if u := spec.UserData; u != nil {
		exec, publish = ptr.Deref(u.Exec, false), ptr.Deref(u.Publish, true)
	}
	switch {
	case !exec && !publish:
		return nil
	case len(userData) > MaxUserDataBytes:
		return field.ErrorList{field.TooLong(path, nil, MaxUserDataBytes)}
	case exec && len(bytes.TrimSpace(userData)) == 0:
		return field.ErrorList{field.Required(path, "userData.exec runs it")}
	}
	var errs field.ErrorList
	if size := base64.StdEncoding.EncodedLen(len(userData)); exec && size > MaxGuestInfoBytes {
		errs = append(errs, field.Invalid(path, redacted,
			fmt.Sprintf("has %d bytes after base64, at most %d are allowed with userData.exec", size, MaxGuestInfoBytes)))
	}
	if size := encodedSize(userData); publish && size > MaxGuestInfoBytes {
		errs = append(errs, field.Invalid(path, redacted,
			fmt.Sprintf("has %d bytes after gzip and base64, at most %d are allowed", size, MaxGuestInfoBytes)))
	}
	return errs
}

// encodedSize is the length of raw as the value of a guestinfo key: compressed, in base64.
func encodedSize(raw []byte) int {
	var buffer bytes.Buffer
	w := gzip.NewWriter(&buffer)
	_, err := w.Write(raw)
	if err == nil {
		err = w.Close()
	}
	if err != nil { // a bytes.Buffer takes everything
		return MaxGuestInfoBytes + 1
	}
	return base64.StdEncoding.EncodedLen(buffer.Len())
}
