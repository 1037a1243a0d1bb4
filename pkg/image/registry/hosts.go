// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// hostEntry is one entry of a host list: a network, or a host with what follows.
type hostEntry struct {
	text    string
	network netip.Prefix
	host    string // with * for any characters
	ports   []string
	path    string // with / at its end, or empty
}

// hostList is what administrators allow, deny or trust.
type hostList []hostEntry

// parseHosts reads a host list. Errors are InvalidArgument and name field and entry.
func parseHosts(field string, entries []string) (hostList, error) {
	var list hostList
	for i, text := range entries {
		entry, want := parseHost(text)
		if want != "" {
			return nil, errdefs.New(errdefs.InvalidArgument, "%s[%d] %q: %s", field, i, shown(text), want)
		}
		list = append(list, entry)
	}
	return list, nil
}

// parseHost reads [scheme://]host[:port][/path] or a network, or says what is wrong.
func parseHost(text string) (hostEntry, string) {
	const form = "want a host, a host with * in it, both with or without port and path, or a network such as 10.0.0.0/8"
	if network, err := netip.ParsePrefix(text); err == nil {
		if bits := network.Bits() - 96; network.Addr().Is4In6() && bits >= 0 {
			network = netip.PrefixFrom(network.Addr().Unmap(), bits)
		}
		return hostEntry{text: text, network: network.Masked()}, ""
	}
	entry := hostEntry{text: text, ports: []string{"443", "80"}}
	rest := strings.ToLower(text)
	if scheme, after, ok := strings.Cut(rest, "://"); ok {
		switch scheme {
		case "https":
			entry.ports = []string{"443"}
		case "http":
			entry.ports = []string{"80"}
		default:
			return hostEntry{}, "the scheme must be http or https"
		}
		rest = after
	}
	host, path, hasPath := strings.Cut(rest, "/")
	host, port := splitPort(host)
	entry.host = host
	if port != "" {
		entry.ports = []string{port}
	}
	// A star stands for part of a label or several, so for the check it is a letter.
	like := strings.ReplaceAll(host, "*", "x")
	if port != "" || strings.HasSuffix(rest, ":") {
		like += ":" + port
	}
	if !validHost(like) || strings.Count(host, "*") > 8 {
		return hostEntry{}, form
	}
	if path = strings.TrimSuffix(path, "/"); hasPath && path != "" {
		_, err := netip.ParseAddr(host)
		network := err == nil && port == "" && strings.Trim(path, "0123456789") == "" // with too many bits
		if network || !validRepository(path) {
			return hostEntry{}, form
		}
		entry.path = path + "/"
	}
	return entry, ""
}

// match returns the entry that a repository of a host is in; the path is empty
// when it is about the host alone.
func (l hostList) match(host, path string) (string, bool) {
	names := []string{host}
	if canonicalHost(host) == DefaultRegistry {
		names = dockerHub()
	}
	for _, entry := range l {
		if slices.ContainsFunc(names, func(n string) bool { return entry.match(n, path) }) {
			return entry.text, true
		}
	}
	return "", false
}

func (e hostEntry) match(host, path string) bool {
	name, port := splitPort(strings.ToLower(host))
	if e.network.IsValid() {
		ip, err := netip.ParseAddr(strings.Trim(name, "[]"))
		return err == nil && e.network.Contains(ip.Unmap())
	}
	if port == "" {
		port = "443"
		if slices.Contains(e.ports, "80") {
			port = "80" // one that is listed as http has no port in its name either
		}
	}
	return slices.Contains(e.ports, port) && strings.HasPrefix(path+"/", e.path) && globMatch(e.host, name)
}

// globMatch reports whether s is like the pattern, whose stars stand for any characters.
func globMatch(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(s, part)
		if at < 0 {
			return false
		}
		s = s[at+len(part):]
	}
	return true
}
