// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"strings"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func TestTheNameOfAnOldVMIsShown(t *testing.T) {
	m := newMuseum(t)
	vm := m.exhibit(t, "worker-0", 0, false)
	decode := func(args ...string) result {
		return m.run(t.Context(), append([]string{"guestinfo", "decode", "--vm"}, args...)...)
	}
	got := decode(vm.Name)
	if got.code != 0 || got.stderr != "" || !strings.Contains(got.stdout, `"Name": "worker-0"`) || !strings.Contains(got.stdout, `"PluginVersion": 9`) || !strings.Contains(got.stdout, inNanoseconds) {
		t.Errorf("got %+v", got)
	}
	stored := decode(vm.Name, "--stored")
	if stored.code != 0 || strings.Contains(stored.stdout, `"Name": "worker-0"`) || strings.Contains(stored.stdout, "PluginVersion") || strings.Contains(stored.stdout, inNanoseconds) {
		t.Errorf("got %+v", stored)
	}
	list := m.run(t.Context(), "machines", "ls", "-o", "json")
	if machines := decodeJSON[[]map[string]any](t, list.stdout); len(machines) != 1 || machines[0]["name"] != "worker-0" || machines[0]["dataVersion"] != 0.0 {
		t.Errorf("got %+v", list)
	}
	m.set(t, vm.Name, map[string]string{dataVersionKey: "11"})
	if got := decode(vm.Name); got.code != 0 || got.stderr != `The container data of VM "`+vm.Name+"\" is of version 11, newer than this program: it is shown as far as it is known.\n" {
		t.Errorf("got %+v", got)
	}
	m.set(t, vm.Name, map[string]string{dataVersionKey: "nine"})
	if got := decode(vm.Name); got.code != 0 || !strings.Contains(got.stderr, `is shown as far as it could be migrated: key "`+dataVersionKey) || !strings.Contains(got.stdout, vm.ID) {
		t.Errorf("got %+v", got)
	}
}

func TestAnOldApplianceIsShownAsOfToday(t *testing.T) {
	m := newMuseum(t)
	got := m.run(t.Context(), "guestinfo", "decode", "--vm", m.ApplianceRef().Value)
	if got.code != 0 || got.stderr != "" || !strings.Contains(got.stdout, `"InsecureRegistries": [`+"\n") || !strings.Contains(got.stdout, "VICADMIN_HTTP_PROXY=REDACTED") {
		t.Errorf("got %+v", got)
	}
	stored := m.run(t.Context(), "guestinfo", "decode", "--vm", m.ApplianceRef().Value, "--stored")
	if stored.stdout == got.stdout || strings.Contains(stored.stdout, "VICADMIN_HTTP_PROXY") {
		t.Errorf("got %+v", stored)
	}
}

func TestTheDoctorTellsOfOldData(t *testing.T) {
	m := newMuseum(t)
	lines := func() string {
		got := m.run(t.Context(), "doctor", "--vch", m.VCHName)
		var out strings.Builder
		for line := range strings.Lines(got.stdout) {
			if strings.Contains(line, "data of the VCH") || strings.Contains(line, "stored data") {
				out.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
			}
		}
		return out.String()
	}
	expect := func(what string, want ...string) {
		t.Helper()
		if got := lines(); got != strings.Join(want, "\n")+"\n" {
			t.Errorf("%s: got\n%swant\n%s", what, got, strings.Join(want, "\n"))
		}
	}
	const appliance = "NOTE data of the VCH version 3 is read as version 8; vic-machine upgrade would store it so"
	expect("containers of today", appliance, "OK stored data 2 container VMs have data of today")
	young := m.exhibit(t, "worker-5", 5, false)
	expect("one that can be renamed", appliance,
		"NOTE stored data 1 container VM has data of older versions: "+young.Name+" (data version 5 -> 9, mark format 1 -> 2); they work as they are; vchctl migrate status shows all",
		"OK stored data 2 container VMs have data of today")
	m.age(t, young.Name, 3)
	newer, broken := m.exhibit(t, "worker-new", 10, false), m.exhibit(t, "worker-odd", 10, false)
	m.set(t, newer.Name, map[string]string{dataVersionKey: "11"})
	m.set(t, broken.Name, map[string]string{dataVersionKey: "nine"})
	expect("all kinds", appliance,
		"FAIL stored data 1 container VM has data that cannot be migrated, and is read as far as it is known: "+broken.Name+` (key "guestinfo.vice./version/PluginVersion": the data version is "nine"; it must be a number from 0 to 2147483647); docs/migration.md says what to do`,
		"NOTE stored data 1 container VM has data of a newer program, which this one reads and never changes: "+newer.Name+" (data version 11, mark format 2); use a newer version of it",
		"NOTE stored data 1 container VM has data of older versions: "+young.Name+" (data version 3 -> 9, mark format 1 -> 2); they work as they are, but those below data version 4 cannot be renamed; vchctl migrate status shows all",
		"OK stored data 2 container VMs have data of today")
	m.set(t, m.VCHName, map[string]string{"guestinfo.vice./init/version/PluginVersion": "12"})
	if got := lines(); !strings.HasPrefix(got, "NOTE data of the VCH version 12 is newer than this program, which reads what it knows of it; use a newer version of it\n") {
		t.Errorf("got %s", got)
	}
	m.set(t, m.VCHName, map[string]string{"guestinfo.vice./init/version/PluginVersion": "x"})
	if got := lines(); !strings.HasPrefix(got, "FAIL data of the VCH it cannot be migrated, and is read as far as it is known: settings of the VCH may be missing; vic-machine upgrade writes it anew: key ") {
		t.Errorf("got %s", got)
	}
}

func TestAVCHWithoutContainersHasNoOldData(t *testing.T) {
	w := newWorld(t, vchsim.Options{NoForeign: true})
	got := vchctl(t.Context(), "", w.govc(t), "doctor")
	if got.code != 0 || !strings.Contains(got.stdout, "the VCH has no container VM") {
		t.Errorf("got %+v", got)
	}
	if got := vchctl(t.Context(), "", w.govc(t), "migrate", "status", "--cluster", "x"); got != (result{0, "", "No VMs found.\n"}) {
		t.Errorf("got %+v", got)
	}
}
