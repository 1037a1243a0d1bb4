// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vch

import (
	"net"
	"net/url"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

// NetworkType is VIC's type of a container network; it decides which firewall rules the guest makes.
type NetworkType string

// The types of container networks.
const (
	// Bridge networks are private to the VCH; it hands out the addresses itself, there is no DHCP.
	Bridge NetworkType = "bridge"
	// External networks are port groups that containers join directly.
	External NetworkType = "external"
)

// Config is a VCH as far as container VMs need it. It is shared between
// goroutines and must not be changed.
type Config struct {
	// Appliance is the VCH's endpoint VM.
	Appliance types.ManagedObjectReference
	// Name is the appliance's name in the inventory.
	Name string
	// UUID is the appliance's BIOS UUID, lower case; the VCH's identity.
	UUID string
	// Datacenter holds the VCH.
	Datacenter types.ManagedObjectReference
	// DatacenterPath is the datacenter's inventory path, such as /folder/dc-1.
	DatacenterPath string
	// Folder holds the appliance and the container VMs.
	Folder types.ManagedObjectReference
	// FolderIsRoot says that Folder is the datacenter's VM folder, which holds
	// other VMs too: container VMs are then found by the pool (VIC,
	// lib/portlayer/exec/container.go:877-917).
	FolderIsRoot bool
	// Pool is the resource pool (or old vApp) that container VMs run in.
	Pool types.ManagedObjectReference
	// BootstrapISO is the datastore path of the ISO that container VMs boot.
	BootstrapISO string
	// ImageStore is the VCH's image store; its datastore is the default for container VMs.
	ImageStore StorePath
	// VolumeStores are the VCH's volume stores by label.
	VolumeStores map[string]url.URL
	// Datastores are the datastores of the datacenter by name.
	Datastores map[string]Datastore
	// Networks are the container networks by name.
	Networks map[string]Network
	// Registries are the VCH's rules for image registries.
	Registries Registries
	// NameConvention is the template for display names; empty means VIC's default.
	NameConvention string
	// DebugLevel is the VCH's debug level.
	DebugLevel int
	// Syslog is where container VMs send their log; nil means nowhere.
	Syslog *guestinfo.SysLogConfig
	// Version is the version of VIC that wrote the configuration; may be nil.
	Version *guestinfo.Version
	// KVStores is where the port layer keeps its key/value stores; they are its own and
	// are only read. Empty if the appliance's directory is not known.
	KVStores StorePath
	// Data is what the migration in memory made of the configuration, and MigrationError why
	// it did not come to its end; the fields above are then what could be read all the same.
	Data           migration.Outcome
	MigrationError error
}

// StorePath is a directory on a datastore.
type StorePath struct {
	// Datastore is the datastore's name.
	Datastore string
	// Path is the directory, without leading slash; may be empty.
	Path string
}

// String returns the datastore path, for example [ds1] vch-1.
func (s StorePath) String() string { return "[" + s.Datastore + "] " + s.Path }

// Datastore is one datastore of the VCH's datacenter.
type Datastore struct {
	Ref  types.ManagedObjectReference
	Name string
	// Type is vSphere's type of the file system, such as VMFS, NFS41 or vsan.
	Type string
	// VSAN datastores name a VM's directory themselves.
	VSAN bool
	// FreeBytes is the free space when the configuration was read.
	FreeBytes int64
	// Accessible is false when no host can reach it.
	Accessible bool
}

// Registries are a VCH's rules for image registries, as vic-machine was given them.
type Registries struct {
	// Whitelist holds the registries that images may come from: host names with or
	// without port, addresses, networks in CIDR form, and *.domain. Empty: all.
	Whitelist []string
	// Insecure holds registries whose certificate is not verified, or that speak http.
	Insecure []string
	// CABundle are PEM certificates that sign those of registries; may be empty.
	CABundle []byte
}

// Network is a container network.
type Network struct {
	Name string
	Type NetworkType
	// Ref is the port group, network or opaque network behind it.
	Ref types.ManagedObjectReference
	// Backing is the backing of a NIC on this network; nil when vCenter has no such network (any more).
	Backing types.BaseVirtualDeviceBackingInfo
	// TrustLevel is VIC's number, 0 (unspecified) to 5 (peers).
	TrustLevel int
	// Gateway is the router with its mask; nil when the VCH has none.
	Gateway *net.IPNet
	// Nameservers are the resolvers that the VCH gives to static endpoints.
	Nameservers []net.IP
	// Pooled says that the VCH hands out addresses of this network by itself.
	Pooled bool
}

// fromGuestinfo fills in what the VCH's own configuration says.
func fromGuestinfo(g *guestinfo.VCHConfig) *Config {
	c := &Config{
		BootstrapISO:   g.Container.BootstrapImagePath,
		NameConvention: g.Container.ContainerNameConvention,
		DebugLevel:     g.ExecutorConfig.Diagnostics.DebugLevel,
		Syslog:         g.ExecutorConfig.Diagnostics.SysLogConfig,
		Version:        g.ExecutorConfig.Version,
		VolumeStores:   map[string]url.URL{},
		Datastores:     map[string]Datastore{},
		Networks:       map[string]Network{},
		Registries: Registries{
			Whitelist: g.RegistryWhitelist, Insecure: named(g.InsecureRegistries), CABundle: g.RegistryCertificateAuthorities,
		},
	}
	if len(g.Container.ComputeResources) > 0 {
		// The port layer insists on exactly one (VIC, lib/portlayer/exec/exec.go:68-100).
		r := g.Container.ComputeResources[0]
		c.Pool = types.ManagedObjectReference{Type: r.Type, Value: r.Value}
	}
	if len(g.Storage.ImageStores) > 0 {
		// Only entry 0 is used (VIC, lib/apiservers/portlayer/restapi/handlers/storage_handlers.go:69-77).
		u := g.Storage.ImageStores[0]
		c.ImageStore = StorePath{Datastore: u.Host, Path: strings.Trim(u.Path, "/")}
	}
	for label, u := range g.Storage.VolumeLocations {
		if u != nil {
			c.VolumeStores[label] = *u
		}
	}
	for name, n := range g.Network.ContainerNetworks {
		if n == nil {
			continue
		}
		c.Networks[name] = networkFromGuestinfo(name, n)
	}
	return c
}

// named returns the registries of a list that are called something. VIC's own migration made
// //host of a registry without a scheme, and texts of nothing (lib/migration/plugins/plugin8); VCHs
// that it upgraded still have them, with a data version that nothing is done about.
func named(registries []string) []string {
	var out []string
	for _, r := range registries {
		if r = strings.TrimPrefix(r, "//"); r != "" {
			out = append(out, r)
		}
	}
	return out
}

func networkFromGuestinfo(name string, n *guestinfo.ContainerNetwork) Network {
	out := Network{
		Name: name, Type: NetworkType(n.Type), TrustLevel: int(n.TrustLevel),
		Nameservers: n.Nameservers, Pooled: len(n.Pools) > 0,
	}
	if len(n.Gateway.IP) > 0 {
		out.Gateway = &net.IPNet{IP: n.Gateway.IP, Mask: n.Gateway.Mask}
	}
	// Common.ID is a reference in text form, Type:Value.
	if kind, value, ok := strings.Cut(n.Common.ID, ":"); ok {
		out.Ref = types.ManagedObjectReference{Type: kind, Value: value}
	}
	return out
}
