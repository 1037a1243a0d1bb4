// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package guestinfo

import (
	"net"
	"net/url"
	"time"
)

// The fields below have the names that VIC gives them; the tag "guestinfo" holds
// the key part and the scopes, separated by commas. An empty key part stands for
// the field's name, no tag for the name and the scope of the parent, "-" for a
// field that VIC declares but never writes.

// ExecutorConfig is the configuration of one container VM.
type ExecutorConfig struct {
	ExecutorConfigCommon `guestinfo:"common,read-only"`

	// CreateTime is in nanoseconds since the epoch.
	CreateTime int64 `guestinfo:"createtime,read-write"`
	// Diagnostics holds debug level, restart count and syslog target.
	Diagnostics Diagnostics `guestinfo:"diagnostics,read-only"`
	// Sessions are the processes; the primary one's key is the container id.
	Sessions map[string]*SessionConfig `guestinfo:"sessions,read-only"`
	// Execs are sessions added while the VM is running; they do not outlive a power cycle.
	Execs map[string]*SessionConfig `guestinfo:"execs,read-only,non-persistent"`
	// Mounts are the volumes by name.
	Mounts map[string]MountSpec `guestinfo:"mounts,read-only"`
	// Networks are the endpoints by the network's name.
	Networks map[string]*NetworkEndpoint `guestinfo:"networks,read-only"`
	// Key is the SSH host key of the attach server, an unencrypted PEM block.
	// The tether refuses to start without it.
	Key []byte `guestinfo:"key,read-only"`
	// LayerID names the image layer that is the parent of the root disk.
	LayerID string `guestinfo:"layerid,read-only"`
	// ImageID is the digest of the image's configuration.
	ImageID string `guestinfo:"imageid,read-only"`
	// Annotations are free texts that the guest cannot see.
	Annotations map[string]string `guestinfo:"annotations,hidden"`
	// RepoName is the image reference that was asked for.
	RepoName string `guestinfo:"repo,read-only"`
	// Version is the build that wrote the configuration; nil when none is recorded.
	Version *Version `guestinfo:"version,read-only"`
	// AsymmetricRouting makes the guest accept answers on another interface.
	AsymmetricRouting bool `guestinfo:"asymrouting,read-only"`
	// Hostname and Domainname make the guest's host name; an empty Hostname
	// stands for the short container id.
	Hostname   string `guestinfo:"hostname,read-only"`
	Domainname string `guestinfo:"domainname,read-only"`
}

// ExecutorConfigCommon identifies a container VM. Other than in Common, the name
// is hidden, so that it can change while the VM is running.
type ExecutorConfigCommon struct {
	// ExecutionEnvironment is declared and written by VIC but never set.
	ExecutionEnvironment string
	// ID is the container id, or VirtualMachine:<moref> for a VCH.
	ID string `guestinfo:"id,read-only"`
	// Name is the container's name, without its id.
	Name string `guestinfo:"name,hidden"`
	// Notes is free text.
	Notes string `guestinfo:"notes,hidden"`
}

// Common identifies a part of a configuration.
type Common struct {
	// ExecutionEnvironment is declared and written by VIC but never set.
	ExecutionEnvironment string
	// ID is unambiguous within the part's owner.
	ID string `guestinfo:"id,read-only"`
	// Name is for people.
	Name string `guestinfo:"name,read-only"`
	// Notes is free text.
	Notes string `guestinfo:"notes,hidden"`
}

// Version is the build record of the program that wrote a configuration.
type Version struct {
	Version     string
	GitCommit   string
	BuildDate   string
	BuildNumber string
	State       string
	// PluginVersion is the version of the data layout; it drives VIC's data migration.
	PluginVersion int
}

// Diagnostics holds the settings and the history that help to find faults.
type Diagnostics struct {
	// DebugLevel 0 is quiet; from 2 on the tether opens a profiling port.
	DebugLevel int `guestinfo:"debug,read-only"`
	// ResurrectionCount counts restarts after failures.
	ResurrectionCount int `guestinfo:"resurrections,read-write"`
	// ExitLogs are the failures themselves.
	ExitLogs []ExitLog `guestinfo:"exitlogs,read-write"`
	// SysLogConfig is the syslog target; nil for none.
	SysLogConfig *SysLogConfig `guestinfo:"syslog,read-only"`
}

// SysLogConfig is a syslog target.
type SysLogConfig struct {
	// Network is tcp, udp, tcp6 or udp6.
	Network string
	// RAddr is host:port.
	RAddr string
}

// ExitLog is one failure of a restarted process.
type ExitLog struct {
	Time       time.Time
	ExitStatus int
	Message    string
}

// SessionConfig is one process of a container VM and what the guest reports of it.
type SessionConfig struct {
	Common `guestinfo:"common,read-only"`

	// Cmd is what to run.
	Cmd Cmd `guestinfo:"cmd,read-only"`
	// Attach connects the streams to the attach server.
	Attach bool `guestinfo:"attach,read-only"`
	// OpenStdin keeps the standard input open.
	OpenStdin bool `guestinfo:"openstdin,read-only"`
	// RunBlock delays the launch until someone attaches.
	RunBlock bool `guestinfo:"runblock,read-write"`
	// Active must be true for the process to be launched.
	Active bool `guestinfo:"active,read-only"`
	// Tty allocates a terminal.
	Tty bool `guestinfo:"tty,read-only"`
	// ExitStatus is the exit code, -1 after a signal.
	ExitStatus int `guestinfo:"status,read-write"`
	// Started is empty before the launch, "true" after it, else the reason of its failure.
	Started string `guestinfo:"started,read-write"`
	// Restart launches the process again when it ends; not for the primary session.
	Restart bool `guestinfo:"restart,read-only"`
	// StopSignal is a signal's name or number.
	StopSignal string `guestinfo:"stopSignal,read-only"`
	// Diagnostics are the session's own.
	Diagnostics Diagnostics `guestinfo:"diagnostics,read-only"`
	// User and Group, by name or number, run the process.
	User  string `guestinfo:"User,read-only"`
	Group string `guestinfo:"Group,read-only"`

	Detail `guestinfo:"detail,read-write"`
}

// Cmd is a command. No entry of Args and Env may contain a '|'.
type Cmd struct {
	// Path is looked up in the PATH of Env.
	Path string `guestinfo:"Path,read-only"`
	// Args includes the command itself.
	Args []string `guestinfo:"Args,read-only"`
	// Env holds NAME=value entries.
	Env []string `guestinfo:"Env,read-only"`
	// Dir is the working directory.
	Dir string `guestinfo:"Dir,read-only"`
}

// Detail holds times in seconds since the epoch; 0 is never.
type Detail struct {
	CreateTime int64 `guestinfo:"createtime,read-write"`
	StartTime  int64 `guestinfo:"starttime,read-write"`
	StopTime   int64 `guestinfo:"stoptime,read-write"`
}

// CopyMode says whether a volume gets the image's content.
type CopyMode int

// The copy modes.
const (
	// CopyNever leaves the volume as it is.
	CopyNever CopyMode = 1
	// CopyNew fills an empty volume at its first mount.
	CopyNew CopyMode = 2
)

// MountSpec is one mount.
type MountSpec struct {
	// Source is label:///<file system label> with the label as the path, or an
	// nfs URL. User information is never written, as in VIC: ExtraConfig is
	// clear text.
	Source url.URL `guestinfo:"source,read-only"`
	// Path is the directory in the guest.
	Path string `guestinfo:"dest,read-only"`
	// Mode holds the mount options.
	Mode string `guestinfo:"mode,read-only"`
	// CopyMode says whether the image's content is copied.
	CopyMode CopyMode `guestinfo:"copymode,read-only"`
}

// NetworkEndpoint is a VM's place in a network.
type NetworkEndpoint struct {
	// Common.ID is the PCI slot number of the adapter in decimal; Common.Name an
	// additional interface name.
	Common

	// Static says that the address was chosen by the user.
	Static bool `guestinfo:"static,read-only"`
	// IP is the address to take; nil for DHCP.
	IP *net.IPNet `guestinfo:"ip,read-only"`
	// Assigned is the address that the guest reports.
	Assigned net.IPNet `guestinfo:"assigned,read-write"`
	// Network is the network as the guest should see it.
	Network ContainerNetwork `guestinfo:"network,read-only"`
	// Ports are [host:]container/protocol entries.
	Ports []string `guestinfo:"ports,read-only"`
	// Internal endpoints have no way out.
	Internal bool `guestinfo:"internal,read-only"`
}

// TrustLevel chooses the guest's firewall rules.
type TrustLevel int

// The trust levels.
const (
	// TrustUnspecified means TrustPublished.
	TrustUnspecified TrustLevel = iota
	// TrustPublished accepts connections to published ports only.
	TrustPublished
	// TrustOpen accepts everything.
	TrustOpen
	// TrustClosed accepts nothing.
	TrustClosed
	// TrustOutbound accepts answers only.
	TrustOutbound
	// TrustPeers accepts other containers of the network.
	TrustPeers
)

// ContainerNetwork is a network that containers may join.
type ContainerNetwork struct {
	// Common.Name is the network's name; Common.ID, in a VCH's configuration,
	// the moref of the port group.
	Common

	// Type is "external" or "bridge".
	Type string `guestinfo:"type,read-write"`
	// Destinations are routed through the gateway.
	Destinations []net.IPNet `guestinfo:"destinations,read-only"`
	// Gateway is the gateway's address and the network's mask.
	Gateway net.IPNet `guestinfo:"gateway,read-only"`
	// Default makes the gateway the default route.
	Default bool `guestinfo:"default,read-only"`
	// Nameservers are the resolvers; none makes DHCP ask for them.
	Nameservers []net.IP `guestinfo:"dns,read-only"`
	// Pools are the address ranges that the VCH gives out.
	Pools []IPRange `guestinfo:"pools,read-only"`
	// Aliases are [container]:alias entries.
	Aliases []string `guestinfo:"aliases,hidden"`

	TrustLevel

	// Assigned is what the guest got.
	Assigned AssignedNetwork `guestinfo:"assigned,read-write"`
}

// AssignedNetwork is what the guest reports of a network.
type AssignedNetwork struct {
	Gateway     net.IPNet `guestinfo:"gateway,read-write"`
	Nameservers []net.IP  `guestinfo:"dns,read-write"`
}

// IPRange is a range of addresses, both ends included.
type IPRange struct {
	FirstIP net.IP `guestinfo:"first,read-only"`
	LastIP  net.IP `guestinfo:"last,read-only"`
}
