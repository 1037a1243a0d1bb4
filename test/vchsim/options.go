// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"net/http"
	"net/url"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
)

// Names in the simulated world that tests and samples may rely on.
const (
	// DefaultVCH and DefaultDatacenter are used when Options names none.
	DefaultVCH        = "vch-1"
	DefaultDatacenter = "DC0"
	// SecondVCH is the name of the other VCH.
	SecondVCH = "vch-2"
	// DefaultUsername and DefaultPassword are the credentials unless Options has others.
	DefaultUsername = "user"
	DefaultPassword = "pass"
	// Datastore holds everything of the VCH but one volume store, which is on
	// SecondDatastore.
	Datastore       = "LocalDS_0"
	SecondDatastore = "LocalDS_1"
	// ImageDisk is the prepared image disk that machines get child disks of.
	ImageDisk = "[" + Datastore + "] images/node.vmdk"
	// DefaultStore, FastStore and NFSStore are volume stores of the VCH: on Datastore,
	// in a subdirectory of SecondDatastore, and where Options.NFS says.
	DefaultStore = "default"
	FastStore    = "fast"
	NFSStore     = "share"
	// Volume is the volume in DefaultStore.
	Volume = "vol-1"
	// BridgeNetwork, ExternalNetwork and StaticNetwork are container networks of
	// the VCH. The bridge network has no DHCP server. The external network has
	// one. The static network has gateway 10.20.30.1/24 and a range, and no DHCP.
	BridgeNetwork   = "bridge"
	ExternalNetwork = "vm-network"
	StaticNetwork   = "static-network"
	// Cluster and Role are the rests of the tags in ProviderSpec.
	Cluster = "shoot--demo--vch"
	Role    = "node"
	// OtherCluster is the cluster tag of foreign machines that lie in the VCH's folder.
	OtherCluster = "shoot--other--vch"
	// TwinMachine is the name of a machine of Cluster and Role that exists in the
	// second VCH, and of OtherCluster's machine in the first one.
	TwinMachine = "machine-0"
)

// Options describe a world. The zero value is a small world with foreign VMs.
// A wrong value is InvalidArgument.
type Options struct {
	// VCH is the VCH's name. Default: DefaultVCH.
	VCH string
	// Datacenter is the datacenter's name. Default: DefaultDatacenter.
	Datacenter string
	// Username and Password are the only credentials that log in. Default:
	// DefaultUsername and DefaultPassword.
	Username, Password string
	// OtherVMs is the number of VMs outside of the VCHs; 5000 take well under a second.
	OtherVMs int
	// RunningMachines is the number of machines of Cluster in the VCH that run, see RunningMachine. All but the first can
	// only be looked at, which makes 10,000 of them in a second or two.
	RunningMachines int
	// DockerContainers is the number of container VMs in the VCH's folder that
	// docker made. Default: 2, unless NoForeign is set. Negative: none.
	DockerContainers int
	// NoForeign leaves out the second VCH, other clusters' machines and the
	// default docker containers.
	NoForeign bool
	// VSAN makes the datastores vSAN datastores.
	VSAN bool
	// NFS is the location of the VCH's volume store NFSStore: nfs://host/path?query.
	// Default: there is no such store.
	NFS string
	// NoDefaultStore leaves DefaultStore out of the VCH's configuration.
	NoDefaultStore bool
	// VCHDataVersion is the data version that the VCHs' configurations have: what older
	// versions of VIC stored, see OldVCHKeys; one above 10 is what a newer one might
	// have. Default: 10, VIC's last.
	VCHDataVersion *int
	// Registry, if not nil, is an image registry beside vCenter that has the node image.
	Registry *images.Options
	// Registries are the VCHs' rules for image registries.
	Registries RegistryOptions
	// LeaseTimeout is how long an import that is not heard of lives. Default: 5 minutes.
	LeaseTimeout time.Duration
	// ImportHost is the host in the addresses that imported disks are sent to, without
	// a thumbprint; "*" stands for vCenter's own, as in vSphere. Default: a host of its
	// own, with a certificate of its own and its thumbprint.
	ImportHost string
	// Latency is added to each request, as a slow network would.
	Latency time.Duration
	// Listen is the address to serve on. Default: a free port of 127.0.0.1.
	Listen string
	// Wrap, if not nil, is put around the handler of all requests to vCenter, as a broken
	// proxy in front of it would be.
	Wrap func(http.Handler) http.Handler
	// Faults are injected from the first request on.
	Faults []FaultRule
	// Guest is how guests behave.
	Guest GuestOptions
	// Kubeconfig is the path of a kubeconfig with administrator's rights. If set, each
	// started machine whose userData contains a bootstrap token joins that cluster.
	Kubeconfig string
	// Kubemark is the path of the kubemark program. Default: kubemark in PATH.
	Kubemark string
	// Dir is the directory for datastores and kubelets; it must exist. Everything
	// that was made in it is removed by Close. Default: the system's temporary directory.
	Dir string
}

// RegistryOptions are what vic-machine was told of image registries.
type RegistryOptions struct {
	// Whitelist and Insecure are lists of registries.
	Whitelist, Insecure []string
	// CABundle are PEM certificates that sign those of registries.
	CABundle []byte
}

// GuestOptions are how guests behave from their next power-on or stop on.
type GuestOptions struct {
	// Delay passes between power-on and the guest's first word.
	Delay time.Duration
	// Fail is written as the session's started text instead of true; the guest
	// then powers off, as the tether does when the process cannot be launched.
	Fail string
	// Hang makes guests stay powered on without ever writing started.
	Hang bool
	// Crash makes guests power off without writing started.
	Crash bool
	// StopDelay passes between an accepted stop and the power-off.
	StopDelay time.Duration
	// IgnoreTerm makes guests obey nothing but KILL.
	IgnoreTerm bool
	// Diary makes guests add a line with the machine's name to the file Diary of each
	// disk that they mount, before their process starts.
	Diary bool
	// IgnoreStop makes guests accept and ignore every stop.
	IgnoreStop bool
}

func (o Options) withDefaults() (Options, error) {
	set := func(to *string, value string) {
		if *to == "" {
			*to = value
		}
	}
	set(&o.VCH, DefaultVCH)
	set(&o.Datacenter, DefaultDatacenter)
	set(&o.Username, DefaultUsername)
	set(&o.Password, DefaultPassword)
	set(&o.Listen, "127.0.0.1:0")
	set(&o.Kubemark, "kubemark")
	if o.DockerContainers == 0 && !o.NoForeign {
		o.DockerContainers = 2
	}
	if o.LeaseTimeout <= 0 {
		o.LeaseTimeout = defaultLeaseTimeout
	}
	if o.OtherVMs < 0 || o.RunningMachines < 0 {
		return o, errdefs.New(errdefs.InvalidArgument, "numbers of other VMs and of running machines must not be negative, got %d and %d", o.OtherVMs, o.RunningMachines)
	}
	if o.VCHDataVersion != nil && *o.VCHDataVersion < 0 {
		return o, errdefs.New(errdefs.InvalidArgument, "data version of the VCH must not be negative, got %d", *o.VCHDataVersion)
	}
	if o.VCH == SecondVCH && !o.NoForeign {
		return o, errdefs.New(errdefs.InvalidArgument, "VCH name %q is taken by the second VCH", o.VCH)
	}
	if u, err := url.Parse(o.NFS); o.NFS != "" && (err != nil || u.Scheme != "nfs" || u.Host == "" || u.Path == "") {
		return o, errdefs.New(errdefs.InvalidArgument, "location of the NFS volume store must be nfs://host/path, got %q", o.NFS)
	}
	for _, f := range o.Faults {
		if err := f.validate(); err != nil {
			return o, err
		}
	}
	return o, nil
}
