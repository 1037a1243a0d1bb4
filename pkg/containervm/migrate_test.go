// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm_test

import (
	"errors"
	"maps"
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
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration/plugins"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

const createTimeKey = "guestinfo.vice..createtime"

func markKey() string { return guestinfo.AnnotationKey(identity.MarkAnnotation) }

func noBackup(*containervm.VM, containervm.MigrationPlan) error { return nil }

// keysOf returns the keys of differences.
func keysOf(differences []migration.Difference) []string {
	var out []string
	for _, d := range differences {
		out = append(out, d.Key)
	}
	return out
}

func TestAVMThatIsOffIsBroughtUpToDateAtOnce(t *testing.T) {
	t.Parallel()
	machine, container := []string{markKey()}, []string{guestinfo.NameKey, createTimeKey, guestinfo.PluginVersionKey}
	want := map[int][]string{
		0: append(machine, container...), 1: append(machine, container...),
		3: append(machine, container[1:]...), 5: append(machine, container[1:]...), 8: append(machine, container[1:]...),
		9: machine, 10: nil,
	}
	s := newSite(t)
	for _, version := range vchsim.DataVersions() {
		vm := s.aged(s.machine("machine-"+strconv.Itoa(version)), version)
		read, rest := vm.Keys, s.rest(vm)
		var backups int
		s.Sim.ResetCounters()
		plan, err := s.ApplyMigration(t.Context(), vm, containervm.Machines, func(seen *containervm.VM, plan containervm.MigrationPlan) error {
			backups++
			if diff := cmp.Diff(vm.Stored, seen.Stored); diff != "" || len(plan.Changes) == 0 || s.Sim.Calls()["ReconfigVM_Task"] > 0 {
				t.Errorf("version %d: backup of %v after %v (-before +seen):\n%s", version, plan, s.Sim.Calls(), diff)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[version], keysOf(plan.Changes)); diff != "" || len(plan.Later) > 0 || plan.Why != "" {
			t.Errorf("version %d: later %v, %q; changes (-want +got):\n%s", version, plan.Later, plan.Why, diff)
		}
		if writes := s.Sim.Calls()["ReconfigVM_Task"]; writes != min(1, len(want[version])) || backups != writes || len(want[version]) == 0 && s.Sim.Requests() > 0 {
			t.Errorf("version %d: %d backups, calls: %v", version, backups, s.Sim.Calls())
		}
		// What is stored now is what was read before.
		after := s.reread(vm)
		if diff := cmp.Diff(read, after.Stored); diff != "" || after.Data.Migrated() {
			t.Errorf("version %d: stored (-read before +stored now):\n%s", version, diff)
		}
		if wanted := max(9, version); after.Data.Container.From != wanted || after.Data.Machine.From != identity.MarkFormat {
			t.Errorf("version %d: version %d, mark's %d; want %d and %d", version, after.Data.Container.From, after.Data.Machine.From, wanted, identity.MarkFormat)
		}
		if diff := cmp.Diff(rest, s.rest(vm)); diff != "" {
			t.Errorf("version %d: the rest of the VM and its files (-before +after):\n%s", version, diff)
		}
		// And the VM is as good as new.
		s.Sim.ResetCounters()
		if plan, err := s.ApplyMigration(t.Context(), after, containervm.Machines, noBackup); err != nil || len(plan.Changes) > 0 || s.Sim.Requests() > 0 {
			t.Errorf("version %d: again: %v, %v, calls %v; want nothing", version, plan, err, s.Sim.Calls())
		}
		if _, err := s.Rename(t.Context(), after, "db-"+strconv.Itoa(version), containervm.Machines); err != nil {
			t.Error(err)
		}
		if _, err := s.Start(t.Context(), s.reread(vm), time.Unix(1654867608, 0)); err != nil {
			t.Error(err)
		}
	}
}

func TestAVMThatIsNotOffGetsWhatTheGuestCannotSee(t *testing.T) {
	t.Parallel()
	for _, suspended := range []bool{false, true} {
		s := newSite(t)
		vm := s.aged(s.started("machine-1"), 1)
		if suspended {
			task, err := object.NewVirtualMachine(s.Admin, vm.Ref).Suspend(t.Context())
			if err == nil {
				err = task.Wait(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			vm = s.reread(vm)
		}
		plan, err := s.ApplyMigration(t.Context(), vm, containervm.Machines, noBackup)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{markKey()}, keysOf(plan.Changes)); diff != "" {
			t.Errorf("changes (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{guestinfo.NameKey, createTimeKey, guestinfo.PluginVersionKey}, keysOf(plan.Later)); diff != "" || !strings.Contains(plan.Why, string(vm.PowerState)+"; power it off") {
			t.Errorf("%q; later (-want +got):\n%s", plan.Why, diff)
		}
		after := s.reread(vm)
		if got := changed(vm, after); len(got) != 1 || got[markKey()] == "" || after.Data.Container.From != 1 || after.Data.Machine.From != identity.MarkFormat {
			t.Errorf("%v changed; version %d, mark's %d", got, after.Data.Container.From, after.Data.Machine.From)
		}
		// What remains needs the VM to be off.
		s.Sim.ResetCounters()
		if plan, err := s.ApplyMigration(t.Context(), after, containervm.Machines, noBackup); err != nil || len(plan.Changes) > 0 || len(plan.Later) != 3 || s.Sim.Requests() > 0 {
			t.Errorf("again: %v, %v, calls %v", plan, err, s.Sim.Calls())
		}
	}
}

func TestAContainerThatIsNoMachineIsMigratedOnlyWhereThatIsMeant(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.aged(s.called("docker-1"), 0)
	s.Sim.ResetCounters()
	if _, err := s.ApplyMigration(t.Context(), vm, containervm.Machines, noBackup); !errdefs.Is(err, errdefs.FailedPrecondition) || s.Sim.Requests() > 0 {
		t.Errorf("as a machine: %v, calls %v", err, s.Sim.Calls())
	}
	if plan, err := s.ApplyMigration(t.Context(), vm, containervm.Containers, noBackup); err != nil || len(plan.Changes) != 3 {
		t.Errorf("as a container: %v, %v", plan, err)
	}
	if diff := cmp.Diff(vm.Keys, s.reread(vm).Stored); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

func TestWithoutABackupNothingIsWritten(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.aged(s.machine("machine-1"), 1)
	s.Sim.ResetCounters()
	full := errors.New("the disk is full")
	if _, err := s.ApplyMigration(t.Context(), vm, containervm.Machines, func(*containervm.VM, containervm.MigrationPlan) error { return full }); !errors.Is(err, full) {
		t.Errorf("apply = %v", err)
	}
	s.untouched(vm)
}

func TestAMigrationThatMeetsAnotherChangePlansAnew(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for name, tc := range map[string]struct {
		meanwhile func(s site, vm *containervm.VM)
		backups   int
		stored    int // version, afterwards
		kind      errdefs.Kind
	}{
		"a key of theirs": {func(s site, vm *containervm.VM) { s.set(vm, map[string]string{"theirs": "1"}) }, 2, 9, ""},
		"its start": {func(s site, vm *containervm.VM) {
			if _, err := s.other().Start(s.Context(), vm, time.Unix(1654867608, 0)); err != nil {
				s.Error(err)
			}
		}, 2, 1, ""}, // the mark alone
		"the same migration": {func(s site, vm *containervm.VM) {
			if _, err := s.other().ApplyMigration(s.Context(), vm, containervm.Machines, noBackup); err != nil {
				s.Error(err)
			}
		}, 1, 9, ""},
		"a newer one":      {func(s site, vm *containervm.VM) { s.set(vm, map[string]string{guestinfo.PluginVersionKey: "12"}) }, 1, 12, errdefs.FailedPrecondition},
		"no mark any more": {func(s site, vm *containervm.VM) { s.set(vm, map[string]string{markKey(): ""}) }, 1, 1, errdefs.FailedPrecondition},
		"others for ever": {func(s site, _ *containervm.VM) {
			if err := s.Sim.SetFault(vchsim.FaultRule{Method: "ReconfigVM_Task", Kind: "task:ConcurrentAccess"}); err != nil {
				s.Error(err)
			}
		}, 6, 1, errdefs.Aborted},
	} {
		vm := s.aged(s.machine("machine-"+strings.ReplaceAll(name, " ", "-")), 1)
		var seen []map[string]string
		stop := s.Sim.OnCall("ReconfigVM_Task", func() { tc.meanwhile(s, vm) })
		_, err := s.ApplyMigration(t.Context(), vm, containervm.Machines, func(vm *containervm.VM, _ containervm.MigrationPlan) error {
			seen = append(seen, vm.Stored)
			return nil
		})
		stop()
		s.Sim.ClearFaults()
		if errdefs.KindOf(err) != tc.kind {
			t.Errorf("%s: %v (%s), want %s", name, err, errdefs.KindOf(err), tc.kind)
		}
		after := s.reread(vm)
		if len(seen) != tc.backups || after.Data.Container.From != tc.stored {
			t.Errorf("%s: %d backups, version %d stored; want %d and %d", name, len(seen), after.Data.Container.From, tc.backups, tc.stored)
		}
		if name == "a key of theirs" && (after.Stored["theirs"] != "1" || seen[1]["theirs"] != "1") {
			t.Error("what somebody else wrote is lost, or in no backup")
		}
	}
}

// pluginSet has the name's plugin of VIC, and one more that does what step says.
func pluginSet(t *testing.T, target migration.Target, version int, step func(map[string]string) (migration.Change, error), touches ...string) *migration.Set {
	t.Helper()
	var list []migration.Plugin
	for _, p := range plugins.Shipped().Plugins(migration.Container) {
		if p.Version == 2 {
			list = append(list, p)
		}
	}
	for _, p := range plugins.Shipped().Plugins(migration.Machine) {
		if target != migration.Machine || p.Version < version {
			list = append(list, p)
		}
	}
	return migration.Must(migration.New(append(list, migration.Plugin{Version: version, Target: target, Name: "test", About: "a test", Touches: touches, Step: step})...))
}

func TestAPluginThatFailsChangesNothingAndStopsNoMachine(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.aged(s.machine("machine-1"), 1)
	broken := errdefs.New(errdefs.Internal, "this plugin is broken")
	set := pluginSet(t, migration.Container, 9, func(map[string]string) (migration.Change, error) { return migration.Change{}, broken }, createTimeKey)
	o := operatorOn(t, s.World, set, nil)
	s.Sim.ResetCounters()
	all, err := o.ReadWhole(t.Context(), vm.Ref)
	if err != nil {
		t.Fatal(err)
	}
	read := all[vm.Ref]
	if !errors.Is(read.MigrationError, broken) || read.Data.Container.To != 2 || read.Keys[guestinfo.NameKey] != "machine-1" || read.Mark() == nil {
		t.Errorf("read as %+v of version %d: %v", read.Keys, read.Data.Container.To, read.MigrationError)
	}
	if plan, err := containervm.PlanMigration(read); !errors.Is(err, broken) || len(plan.Changes)+len(plan.Later) > 0 || !strings.Contains(err.Error(), vm.Name) {
		t.Errorf("plan = %v, %v", plan, err)
	}
	if plan, err := o.ApplyMigration(t.Context(), read, containervm.Machines, noBackup); !errors.Is(err, broken) || len(plan.Changes) > 0 {
		t.Errorf("apply = %v, %v", plan, err)
	}
	// One that is read in vain the second time only.
	if _, err := o.ApplyMigration(t.Context(), vm, containervm.Machines, noBackup); !errors.Is(err, broken) {
		t.Errorf("apply from an older read = %v", err)
	}
	s.untouched(vm)
	if _, err := o.Start(t.Context(), read, time.Unix(1654867608, 0)); err != nil {
		t.Error(err)
	}
	if err := o.Stop(t.Context(), s.reread(vm), "", time.Second); err != nil {
		t.Error(err)
	}
	if err := o.Remove(t.Context(), s.reread(vm)); err != nil {
		t.Error(err)
	}
}

func TestEmptyValuesAndDeletionsAreStoredAsVICStoresThem(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.machine("machine-1")
	s.set(vm, map[string]string{"old/one": "1", "old/two": "2"})
	set := pluginSet(t, migration.Machine, 3, func(map[string]string) (migration.Change, error) {
		return migration.Change{Set: map[string]string{"old/one": "", "old/three": "", "old/four": "4"}, Delete: []string{"old/two", "old/five"}}, nil
	}, "old/*")
	o := operatorOn(t, s.World, set, nil)
	all, err := o.ReadWhole(t.Context(), vm.Ref)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := o.ApplyMigration(t.Context(), all[vm.Ref], containervm.Machines, noBackup)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{markKey(), "old/four", "old/one", "old/three", "old/two"}, keysOf(plan.Changes)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	raw := vch.Keys(s.VMs()[vm.Ref].Config.ExtraConfig)
	maps.DeleteFunc(raw, func(key, _ string) bool { return !strings.HasPrefix(key, "old/") })
	if diff := cmp.Diff(map[string]string{"old/one": "<nil>", "old/three": "<nil>", "old/four": "4"}, raw); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	all, err = o.ReadWhole(t.Context(), vm.Ref)
	if err != nil || all[vm.Ref].Data.Migrated() {
		t.Errorf("the VM is still to be migrated (%v): %+v", err, all[vm.Ref].Data.Machine)
	}
}

func TestAMachinePartThatTheGuestSeesWaitsToo(t *testing.T) {
	t.Parallel()
	mark, err := identity.Mark{Cluster: "c", Role: "r", Machine: "m", Format: 2}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	set := func(key string) *migration.Set {
		return pluginSet(t, migration.Machine, 3, func(map[string]string) (migration.Change, error) {
			return migration.Change{Set: map[string]string{key: "x"}}, nil
		}, "*", "*/*", "*/*/*")
	}
	old := map[string]string{guestinfo.CommonIDKey: "c1", guestinfo.OldNameKey: "n", guestinfo.PluginVersionKey: "1", markKey(): mark}
	today := map[string]string{guestinfo.CommonIDKey: "c1", guestinfo.NameKey: "n", guestinfo.PluginVersionKey: "10", markKey(): mark}
	on, off := types.VirtualMachinePowerStatePoweredOn, types.VirtualMachinePowerStatePoweredOff
	container := []string{guestinfo.NameKey, guestinfo.PluginVersionKey}
	for name, tc := range map[string]struct {
		stored      map[string]string
		key         string
		power       types.VirtualMachinePowerState
		want, later []string
	}{
		"off":                             {old, "hidden", off, []string{markKey(), guestinfo.NameKey, guestinfo.PluginVersionKey, "hidden"}, nil},
		"on, hidden":                      {old, "hidden", on, []string{markKey(), "hidden"}, container},
		"on, visible":                     {old, "guestinfo.vice./x", on, nil, []string{markKey(), guestinfo.NameKey, guestinfo.PluginVersionKey, "guestinfo.vice./x"}},
		"on, in both parts":               {old, guestinfo.NameKey, on, nil, []string{markKey(), guestinfo.NameKey, guestinfo.PluginVersionKey}},
		"on, the container is up to date": {today, guestinfo.NameKey, on, []string{markKey(), guestinfo.NameKey}, nil},
		"on, only visible ones to do":     {today, "guestinfo.vice./x", on, nil, []string{markKey(), "guestinfo.vice./x"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := set(tc.key).MigrateVM(tc.stored)
			if err != nil {
				t.Fatal(err)
			}
			plan, err := containervm.PlanMigration(&containervm.VM{Stored: tc.stored, Keys: data.Keys, Data: data, PowerState: tc.power})
			if err != nil {
				t.Fatal(err)
			}
			sorted := cmp.Transformer("set", func(keys []string) map[string]bool {
				out := map[string]bool{}
				for _, k := range keys {
					out[k] = true
				}
				return out
			})
			if diff := cmp.Diff([][]string{tc.want, tc.later}, [][]string{keysOf(plan.Changes), keysOf(plan.Later)}, sorted); diff != "" || (plan.Why == "") != (len(tc.later) == 0) {
				t.Errorf("%q; changes and later (-want +got):\n%s", plan.Why, diff)
			}
		})
	}
}

func TestNewerDataIsNotPlanned(t *testing.T) {
	t.Parallel()
	stored := map[string]string{guestinfo.CommonIDKey: "c1", guestinfo.PluginVersionKey: "11"}
	data, err := plugins.Shipped().MigrateVM(stored)
	if err != nil {
		t.Fatal(err)
	}
	if plan, err := containervm.PlanMigration(&containervm.VM{Name: "vm", Stored: stored, Keys: data.Keys, Data: data}); !errdefs.Is(err, errdefs.FailedPrecondition) || len(plan.Changes) > 0 {
		t.Errorf("plan = %v, %v; want FailedPrecondition", plan, err)
	}
}

func TestAMachineThatANewerProgramMigratedMeanwhileIsNotChangedAnyMore(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.machine("machine-1")
	stop := s.Sim.OnCall("ReconfigVM_Task", func() { s.set(vm, map[string]string{guestinfo.PluginVersionKey: "12"}) })
	defer stop()
	if err := s.Remove(t.Context(), vm); !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), "version 12") {
		t.Errorf("remove = %v (%s), want FailedPrecondition that says why", err, errdefs.KindOf(err))
	}
	if len(s.reread(vm).Disks) != 1 {
		t.Error("its disks were taken all the same")
	}
}
