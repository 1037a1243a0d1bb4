// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const (
	// DefaultRegistry is where images without a registry in their name are.
	DefaultRegistry = "docker.io"
	defaultTag      = "latest"

	maxRegistry   = 253 + 6 // a DNS name and a port
	maxRepository = 255
	maxTag        = 128
)

// Reference names an image. The zero value names none.
type Reference struct {
	// Registry is a host with or without a port, in lower case. The registry of
	// Docker has one name, DefaultRegistry.
	Registry string
	// Repository is the path of the image, such as "library/alpine".
	Repository string
	// Tag is empty if there is only a digest.
	Tag string
	// Digest is that of a manifest or an index, or empty. With both, the digest
	// counts and the tag is for people.
	Digest string
}

// String returns the full form, which ParseReference reads.
func (r Reference) String() string {
	s := r.Registry + "/" + r.Repository
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}

// ParseReference reads a reference in any form people write: a bare name is one of
// Docker's registry, without tag and digest the tag is "latest". Errors are
// InvalidArgument and name the part that is wrong.
func ParseReference(s string) (Reference, error) {
	rest, digest, pinned := strings.Cut(s, "@")
	switch {
	case s == "":
		return Reference{}, errdefs.New(errdefs.InvalidArgument, "image is empty: want [registry/]repository[:tag][@digest]")
	case strings.Contains(s, "://"):
		return Reference{}, errdefs.New(errdefs.InvalidArgument, "image %q: must not begin with a scheme", shown(s))
	case pinned:
		if _, err := v1.NewHash(digest); err != nil {
			// The value is left out: it may be a host behind a password.
			return Reference{}, errdefs.New(errdefs.InvalidArgument, "image: what follows the @ is no digest: want sha256: and 64 hexadecimal digits")
		}
	}
	ref := Reference{Registry: DefaultRegistry, Repository: rest, Digest: digest}
	if host, path, ok := strings.Cut(rest, "/"); ok && (strings.ContainsAny(host, ".:") || host == "localhost") {
		ref.Registry, ref.Repository = canonicalHost(host), path
	}
	tagged := false
	if at := strings.LastIndexByte(ref.Repository, ':'); at >= 0 {
		ref.Repository, ref.Tag, tagged = ref.Repository[:at], ref.Repository[at+1:], true
	}
	if !tagged && !pinned {
		ref.Tag = defaultTag
	}
	if ref.Registry == DefaultRegistry && ref.Repository != "" && !strings.Contains(ref.Repository, "/") {
		ref.Repository = "library/" + ref.Repository
	}
	if field, value, want := ref.wrong(tagged); field != "" {
		return Reference{}, errdefs.New(errdefs.InvalidArgument, "image %q: %s %q: %s", clean(s, maxText), field, clean(value, maxText), want)
	}
	return ref, nil
}

// wrong names the first field that is not as it must be.
func (r Reference) wrong(tagged bool) (field, value, want string) {
	if !validHost(r.Registry) || len(r.Registry) > maxRegistry {
		return "registry", r.Registry, "want a host name or an address, with or without a port"
	}
	if len(r.Repository) > maxRepository {
		return "repository", r.Repository, "must have at most 255 characters"
	}
	if !validRepository(r.Repository) {
		return "repository", r.Repository, "want names in lower case with digits, separated by / and inside by one . or _, two _, or any number of -"
	}
	if tagged && !validTag(r.Tag) {
		return "tag", r.Tag, "want 1 to 128 letters, digits, _, . and -, and no . or - at the beginning"
	}
	return "", "", ""
}

// repository is where the image is in a registry, for the client library. The
// prefix is that of a mirror.
func repository(host, path string, insecure bool) (name.Repository, error) {
	opts := []name.Option{name.WeakValidation}
	if insecure {
		opts = append(opts, name.Insecure)
	}
	return name.NewRepository(host+"/"+path, opts...)
}

func isAlnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

func validRepository(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		if part == "" || !isAlnum(part[0]) || !isAlnum(part[len(part)-1]) {
			return false
		}
		for i := 0; i < len(part); {
			begin := i
			for i < len(part) && !isAlnum(part[i]) {
				i++
			}
			switch separator := part[begin:i]; {
			case separator == "":
				i++
			case separator == ".", separator == "_", separator == "__", strings.Trim(separator, "-") == "":
			default:
				return false
			}
		}
	}
	return true
}

func validTag(s string) bool {
	if s == "" || len(s) > maxTag || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && (c < 'A' || c > 'Z') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// validHost reports whether s is a host in lower case with or without a port.
func validHost(s string) bool {
	host, port := splitPort(s)
	if port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
			return false
		}
	} else if strings.HasSuffix(s, ":") {
		return false
	}
	if inside, ok := strings.CutPrefix(host, "["); ok {
		inside, ok = strings.CutSuffix(inside, "]")
		ip, err := netip.ParseAddr(inside)
		return ok && err == nil && ip.Is6() && ip.Zone() == ""
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if !isAlnum(label[i]) && label[i] != '-' {
				return false
			}
		}
	}
	return true
}

// splitPort divides a host from its port, which may be empty.
func splitPort(s string) (host, port string) {
	at := strings.LastIndexByte(s, ':')
	if at < 0 || strings.HasSuffix(s, "]") {
		return s, ""
	}
	return s[:at], s[at+1:]
}

// canonicalHost gives the names of Docker's registry, and the spellings of any
// other, one form.
func canonicalHost(s string) string {
	s = strings.ToLower(s)
	for _, alias := range dockerHub() {
		if s == alias || s == alias+":443" {
			return DefaultRegistry
		}
	}
	return s
}

// dockerHub lists the names of Docker's registry.
func dockerHub() []string {
	return []string{DefaultRegistry, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}
}
