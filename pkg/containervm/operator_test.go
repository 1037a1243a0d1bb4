// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm_test

import (
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/world"
)

// site is a simulated VCH with an operator on it.
type site struct {
	*world.World
	*containervm.Operator
}

func newSite(t *testing.T) site {
	t.Helper()
	w := world.New(t, vchsim.Options{})
	cfg, err := vcenter.ConfigFromSecret(w.Sim.Secret())
	if err != nil {
		t.Fatal(err)
	}
	client, err := w.Pool().Client(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	o := containervm.NewOperator(client, w.Host)
	t.Cleanup(func() { o.Close(t.Context()) })
	return site{w, o}
}

// request is for a machine of an image whose disk is at path.
func (s site) request(name, path string) containervm.Request {
	s.Helper()
	id, err := identity.New(s.VCH(), vchsim.Cluster, name)
	if err != nil {
		s.Fatal(err)
	}
	key, err := world.HostKey()
	if err != nil {
		s.Fatal(err)
	}
	spec := s.Sim.ProviderSpec()
	spec.Image, spec.RootDisk, spec.Command = "registry.example.com/node:1", nil, nil
	v1alpha1.SetDefaults(spec)
	return containervm.Request{
		Machine: name, Identity: id, Spec: spec, Secret: s.Sim.Secret(), VCH: s.Host, HostKey: key, Now: time.Unix(1654867607, 0), ProviderVersion: "v1",
		Image: &image.Disk{
			Key: image.Key{Digest: "sha256:" + strings.Repeat("0123", 16), Size: spec.RootDiskBytes()}, Path: path,
			Description: image.Description{ConfigDigest: "sha256:" + strings.Repeat("4567", 16), Config: image.Config{Cmd: []string{"/bin/k3s"}, StopSignal: "9"}},
		},
	}
}

func (s site) create(r containervm.Request) error {
	s.Helper()
	plan, err := containervm.Plan(r)
	if err != nil {
		s.Fatal(err)
	}
	return s.Create(s.Context(), plan)
}

func (s site) find(r containervm.Request) *containervm.VM {
	s.Helper()
	vm, err := s.Find(s.Context(), r.Identity, identity.Mark{Cluster: vchsim.Cluster, Role: vchsim.Role, Machine: r.Machine}, true)
	if err != nil {
		s.Fatal(err)
	}
	return vm
}

func TestAMissingDiskOfAnImageCanBeTold(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const gone = "[" + vchsim.Datastore + "] mcm-images/gone.vmdk"
	err := s.create(s.request("machine-1", gone))
	if !errdefs.Is(err, errdefs.FailedPrecondition) || !vcenter.IsFileNotFound(err) {
		t.Errorf("create = %v (%s), want FailedPrecondition in which FileNotFound can be told", err, errdefs.KindOf(err))
	}
	if err == nil || !strings.Contains(err.Error(), "image: "+gone) || strings.Contains(err.Error(), "rootDisk.vmdk") {
		t.Errorf("error = %v, want one that names the image's disk and not rootDisk.vmdk", err)
	}
	r := s.request("machine-1", "")
	r.Image, r.Spec.Image, r.Spec.RootDisk.VMDK, r.Spec.Command = nil, "", gone, []string{"/x"}
	if err := s.create(r); !vcenter.IsFileNotFound(err) || !strings.Contains(err.Error(), "rootDisk.vmdk: "+gone) {
		t.Errorf("create from a vmdk = %v, want one that names the field", err)
	}
}

func TestTheImagesStopSignalStopsTheMachine(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		signal, status string
	}{
		"the image's":        {"", "-1"}, // KILL
		"the spec's instead": {"TERM", "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			r := s.request("machine-1", vchsim.ImageDisk)
			if err := s.create(r); err != nil {
				t.Fatal(err)
			}
			if err := s.Start(t.Context(), s.find(r), time.Unix(1654867608, 0)); err != nil {
				t.Fatal(err)
			}
			if err := s.Stop(t.Context(), s.find(r), tc.signal, time.Minute); err != nil {
				t.Fatal(err)
			}
			vm := s.find(r)
			if status := vm.Keys[guestinfo.StatusKey(r.Identity.ContainerID)]; vm.PowerState != types.VirtualMachinePowerStatePoweredOff || status != tc.status {
				t.Errorf("power %s, status %s, want %s", vm.PowerState, status, tc.status)
			}
		})
	}
}

func TestWhatADiskIsAChildOfSurvivesItsMachine(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := s.request("machine-1", vchsim.ImageDisk)
	if err := s.create(r); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), s.find(r)); err != nil {
		t.Fatal(err)
	}
	if left := s.Leftovers(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := s.create(r); err != nil { // needs the disk
		t.Fatal(err)
	}
	vm := s.find(r)
	dir, _ := vm.Directory()
	// The caller knows of nothing shared; the chain alone says it.
	b, ok := vm.Disks[0].Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if !ok || b.Parent == nil {
		t.Fatalf("the root disk is %+v, no child", vm.Disks[0].Backing)
	}
	b.Parent.FileName = dir + "image.vmdk"
	if err := s.Remove(t.Context(), vm); !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), "image.vmdk, which is shared") {
		t.Errorf("remove = %v, want FailedPrecondition that names what is shared", err)
	}
	if vm := s.find(r); vm == nil || len(vm.Disks) != 1 {
		t.Error("the VM was changed before the check")
	}
}
