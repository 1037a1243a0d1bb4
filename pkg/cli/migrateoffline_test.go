// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// oldContainer is a machine of data version 0, with secrets, in the form of ExtraConfig.
func oldContainer() map[string]string {
	return map[string]string{
		"guestinfo.vice./common/id":              "0123",
		"guestinfo.vice./common/name":            "web-0",
		"guestinfo.vice..createtime":             "1654867607",
		"guestinfo.vice./sessions|0123/cmd/Env~": "TOKEN=" + planted,
		"guestinfo.vice./key":                    planted,
		"guestinfo.vice./hostname":               "<nil>",
		"annotations|mcm-vch-mark":               `{"cluster":"shoot","role":"node","machine":"worker-0","provider":"v0.1.0"}`,
		"something":                              "else",
	}
}

// oldAppliance is a VCH of data version 0, with secrets.
func oldAppliance() map[string]string {
	return map[string]string{
		"guestinfo.vice./init/common/id":                      "VirtualMachine:vm-1",
		"guestinfo.vice./init/common/name":                    "vch-1",
		"guestinfo.vice./init/sessions":                       "vicadmin",
		"guestinfo.vice./init/sessions|vicadmin/cmd/Env":      "1",
		"guestinfo.vice./init/sessions|vicadmin/cmd/Env~":     "HTTP_PROXY=http://me:" + planted + "@proxy|X=1",
		"guestinfo.vice./registry/insecure_registries":        "1",
		"guestinfo.vice./registry/insecure_registries|0/Path": "me:" + planted + "@reg.example.com/x",
		"guestinfo.vice./registry/insecure_registries|1/Host": "reg.example.com:5000",
		"guestinfo.vice./vic_machine_create_options~":         "--password|" + planted,
		"guestinfo.vice./connect/token@secret":                planted,
	}
}

func asJSON(t *testing.T, keys map[string]string) string {
	t.Helper()
	data, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestOfflinePlansShowWhatWouldChange(t *testing.T) {
	t.Parallel()
	for target, keys := range map[string]map[string]string{"container": oldContainer(), "appliance": oldAppliance()} {
		got := vchctl(t.Context(), asJSON(t, keys), nil, "migrate", "plan", "--file", "-", "--target", target)
		if got.code != 0 || got.stderr != "" || strings.Contains(got.stdout, planted) {
			t.Errorf("%s: got %+v", target, got)
		}
		golden(t, "migrate-offline-"+target+".txt", got.stdout)
		file := filepath.Join(t.TempDir(), "keys.json")
		if err := os.WriteFile(file, []byte(asJSON(t, keys)), 0o600); err != nil {
			t.Fatal(err)
		}
		if same := vchctl(t.Context(), "", nil, "migrate", "plan", "--file", file, "--target", target); same != got {
			t.Errorf("%s: from a file %+v", target, same)
		}
	}
}

func TestTheMigratedMapIsPrintedWholeAndAsItCame(t *testing.T) {
	t.Parallel()
	migrate := func(target string, keys map[string]string) map[string]string {
		t.Helper()
		got := vchctl(t.Context(), asJSON(t, keys), nil, "migrate", "plan", "--file", "-", "--target", target, "--output", "json")
		var migrated map[string]string
		if err := json.Unmarshal([]byte(got.stdout), &migrated); err != nil || got.code != 0 || got.stderr != "" {
			t.Fatalf("%v, got %+v", err, got)
		}
		return migrated
	}
	with := func(keys, more map[string]string) map[string]string {
		out := maps.Clone(keys)
		maps.Copy(out, more)
		return out
	}
	container := oldContainer()
	want := with(container, map[string]string{
		"common/name": "web-0", "guestinfo.vice..createtime": "1654867607000000000", "guestinfo.vice./version/PluginVersion": "9",
		"annotations|mcm-vch-mark": `{"cluster":"shoot","role":"node","machine":"worker-0","provider":"v0.1.0","format":2,"digest":1}`,
	})
	once := migrate("container", container)
	if diff := cmp.Diff(want, once); diff != "" {
		t.Errorf("container (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(once, migrate("container", once)); diff != "" {
		t.Errorf("a second time (-want +got):\n%s", diff)
	}
	delete(container, "annotations|mcm-vch-mark")
	delete(want, "annotations|mcm-vch-mark")
	if diff := cmp.Diff(want, migrate("container", container)); diff != "" {
		t.Errorf("without a mark (-want +got):\n%s", diff)
	}
	appliance := migrate("appliance", oldAppliance())
	if got := appliance["guestinfo.vice./registry/insecure_registries~"]; got != "me:"+planted+"@reg.example.com/x|reg.example.com:5000" {
		t.Errorf("registries = %q", got)
	}
	if appliance["init/common/name"] != "vch-1" || appliance["guestinfo.vice./init/version/PluginVersion"] != "8" {
		t.Errorf("appliance = %v", appliance)
	}
	for _, empty := range []string{"", "<nil>"} {
		got := migrate("container", map[string]string{"guestinfo.vice./common/id": "0123", "guestinfo.vice./common/name": empty, "x": empty})
		if diff := cmp.Diff(map[string]string{"guestinfo.vice./common/id": "0123", "guestinfo.vice./common/name": empty, "x": empty, "guestinfo.vice./version/PluginVersion": "9"}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	both := map[string]string{"guestinfo.vice./common/id": "0123", "guestinfo.vice./version/PluginVersion": "10", "x": "", "y": "<nil>"}
	if diff := cmp.Diff(both, migrate("container", both)); diff != "" {
		t.Errorf("both kinds of empty texts (-want +got):\n%s", diff)
	}
	if got := migrate("container", map[string]string{}); len(got) != 0 || got == nil {
		t.Errorf("nothing became %v", got)
	}
}

func TestDataOfTodayNeedsNothingOffline(t *testing.T) {
	t.Parallel()
	got := vchctl(t.Context(), `{"guestinfo.vice./common/id": "0123", "guestinfo.vice./version/PluginVersion": "10"}`, nil, "migrate", "plan", "--file", "-", "--target", "container")
	if got != (result{0, "data version 10: nothing to migrate\n", ""}) {
		t.Errorf("got %+v", got)
	}
}

func TestOfflinePlansRefuseWhatTheyCannotMigrate(t *testing.T) {
	t.Parallel()
	with := func(keys map[string]string, key, value string) string {
		keys[key] = value
		return asJSON(t, keys)
	}
	args := func(more ...string) []string { return append([]string{"migrate", "plan"}, more...) }
	container, appliance := args("--file", "-", "--target", "container"), args("--file", "-", "--target", "appliance")
	tests := []struct {
		name, stdin string
		args        []string
		want        string
	}{
		{"the keys of an appliance", asJSON(t, oldAppliance()), container, "the data of the standard input is that of a VCH's appliance and not of a container VM; give --target appliance"},
		{"the keys of a container", asJSON(t, oldContainer()), appliance, "the data of the standard input is that of a container VM and not of a VCH's appliance; give --target container"},
		{"registries alone", `{"guestinfo.vice./registry/insecure_registries": "0"}`, container, "give --target appliance"},
		{"a name alone", `{"common/name": "x"}`, appliance, "give --target container"},
		{"a version that is none", with(oldContainer(), "guestinfo.vice./version/PluginVersion", "nine"), container, `the data of the standard input cannot be migrated: key "guestinfo.vice./version/PluginVersion": the data version is "nine"; it must be a number from 0 to `},
		{"newer data", with(oldContainer(), "guestinfo.vice./version/PluginVersion", "11"), container, "the data of the standard input is not changed: its container data has version 11, and this program knows none so new"},
		{"a newer mark", with(oldContainer(), "annotations|mcm-vch-mark", `{"cluster":"a","role":"b","machine":"c","format":3}`), container, "its machine data has version 3"},
		{"a newer appliance", with(oldAppliance(), "guestinfo.vice./init/version/PluginVersion", "12"), appliance, "its appliance data has version 12"},
		{"a plugin that fails", with(oldAppliance(), "guestinfo.vice./registry/insecure_registries", "-7"), appliance, `the data of the standard input cannot be migrated: migrate appliance data from version 0: plugin "registry-hosts" of version 5: `},
		{"a list", `[]`, container, "read the keys as a JSON object of texts: want exactly one object"},
		{"a number", `{"a": 1}`, container, `key "a": the value must be a text`},
		{"nothing", ` `, container, "the standard input is empty; it should be a JSON object"},
		{"no file", ``, args("--file", "/nonexistent", "--target", "container"), "read --file: open /nonexistent: no such file or directory"},
		{"another target", `{}`, args("--file", "-", "--target", "machine"), `--target must be container or appliance, got "machine"`},
		{"no target", `{}`, args("--file", "-"), "if any flags in the group [file target] are set they must all be set; missing [target]"},
		{"a target alone", `{}`, args("--target", "container"), "if any flags in the group [file target] are set they must all be set; missing [file]"},
		{"a VM and a file", `{}`, append(container, "web-0"), `with --file no VM is asked for, got "web-0"`},
		{"a VCH and a file", `{}`, append(container, "--vch", "vch-1"), "if any flags in the group [file vch] are set none of the others can be; [file vch] were all set"},
		{"another output", `{}`, append(container, "-o", "yaml"), `--output must be json, got "yaml"`},
	}
	for _, test := range tests {
		for _, output := range [][]string{nil, {"--output", "json"}} {
			if strings.Contains(test.name, "output") && output != nil {
				continue
			}
			got := vchctl(t.Context(), test.stdin, nil, append(test.args[:len(test.args):len(test.args)], output...)...)
			if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, test.want) || strings.Count(got.stderr, "\n") != 1 || strings.Contains(got.stderr, planted) {
				t.Errorf("%s %q: got %+v\nwant %s", test.name, output, got, test.want)
			}
		}
	}
}
