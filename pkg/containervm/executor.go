// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"encoding/json"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// tagAnnotation prefixes the annotations that keep the spec's other tags.
const tagAnnotation = "mcm-vch-tag/"

// executorConfig is what VIC's tether and port layer read: complete by VIC's
// rules, so that a VCH that meets the VM can adopt it.
func executorConfig(r Request, joined []joinedNetwork, userData []byte) (*guestinfo.ExecutorConfig, error) {
	id := r.Identity.ContainerID
	annotations, err := annotationsOf(r)
	if err != nil {
		return nil, err
	}
	session, err := sessionOf(r, userData)
	if err != nil {
		return nil, err
	}
	networks, err := endpointsOf(joined)
	if err != nil {
		return nil, err
	}
	diagnostics := diagnosticsOf(r.VCH)
	layer, imageID, repo := imageOf(r)
	return &guestinfo.ExecutorConfig{
		ExecutorConfigCommon: guestinfo.ExecutorConfigCommon{ID: id, Name: r.Machine},
		CreateTime:           r.Now.UnixNano(),
		Diagnostics:          diagnostics,
		Hostname:             r.Machine,
		Domainname:           r.Spec.Domain,
		Key:                  r.HostKey,
		Annotations:          annotations,
		Sessions:             map[string]*guestinfo.SessionConfig{id: session},
		Networks:             networks,
		Mounts:               mountsOf(r.Volumes),
		LayerID:              layer,
		ImageID:              imageID,
		RepoName:             repo,
		Version:              versionOf(r.VCH.Version),
	}, nil
}

func versionOf(v *guestinfo.Version) *guestinfo.Version {
	out := guestinfo.Version{}
	if v != nil {
		out = *v
	}
	// Below 9 a VCH would migrate the VM in memory and never write to it again.
	out.PluginVersion = migration.VICVersion
	return &out
}

// diagnosticsOf copies the VCH's settings as VIC does (lib/portlayer/exec/handle.go:288-289), but
// never a debug level above 1: from 2 on the tether serves pprof on all
// interfaces and logs the whole environment (VIC, lib/tether/tether.go:231-259).
func diagnosticsOf(host *vch.Config) guestinfo.Diagnostics {
	return guestinfo.Diagnostics{DebugLevel: min(host.DebugLevel, 1), SysLogConfig: host.Syslog}
}

func annotationsOf(r Request) (map[string]string, error) {
	cluster, role, err := identity.Tags(r.Spec.Tags)
	if err != nil {
		return nil, err
	}
	digest, err := SpecDigest(r.Spec)
	if err != nil {
		return nil, err
	}
	mark, err := identity.Mark{Cluster: cluster, Role: role, Machine: r.Machine, Provider: r.ProviderVersion, Spec: digest, Format: identity.MarkFormat, Digest: identity.DigestScheme}.Encode()
	if err != nil {
		return nil, err
	}
	out := map[string]string{identity.MarkAnnotation: mark}
	if len(r.DeleteVolumes) > 0 {
		names, err := json.Marshal(r.DeleteVolumes)
		if err != nil {
			return nil, errdefs.Wrap(errdefs.Internal, err, "encode the volumes of machine %s", r.Machine)
		}
		out[DeleteVolumesAnnotation] = string(names)
	}
	for k, v := range r.Spec.Tags {
		if !strings.HasPrefix(k, identity.ClusterTagPrefix) && !strings.HasPrefix(k, identity.RoleTagPrefix) {
			out[tagAnnotation+k] = v
		}
	}
	return out, nil
}

// sessionOf describes the one process of the VM. Its key and its id must be the
// container id: the port layer dereferences that session without a check.
func sessionOf(r Request, userData []byte) (*guestinfo.SessionConfig, error) {
	p, err := processOf(r, userData)
	if err != nil {
		return nil, err
	}
	return &guestinfo.SessionConfig{
		Common:      guestinfo.Common{ID: r.Identity.ContainerID},
		Cmd:         guestinfo.Cmd{Path: p.argv[0], Args: p.argv, Env: p.env, Dir: p.dir},
		Active:      true, // else the tether does not launch it
		User:        p.user,
		Group:       p.group,
		StopSignal:  "SIG" + p.stopSignal,
		Diagnostics: diagnosticsOf(r.VCH),
		Detail:      guestinfo.Detail{CreateTime: r.Now.Unix()},
	}, nil
}

func placeholders(r Request) map[string]string {
	return map[string]string{
		v1alpha1.PlaceholderProviderID:  r.Identity.ProviderID(),
		v1alpha1.PlaceholderContainerID: r.Identity.ContainerID,
		v1alpha1.PlaceholderMachineName: r.Machine,
	}
}

func endpointsOf(joined []joinedNetwork) (map[string]*guestinfo.NetworkEndpoint, error) {
	out := make(map[string]*guestinfo.NetworkEndpoint, len(joined))
	defaultSet := slices.ContainsFunc(joined, func(n joinedNetwork) bool { return n.Default != nil && *n.Default })
	for i, n := range joined {
		e := &guestinfo.NetworkEndpoint{
			Common: guestinfo.Common{ID: strconv.Itoa(int(n.slot))},
			Network: guestinfo.ContainerNetwork{
				// Key and name must be equal: both the tether and the port layer look the endpoint up by it.
				Common:     guestinfo.Common{Name: n.Name},
				Type:       string(n.vch.Type),
				TrustLevel: trustLevel(n),
				Default:    n.Default != nil && *n.Default || !defaultSet && i == 0,
			},
		}
		for _, ns := range n.Nameservers {
			e.Network.Nameservers = append(e.Network.Nameservers, net.ParseIP(ns))
		}
		if n.Address != "" {
			if err := makeStatic(e, n); err != nil {
				return nil, errdefs.Wrap(errdefs.InvalidArgument, err, "networks[%d]", i)
			}
		}
		// With DHCP gateway and resolvers stay unset: a configured gateway keeps
		// the client from asking for one and is not used either (VIC,
		// lib/tether/ops_linux.go:375-384,413-431).
		out[n.Name] = e
	}
	return out, nil
}

func makeStatic(e *guestinfo.NetworkEndpoint, n joinedNetwork) error {
	ip, subnet, err := net.ParseCIDR(n.Address)
	if err != nil {
		return errdefs.Wrap(errdefs.InvalidArgument, err, "address %q", n.Address)
	}
	e.Static = true
	e.IP = &net.IPNet{IP: ip.To4(), Mask: subnet.Mask}
	switch {
	case n.Gateway != "":
		e.Network.Gateway = net.IPNet{IP: net.ParseIP(n.Gateway).To4(), Mask: subnet.Mask}
	case n.vch.Gateway != nil:
		if !subnet.Contains(n.vch.Gateway.IP) {
			return errdefs.New(errdefs.InvalidArgument, "address %s: the gateway %s of container network %q is not in its subnet; correct the address or give gateway", n.Address, n.vch.Gateway.IP, n.Name)
		}
		e.Network.Gateway = *n.vch.Gateway
	default:
		// VIC refuses static addresses on networks without a gateway (lib/portlayer/network/context.go:1119-1128).
		return errdefs.New(errdefs.InvalidArgument, "gateway: required with an address, as container network %q has none", n.Name)
	}
	if len(n.Nameservers) == 0 {
		e.Network.Nameservers = n.vch.Nameservers
	}
	return nil
}

// trustLevel returns VIC's number (lib/config/executor/container_vm.go:45-55).
// Only open lets a kubelet be reached, so that is what an unspecified level becomes.
func trustLevel(n joinedNetwork) guestinfo.TrustLevel {
	switch n.TrustLevel {
	case v1alpha1.TrustPublished:
		return guestinfo.TrustPublished
	case v1alpha1.TrustOpen:
		return guestinfo.TrustOpen
	case v1alpha1.TrustClosed:
		return guestinfo.TrustClosed
	case v1alpha1.TrustOutbound:
		return guestinfo.TrustOutbound
	case v1alpha1.TrustPeers:
		return guestinfo.TrustPeers
	}
	if n.vch.TrustLevel != 0 {
		return guestinfo.TrustLevel(n.vch.TrustLevel)
	}
	return guestinfo.TrustOpen
}
