// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"net/url"
	"strings"
	"time"

	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Options says how registries are asked. The zero value asks without credentials,
// trusts what the system trusts, and allows every registry.
//
// Host lists have the form that Virtual Container Hosts keep: entries are
// [scheme://]host[:port][/path], where * in the host stands for any characters, or
// a network such as 10.0.0.0/8, in which are registries that are named by address,
// on all ports. An entry without a port is about ports 443 and 80, or the one of
// its scheme. A path is that of a repository and all below it.
type Options struct {
	// Auth is the .dockerconfigjson of a pull secret. A registry may be written
	// with or without scheme and path, and with * in a part of its name; the
	// longest path counts.
	Auth []byte
	// CABundle is PEM with authorities that are trusted beside the system's.
	CABundle []byte
	// Insecure lists hosts whose certificates are not verified, and which are asked
	// with http when they do not speak https. Hosts that those redirect to, or get
	// tokens from, need an entry of their own.
	Insecure []string
	// Mirrors are asked before the registry, in this order.
	Mirrors []Mirror
	// Allow lists what images may come from, mirrors included; empty is everything.
	// Where a registry redirects downloads to is its own matter.
	Allow []string
	// Deny lists what they may not come from, and counts more than Allow.
	Deny []string
	// MaxBytes bounds all layers of an image together, compressed. Default 32 GiB.
	MaxBytes int64
	// Attempts is how often something is tried that fails without progress, and may
	// succeed later. Between two are 1, 2, 4 and so on up to 30 seconds. Default 4.
	Attempts int
	// Stall is after how long without an answer, or without a byte of it, a request
	// is given up and tried again. Default 30 seconds.
	Stall time.Duration
	// Clock is for tests. Default: the real one.
	Clock clock.Clock
}

// Mirror is where images of a registry can be had as well.
type Mirror struct {
	// Registry is whose images it has, such as "docker.io"; "*" is all.
	Registry string
	// Endpoint is [scheme://]host[:port][/path]. The path comes before the
	// repository, as the proxy projects of some registries want it. An endpoint with
	// http:// must be in Options.Insecure.
	Endpoint string
}

const (
	defaultMaxBytes = 32 << 30
	defaultAttempts = 4
	defaultStall    = 30 * time.Second
	defaultParallel = 3
	maxParallel     = 16
	maxAttempts     = 20
)

// settings are options that have been read.
type settings struct {
	Options
	auth                  keychain
	allow, deny, insecure hostList
	scrub                 *scrubber
	client                *client
}

// Validate reports what is wrong with the options, as InvalidArgument.
func (o Options) Validate() error {
	s, err := o.read()
	if err != nil {
		return err
	}
	for _, m := range o.Mirrors {
		if _, _, err := s.endpoint(m); err != nil {
			return err
		}
	}
	return nil
}

// Permits reports why nothing may come from where a reference's image is, by Allow
// and Deny alone: PermissionDenied, as Resolve has it. It asks nobody, so it is also
// for images that were fetched before.
func (o Options) Permits(ref Reference) error {
	allow, err := parseHosts("allowed registries", o.Allow)
	if err != nil {
		return err
	}
	deny, err := parseHosts("denied registries", o.Deny)
	if err != nil {
		return err
	}
	return (&settings{allow: allow, deny: deny}).refusal(ref)
}

// refusal is the error of a reference that the lists forbid.
func (s *settings) refusal(ref Reference) error {
	if why := s.permitted(ref.Registry, ref.Repository); why != "" {
		return errdefs.New(errdefs.PermissionDenied, "image %s: nothing may come from %s: %s", ref, ref.Registry, why)
	}
	return nil
}

func (o Options) read() (*settings, error) {
	o.MaxBytes = cmp.Or(o.MaxBytes, defaultMaxBytes)
	o.Attempts = cmp.Or(o.Attempts, defaultAttempts)
	o.Stall = cmp.Or(o.Stall, defaultStall)
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	switch {
	case o.MaxBytes < 0:
		return nil, errdefs.New(errdefs.InvalidArgument, "registries: MaxBytes is %d: must not be negative", o.MaxBytes)
	case o.Attempts < 0, o.Attempts > maxAttempts:
		return nil, errdefs.New(errdefs.InvalidArgument, "registries: Attempts is %d: want 1 to %d", o.Attempts, maxAttempts)
	case o.Stall < 0:
		return nil, errdefs.New(errdefs.InvalidArgument, "registries: Stall is %s: must not be negative", o.Stall)
	}
	s := &settings{Options: o}
	var err error
	if s.auth, err = parseAuth(o.Auth); err != nil {
		return nil, err
	}
	s.scrub = newScrubber(s.auth.secrets())
	for field, list := range map[string]struct {
		from []string
		to   *hostList
	}{"allowed registries": {o.Allow, &s.allow}, "denied registries": {o.Deny, &s.deny}, "insecure registries": {o.Insecure, &s.insecure}} {
		if *list.to, err = parseHosts(field, list.from); err != nil {
			return nil, err
		}
	}
	s.client, err = newClient(o.CABundle, o.Stall, s.scrub)
	return s, err
}

// permitted says why nothing may come from a repository, or nothing.
func (s *settings) permitted(host, path string) string {
	if entry, denied := s.deny.match(host, path); denied {
		return "the denied registries have it in " + entry
	}
	if _, allowed := s.allow.match(host, path); !allowed && len(s.allow) > 0 {
		return "it is not in the allowed registries"
	}
	return ""
}

// endpoint reads a mirror.
func (s *settings) endpoint(m Mirror) (host, prefix string, err error) {
	refuse := func(want string) (string, string, error) {
		return "", "", errdefs.New(errdefs.InvalidArgument, "mirror of %q: endpoint %q: %s",
			shown(m.Registry), shown(m.Endpoint), want)
	}
	if m.Registry != "*" && !validHost(canonicalHost(m.Registry)) {
		return "", "", errdefs.New(errdefs.InvalidArgument, "mirror: registry %q: want a host, or * for all", shown(m.Registry))
	}
	text := m.Endpoint
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return refuse("want [scheme://]host[:port][/path]")
	}
	host, prefix = strings.ToLower(u.Host), strings.Trim(u.Path, "/")
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return refuse("the scheme must be http or https")
	case u.User != nil:
		return refuse("must have no user: credentials belong in the pull secret")
	case !validHost(host), u.RawQuery != "", u.Fragment != "", prefix != "" && !validRepository(prefix):
		return refuse("want [scheme://]host[:port][/path]")
	}
	if prefix != "" {
		prefix += "/"
	}
	if _, listed := s.insecure.match(host, strings.TrimSuffix(prefix, "/")); u.Scheme == "http" && !listed {
		return refuse("http is for hosts that are in the insecure registries")
	}
	return host, prefix, nil
}
