// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration/plugins"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// other returns another process on the same VCH.
func (s site) other() *containervm.Operator {
	s.Helper()
	t, ok := s.TB.(*testing.T)
	if !ok {
		s.Fatal("no *testing.T")
	}
	return operatorOn(t, s.World, plugins.Shipped(), nil)
}

// wants fails the test unless the VM has a name, wholly.
func (s site) wants(vm *containervm.VM, name string) {
	s.Helper()
	now := s.reread(vm)
	if got, display := now.Keys[guestinfo.NameKey], name+"-"+shortID(vm); got != name || now.Name != display {
		s.Errorf("container %q in VM %q, want %q in %q", got, now.Name, name, display)
	}
	if entry := now.Keys[guestinfo.AliasesKey(vchsim.ExternalNetwork)]; entry != "" && entry != ":"+name {
		s.Errorf("container %s has the alias %q", name, entry)
	}
}

// aliased makes a machine that has its name as an alias.
func (s site) aliased(name string) *containervm.VM {
	s.Helper()
	vm := s.machine(name)
	s.set(vm, aliasesOf(vchsim.ExternalNetwork, ":"+name))
	return s.reread(vm)
}

func TestARenameMeetsAChangeBySomebodyElseWithAFreshRead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for name, tc := range map[string]struct {
		meanwhile func(s site, vm *containervm.VM)
		kind      errdefs.Kind
		text      string
	}{
		"a key of theirs": {func(s site, vm *containervm.VM) { s.set(vm, map[string]string{"theirs": "1"}) }, "", ""},
		"another alias": {func(s site, vm *containervm.VM) {
			s.set(vm, aliasesOf(vchsim.ExternalNetwork, ":"+vm.Keys[guestinfo.NameKey]))
			s.set(vm, map[string]string{"theirs": "1"})
		}, "", ""},
		"no mark any more": {func(s site, vm *containervm.VM) {
			s.set(vm, map[string]string{guestinfo.AnnotationKey(identity.MarkAnnotation): ""})
		}, errdefs.FailedPrecondition, "no full mark"},
		"older data": {func(s site, vm *containervm.VM) {
			s.set(vm, map[string]string{guestinfo.PluginVersionKey: "3"})
		}, errdefs.FailedPrecondition, "container machine-older-data does not support rename"},
		"newer data": {func(s site, vm *containervm.VM) {
			s.set(vm, map[string]string{guestinfo.PluginVersionKey: "99"})
		}, errdefs.FailedPrecondition, "newer version"},
		"an update of the VCH": {func(s site, vm *containervm.VM) {
			s.Sim.ApplianceSetUpdateInProgress(true)
			s.set(vm, map[string]string{"theirs": "1"})
		}, errdefs.Unavailable, "UpdateInProgress"},
		"the same rename": {func(s site, vm *containervm.VM) {
			if _, err := s.other().Rename(s.Context(), vm, "new-machine-the-same-rename", containervm.Machines); err != nil {
				s.Error(err)
			}
		}, "", ""},
		"another rename": {func(s site, vm *containervm.VM) {
			if _, err := s.other().Rename(s.Context(), vm, "web", containervm.Machines); err != nil {
				s.Error(err)
			}
		}, "", ""},
		"its start": {func(s site, vm *containervm.VM) {
			if _, err := s.other().Start(s.Context(), vm, time.Unix(1654867608, 0)); err != nil {
				s.Error(err)
			}
		}, "", ""},
		"its removal": {func(s site, vm *containervm.VM) {
			if err := s.other().Remove(s.Context(), vm); err != nil {
				s.Error(err)
			}
		}, errdefs.Aborted, "rename VM \"machine-its-removal-"},
		"a move": {func(s site, vm *containervm.VM) { s.moved(vm); s.set(vm, map[string]string{"theirs": "1"}) }, errdefs.FailedPrecondition, "stands outside"},
	} {
		machine := "machine-" + strings.ReplaceAll(name, " ", "-")
		vm := s.aliased(machine)
		stop := s.Sim.OnCall("ReconfigVM_Task", func() { tc.meanwhile(s, vm) })
		_, err := s.Rename(t.Context(), vm, "new-"+machine, containervm.Machines)
		stop()
		s.Sim.ApplianceSetUpdateInProgress(false)
		if errdefs.KindOf(err) != tc.kind || err != nil && !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v (%s), want %s with %q", name, err, errdefs.KindOf(err), tc.kind, tc.text)
		}
		switch {
		case name == "its removal":
			if left := s.Leftovers(); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		case err != nil:
			s.wants(vm, machine)
		default:
			s.wants(vm, "new-"+machine)
		}
		if strings.Contains(name, "theirs") && s.reread(vm).Keys["theirs"] != "1" {
			t.Error("what somebody else wrote is lost")
		}
	}
}

func TestARenameGivesUpWhenOthersKeepChangingTheVM(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.aliased("machine-1")
	for _, kind := range []string{"ConcurrentAccess", "task:ConcurrentAccess", "TaskInProgress"} {
		if err := s.Sim.SetFault(vchsim.FaultRule{Method: "ReconfigVM_Task", Kind: kind}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Rename(t.Context(), vm, "db-1", containervm.Machines); !errdefs.Is(err, errdefs.Aborted) {
			t.Errorf("with %s for ever: %v (%s), want Aborted", kind, err, errdefs.KindOf(err))
		}
		s.Sim.ClearFaults()
		s.wants(vm, "machine-1")
	}
	if _, err := s.Rename(t.Context(), vm, "db-1", containervm.Machines); err != nil {
		t.Error(err)
	}
}

func TestOfTwoRenamesToOneNameTheLaterTakesItsChangeBack(t *testing.T) {
	t.Parallel()
	for name, convention := range map[string]string{"by the hidden name": "", "by the display name": "{name}"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			first, second := s.aliased("machine-1"), s.aliased("machine-2")
			later := operatorOn(t, s.World, plugins.Shipped(), conventionOf(convention))
			if convention != "" { // as if they had been made so
				if _, err := later.Rename(t.Context(), second, "machine-2", containervm.Machines); err != nil {
					t.Fatal(err)
				}
				second = s.reread(second)
			}
			// Both have looked, and nobody had the name.
			stop := s.Sim.OnCall("ReconfigVM_Task", func() {
				if _, err := s.Rename(t.Context(), first, "db-1", containervm.Machines); err != nil {
					t.Error(err)
				}
				if convention != "" {
					s.byHand(first, "db-1")
				}
			})
			_, err := later.Rename(t.Context(), second, "db-1", containervm.Machines)
			stop()
			if !errdefs.Is(err, errdefs.AlreadyExists) {
				t.Errorf("the later = %v (%s), want AlreadyExists", err, errdefs.KindOf(err))
			}
			if now := s.reread(second); now.Name != second.Name || len(changed(second, now)) > 0 {
				t.Errorf("the later's VM is called %q, was %q; its keys: %v", now.Name, second.Name, changed(second, now))
			}
			if now := s.reread(first); now.Keys[guestinfo.NameKey] != "db-1" {
				t.Errorf("the first's container is called %q", now.Keys[guestinfo.NameKey])
			}
		})
	}
}

// byHand changes a display name as a person would.
func (s site) byHand(vm *containervm.VM, name string) {
	s.Helper()
	task, err := object.NewVirtualMachine(s.Admin, vm.Ref).Rename(s.Context(), name)
	if err == nil {
		err = task.Wait(s.Context())
	}
	if err != nil {
		s.Error(err)
	}
}

func TestARenameThatCannotBeTakenBackSaysSo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first, second := s.aliased("machine-1"), s.aliased("machine-2")
	later := s.other()
	stop := s.Sim.OnCall("ReconfigVM_Task", func() {
		if _, err := s.Rename(t.Context(), first, "db-1", containervm.Machines); err != nil {
			t.Error(err)
		}
		// Of all reconfigures the second one from now takes back.
		if err := s.Sim.SetFault(vchsim.FaultRule{Method: "ReconfigVM_Task", Kind: "NoPermission", NthCall: 2}); err != nil {
			t.Error(err)
		}
	})
	_, err := later.Rename(t.Context(), second, "db-1", containervm.Machines)
	stop()
	if !errdefs.Is(err, errdefs.AlreadyExists) || !strings.Contains(err.Error(), "could not be taken back") || !strings.Contains(err.Error(), "NoPermission") {
		t.Errorf("rename = %v (%s)", err, errdefs.KindOf(err))
	}
	s.wants(second, "db-1")
	// Repeating it tells of the other one, and another name helps.
	if _, err := later.Rename(t.Context(), second, "db-1", containervm.Machines); !errdefs.Is(err, errdefs.AlreadyExists) {
		t.Errorf("again = %v, want AlreadyExists", err)
	}
	if _, err := later.Rename(t.Context(), second, "db-2", containervm.Machines); err != nil {
		t.Error(err)
	}
	s.wants(second, "db-2")
	s.wants(first, "db-1")
}

func TestManyRenamesToOneNameAtOnceNeverEndWithTwo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vms := []*containervm.VM{s.aliased("machine-1"), s.aliased("machine-2"), s.aliased("machine-3")}
	operators := []*containervm.Operator{s.other(), s.other(), s.other()}
	succeeded := 0
	for round := range 5 {
		name := fmt.Sprintf("db-%d", round)
		errs := make([]error, len(vms))
		var all sync.WaitGroup
		for i, vm := range vms {
			all.Go(func() { _, errs[i] = operators[i].Rename(t.Context(), vm, name, containervm.Machines) })
		}
		all.Wait()
		winners := 0
		for i, vm := range vms {
			now := s.reread(vm)
			switch err := errs[i]; {
			case err == nil:
				winners++
				s.wants(vm, name)
			case !errdefs.Is(err, errdefs.AlreadyExists):
				t.Errorf("round %d: %v (%s), want AlreadyExists", round, err, errdefs.KindOf(err))
				fallthrough
			default:
				s.wants(vm, vm.Keys[guestinfo.NameKey])
			}
			vms[i] = now
		}
		if winners > 1 {
			t.Errorf("round %d: %d VMs are called %s", round, winners, name)
		}
		succeeded += winners
	}
	t.Logf("%d of 5 rounds had a winner", succeeded)
}

func TestTwoRenamesOfOneVMAtOnceLeaveItWithOneOfTheNames(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	vm := s.aliased("machine-1")
	operators := []*containervm.Operator{s.other(), s.other()}
	for round := range 5 {
		names := []string{fmt.Sprintf("db-%d", round), fmt.Sprintf("web-%d", round)}
		errs := make([]error, 2)
		var all sync.WaitGroup
		for i, name := range names {
			all.Go(func() { _, errs[i] = operators[i].Rename(t.Context(), vm, name, containervm.Machines) })
		}
		all.Wait()
		if errs[0] != nil || errs[1] != nil {
			t.Errorf("round %d: %v, %v", round, errs[0], errs[1])
		}
		now := s.reread(vm).Keys[guestinfo.NameKey]
		if now != names[0] && now != names[1] {
			t.Errorf("round %d: the container is called %q", round, now)
		}
		s.wants(vm, now)
	}
}

func TestWhoeverRenamedTheVMAgainKeepsHisName(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first, second := s.aliased("machine-1"), s.aliased("machine-2")
	later, third := s.other(), s.other()
	stop := s.Sim.OnCall("ReconfigVM_Task", func() {
		if _, err := s.Rename(t.Context(), first, "db-1", containervm.Machines); err != nil {
			t.Error(err)
		}
		// What is between the change and its taking back: list, read, and then this.
		s.Sim.OnCall("ReconfigVM_Task", func() {
			if _, err := third.Rename(t.Context(), second, "mine", containervm.Machines); err != nil {
				t.Error(err)
			}
		})
	})
	_, err := later.Rename(t.Context(), second, "db-1", containervm.Machines)
	stop()
	if !errdefs.Is(err, errdefs.AlreadyExists) {
		t.Errorf("rename = %v (%s), want AlreadyExists", err, errdefs.KindOf(err))
	}
	s.wants(second, "mine")
}
