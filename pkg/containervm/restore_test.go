// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func textOf(s string) *string { return &s }

func TestWhatIsRestored(t *testing.T) {
	t.Parallel()
	const visible, hidden = "guestinfo.vice..createtime", "common/name"
	changes := []migration.Difference{{Key: hidden, New: textOf("web")}, {Key: visible, Old: textOf("1"), New: textOf("1000")}}
	for name, tc := range map[string]struct {
		stored map[string]string
		power  types.VirtualMachinePowerState
		want   []migration.Difference
		err    string
	}{
		"all of it": {
			stored: map[string]string{hidden: "web", visible: "1000"},
			want:   []migration.Difference{{Key: hidden, Old: textOf("web")}, {Key: visible, Old: textOf("1000"), New: textOf("1")}},
		},
		"nothing any more":         {stored: map[string]string{visible: "1"}},
		"nothing, on a running VM": {stored: map[string]string{visible: "1"}, power: types.VirtualMachinePowerStatePoweredOn},
		"what is left":             {stored: map[string]string{hidden: "web", visible: "1"}, want: []migration.Difference{{Key: hidden, Old: textOf("web")}}},
		"a hidden key, while it runs": {
			stored: map[string]string{hidden: "web", visible: "1"}, power: types.VirtualMachinePowerStatePoweredOn,
			want: []migration.Difference{{Key: hidden, Old: textOf("web")}},
		},
		"a visible key, while it runs":   {stored: map[string]string{hidden: "web", visible: "1000"}, power: types.VirtualMachinePowerStatePoweredOn, err: `it is poweredOn, and these keys, which its guest sees, would not last: "guestinfo.vice..createtime"; power it off first`},
		"a visible key, while suspended": {stored: map[string]string{visible: "1000"}, power: types.VirtualMachinePowerStateSuspended, err: "it is suspended"},
		"a key that was changed":         {stored: map[string]string{hidden: "other", visible: "1000"}, err: `keys were changed after the migration: "common/name"`},
		"a key that is empty":            {stored: map[string]string{hidden: "", visible: "1000"}, err: `"common/name"`},
		"a key that is gone":             {stored: map[string]string{hidden: "web"}, err: `keys were changed after the migration: "guestinfo.vice..createtime"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.power == "" {
				tc.power = types.VirtualMachinePowerStatePoweredOff
			}
			got, err := containervm.PlanRestore(&containervm.VM{Name: "web", Stored: tc.stored, PowerState: tc.power}, changes)
			if tc.err == "" && err != nil || tc.err != "" && (!errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v (%s), want %q", err, errdefs.KindOf(err), tc.err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// aged is a site with a machine of data version 0 that was migrated: what was stored before, and what was written.
func aged(t *testing.T) (s site, r containervm.Request, before map[string]string, written []migration.Difference) {
	t.Helper()
	s = newSite(t)
	r = s.request("machine-1", vchsim.ImageDisk)
	if err := s.create(r); err != nil {
		t.Fatal(err)
	}
	if err := s.Sim.Age(s.find(r).Name, 0); err != nil {
		t.Fatal(err)
	}
	vm := s.find(r)
	plan, err := s.ApplyMigration(t.Context(), vm, containervm.Machines, func(*containervm.VM, containervm.MigrationPlan) error { return nil })
	if err != nil || len(plan.Changes) == 0 {
		t.Fatalf("%v, %v", plan, err)
	}
	return s, r, vm.Stored, plan.Changes
}

func TestAMigrationIsUndoneWholeWhateverInterferes(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]string{"nothing": "", "a lost answer": "ResponseLost", "another change": "task:ConcurrentAccess"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r, before, written := aged(t)
			if fault != "" {
				if err := s.Sim.SetFault(vchsim.FaultRule{Method: "ReconfigVM_Task", Kind: fault, NthCall: 1}); err != nil {
					t.Fatal(err)
				}
			}
			vm := s.find(r)
			_, err := s.RestoreMigration(t.Context(), vm, containervm.Machines, written)
			if err != nil { // it is said that it is wholly undone or not at all, and may be repeated
				_, err = s.RestoreMigration(t.Context(), vm, containervm.Machines, written)
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, s.find(r).Stored); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if again, err := s.RestoreMigration(t.Context(), s.find(r), containervm.Machines, written); err != nil || len(again) > 0 {
				t.Errorf("a second time: %v, %v", again, err)
			}
		})
	}
}

func TestWhoComesFirstKeepsWhatHeChanged(t *testing.T) {
	t.Parallel()
	s, r, _, written := aged(t)
	vm := s.find(r)
	stop := s.Sim.OnCall("ReconfigVM_Task", func() {
		if err := s.Sim.SetKeys(vm.Name, map[string]string{"common/name": "somebody's"}); err != nil {
			t.Error(err)
		}
	})
	defer stop()
	_, err := s.RestoreMigration(t.Context(), vm, containervm.Machines, written)
	if !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), `"common/name"`) {
		t.Errorf("restore = %v (%s)", err, errdefs.KindOf(err))
	}
	now := s.find(r).Stored
	if now["common/name"] != "somebody's" || now["guestinfo.vice./version/PluginVersion"] != "9" {
		t.Errorf("the VM has %v", now)
	}
}

func TestOnlyWhatIsProvenIsRestored(t *testing.T) {
	t.Parallel()
	s, r, _, written := aged(t)
	before := s.find(r)
	s.Sim.ApplianceSetUpdateInProgress(true)
	if _, err := s.RestoreMigration(t.Context(), before, containervm.Machines, written); !errdefs.Is(err, errdefs.Unavailable) {
		t.Errorf("while the VCH is updated: %v (%s)", err, errdefs.KindOf(err))
	}
	s.Sim.ApplianceSetUpdateInProgress(false)
	other := *before
	other.UUID = s.VCH()
	if _, err := s.RestoreMigration(t.Context(), &other, containervm.Machines, written); !errdefs.Is(err, errdefs.FailedPrecondition) {
		t.Errorf("another VM: %v (%s)", err, errdefs.KindOf(err))
	}
	if diff := cmp.Diff(before.Stored, s.find(r).Stored); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
