// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

func validateNetworks(networks []Network, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(networks) == 0 {
		errs = append(errs, field.Required(path, "at least one network is required"))
	}
	if len(networks) > MaxNetworks {
		errs = append(errs, field.TooMany(path, len(networks), MaxNetworks))
	}
	seen := map[string]bool{}
	first := -1
	for i := range networks {
		n, at := &networks[i], path.Index(i)
		errs = append(errs, validateNetworkName(n.Name, at.Child("name"))...)
		folded := foldNetworkName(n.Name)
		if n.Name != "" && seen[folded] {
			errs = append(errs, field.Duplicate(at.Child("name"), clip(n.Name)))
		}
		seen[folded] = true
		errs = append(errs, validateAddresses(n, at)...)
		if n.TrustLevel != "" && !slices.Contains(trustLevels(), n.TrustLevel) {
			errs = append(errs, field.NotSupported(at.Child("trustLevel"), TrustLevel(clip(string(n.TrustLevel))), trustLevels()))
		}
		if ptr.Deref(n.Default, false) {
			if first >= 0 {
				errs = append(errs, field.Invalid(at.Child("default"), true, fmt.Sprintf("networks[%d] carries the default route already", first)))
			} else {
				first = i
			}
		}
	}
	return errs
}

func trustLevels() []TrustLevel {
	return []TrustLevel{TrustPublished, TrustOpen, TrustClosed, TrustOutbound, TrustPeers}
}

// foldNetworkName returns what VIC's encoding makes of a name: '.' and '/' become one
// (pkg/vsphere/extraconfig/keys.go:319-383), and VMX files do not tell upper from lower case.
func foldNetworkName(name string) string {
	return strings.ToLower(strings.ReplaceAll(name, "/", "."))
}

func validateNetworkName(name string, path *field.Path) field.ErrorList {
	errs := validateName(name, path, MaxInventoryNameBytes)
	if strings.ContainsAny(name, "|@") {
		errs = append(errs, field.Invalid(path, clip(name), "must not contain '|' or '@', which VIC's encoding corrupts in the name of a network"))
	}
	return errs
}

func validateAddresses(n *Network, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	prefix, reason := parseAddress(n.Address)
	if reason != "" {
		errs = append(errs, field.Invalid(path.Child("address"), clip(n.Address), reason))
	}
	if n.Gateway != "" {
		at := path.Child("gateway")
		gateway, err := netip.ParseAddr(n.Gateway)
		switch {
		case n.Address == "":
			errs = append(errs, field.Forbidden(at, "only with address; with DHCP the lease names the router"))
		case err != nil || !gateway.Is4():
			errs = append(errs, field.Invalid(at, clip(n.Gateway), "must be an IPv4 address, for example 10.0.0.1"))
		case reason == "" && (!prefix.Contains(gateway) || !isHost(gateway, prefix)):
			errs = append(errs, field.Invalid(at, n.Gateway, fmt.Sprintf("must be the address of a host in the subnet %s", prefix.Masked())))
		case reason == "" && gateway == prefix.Addr():
			errs = append(errs, field.Invalid(at, n.Gateway, "must differ from address"))
		}
	}
	return append(errs, validateNameservers(n.Nameservers, path.Child("nameservers"))...)
}

func validateNameservers(servers []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(servers) > MaxNameservers {
		errs = append(errs, field.TooMany(path, len(servers), MaxNameservers))
	}
	for i, s := range servers {
		if a, err := netip.ParseAddr(s); err != nil || !a.Is4() || a.IsUnspecified() || a.IsMulticast() {
			errs = append(errs, field.Invalid(path.Index(i), clip(s), "must be the IPv4 address of a resolver"))
		} else if slices.Contains(servers[:i], s) {
			errs = append(errs, field.Duplicate(path.Index(i), s))
		}
	}
	return errs
}

// parseAddress parses a static address; empty means DHCP. reason says what is wrong.
func parseAddress(s string) (prefix netip.Prefix, reason string) {
	if s == "" {
		return netip.Prefix{}, ""
	}
	prefix, err := netip.ParsePrefix(s)
	switch {
	case err != nil || !prefix.Addr().Is4():
		return prefix, "must be an IPv4 address with prefix length, for example 10.0.0.7/24"
	case prefix.Bits() == 0:
		return prefix, "must have a prefix length of at least 1"
	case !prefix.Addr().IsGlobalUnicast() && !prefix.Addr().IsLinkLocalUnicast():
		return prefix, "must be the address of a host"
	case !isHost(prefix.Addr(), prefix):
		return prefix, "must not be the address of the subnet or its broadcast address"
	}
	return prefix, ""
}

// isHost reports that addr is neither the first nor the last address of its subnet, which
// only subnets of one or two addresses give to hosts.
func isHost(addr netip.Addr, prefix netip.Prefix) bool {
	if prefix.Bits() >= 31 {
		return true
	}
	return addr != prefix.Masked().Addr() && prefix.Contains(addr.Next())
}
