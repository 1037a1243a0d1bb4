// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration/plugins"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// rest is all of a VM but its names and what changes with every change, and all files.
func (s site) rest(vm *containervm.VM) []string {
	s.Helper()
	config := *s.VMs()[vm.Ref].Config
	config.Name, config.ChangeVersion, config.ExtraConfig, config.Modified = "", "", nil, time.Time{}
	b, err := json.MarshalIndent(config, "", " ")
	if err != nil {
		s.Fatal(err)
	}
	return append(strings.Split(string(b), "\n"), s.Sim.Files()...)
}

// changed returns what keys were and are, for those that are not the same.
func changed(before, after *containervm.VM) map[string]string {
	out := map[string]string{}
	all := maps.Clone(before.Stored)
	maps.Copy(all, after.Stored)
	for key := range all {
		if was, is := before.Stored[key], after.Stored[key]; was != is {
			out[key] = was + " > " + is
		}
	}
	return out
}

func shortID(vm *containervm.VM) string {
	return vm.Keys[guestinfo.CommonIDKey][:identity.ShortLength]
}

func conventionOf(c string) func(*vch.Config) {
	return func(host *vch.Config) { host.NameConvention = c }
}

func TestARenameChangesTheNamesAndNothingElse(t *testing.T) {
	t.Parallel()
	long := "n" + strings.Repeat("0123456789", 9)
	for name, tc := range map[string]struct {
		vsan, running    bool
		convention, give string
		display          string // <id> stands for the short id
	}{
		"a stopped machine":           {display: "db-1-<id>"},
		"a running machine":           {running: true, display: "db-1-<id>"},
		"on vSAN":                     {vsan: true, display: "db-1-<id>"},
		"running, on vSAN":            {vsan: true, running: true, display: "db-1-<id>"},
		"the name alone, on vSAN":     {vsan: true, convention: "{name}", display: "db-1"},
		"a name that is cut, running": {running: true, convention: "{id}.{name}.prod", give: long, display: "<id>." + long[:62] + ".prod"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSiteOf(t, vchsim.Options{VSAN: tc.vsan})
			vm := s.machine("machine-1")
			if tc.running {
				if _, err := s.Start(t.Context(), vm, time.Unix(1654867608, 0)); err != nil {
					t.Fatal(err)
				}
				vm = s.reread(vm)
			}
			if tc.give == "" {
				tc.give = "db-1"
			}
			display := strings.ReplaceAll(tc.display, "<id>", shortID(vm))
			rest := s.rest(vm)
			o := operatorOn(t, s.World, plugins.Shipped(), conventionOf(tc.convention))
			got, err := o.Rename(t.Context(), vm, tc.give, containervm.Machines)
			if err != nil {
				t.Fatal(err)
			}
			if got.Display != display || got.VM.Name != vm.Name || len(got.Links) > 0 {
				t.Errorf("renamed = %q from %q, links %v; want %q from %q", got.Display, got.VM.Name, got.Links, display, vm.Name)
			}
			after := s.reread(vm)
			if after.Name != display || len(after.Name) > 80 {
				t.Errorf("display name %q, want %q", after.Name, display)
			}
			if diff := cmp.Diff(map[string]string{guestinfo.NameKey: "machine-1 > " + tc.give}, changed(vm, after)); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(rest, s.rest(vm)); diff != "" {
				t.Errorf("the rest of the VM and its files (-before +after):\n%s", diff)
			}
			if after.PowerState != vm.PowerState || after.VMX != vm.VMX || s.Proven(after, containervm.Machines) != nil {
				t.Errorf("the VM is %s at %s, proven: %v", after.PowerState, after.VMX, s.Proven(after, containervm.Machines))
			}
		})
	}
}

// aliasesOf are keys that give a VM aliases in a network.
func aliasesOf(network string, entries ...string) map[string]string {
	key := guestinfo.AliasesKey(network)
	return map[string]string{key: strings.Join(entries, "|"), strings.TrimSuffix(key, "~"): strconv.Itoa(len(entries) - 1)}
}

func TestARenameTakesTheVMsOwnAliasesAlongAndNamesWhoIsLinkedToIt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm, other, third := s.started("machine-1"), s.started("machine-2"), s.machine("machine-3")
	s.set(vm, aliasesOf(vchsim.ExternalNetwork, ":machine-1", "db:machine-1", ":web", "machine-1:machine-1", "machine-1:me"))
	s.set(other, aliasesOf(vchsim.BridgeNetwork, ":machine-2", "machine-1:db")) // a network that only the VCH knows of
	s.set(third, aliasesOf(vchsim.ExternalNetwork, ":machine-1", "machine-10:x", "x:machine-1"))
	vm, other, third = s.reread(vm), s.reread(other), s.reread(third)
	got, err := s.Rename(t.Context(), vm, "db-1", containervm.Machines)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{other.Name}, got.Links); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
	key := guestinfo.AliasesKey(vchsim.ExternalNetwork)
	want := map[string]string{guestinfo.NameKey: "machine-1 > db-1", key: vm.Keys[key] + " > :db-1|db:machine-1|:web|db-1:db-1|db-1:me"}
	if diff := cmp.Diff(want, changed(vm, s.reread(vm))); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	for _, vm := range []*containervm.VM{other, third} {
		if now := s.reread(vm); now.Name != vm.Name || now.ChangeVersion != vm.ChangeVersion {
			t.Errorf("VM %q was changed: %q, %v", vm.Name, now.Name, changed(vm, now))
		}
	}
	cfg, err := guestinfo.DecodeExecutor(s.reread(vm).Keys)
	if err != nil || len(cfg.Networks[vchsim.ExternalNetwork].Network.Aliases) != 5 {
		t.Errorf("VIC reads %+v, %v", cfg, err)
	}
}

// untouched fails the test unless a VM is as it was, and nobody tried to change it.
func (s site) untouched(vm *containervm.VM) {
	s.Helper()
	now := s.reread(vm)
	if diff := changed(vm, now); now.Name != vm.Name || len(diff) > 0 || now.ChangeVersion != vm.ChangeVersion {
		s.Errorf("VM %q is called %q; its keys: %v", vm.Name, now.Name, diff)
	}
	if n := s.Sim.Calls()["ReconfigVM_Task"]; n > 0 {
		s.Errorf("%d reconfigures", n)
	}
}

func TestAContainerThatIsNoMachineIsRenamedOnlyWhereThatIsMeant(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.called("docker-0")
	s.Sim.ResetCounters()
	if _, err := s.Rename(t.Context(), vm, "web", containervm.Machines); !errdefs.Is(err, errdefs.FailedPrecondition) {
		t.Errorf("as a machine: %v, want FailedPrecondition", err)
	}
	s.untouched(vm)
	if got, err := s.Rename(t.Context(), vm, "web", containervm.Containers); err != nil || got.Display != "web-"+shortID(vm) {
		t.Errorf("as a container: %+v, %v", got, err)
	}
	if after := s.reread(vm); after.Name != "web-"+shortID(vm) || after.Keys[guestinfo.NameKey] != "web" || after.PowerState != vm.PowerState {
		t.Errorf("the VM is called %q, its container %q, %s", after.Name, after.Keys[guestinfo.NameKey], after.PowerState)
	}
}

// aged gives a VM data of a version, as VIC or a program of ours that is newer would have stored it.
func (s site) aged(vm *containervm.VM, version int) *containervm.VM {
	s.Helper()
	like := slices.Min(slices.DeleteFunc(vchsim.DataVersions(), func(known int) bool { return known < version }))
	if err := s.Sim.Age(vm.Name, like); err != nil {
		s.Fatal(err)
	}
	if like != version {
		s.set(vm, map[string]string{guestinfo.PluginVersionKey: strconv.Itoa(version)})
	}
	return s.reread(vm)
}

func TestOnlyDataOfSomeVersionsSupportsRename(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for version := range 11 {
		name := "machine-" + strconv.Itoa(version)
		vm := s.aged(s.machine(name), version)
		s.Sim.ResetCounters()
		_, err := s.Rename(t.Context(), vm, "db-"+strconv.Itoa(version), containervm.Machines)
		if version >= 4 {
			if after := s.reread(vm); err != nil || after.Name != "db-"+strconv.Itoa(version)+"-"+shortID(vm) || len(changed(vm, after)) != 1 {
				t.Errorf("version %d: %v; the VM is called %q, its keys: %v", version, err, after.Name, changed(vm, after))
			}
			continue
		}
		if !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.HasPrefix(err.Error(), "container "+name+" does not support rename: ") {
			t.Errorf("version %d: %v (%s)", version, err, errdefs.KindOf(err))
			continue
		}
		for _, text := range []string{"version " + strconv.Itoa(version) + " stored", "version 4 is needed", "power it off", "vchctl migrate apply"} {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("version %d: %v, want %q in it", version, err, text)
			}
		}
		s.untouched(vm)
	}
}

func TestDataThatIsNotUnderstoodIsNotRenamed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	newerMark, err := identity.Mark{Cluster: vchsim.Cluster, Role: vchsim.Role, Machine: "machine-2", Format: identity.MarkFormat + 1}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ key, value, text string }{
		"machine-1": {guestinfo.PluginVersionKey, "11", "use a newer version of it"},
		"machine-2": {guestinfo.AnnotationKey(identity.MarkAnnotation), newerMark, "use a newer version of it"},
		"machine-3": {guestinfo.PluginVersionKey, "ten", "container machine-3 does not support rename"},
	} {
		vm := s.machine(name)
		s.set(vm, map[string]string{tc.key: tc.value})
		vm = s.reread(vm)
		s.Sim.ResetCounters()
		if _, err := s.Rename(t.Context(), vm, "db-1", containervm.Machines); !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s = %s: %v, want FailedPrecondition with %q", tc.key, tc.value, err, tc.text)
		}
		s.untouched(vm)
	}
}

func TestANameThatIsNoneIsRefusedBeforeAnyCall(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.machine("machine-1")
	s.Sim.ResetCounters()
	for _, name := range []string{"", "x", "-web", ".web", "_web", "we b", "web/1", "web\n", "wéb", "we|b", "web:1"} {
		if _, err := s.Rename(t.Context(), vm, name, containervm.Machines); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%q: %v, want InvalidArgument", name, err)
		}
	}
	if s.Sim.Requests() > 0 {
		t.Errorf("calls: %v", s.Sim.Calls())
	}
}

func TestANameThatIsTakenIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.PlantVM(&types.VirtualMachineConfigSpec{Name: "stranger", Files: &types.VirtualMachineFileInfo{VmPathName: "[" + vchsim.Datastore + "]"}})
	vm := s.machine("machine-1")
	s.aged(s.called("docker-0"), 0)
	for name, tc := range map[string]struct {
		give, convention, text string
		fault                  string
	}{
		"by a container":                      {give: "docker-1", text: "that is the name of VM \"docker-1-"},
		"by one of an old version":            {give: "docker-0", text: "that is the name of VM \"docker-0-"},
		"by a machine":                        {give: vchsim.TwinMachine, text: "that is the name of VM"},
		"by a VM of the display name":         {give: "stranger", convention: "{name}", text: "has the display name \"stranger\""},
		"by the appliance":                    {give: vchsim.DefaultVCH, convention: "{name}", text: "has the display name \"vch-1\""},
		"by one that vCenter alone knows of":  {give: "db-1", text: "DuplicateName", fault: "task:DuplicateName"},
		"by one that vCenter knows of sooner": {give: "db-1", text: "DuplicateName", fault: "DuplicateName"},
	} {
		if tc.fault != "" {
			if err := s.Sim.SetFault(vchsim.FaultRule{Method: "ReconfigVM_Task", Kind: tc.fault, Count: 1}); err != nil {
				t.Fatal(err)
			}
		}
		o := operatorOn(t, s.World, plugins.Shipped(), conventionOf(tc.convention))
		if _, err := o.Rename(t.Context(), vm, tc.give, containervm.Machines); !errdefs.Is(err, errdefs.AlreadyExists) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v (%s), want AlreadyExists with %q", name, err, errdefs.KindOf(err), tc.text)
		}
		if now := s.reread(vm); now.Name != vm.Name || now.ChangeVersion != vm.ChangeVersion {
			t.Errorf("%s: the VM is called %q, its keys: %v", name, now.Name, changed(vm, now))
		}
	}
}

func TestARenameMayBeRepeated(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.started("machine-1")
	if _, err := s.Rename(t.Context(), vm, "db-1", containervm.Machines); err != nil {
		t.Fatal(err)
	}
	done := s.reread(vm)
	s.Sim.ResetCounters()
	for _, given := range []*containervm.VM{vm, done} { // a stale read does no harm
		if got, err := s.Rename(t.Context(), given, "db-1", containervm.Machines); err != nil || got.Display != done.Name {
			t.Errorf("again = %+v, %v", got, err)
		}
	}
	s.untouched(done)
	// A display name that somebody changed by hand is mended, and nothing else.
	task, err := object.NewVirtualMachine(s.Admin, vm.Ref).Rename(t.Context(), "by-hand")
	if err == nil {
		err = task.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Rename(t.Context(), vm, "db-1", containervm.Machines); err != nil || got.Display != done.Name || got.VM.Name != "by-hand" || len(got.Links) > 0 {
		t.Errorf("mended = %+v, %v", got, err)
	}
	if now := s.reread(vm); now.Name != done.Name || len(changed(done, now)) > 0 {
		t.Errorf("the VM is called %q, its keys: %v", now.Name, changed(done, now))
	}
	// And back.
	if _, err := s.Rename(t.Context(), vm, "machine-1", containervm.Machines); err != nil || s.reread(vm).Name != vm.Name || len(changed(vm, s.reread(vm))) > 0 {
		t.Errorf("back: %v; the VM is called %q", err, s.reread(vm).Name)
	}
}

func TestAVCHThatIsBeingUpgradedPostponesRenamesAndMigrations(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.aged(s.machine("machine-1"), 5)
	s.Sim.ApplianceSetUpdateInProgress(true)
	s.Sim.ResetCounters()
	_, renameErr := s.Rename(t.Context(), vm, "db-1", containervm.Machines)
	_, applyErr := s.ApplyMigration(t.Context(), vm, containervm.Machines, func(*containervm.VM, containervm.MigrationPlan) error { return nil })
	for what, err := range map[string]error{"rename": renameErr, "apply": applyErr} {
		if !errdefs.Is(err, errdefs.Unavailable) || !strings.Contains(err.Error(), "UpdateInProgress") {
			t.Errorf("%s = %v, want Unavailable that says why", what, err)
		}
	}
	s.untouched(vm)
}

func TestARenameStaysWithinTheBudget(t *testing.T) {
	t.Parallel()
	for _, others := range []int{0, 2000} {
		s := newSiteOf(t, vchsim.Options{OtherVMs: others})
		vm := s.started("machine-1")
		o := operatorOn(t, s.World, plugins.Shipped(), nil)
		s.Sim.ResetCounters()
		if _, err := o.Rename(t.Context(), vm, "db-1", containervm.Machines); err != nil {
			t.Fatal(err)
		}
		calls := s.Sim.Calls()
		t.Logf("with %d other VMs: %v", others, calls)
		delete(calls, "WaitForUpdatesEx")                                                              // of the task
		for _, method := range []string{"CreatePropertyCollector", "CreateListView", "CreateFilter"} { // once for a session
			delete(calls, method)
		}
		want := map[string]int{"ModifyListView": 1, "RetrievePropertiesEx": 3, "ReconfigVM_Task": 1}
		if diff := cmp.Diff(want, calls); diff != "" {
			t.Errorf("calls with %d other VMs (-want +got):\n%s", others, diff)
		}
	}
}
