// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// diskJoint joins a volume on a datastore as its store does.
func diskJoint(name, path, disk string) volume.Joint {
	return volume.Joint{
		Volume: name, Disk: disk,
		Spec: guestinfo.MountSpec{Source: url.URL{Scheme: "label", Path: volume.Label(name)}, Path: path, Mode: "rw", CopyMode: guestinfo.CopyNew},
	}
}

// vicsVolume is the volume of VIC's vectors.
func vicsVolume() volume.Joint {
	return diskJoint("data", "/data", "[datastore1] vols/volumes/data/data.vmdk")
}

// threeVolumes are one to write, one to read and one on NFS.
func threeVolumes() []volume.Joint {
	seed := diskJoint("seed", "/etc/seed", "[datastore1] vols/volumes/seed/seed.vmdk")
	seed.Discard, seed.Spec.Mode, seed.Spec.CopyMode = true, "ro", guestinfo.CopyNever
	return []volume.Joint{vicsVolume(), {
		Volume: "share",
		Spec: guestinfo.MountSpec{
			Source: url.URL{Scheme: "nfs", Host: "nas.example.org", Path: "/export/volumes/share"}, Path: "/share", CopyMode: guestinfo.CopyNew,
			Mode: "vers=3,rsize=131072,wsize=131072,hard,proto=tcp,timeo=600,sec=sys,mountvers=3,mountproto=tcp,nolock,addr=nas.example.org",
		},
	}, seed}
}

// mountKeys are the keys of mounts, but those that VIC has only when a Go newer than its releases' builds it.
func mountKeys(keys map[string]string) map[string]string {
	out := maps.Clone(keys)
	maps.DeleteFunc(out, func(k, _ string) bool {
		return !strings.HasPrefix(k, "guestinfo.vice./mounts") || strings.HasSuffix(k, "/OmitHost") || strings.HasSuffix(k, "/RawFragment")
	})
	return out
}

func TestMountsAreEncodedAsVICEncodesThem(t *testing.T) {
	t.Parallel()
	r := request(t)
	r.Volumes = []volume.Joint{vicsVolume()}
	spec, _ := planned(t, r)
	got := mountKeys(vch.Keys(spec.ExtraConfig))

	raw, err := os.ReadFile("testdata/vmconfigspec-vmfs.json")
	if err != nil {
		t.Fatal(err)
	}
	var whole struct{ ExtraConfig []struct{ Key, Value string } }
	if err := json.Unmarshal(raw, &whole); err != nil {
		t.Fatal(err)
	}
	replayed := map[string]string{}
	for _, o := range whole.ExtraConfig {
		replayed[o.Key] = o.Value
	}
	if diff := cmp.Diff(mountKeys(replayed), got); diff != "" || len(got) != 12 {
		t.Errorf("%d keys of mounts (-VIC's port layer +ours):\n%s", len(got), diff)
	}

	raw, err = os.ReadFile("../guestinfo/testdata/executor-config.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		OptionValues map[string]string `json:"option_values"`
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, v := range vectors {
		if v.OptionValues["guestinfo.vice./mounts|data/dest"] != "" {
			found = true
			if diff := cmp.Diff(mountKeys(v.OptionValues), got); diff != "" {
				t.Errorf("keys of mounts (-VIC's encoder +ours):\n%s", diff)
			}
		}
	}
	if !found {
		t.Error("no vector has the mount")
	}
}

func TestThePlanWithVolumes(t *testing.T) {
	t.Parallel()
	r := imageRequest(t)
	r.Volumes, r.DeleteVolumes = threeVolumes(), []string{"seed", "data"}
	spec, _ := planned(t, r)
	var text strings.Builder
	for _, c := range spec.DeviceChange {
		change := c.GetVirtualDeviceConfigSpec()
		d, ok := change.Device.(*types.VirtualDisk)
		if !ok {
			fmt.Fprintf(&text, "%s %T\n", change.Operation, change.Device)
			continue
		}
		b, _ := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		fmt.Fprintf(&text, "%s %T file operation %q on %d, unit %d, %d KB: %s %s\n", change.Operation, d, change.FileOperation, d.ControllerKey, *d.UnitNumber, d.CapacityInKB, b.DiskMode, b.FileName)
	}
	keys := vch.Keys(spec.ExtraConfig)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if strings.HasPrefix(k, "annotations") || strings.HasPrefix(k, "guestinfo.vice./mounts") {
			text.WriteString(k + " = " + keys[k] + "\n")
		}
	}
	const golden = "testdata/plan-volumes.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		t.Errorf("plan (-%s +got):\n%s", golden, diff)
	}
}

func TestWhatNoContainerVMCanHaveIsRefused(t *testing.T) {
	t.Parallel()
	disks := func(n int) []volume.Joint {
		var out []volume.Joint
		for i := range n {
			out = append(out, diskJoint(fmt.Sprintf("v%d", i), fmt.Sprintf("/v%d", i), fmt.Sprintf("[ds] volumes/v%d/v%d.vmdk", i, i)))
		}
		return out
	}
	for name, tc := range map[string]struct {
		volumes []volume.Joint
		want    string
	}{
		"as many disks as there is room for":   {disks(14), ""},
		"some more on NFS":                     {append(disks(14), threeVolumes()[1]), ""},
		"one disk more":                        {disks(15), "volumes: 15 of them are virtual disks, a container VM can have 14"},
		"one volume twice":                     {[]volume.Joint{vicsVolume(), threeVolumes()[1], diskJoint("data", "/b", "[ds] b.vmdk")}, "volumes[2].name: machine shoot-worker-0 has volume data twice"},
		"two that VM configurations take as 1": {[]volume.Joint{vicsVolume(), diskJoint("Data", "/b", "[ds] b.vmdk")}, "volumes[1].name: machine shoot-worker-0 has volume Data twice"},
	} {
		r := request(t)
		r.Volumes = tc.volumes
		spec, err := containervm.Plan(r)
		if tc.want != "" {
			if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %v, want InvalidArgument with %q", name, err, tc.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		keys := map[int32]bool{}
		for _, c := range spec.DeviceChange {
			key := c.GetVirtualDeviceConfigSpec().Device.GetVirtualDevice().Key
			if key >= 0 || keys[key] {
				t.Errorf("%s: device key %d: temporary keys are negative and differ", name, key)
			}
			keys[key] = true
		}
	}
}

func TestAVMSaysWhichVolumesItHas(t *testing.T) {
	t.Parallel()
	r := request(t)
	r.Volumes, r.DeleteVolumes = threeVolumes(), []string{"seed", "data"}
	spec, _ := planned(t, r)
	keys := vch.Keys(spec.ExtraConfig)
	vm := &containervm.VM{Keys: guestinfo.FromOptionValues(keys)}
	if diff := cmp.Diff([]string{"seed", "data"}, vm.DeleteVolumes()); diff != "" {
		t.Errorf("volumes that go with the machine (-want +got):\n%s", diff)
	}
	want := map[string]guestinfo.MountSpec{}
	for _, j := range threeVolumes() {
		want[j.Volume] = j.Spec
	}
	if diff := cmp.Diff(want, vm.Mounts()); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	for k, v := range keys {
		if strings.HasPrefix(k, "guestinfo.") && strings.Contains(k+v, "delete-volumes") {
			t.Errorf("the guest can see %s: what it could change would decide what is deleted", k)
		}
	}
	for what, text := range map[string]string{"nothing": "", "no JSON": "seed", "another thing": `{"seed":1}`, "a list of others": `["seed",1]`} {
		vm.Keys["annotations|mcm-vch-delete-volumes"] = text
		if got := vm.DeleteVolumes(); got != nil {
			t.Errorf("%s in the annotation: %v would be deleted", what, got)
		}
	}
	none := &containervm.VM{}
	if none.DeleteVolumes() != nil || len(none.Mounts()) > 0 {
		t.Errorf("a VM without keys has volumes: %v, %v", none.DeleteVolumes(), none.Mounts())
	}
	plain, _ := planned(t, request(t))
	for k := range vch.Keys(plain.ExtraConfig) {
		if strings.Contains(k, "delete-volumes") || strings.Contains(k, "mounts|") {
			t.Errorf("a VM without volumes has %s", k)
		}
	}
}

func TestNamesOfVolumesFollowFromTheMachine(t *testing.T) {
	t.Parallel()
	id := identity.Identity{BIOSUUID: "2b6a2c4e-9c1c-5f3d-8a53-0d6f0f5f6f11"}
	for want, v := range map[string]v1alpha1.Volume{
		"data":                                  {Name: "data", MountPath: "/a"},
		"m-1-data":                              {Name: "{machine}-data", MountPath: "/a"},
		volume.AnonymousName(id.BIOSUUID, "/a"): {MountPath: "/a"},
	} {
		if got := containervm.VolumeName(&v, "m-1", id); got != want {
			t.Errorf("%+v is %s, want %s", v, got, want)
		}
	}
}

func TestVolumesShapeTheVM(t *testing.T) {
	t.Parallel()
	digest := func(volumes ...v1alpha1.Volume) string {
		s := request(t).Spec
		s.Volumes = volumes
		v1alpha1.SetDefaults(s)
		d, err := containervm.SpecDigest(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	whole := v1alpha1.Volume{Name: "{machine}-v", MountPath: "/v"}
	before := digest(whole)
	for what, v := range map[string]v1alpha1.Volume{
		"what is the default": {Name: "{machine}-v", MountPath: "/v", Mode: "rw", NoCopy: ptr.To(false), RetainPolicy: "Retain"},
	} {
		if digest(v) != before {
			t.Errorf("%s changes the digest", what)
		}
	}
	gi := resource.MustParse("1Gi")
	for what, v := range map[string]v1alpha1.Volume{
		"the name":     {Name: "v", MountPath: "/v"},
		"the path":     {Name: "{machine}-v", MountPath: "/w"},
		"the store":    {Name: "{machine}-v", MountPath: "/v", Store: "fast"},
		"the capacity": {Name: "{machine}-v", MountPath: "/v", Capacity: &gi},
		"the mode":     {Name: "{machine}-v", MountPath: "/v", Mode: "ro"},
		"the copy":     {Name: "{machine}-v", MountPath: "/v", NoCopy: ptr.To(true)},
		"the policy":   {Name: "{machine}-v", MountPath: "/v", RetainPolicy: "Delete"},
	} {
		if digest(v) == before {
			t.Errorf("%s does not change the digest", what)
		}
	}
	if got := digest(); got != "0ce573d033eb749b" {
		t.Errorf("digest without volumes = %s: machines of the release before would count as made from another spec", got)
	}
}
