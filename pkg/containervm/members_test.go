// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func TestMembersAreTheContainerVMsOfTheVCHAlone(t *testing.T) {
	t.Parallel()
	s := newSiteOf(t, vchsim.Options{OtherVMs: 50})
	s.started("machine-1")
	s.Plant(spitest.Clone, "machine-2")      // no machine: its BIOS UUID is another one
	s.Plant(spitest.HalfMarked, "machine-3") // nor this one
	s.PlantVM(&types.VirtualMachineConfigSpec{Name: "a-stranger", Files: &types.VirtualMachineFileInfo{VmPathName: "[" + vchsim.Datastore + "]"}})
	if err := s.Sim.Age(s.called("docker-0").Name, 1); err != nil { // its name is where it was before version 2
		t.Fatal(err)
	}
	s.Sim.ResetCounters()
	all, err := s.Members(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if calls := s.Sim.Calls(); s.Sim.Requests() != 1 {
		t.Errorf("calls: %v, want one", calls)
	}
	var got []string
	for _, m := range all {
		line := m.Name
		if m.Mark != nil {
			line += " of " + m.Mark.Cluster
		}
		if m.PowerState == types.VirtualMachinePowerStatePoweredOn {
			line += ", running"
		}
		if len(m.ContainerID) != 64 || m.Ref.Value == "" {
			t.Errorf("%+v", m)
		}
		got = append(got, line)
	}
	slices.Sort(got)
	want := []string{
		"docker-0, running", "docker-1", "machine-0 of " + vchsim.OtherCluster + ", running", "machine-1 of " + vchsim.Cluster + ", running", "machine-2", "machine-3",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	if !slices.IsSortedFunc(all, func(a, b containervm.Member) int { return strings.Compare(a.VM, b.VM) }) {
		t.Errorf("not sorted by display name: %+v", all)
	}
}

func TestAVMThatVanishedIsLeftOutOfAWholeRead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first, second := s.machine("machine-1"), s.machine("machine-2")
	if err := s.Remove(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	s.Sim.ResetCounters()
	got, err := s.ReadWhole(t.Context(), first.Ref, second.Ref)
	if err != nil || len(got) != 1 || got[second.Ref] == nil || got[second.Ref].Keys[guestinfo.NameKey] != "machine-2" {
		t.Errorf("read = %v, %v; want the second VM alone", got, err)
	}
	reads := func() int { return s.Sim.Calls()["RetrievePropertiesEx"] } // the session's long poll goes on meanwhile
	if reads() != 1 {
		t.Errorf("calls: %v, want one read", s.Sim.Calls())
	}
	if got, err := s.ReadWhole(t.Context()); err != nil || len(got) != 0 || reads() != 1 {
		t.Errorf("nothing read = %v, %v after %v", got, err, s.Sim.Calls())
	}
}

// among returns the one VM of the whole inventory that is.
func (s site) among(is func(mo.VirtualMachine) bool) *containervm.VM {
	s.Helper()
	var found []types.ManagedObjectReference
	for ref, vm := range s.VMs() {
		if is(vm) {
			found = append(found, ref)
		}
	}
	if len(found) != 1 {
		s.Fatalf("%d VMs are so", len(found))
	}
	return s.reread(&containervm.VM{Ref: found[0]})
}

// planted returns the VM that Plant makes.
func (s site) planted(kind spitest.Foreign) *containervm.VM {
	s.Helper()
	before := s.VMs()
	s.Plant(kind, "machine-x")
	return s.among(func(vm mo.VirtualMachine) bool { _, there := before[vm.Self]; return !there })
}

// moved returns a VM that somebody moved out of the VCH's folder.
func (s site) moved(vm *containervm.VM) *containervm.VM {
	s.Helper()
	task, err := object.NewFolder(s.Admin, s.RootFolder()).MoveInto(s.Context(), []types.ManagedObjectReference{vm.Ref})
	if err == nil {
		err = task.Wait(s.Context())
	}
	if err != nil {
		s.Fatal(err)
	}
	return s.reread(vm)
}

// strangers are VMs that no scope has, and what a refusal says of them.
func strangers() map[string]struct {
	vm   func(site) *containervm.VM
	text string
} {
	forged := func(s site) *containervm.VM {
		vm := s.machine("machine-1")
		mark, err := identity.Mark{Cluster: "shoot--forged", Role: vchsim.Role, Machine: "machine-1"}.Encode()
		if err != nil {
			s.Fatal(err)
		}
		s.set(vm, map[string]string{markKey(): mark, guestinfo.CommonIDKey: strings.Repeat("ab", 32)})
		return s.reread(vm)
	}
	return map[string]struct {
		vm   func(site) *containervm.VM
		text string
	}{
		"the appliance": {func(s site) *containervm.VM { return s.reread(&containervm.VM{Ref: s.Sim.ApplianceRef()}) }, "it is the appliance of a VCH"},
		"another VCH's appliance": {func(s site) *containervm.VM {
			return s.among(func(vm mo.VirtualMachine) bool { return vm.Name == vchsim.SecondVCH })
		}, "it is the appliance of a VCH"},
		"a machine of another VCH": {func(s site) *containervm.VM {
			return s.among(func(vm mo.VirtualMachine) bool {
				return strings.HasPrefix(vm.Name, vchsim.TwinMachine) && *vm.Parent != s.Host.Folder
			})
		}, "it stands outside the container VMs of VCH vch-1"},
		"a machine outside of the folder": {func(s site) *containervm.VM { return s.moved(s.machine("machine-2")) }, "it stands outside the container VMs of VCH vch-1"},
		"a plain VM":                      {func(s site) *containervm.VM { return s.planted(spitest.Namesake) }, "it stands outside"},
		"a clone of a machine":            {func(s site) *containervm.VM { return s.planted(spitest.Clone) }, "its BIOS UUID is"},
		"one with the mark of another":    {forged, "VM \"machine-1"},
		"a VM in the folder": {func(s site) *containervm.VM {
			s.PlantVM(&types.VirtualMachineConfigSpec{Name: "stranger", Files: &types.VirtualMachineFileInfo{VmPathName: "[" + vchsim.Datastore + "]"}})
			return s.among(func(vm mo.VirtualMachine) bool { return vm.Name == "stranger" })
		}, "is not touched"},
	}
}

func TestWhatBelongsToNobodyWeKnowIsOutOfEveryScope(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for name, tc := range strangers() {
		vm := tc.vm(s)
		s.Sim.ResetCounters()
		for _, scope := range []containervm.Scope{containervm.Machines, containervm.Containers} {
			_, renameErr := s.Rename(t.Context(), vm, "db-1", scope)
			_, applyErr := s.ApplyMigration(t.Context(), vm, scope, noBackup)
			for what, err := range map[string]error{"proof": s.Proven(vm, scope), "rename": renameErr, "apply": applyErr} {
				if !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), tc.text) || !strings.Contains(err.Error(), vm.Ref.Value) {
					t.Errorf("%s, %s in scope %d: %v, want FailedPrecondition with %q", name, what, scope, err, tc.text)
				}
			}
		}
		if s.Sim.Requests() > 0 {
			t.Errorf("%s: calls %v, want none", name, s.Sim.Calls())
		}
		s.untouched(vm)
	}
}

func TestContainersThatAreNoMachinesAreInOneScopeAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for name, vm := range map[string]*containervm.VM{
		"docker's": s.called("docker-1"), "without a mark": s.planted(spitest.Unmarked), "half a mark": s.planted(spitest.HalfMarked),
	} {
		if err := s.Proven(vm, containervm.Containers); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.Proven(vm, containervm.Machines); !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), "no full mark") {
			t.Errorf("%s: %v, want FailedPrecondition", name, err)
		}
	}
	// As List has them: machines of all clusters.
	for _, vm := range []*containervm.VM{s.machine("machine-1"), s.called(vchsim.TwinMachine)} {
		for _, scope := range []containervm.Scope{containervm.Machines, containervm.Containers} {
			if err := s.Proven(vm, scope); err != nil {
				t.Errorf("%s, scope %d: %v", vm.Name, scope, err)
			}
		}
	}
}
