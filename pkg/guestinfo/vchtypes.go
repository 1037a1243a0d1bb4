// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package guestinfo

import (
	"net"
	"net/mail"
	"net/url"
	"time"
)

// VCHConfig is the configuration of a VCH, kept in its appliance VM.
// VIC's size of a container VM (ContainerVMSize) is not here: VIC declares the
// field but neither writes nor reads it.
type VCHConfig struct {
	// ExecutorConfig is the appliance's own; its ID is the appliance's moref.
	ExecutorConfig `guestinfo:"init,read-only"`

	Connection  `guestinfo:"connect,read-only"`
	Contacts    `guestinfo:"contact,read-only"`
	Certificate `guestinfo:"cert,read-only"`
	Storage     `guestinfo:"storage,read-only"`
	Network     `guestinfo:"network,read-only"`
	Container   `guestinfo:"container,read-only"`
	Registry    `guestinfo:"registry,read-only"`

	// CreateBridgeNetwork says that the installer made the bridge network.
	CreateBridgeNetwork bool `guestinfo:"create_bridge_network,read-only"`
	// GrantPermsLevel is "ADD" when the installer manages the operations user's rights.
	GrantPermsLevel string `guestinfo:"grant_permissions,read-only"`
	// VicMachineCreateOptions are the options that the VCH was made with.
	VicMachineCreateOptions []string `guestinfo:"vic_machine_create_options,read-only"`
}

// Connection is the VCH's own access to vSphere.
type Connection struct {
	// Target is the SDK URL.
	Target string `guestinfo:"target,read-only"`
	// Username belongs to Token.
	Username string `guestinfo:"username,read-only"`
	// Token is the password or token, as stored: encrypted, opaque here, and
	// not for any output.
	Token string `guestinfo:"token,secret"`
	// TargetThumbprint is the SHA-1 fingerprint of Target's certificate.
	TargetThumbprint string `guestinfo:"target_thumbprint,read-only"`
	// Keepalive is the interval of the session's keep-alive.
	Keepalive time.Duration `guestinfo:"keepalive,read-only"`
}

// Contacts are the people responsible.
type Contacts struct {
	Admin               []mail.Address
	InfrastructureAdmin []mail.Address
}

// Certificate holds the certificates of the docker API and for registries.
type Certificate struct {
	// UserCertificates cannot be written: VIC has no form for a list of pointers.
	UserCertificates []*RawCertificate
	// NetworkCertificates are keyed by CIDR.
	NetworkCertificates map[string]*RawCertificate
	// HostCertificate is the appliance's own.
	HostCertificate *RawCertificate `guestinfo:",read-only"`
	// CertificateAuthorities validate clients; PEM.
	CertificateAuthorities []byte `guestinfo:",read-only"`
	// RegistryCertificateAuthorities validate registries; PEM.
	RegistryCertificateAuthorities []byte `guestinfo:",read-only"`
	// HostCertificates are keyed by host name.
	HostCertificates map[string]*RawCertificate
}

// RawCertificate is a PEM certificate and its key.
type RawCertificate struct {
	// Key is the private key as stored: encrypted, opaque here, and not for any output.
	Key  []byte `guestinfo:",secret"`
	Cert []byte
}

// Storage says where images and volumes are.
type Storage struct {
	// ImageStores are ds URLs: the host is the datastore's name, the path the
	// directory. VIC uses only the first.
	ImageStores []url.URL `guestinfo:"image_stores,read-only"`
	// StorageQuota is in bytes; 0 is none.
	StorageQuota int64 `guestinfo:"storage_quota,read-only"`
	// VolumeLocations are the volume stores by label.
	VolumeLocations map[string]*url.URL `guestinfo:",read-only"`
	// ScratchSize is the size of a root disk in KB.
	ScratchSize int64 `guestinfo:"scratch_size,read-only"`
}

// Network holds the networks that the VCH offers to containers.
type Network struct {
	// BridgeNetwork is a key of ContainerNetworks.
	BridgeNetwork string `guestinfo:"bridge_network,read-only"`
	// ContainerNetworks are keyed by name.
	ContainerNetworks map[string]*ContainerNetwork `guestinfo:"container_networks,read-only"`
	// BridgeIPRange is where bridge networks get their addresses.
	BridgeIPRange *net.IPNet `guestinfo:"bridge-ip-range,read-only"`
	// BridgeNetworkWidth is the size of one bridge network.
	BridgeNetworkWidth *net.IPMask `guestinfo:"bridge-net-width,read-only"`
}

// Container holds the settings of container VMs.
type Container struct {
	// ComputeResources holds one resource pool or vApp.
	ComputeResources []ManagedObjectReference `guestinfo:",read-only"`
	// BootstrapImagePath is the datastore path of the ISO that container VMs boot.
	BootstrapImagePath string `guestinfo:"bootstrap_image_path,read-only"`
	// ContainerNameConvention is the template of VM names; empty is {name}-{id}.
	ContainerNameConvention string
	// UseVMGroup says that VMGroupName is a DRS group of the container VMs.
	UseVMGroup  bool
	VMGroupName string
	// ContainerStores is declared by VIC but never written.
	ContainerStores []url.URL `guestinfo:"-"`
	// ContainerCount is the greatest number of containers; 0 is unlimited.
	ContainerCount int `guestinfo:"container_count,read-only"`
}

// ManagedObjectReference names an object of vSphere.
type ManagedObjectReference struct {
	Type  string
	Value string
}

// Registry holds the VCH's rules for image registries.
type Registry struct {
	RegistryWhitelist []string `guestinfo:"whitelist_registries,read-only"`
	// RegistryBlacklist is declared by VIC but never written.
	RegistryBlacklist  []string `guestinfo:"-"`
	InsecureRegistries []string `guestinfo:"insecure_registries,read-only"`
}
