// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Names by which a ProviderSpec and its MachineClass call this version and this provider.
const (
	// APIVersion is the optional apiVersion of a ProviderSpec.
	APIVersion = "vch.provider.machine.sapcloud.io/v1alpha1"
	// Kind is the optional kind of a ProviderSpec.
	Kind = "ProviderSpec"
	// Provider is the value of MachineClass.provider that this provider serves.
	Provider = "vch"
)

// ProviderSpec describes the container VMs of one MachineClass.
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type ProviderSpec struct {
	// apiVersion and kind are optional; if given they must be
	// vch.provider.machine.sapcloud.io/v1alpha1 and ProviderSpec.
	metav1.TypeMeta `json:",inline"`

	// vch names the Virtual Container Host that the machines belong to.
	VCH VirtualContainerHost `json:"vch"`

	// tags identify the machines of this class. Exactly one key
	// kubernetes.io/cluster/<name> and exactly one key kubernetes.io/role/<name>
	// are required: they are part of the mark by which a VM is known as ours.
	// Other tags are kept with the VM as annotations.
	Tags map[string]string `json:"tags"`

	// rootDisk is the root disk of each machine. Either image or rootDisk.vmdk is required.
	// +optional
	RootDisk *RootDisk `json:"rootDisk,omitempty"`

	// image is the OCI reference of the machine image, for example
	// registry.example.com/k3s:v1.34 or registry.example.com/k3s@sha256:…. Its
	// content becomes the root disk; how its container starts is the default of command, args,
	// env, workingDir, user, group and stopSignal. Only images for linux/amd64. Not with rootDisk.vmdk.
	// +optional
	Image string `json:"image,omitempty"`

	// imagePullPolicy says when the registry is asked for the image. Always: for each
	// machine, so that a tag that was moved is noticed; what is on the datastore already is not
	// downloaded again. IfNotPresent: when the image is not on the datastore. Never: the
	// image must be there. Only with image. Default: IfNotPresent.
	// +optional
	ImagePullPolicy PullPolicy `json:"imagePullPolicy,omitempty"`

	// registries says how image registries are reached. Credentials come from the
	// Secret's .dockerconfigjson. Only with image.
	// +optional
	Registries *Registries `json:"registries,omitempty"`

	// cpus is the number of virtual CPUs, 1 to 128. Default: 2.
	// +optional
	CPUs *int32 `json:"cpus,omitempty"`

	// memory is the size of the VM's memory, 512Mi to 6Ti; rounded up to a
	// multiple of 128Mi. Default: 2Gi.
	// +optional
	Memory *resource.Quantity `json:"memory,omitempty"`

	// resources are reservations, limits and shares within the VCH's resource pool.
	// +optional
	Resources *Resources `json:"resources,omitempty"`

	// command is the process that the container VM runs, as an absolute path, or
	// a name that is looked up in PATH, with its first arguments. Required with rootDisk.vmdk
	// unless userData.exec is set. With image it replaces the image's entry point, and the image's
	// own arguments (Cmd) are then not used. Default: the image's entry point.
	// An element cannot contain '|', which VIC's encoding cannot carry.
	// +optional
	Command []string `json:"command,omitempty"`

	// args are appended to command, or to the image's entry point. Default: the
	// image's own arguments (Cmd), unless command is given.
	// +optional
	Args []string `json:"args,omitempty"`

	// workingDir is the process's working directory, absolute. Default: the image's, else /.
	// +optional
	WorkingDir string `json:"workingDir,omitempty"`

	// user runs the process: a name or number of the image's passwd file. With it
	// the group that the image names is not used. Default: the image's, else root.
	// +optional
	User string `json:"user,omitempty"`

	// group runs the process: a name or number of the image's group file. Default:
	// the image's, unless user is given.
	// +optional
	Group string `json:"group,omitempty"`

	// env is the process's environment. The image's variables come first, and those
	// here replace them by name; PATH is added if it is missing.
	// In command, in args, in values and in userData <<PROVIDER_ID>>, <<CONTAINER_ID>> and
	// <<MACHINE_NAME>> are expanded; in what comes from the image they are not.
	// +optional
	Env []EnvVar `json:"env,omitempty"`

	// domain is the domain part of the host name; the host part is the machine's name.
	// +optional
	Domain string `json:"domain,omitempty"`

	// networks are the VCH's container networks that the machine joins, 1 to 4, each once.
	Networks []Network `json:"networks"`

	// userData says how the Secret's userData reaches the machine.
	// +optional
	UserData *UserData `json:"userData,omitempty"`

	// stopSignal is sent to the process to stop it: one of ABRT, ALRM, FPE, HUP,
	// ILL, INT, KILL, PIPE, QUIT, SEGV, TERM, USR1, USR2, with or without SIG. Default: the
	// image's, else TERM.
	// +optional
	StopSignal string `json:"stopSignal,omitempty"`

	// stopGracePeriodSeconds is how long a machine may take to stop before it is
	// powered off, in seconds, 0 to 600. Default: 10.
	// +optional
	StopGracePeriodSeconds *int64 `json:"stopGracePeriodSeconds,omitempty"`

	// startTimeoutSeconds is how long a machine may take from power-on until its
	// process runs, in seconds, 10 to 1800. Default: 180.
	// +optional
	StartTimeoutSeconds *int64 `json:"startTimeoutSeconds,omitempty"`

	// extraConfig are further keys of the VM's ExtraConfig. Keys that the provider,
	// VIC or the VM's own configuration own are refused.
	// +optional
	ExtraConfig map[string]string `json:"extraConfig,omitempty"`

	// placement narrows where the VM's files go.
	// +optional
	Placement *Placement `json:"placement,omitempty"`

	// volumes are what the machine mounts beside its root disk: storage that outlives
	// it, or goes with it, see retainPolicy. At most 32, and at most 14 of them virtual
	// disks. An element may also be a string in docker's form, such as
	// logs-{machine}:/var/log:rw,nocopy, or /cache alone for an anonymous volume; flags are rw, ro
	// and nocopy. z, Z, and shared, slave and private with or without r, are refused: a
	// container VM shares no file system with anybody, so there is nothing that they could do.
	// +optional
	Volumes []Volume `json:"volumes,omitempty"`
}

// VirtualContainerHost names a VCH; exactly one of name, path and moref.
type VirtualContainerHost struct {
	// datacenter is the name or the inventory path of the datacenter, for example dc-1 or /folder/dc-1.
	Datacenter string `json:"datacenter"`
	// name is the VCH's name, which is its appliance VM's name.
	// +optional
	Name string `json:"name,omitempty"`
	// path is the inventory path of the appliance VM, for example /dc-1/vm/vch-1/vch-1.
	// +optional
	Path string `json:"path,omitempty"`
	// moref is the managed object reference of the appliance VM, for example vm-123.
	// +optional
	MoRef string `json:"moref,omitempty"`
}

// RootDisk is the root disk of each machine: vmdk, or with image its size.
type RootDisk struct {
	// vmdk is the datastore path of a prepared image disk, for example
	// [datastore1] images/k3s.vmdk. The disk holds one ext4 file system
	// with the label containerfs. Each machine gets a child disk of it; the disk itself
	// is never written and never deleted. Not with image.
	// +optional
	VMDK string `json:"vmdk,omitempty"`
	// size is the size of the disk that is made from image, whole MiB, 64Mi to 2Ti.
	// The image must fit, and what the machine writes. Only with image; a vmdk has its own size. Default: 8Gi.
	// +optional
	Size *resource.Quantity `json:"size,omitempty"`
}

// Registries says how image registries are reached.
type Registries struct {
	// caBundle is PEM certificates that registries' certificates may be signed by,
	// beside the system's and those of the VCH.
	// +optional
	CABundle string `json:"caBundle,omitempty"`
	// insecure lists registries whose certificates are not verified, and which are
	// asked with http when they do not speak https: [scheme://]host[:port][/path], where * in the
	// host stands for any characters, or a network such as 10.0.0.0/8; at most 64. The VCH's own list counts as well.
	// +optional
	Insecure []string `json:"insecure,omitempty"`
	// mirrors are asked before the registry, in this order; at most 32.
	// +optional
	Mirrors []RegistryMirror `json:"mirrors,omitempty"`
}

// RegistryMirror is where images of a registry can be had as well.
type RegistryMirror struct {
	// registry is the host whose images the mirror has, for example docker.io; * is all.
	Registry string `json:"registry"`
	// endpoint is [scheme://]host[:port][/path]; the path comes before the repository.
	// One with http:// must be in insecure.
	Endpoint string `json:"endpoint"`
}

// PullPolicy says when the registry is asked for an image.
type PullPolicy string

// The pull policies.
const (
	PullAlways       PullPolicy = "Always"
	PullIfNotPresent PullPolicy = "IfNotPresent"
	PullNever        PullPolicy = "Never"
)

// Resources are the VM's allocations within the VCH's resource pool.
type Resources struct {
	// cpu is the allocation of CPU.
	// +optional
	CPU *CPUAllocation `json:"cpu,omitempty"`
	// memory is the allocation of memory.
	// +optional
	Memory *MemoryAllocation `json:"memory,omitempty"`
}

// CPUAllocation is an allocation of CPU.
type CPUAllocation struct {
	// reservationMHz is guaranteed to the VM. Default: 0.
	// +optional
	ReservationMHz *int64 `json:"reservationMHz,omitempty"`
	// limitMHz is never exceeded. Default: no limit.
	// +optional
	LimitMHz *int64 `json:"limitMHz,omitempty"`
	// shares is low, normal, high or a number, 1 to 1000000. Default: normal.
	// +optional
	Shares string `json:"shares,omitempty"`
}

// MemoryAllocation is an allocation of memory.
type MemoryAllocation struct {
	// reservation is guaranteed to the VM; whole MiB, at most memory. Default: 0.
	// +optional
	Reservation *resource.Quantity `json:"reservation,omitempty"`
	// limit is never exceeded; whole MiB. Default: no limit.
	// +optional
	Limit *resource.Quantity `json:"limit,omitempty"`
	// shares is low, normal, high or a number, 1 to 1000000. Default: normal.
	// +optional
	Shares string `json:"shares,omitempty"`
}

// EnvVar is one variable of the process's environment; exactly one of value and valueFrom.
type EnvVar struct {
	// name is the variable's name.
	Name string `json:"name"`
	// value is the variable's value.
	// +optional
	Value *string `json:"value,omitempty"`
	// valueFrom takes the value from elsewhere.
	// +optional
	ValueFrom *EnvVarSource `json:"valueFrom,omitempty"`
}

// EnvVarSource is where a value comes from.
type EnvVarSource struct {
	// secretKey is a key of the class's Secret, but none of those that open vCenter or registries.
	SecretKey string `json:"secretKey"`
}

// Network joins the machine to one container network of the VCH.
type Network struct {
	// name is the name of the container network in the VCH's configuration.
	Name string `json:"name"`
	// address is a static IPv4 address with prefix length, for example 10.0.0.7/24.
	// Default: DHCP. A class with a static address can have one machine only.
	// +optional
	Address string `json:"address,omitempty"`
	// gateway is the IPv4 address of the router; only with address. Default: the VCH network's gateway.
	// +optional
	Gateway string `json:"gateway,omitempty"`
	// nameservers are the IPv4 addresses of at most 3 resolvers. Default with
	// address: the VCH network's; with DHCP: those of the lease.
	// +optional
	Nameservers []string `json:"nameservers,omitempty"`
	// trustLevel sets the machine's own firewall on this network: published,
	// open, closed, outbound or peers. Default: the VCH network's, open if that
	// is unspecified. A Kubernetes node needs open.
	// +optional
	TrustLevel TrustLevel `json:"trustLevel,omitempty"`
	// default makes this network carry the default route; at most one network.
	// Default: the first network that does not say false.
	// +optional
	Default *bool `json:"default,omitempty"`
}

// TrustLevel is VIC's word for the firewall profile of a network.
type TrustLevel string

// The trust levels.
const (
	TrustPublished TrustLevel = "published"
	TrustOpen      TrustLevel = "open"
	TrustClosed    TrustLevel = "closed"
	TrustOutbound  TrustLevel = "outbound"
	TrustPeers     TrustLevel = "peers"
)

// UserData says how the Secret's userData reaches the machine.
type UserData struct {
	// publish puts userData into the keys that cloud-init's VMware datasource
	// reads (guestinfo.userdata and guestinfo.metadata). Default: true.
	// +optional
	Publish *bool `json:"publish,omitempty"`
	// exec runs userData as the container's process: by the interpreter that its
	// first line names (#!), else by /bin/sh. command and args must then be
	// empty. The image needs /bin/sh, base64, chmod, mkdir and rm. Default: false.
	// +optional
	Exec *bool `json:"exec,omitempty"`
}

// Placement narrows where the VM's files go.
type Placement struct {
	// datastore is the name of the datastore for the VM's directory. Default:
	// the datastore of the VCH's image store.
	// +optional
	Datastore string `json:"datastore,omitempty"`
}

// Volume is one volume and where the machine mounts it. One that is not there yet is
// made when the machine is created.
type Volume struct {
	// name is the volume's name, unique in the VCH: letters, digits, and _ . -, the first
	// a letter or digit; at most 200 characters. {machine} in it stands for the machine's
	// name, and gives each machine of a class a volume of its own. Names that differ by case only are refused.
	// One machine at a time can have a volume that is on a datastore, many one that is on an NFS export.
	// Default: none; the volume is then anonymous: it belongs to the machine and has a made-up name.
	// +optional
	Name string `json:"name,omitempty"`
	// mountPath is where the volume is mounted, each once: an absolute path of at most 1024 bytes
	// without '.', '..', empty parts and '|'. Refused are /, /etc, /lib and /run themselves, and
	// /.tether, /dev, /proc, /sys, /lib/modules, /etc/hostname, /etc/hosts, /etc/mtab and /etc/resolv.conf
	// with all below them, as VIC's guest needs them. What the image has there is copied into a
	// volume that is empty, and is hidden by one that is not.
	MountPath string `json:"mountPath"`
	// store is the label of the volume store in the VCH's configuration. Default: for a
	// volume that is there, wherever it is; else the store that is labelled default.
	// +optional
	Store string `json:"store,omitempty"`
	// capacity is the size of a volume that is made on a datastore, 8Mi to 2Ti; rounded up to
	// whole MiB. A volume that is there keeps its own, and one on NFS has none. Default: 1Gi.
	// +optional
	Capacity *resource.Quantity `json:"capacity,omitempty"`
	// mode is rw or ro. With ro nothing that the machine writes stays: VIC's guest does not
	// refuse to write, so the disk forgets it when the machine is powered off. NFS volumes cannot be ro. Default: rw.
	// +optional
	Mode VolumeMode `json:"mode,omitempty"`
	// noCopy leaves an empty volume empty, whatever the image has at mountPath. Default: false.
	// +optional
	NoCopy *bool `json:"noCopy,omitempty"`
	// retainPolicy says what becomes of the volume when the machine is deleted. Retain: it
	// stays. Delete: it is deleted, with all that is on it, if the machine made it; a name must then have
	// {machine} in it. Default: Retain, Delete for an anonymous volume.
	// +optional
	RetainPolicy RetainPolicy `json:"retainPolicy,omitempty"`
}

// VolumeMode says whether what a machine writes to a volume stays.
type VolumeMode string

// The modes of volumes.
const (
	VolumeReadWrite VolumeMode = "rw"
	VolumeReadOnly  VolumeMode = "ro"
)

// RetainPolicy says what becomes of a volume when its machine is deleted.
type RetainPolicy string

// The retain policies.
const (
	RetainVolume RetainPolicy = "Retain"
	DeleteVolume RetainPolicy = "Delete"
)

// Keys of the Secret, named as the existing vSphere provider names them. The
// Secret may have more keys; env can take values from them.
const (
	// SecretHost is vCenter's host name or address, host:port, or https URL. Required.
	SecretHost = "vsphereHost"
	// SecretUsername is the user, for example user@vsphere.local. Required.
	SecretUsername = "vsphereUsername"
	// SecretPassword is the user's password. Required.
	SecretPassword = "vspherePassword"
	// SecretInsecure is true to skip the check of vCenter's certificate. Default: false.
	SecretInsecure = "vsphereInsecureSSL"
	// SecretCABundle is the PEM certificates that sign vCenter's certificate. Default: those of the system.
	SecretCABundle = "vsphereCABundle"
	// SecretThumbprint is the SHA-1 or SHA-256 thumbprint of vCenter's certificate, in hexadecimal.
	SecretThumbprint = "vsphereThumbprint"
	// SecretUserData is the machine's userData: at most 48 KiB with userData.exec,
	// 256 KiB and 64 KiB after gzip and base64 with userData.publish. MCM insists that the key exists; its value may be empty.
	// MCM replaces <<BOOTSTRAP_TOKEN>> and <<MACHINE_NAME>>, the provider
	// <<PROVIDER_ID>> and <<CONTAINER_ID>>.
	SecretUserData = "userData"
	// SecretDockerConfig is the credentials for image registries, in the form of a
	// Kubernetes Secret of type kubernetes.io/dockerconfigjson. They are for the provider: no machine gets them.
	SecretDockerConfig = ".dockerconfigjson" //nolint:gosec // a key, no credential
)
