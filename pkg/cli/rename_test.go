// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"strings"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func TestAMachineGetsAnotherName(t *testing.T) {
	m := newMuseum(t)
	for _, running := range []bool{false, true} {
		name := map[bool]string{true: "worker-run", false: "worker-off"}[running]
		before := m.exhibit(t, name, 5, running)
		got := m.run(t.Context(), "rename", name, "edge-"+name)
		if got.code != 0 || got.stderr != "" {
			t.Errorf("got %+v", got)
		}
		golden(t, "rename-"+name+".txt", m.stable(got.stdout))
		after := m.vm(t, name)
		if after.Name != "edge-"+name+"-"+before.ID[:12] || after.ExtraCfg["common/name"] != "edge-"+name || after.VMX != before.VMX {
			t.Errorf("the VM is %q with name %q in %s", after.Name, after.ExtraCfg["common/name"], after.VMX)
		}
		again := m.run(t.Context(), "rename", after.Name, "edge-"+name)
		if again != (result{0, `VM "` + after.Name + `" has this name already` + "\n", ""}) {
			t.Errorf("a second time: %+v", again)
		}
		// By its moref, and back.
		got = m.run(t.Context(), "rename", before.Ref.Value, name, "-o", "json", "--vch", m.VCHName)
		answer := decodeJSON[map[string]any](t, got.stdout)
		if got.code != 0 || answer["vm"] != before.Name || answer["oldVM"] != after.Name || answer["name"] != name || answer["oldName"] != "edge-"+name ||
			answer["renamed"] != true || answer["machine"] != name || answer["cluster"] != vchsim.Cluster || answer["moref"] != before.Ref.Value || answer["directory"] == "" {
			t.Errorf("got %+v", got)
		}
		if answer := decodeJSON[map[string]any](t, m.run(t.Context(), "rename", name, name, "-o", "json").stdout); answer["renamed"] != false {
			t.Errorf("got %v", answer)
		}
	}
	// The driver still finds both, and makes no second VM.
	if ls := m.run(t.Context(), "machines", "ls"); strings.Count(ls.stdout, "\n") != 3 {
		t.Errorf("got %+v", ls)
	}
}

func TestARenameSaysWhatStandsInItsWay(t *testing.T) {
	m := newMuseum(t)
	old := m.exhibit(t, "worker-old", 3, false)
	m.exhibit(t, "worker-new", 10, false)
	docker := m.docker(t, "docker-1")
	for args, want := range map[string]string{
		"":                                       "vchctl rename wants MACHINE-OR-VM NEWNAME; see vchctl rename --help",
		"worker-new":                             "vchctl rename wants MACHINE-OR-VM NEWNAME",
		"worker-new a b":                         "vchctl rename wants MACHINE-OR-VM NEWNAME",
		"worker-new edge -o wide":                `--output must be json, got "wide"`,
		"worker-new edge --timeout":              "flag needs an argument",
		"nobody edge":                            `no container VM of VCH vch-1 has the machine name, container name, VM name, container id or moref "nobody"`,
		"nobody edge --cluster x":                `no container VM of cluster x of VCH vch-1 has`,
		"worker-new edge --vch x":                "no VCH x",
		"worker-new -e/dge":                      "unknown shorthand flag",
		"worker-new e":                           `name "e" is none for a container`,
		"worker-new docker-1":                    docker.Name,
		"worker-old edge":                        "container worker-old does not support rename: VM \"" + old.Name + "\" (" + old.Ref.Value + ") has data of version 3 stored, and version 4 is needed",
		"docker-1 edge":                          "is no machine of this provider; with --force it is changed all the same",
		m.VCHName + " edge --force":              "no container VM of VCH vch-1 has the machine name",
		m.ApplianceRef().Value + " edge --force": "no container VM of VCH vch-1 has the machine name",
	} {
		got := m.run(t.Context(), append([]string{"rename"}, strings.Fields(args)...)...)
		if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, want) || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("%s: got %+v, want %s", args, got, want)
		}
	}
	m.same(t, old, "worker-old")
	// What the message says helps.
	if got := m.apply(t.Context(), "worker-old", "--yes"); got.code != 0 {
		t.Errorf("got %+v", got)
	}
	if got := m.run(t.Context(), "rename", "worker-old", "edge"); got.code != 0 || m.vm(t, "worker-old").ExtraCfg["common/name"] != "edge" {
		t.Errorf("got %+v", got)
	}
}

func TestAContainerOfDockerIsRenamedByForce(t *testing.T) {
	m := newMuseum(t)
	before := m.docker(t, "docker-0")
	got := m.run(t.Context(), "rename", "docker-0", "web", "--force")
	if got.code != 0 || got.stderr != "A VCH that runs shows the old name until its next restart: VCH vch-1 was not told.\n" || !strings.HasPrefix(got.stdout, `renamed VM "`+before.Name+`" to "web-`) {
		t.Errorf("got %+v", got)
	}
	if after := m.docker(t, "web"); after.ID != before.ID || after.VMX != before.VMX {
		t.Errorf("got %+v", after)
	}
}

func TestANameThatSeveralVMsHaveRenamesNone(t *testing.T) {
	w := newWorld(t, vchsim.Options{})
	w.machine(t, "machine-0", false)
	env := w.govc(t)
	rename := func(args ...string) result {
		return vchctl(t.Context(), "", env, append([]string{"rename"}, args...)...)
	}
	got := rename("machine-0", "edge")
	for _, want := range []string{`"machine-0" means 3 container VMs: `, "of VCH vch-1, machine machine-0 of cluster " + vchsim.Cluster, "of cluster " + vchsim.OtherCluster, "of VCH vch-2", "(vm-", "choose with --cluster or --vch"} {
		if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, want) {
			t.Errorf("got %+v, want %s", got, want)
		}
	}
	if got := rename("machine-0", "edge", "--cluster", vchsim.Cluster, "--vch", w.VCHName); got.code != 0 {
		t.Errorf("got %+v", got)
	}
	// A container of that name is none of ours, and does not stand in the way of a machine.
	if got := rename("docker-0", "edge"); got.code != 1 || !strings.Contains(got.stderr, `"docker-0" means 2 container VMs`) {
		t.Errorf("got %+v", got)
	}
	if err := w.SetFault(vchsim.FaultRule{Method: "FindByInventoryPath", Kind: "NoPermission", NthCall: 2}); err != nil {
		t.Fatal(err)
	}
	if got := rename("edge", "edge-2"); got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, "not all VCHs could be searched; choose one with --vch") {
		t.Errorf("got %+v", got)
	}
}

func TestLinksThatKnowTheOldNameAreTold(t *testing.T) {
	m := newMuseum(t)
	m.exhibit(t, "worker-0", 10, false)
	other := m.docker(t, "docker-1")
	networks := other.ExtraCfg["guestinfo.vice./networks"]
	if networks == "" || strings.Contains(networks, "|") {
		t.Fatalf("the container has networks %q", networks)
	}
	m.set(t, other.Name, map[string]string{"networks|" + networks + "/network/aliases": "0", "networks|" + networks + "/network/aliases~": "worker-0:db"})
	got := m.run(t.Context(), "rename", "worker-0", "edge")
	if got.code != 0 || !strings.Contains(got.stdout, `links still use the old name "worker-0" in `+other.Name) {
		t.Errorf("got %+v", got)
	}
}
