// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	machinev1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"github.com/google/go-cmp/cmp"
	"github.com/onsi/gomega"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// TestAnUpgradeKeepsOldMachines upgrades an installation whose machines, and whose VCH, were made
// by older versions.
func TestAnUpgradeKeepsOldMachines(t *testing.T) {
	t.Parallel()
	inBothModes(t, upgradeKeeps)
}

// today stands for the data version of a machine that nobody made old.
const today = -1

// oldVersions are the data versions of the machines that are upgraded, in the order of their names.
func oldVersions() []int { return []int{0, 1, 3, 5, 8, 9, today} }

// renameVersion is the first data version of VMs that can be renamed.
const renameVersion = 4

func upgradeKeeps(t *testing.T, m mode) {
	const name = "upgraded-deployment"
	orphans := []string{"machine-left-behind", "machine-left-alone"}
	// On vSAN the directories of VMs have names that nobody chose.
	args := []string{"--vch-data-version=4", fmt.Sprintf("--vsan=%v", m.sidecar)}
	u := &upgrade{Stack: install(t, m.namespace("upgrade"), m.options(stack.Options{VCHSimArgs: args}))}
	setup(t, u.Stack)
	u.vim, u.secret = connect(t, u.Stack).Vim(), u.writeSecret(t)
	ctx := t.Context()
	empty := u.inventory(ctx, gomega.NewWithT(t))
	if _, err := u.Machines.MachineDeployments(u.Namespace()).Create(ctx, machineDeployment(name, int32(len(oldVersions()))), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, orphan := range orphans {
		if _, err := u.Machines.Machines(u.Namespace()).Create(ctx, machine(orphan), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, u.Stack, "all machines are available", func(g gomega.Gomega) {
		available(ctx, u.Stack, name, len(oldVersions()))(g)
		for _, orphan := range orphans {
			availableMachine(ctx, u.Stack, orphan)(g)
		}
	})

	u.stop() // the old version
	u.note(t, name)
	for i, machine := range u.machines {
		u.age(t, u.vm(t, machine), oldVersions()[i])
	}
	aged := u.stored(t)
	u.start(t, orphans[0], 1) // the new one
	u.allRun(t, name)
	u.renameWhatCanBe(t, aged)
	u.allRun(t, name)

	u.stop()
	u.migrateWhatIsOff(t)
	u.start(t, orphans[1], 8)
	u.allRun(t, name)

	changeDeployment(ctx, t, u.Stack, name, func(d *machinev1.MachineDeployment) { d.Spec.Replicas = 0 })
	eventually(t, u.Stack, "no machine is left, and the vCenter is as it was before", func(g gomega.Gomega) {
		g.Expect(machinesOf(ctx, g, u.Stack, name)).To(gomega.BeEmpty())
		g.Expect(empty.Equal(u.inventory(ctx, g))).To(gomega.Succeed())
	})
}

// upgrade is an installation that is upgraded.
type upgrade struct {
	*stack.Stack
	vim *vim25.Client
	// secret is the file that vchctl knows the vCenter by.
	secret string
	// machines are those that must outlive all of it, by name: as oldVersions.
	machines []machinev1.Machine
	// refs are their VMs, by the machine's name.
	refs map[string]string
}

// stop ends all programs of the old version.
func (u *upgrade) stop() {
	u.StopControllers()
	u.KillDriver()
}

// start starts all programs of the new version and waits until they have looked at all VMs:
// they find one of a data version whose machine nobody knows, and remove it.
func (u *upgrade) start(t *testing.T, orphan string, version int) {
	t.Helper()
	ctx := t.Context()
	left, err := u.Machines.Machines(u.Namespace()).Get(ctx, orphan, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	u.age(t, u.vm(t, *left), version)
	forget(ctx, t, u.Stack, orphan)
	if err := u.StartControllers(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, u.Stack, "orphans are collected, of which one is old", func(g gomega.Gomega) {
		_, found := u.inventory(ctx, g).VM(left.Spec.ProviderID)
		g.Expect(found).To(gomega.BeFalse())
	})
}

// inventory reads the vCenter, which may fail while a machine comes or goes.
func (u *upgrade) inventory(ctx context.Context, g gomega.Gomega) *stack.Inventory {
	vcenter := u.VCenter()
	now, err := vcenter.Inventory(ctx)
	g.Expect(err).NotTo(gomega.HaveOccurred())
	return now
}

// note remembers machines and VMs as they are.
func (u *upgrade) note(t *testing.T, name string) {
	t.Helper()
	u.machines = machinesOf(t.Context(), gomega.NewWithT(t), u.Stack, name)
	slices.SortFunc(u.machines, func(a, b machinev1.Machine) int { return strings.Compare(a.Name, b.Name) })
	u.refs = map[string]string{}
	for _, machine := range u.machines {
		u.refs[machine.Name] = u.vm(t, machine).Ref
	}
	if len(u.refs) != len(oldVersions()) {
		t.Fatalf("%d machines, want %d", len(u.refs), len(oldVersions()))
	}
}

// vm is the VM of a machine.
func (u *upgrade) vm(t *testing.T, machine machinev1.Machine) stack.VM {
	t.Helper()
	vm, found := u.inventory(t.Context(), gomega.NewWithT(t)).VM(machine.Spec.ProviderID)
	if !found {
		t.Fatalf("machine %s has no VM", machine.Name)
	}
	return vm
}

// stored is what is stored of the machines' VMs, but what the guest says of its process, by the machine's name.
func (u *upgrade) stored(t *testing.T) map[string]map[string]string {
	t.Helper()
	now, all := u.inventory(t.Context(), gomega.NewWithT(t)), map[string]map[string]string{}
	for _, machine := range u.machines {
		vm, _ := now.VM(machine.Spec.ProviderID)
		keys := maps.Clone(vm.Guestinfo)
		maps.DeleteFunc(keys, func(key, _ string) bool { return strings.HasPrefix(key, "guestinfo.vice..sessions") })
		all[machine.Name] = keys
	}
	return all
}

// allRun expects the very machines that there were, available, each with the VM that it had,
// and no VM besides.
func (u *upgrade) allRun(t *testing.T, name string) {
	t.Helper()
	eventually(t, u.Stack, "the machines that there were are available, with their VMs", func(g gomega.Gomega) {
		machines := machinesOf(t.Context(), g, u.Stack, name)
		g.Expect(uids(machines)).To(gomega.ConsistOf(uids(u.machines)))
		now, ours := u.inventory(t.Context(), g), 0
		for i := range machines {
			status := &machines[i].Status
			g.Expect(status.CurrentStatus.Phase).To(gomega.Equal(machinev1.MachineAvailable), status.LastOperation.Description)
			vm, _ := now.VM(machines[i].Spec.ProviderID)
			g.Expect(vm.Ref).To(gomega.Equal(u.refs[machines[i].Name]), machines[i].Name)
			g.Expect(vm.PowerState).To(gomega.Equal("poweredOn"), vm.Name)
		}
		for _, vm := range now.VMs {
			if mark := vm.Guestinfo["annotations|mcm-vch-mark"]; strings.Contains(mark, name) {
				ours++
			}
		}
		g.Expect(ours).To(gomega.Equal(len(u.machines)), "VMs with the mark of such a machine")
	})
}

// age makes a VM one of an older data version, through vCenter.
func (u *upgrade) age(t *testing.T, vm stack.VM, version int) {
	t.Helper()
	if version == today {
		return
	}
	var m mo.VirtualMachine
	machine := u.object(vm.Ref)
	if err := property.DefaultCollector(u.vim).RetrieveOne(t.Context(), machine.Reference(), []string{"config.extraConfig", "config.changeVersion"}, &m); err != nil {
		t.Fatal(err)
	}
	now := vch.Keys(m.Config.ExtraConfig)
	old := vchsim.OldKeys(now, version)
	spec := types.VirtualMachineConfigSpec{ChangeVersion: m.Config.ChangeVersion}
	for _, key := range slices.Sorted(maps.Keys(now)) {
		if _, stays := old[key]; !stays {
			spec.ExtraConfig = append(spec.ExtraConfig, &types.OptionValue{Key: key, Value: ""}) // deletes it
		}
	}
	for _, key := range slices.Sorted(maps.Keys(old)) {
		if was, there := now[key]; !there || was != old[key] {
			spec.ExtraConfig = append(spec.ExtraConfig, &types.OptionValue{Key: key, Value: old[key]})
		}
	}
	await(t, func(ctx context.Context) (*object.Task, error) { return machine.Reconfigure(ctx, spec) })
}

func (u *upgrade) object(ref string) *object.VirtualMachine {
	return object.NewVirtualMachine(u.vim, types.ManagedObjectReference{Type: "VirtualMachine", Value: ref})
}

func await(t *testing.T, start func(context.Context) (*object.Task, error)) {
	t.Helper()
	task, err := start(t.Context())
	if err == nil {
		err = task.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// writeSecret writes how to reach the vCenter, for vchctl.
func (u *upgrade) writeSecret(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret.json")
	content, err := json.Marshal(map[string]any{"kind": "Secret", "stringData": u.VCenter().Secret})
	if err == nil {
		err = os.WriteFile(file, content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// vchctl runs the real program; ok says that it exited with 0.
func (u *upgrade) vchctl(t *testing.T, args ...string) (output string, ok bool) {
	t.Helper()
	args = append(args, "--secret-file="+u.secret, "--vch="+u.VCenter().VCH)
	out, err := exec.CommandContext(t.Context(), shared.programs.Path(stack.VCHCtl), args...).CombinedOutput()
	t.Logf("vchctl %s\n%s", strings.Join(args, " "), out)
	return string(out), err == nil
}

// rename renames the VM of a machine and checks that it is called so, where it can be.
func (u *upgrade) rename(t *testing.T, machine machinev1.Machine, name string, can bool) {
	t.Helper()
	before := u.vm(t, machine)
	out, ok := u.vchctl(t, "rename", machine.Name, name)
	after := u.vm(t, machine)
	if !can {
		if want := "container " + machine.Name + " does not support rename"; ok || !strings.Contains(out, want) || !strings.Contains(out, "vchctl migrate apply") {
			t.Errorf("the answer lacks %q, and what to do", want)
		}
		if after.Name != before.Name || after.ChangeVersion != before.ChangeVersion {
			t.Errorf("VM %q was changed and is called %q now", before.Name, after.Name)
		}
		return
	}
	if !ok || !strings.HasPrefix(after.Name, name+"-") || after.Guestinfo[guestinfo.NameKey] != name || after.Ref != before.Ref {
		t.Errorf("VM %q (%s) was to become %s and is %q (%s), its container %q", before.Name, before.Ref, name, after.Name, after.Ref, after.Guestinfo[guestinfo.NameKey])
	}
}

// renameWhatCanBe renames all VMs while they run. Before, nothing of what was stored has changed.
func (u *upgrade) renameWhatCanBe(t *testing.T, stored map[string]map[string]string) {
	t.Helper()
	if diff := cmp.Diff(stored, u.stored(t)); diff != "" {
		t.Errorf("the upgrade changed what is stored (-before +after):\n%s", diff)
	}
	for i, machine := range u.machines {
		version := oldVersions()[i]
		u.rename(t, machine, fmt.Sprintf("renamed-%d", i), version == today || version >= renameVersion)
	}
}

// migrateWhatIsOff powers those VMs off that cannot be renamed, migrates them, renames them, and
// powers them on again, while no controller looks.
func (u *upgrade) migrateWhatIsOff(t *testing.T) {
	t.Helper()
	for i, machine := range u.machines {
		version := oldVersions()[i]
		if version == today || version >= renameVersion {
			continue
		}
		vm := u.object(u.refs[machine.Name])
		backups := filepath.Join(t.TempDir(), "backups")
		if out, ok := u.vchctl(t, "migrate", "apply", machine.Name, "--yes", "--backup-dir="+backups); ok || !strings.Contains(out, "poweredOn") {
			t.Error("a VM that runs was migrated")
		}
		await(t, vm.PowerOff)
		u.rename(t, machine, "off", false)
		if _, ok := u.vchctl(t, "migrate", "apply", machine.Name, "--yes", "--backup-dir="+backups); !ok {
			t.Errorf("machine %s of data version %d was not migrated", machine.Name, version)
		}
		if saved, err := filepath.Glob(filepath.Join(backups, "*")); err != nil || len(saved) == 0 {
			t.Errorf("machine %s has the backups %v, %v", machine.Name, saved, err)
		}
		u.rename(t, machine, fmt.Sprintf("renamed-%d", i), true)
		await(t, vm.PowerOn)
	}
}
