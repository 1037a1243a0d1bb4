// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// Request is all that a plan depends on.
type Request struct {
	// Machine is the Machine's name.
	Machine string
	// Identity is computed from the VCH, the cluster tag and Machine.
	Identity identity.Identity
	// Spec is valid and defaulted.
	Spec *v1alpha1.ProviderSpec
	// Image is the disk that was made from Spec.Image; nil with rootDisk.vmdk.
	Image *image.Disk
	// Secret is the data of the class's Secret, for environment variables and userData.
	Secret map[string][]byte
	// VCH is the host of the container VM.
	VCH *vch.Config
	// Volumes are what the VM is joined to, in the order of Spec.Volumes. Volumes of
	// one name, and more than volume.MaxDisks disks, are InvalidArgument.
	Volumes []volume.Joint
	// DeleteVolumes are the names of those that go when the machine goes; the VM keeps them.
	DeleteVolumes []string
	// HostKey is a private key in PEM, see NewHostKey.
	HostKey []byte
	// Now is the time of creation.
	Now time.Time
	// ProviderVersion goes into the mark.
	ProviderVersion string
}

// Plan returns the complete specification of the VM: with it the VM exists
// marked and ready to start, or not at all. It reads the request and changes
// nothing. Faults of the request are InvalidArgument and name the field.
func Plan(r Request) (*types.VirtualMachineConfigSpec, error) {
	parent, err := parentOf(r)
	if err != nil {
		return nil, err
	}
	place, err := placeOf(r)
	if err != nil {
		return nil, err
	}
	joined, err := joinNetworks(r.Spec.Networks, r.VCH)
	if err != nil {
		return nil, err
	}
	if err := checkVolumes(r); err != nil {
		return nil, err
	}
	options, err := extraConfig(r, joined)
	if err != nil {
		return nil, err
	}
	off := false
	spec := &types.VirtualMachineConfigSpec{
		Name: place.displayName,
		Uuid: r.Identity.BIOSUUID,
		// VIC, lib/guest/linux.go:68-69 and lib/constants/constants.go:93-95.
		GuestId:            string(types.VirtualMachineGuestOsIdentifierOtherGuest64),
		AlternateGuestName: alternateGuestName(r.VCH.Version),
		Files:              &types.VirtualMachineFileInfo{VmPathName: place.vmx},
		NumCPUs:            *r.Spec.CPUs,
		MemoryMB:           r.Spec.MemoryMB(),
		// VIC writes both as false, lib/spec/spec.go:87-89.
		CpuHotAddEnabled:    &off,
		MemoryHotAddEnabled: &off,
		ExtraConfig:         options,
		DeviceChange:        devices(r, place, parent, joined),
	}
	if err := allocate(spec, r.Spec.Resources); err != nil {
		return nil, err
	}
	return spec, nil
}

// place is where a VM's files go.
type place struct {
	displayName string
	datastore   vch.Datastore
	vmx         string // for the config spec
	rootDisk    string
	logs        string // directory of the serial ports' files, without trailing slash
}

func placeOf(r Request) (place, error) {
	name := r.VCH.ImageStore.Datastore
	if p := r.Spec.Placement; p != nil && p.Datastore != "" {
		name = p.Datastore
	}
	ds, ok := r.VCH.Datastores[name]
	if !ok {
		return place{}, errdefs.New(errdefs.InvalidArgument, "placement.datastore: the datacenter of VCH %s has no datastore %q", r.VCH.Name, name)
	}
	id := r.Identity.ContainerID
	p := place{displayName: DisplayName(r.VCH.NameConvention, r.Machine, id), datastore: ds}
	if ds.VSAN {
		// vSAN makes the directory from the display name; the path names the
		// datastore alone (VIC, lib/portlayer/exec/handle.go:323-332, logging.go:149-157).
		p.vmx, p.rootDisk, p.logs = "["+name+"]", "["+name+"]", "["+name+"]/"+p.displayName
		return p, nil
	}
	p.logs = "[" + name + "] " + id
	p.vmx, p.rootDisk = p.logs+"/"+id+".vmx", p.logs+"/"+id+".vmdk"
	return p, nil
}

// Directory returns the datastore path of the machine's directory as a machine
// of this spec gets it, with a trailing slash, and whether it can be known
// without asking the VM: on vSAN it cannot.
func Directory(spec *v1alpha1.ProviderSpec, host *vch.Config, id identity.Identity) (path string, known bool) {
	p, err := placeOf(Request{Identity: id, Spec: spec, VCH: host})
	if err != nil || p.datastore.VSAN {
		return "", false
	}
	return p.logs + "/", true
}

func alternateGuestName(v *guestinfo.Version) string {
	if v == nil {
		v = &guestinfo.Version{}
	}
	commit := v.GitCommit
	if len(commit) > 7 {
		commit = commit[:7]
	}
	return "Photon - Container " + v.Version + ", " + v.BuildNumber + ", " + pad(commit, 7)
}

func pad(s string, n int) string {
	for len(s) < n {
		s += " "
	}
	return s
}

// fixedOptions are the keys that VIC gives every container VM, lib/spec/spec.go:91-114.
// The second and third answer questions that would block power-on: child disks
// share their parent's UUID, and a log file may exist already.
func fixedOptions() map[string]string {
	return map[string]string{
		"disk.EnableUUID":                   "true",
		"answer.msg.disk.duplicateUUID":     "Yes",
		"answer.msg.serial.file.open":       "Append",
		"sched.mem.lpage.maxSharedPages":    "256",
		"vmotion.checkpointSVGAPrimarySize": "4194304",
		"serial0.hardwareFlowControl":       "TRUE",
		"memory.noHotAddOver4GB":            "FALSE",
		"memory.maxGrow":                    "512",
		"tools.remindInstall":               "FALSE",
		"tools.upgrade.policy":              "manual",
	}
}

// extraConfig puts all keys together, each once, in a fixed order.
func extraConfig(r Request, joined []joinedNetwork) ([]types.BaseOptionValue, error) {
	data := expandUserData(r)
	executor, err := executorConfig(r, joined, data)
	if err != nil {
		return nil, err
	}
	encoded, err := guestinfo.EncodeExecutor(executor)
	if err != nil {
		return nil, errdefs.Wrap(errdefs.InvalidArgument, err, "encode the configuration of machine %s", r.Machine)
	}
	published, err := cloudInitKeys(r, data)
	if err != nil {
		return nil, err
	}
	keys := maps.Clone(r.Spec.ExtraConfig)
	if keys == nil {
		keys = map[string]string{}
	}
	// In this order nothing of the user's can replace what makes the VM a container VM.
	for _, m := range []map[string]string{fixedOptions(), published, guestinfo.OptionValues(encoded)} {
		maps.Copy(keys, m)
	}
	return Options(keys), nil
}

// Options returns keys as ExtraConfig options, sorted by key.
func Options(keys map[string]string) []types.BaseOptionValue {
	out := make([]types.BaseOptionValue, 0, len(keys))
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		out = append(out, &types.OptionValue{Key: k, Value: keys[k]})
	}
	return out
}

// SpecDigest returns a digest of what shapes the VM: the ProviderSpec but for how
// registries are reached, and when, and nothing of the Secret, since MCM hands out
// other userData at other times. Of an image it has the reference: where a tag
// leads to may change while a machine is being made.
func SpecDigest(spec *v1alpha1.ProviderSpec) (string, error) {
	shape := *spec
	shape.ImagePullPolicy, shape.Registries = "", nil
	b, err := json.Marshal(&shape)
	if err != nil {
		return "", errdefs.Wrap(errdefs.Internal, err, "digest the provider spec")
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8]), nil
}

// allocate sets reservations, limits and shares.
func allocate(spec *types.VirtualMachineConfigSpec, r *v1alpha1.Resources) error {
	if r == nil {
		return nil
	}
	if c := r.CPU; c != nil {
		shares, err := sharesInfo("resources.cpu.shares", c.Shares)
		if err != nil {
			return err
		}
		spec.CpuAllocation = &types.ResourceAllocationInfo{Reservation: c.ReservationMHz, Limit: c.LimitMHz, Shares: shares}
	}
	if m := r.Memory; m != nil {
		shares, err := sharesInfo("resources.memory.shares", m.Shares)
		if err != nil {
			return err
		}
		spec.MemoryAllocation = &types.ResourceAllocationInfo{Shares: shares}
		if m.Reservation != nil {
			spec.MemoryAllocation.Reservation = types.NewInt64(m.Reservation.Value() >> 20)
		}
		if m.Limit != nil {
			spec.MemoryAllocation.Limit = types.NewInt64(m.Limit.Value() >> 20)
		}
	}
	return nil
}

func sharesInfo(field, s string) (*types.SharesInfo, error) {
	switch s {
	case "":
		return nil, nil
	case string(types.SharesLevelLow), string(types.SharesLevelNormal), string(types.SharesLevelHigh):
		return &types.SharesInfo{Level: types.SharesLevel(s)}, nil
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return nil, errdefs.Wrap(errdefs.InvalidArgument, err, "%s: %q is neither low, normal, high nor a number", field, s)
	}
	return &types.SharesInfo{Level: types.SharesLevelCustom, Shares: int32(n)}, nil
}
