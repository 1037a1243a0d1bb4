// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// kvDirectory is where the simulator keeps the stores of the VCH.
func (w world) kvDirectory() string {
	return filepath.Join(w.Dir(), "datastores", vchsim.Datastore, w.VCHName, "kvStores")
}

func TestKeyValueStoresAreListed(t *testing.T) {
	w := newWorld(t, vchsim.Options{})
	env := w.govc(t)
	for name, args := range map[string][]string{
		"kv-ls.txt":         {"ls"},
		"kv-ls.json":        {"ls", "--vch", w.VCHName, "-o", "json"},
		"kv-get.txt":        {"get", "--vch", w.VCHName, "apiKV"},
		"kv-get.json":       {"get", "--vch", w.VCHName, "-o", "json", "network.contexts.default"},
		"kv-get-value.json": {"get", "--vch", w.VCHName, "apiKV", "docker.repositories"},
	} {
		got := vchctl(t.Context(), "", env, append([]string{"kv"}, args...)...)
		if got.code != 0 || got.stderr != "" {
			t.Errorf("%q: exit code %d, %s", args, got.code, got.stderr)
		}
		golden(t, name, got.stdout)
	}
}

func TestAValueIsPrintedAsItIs(t *testing.T) {
	w := newWorld(t, vchsim.Options{NoForeign: true})
	file := filepath.Join(w.kvDirectory(), "bytes.dat")
	if err := os.WriteFile(file, []byte(`{"a":"AP8K","b":""}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"a": "\x00\xff\n", "b": ""} {
		if got := vchctl(t.Context(), "", w.govc(t), "kv", "get", "bytes", key); got != (result{0, want, ""}) {
			t.Errorf("got %+v, want %q", got, want)
		}
	}
}

func TestLookingAtKeyValueStoresChangesNothing(t *testing.T) {
	w := newWorld(t, vchsim.Options{})
	before := w.Files()
	w.ResetCounters()
	for _, args := range [][]string{{"ls"}, {"get", "--vch", w.VCHName, "apiKV"}, {"get", "--vch", w.VCHName, "apiKV", "docker.images"}} {
		if got := vchctl(t.Context(), "", w.govc(t), append([]string{"kv"}, args...)...); got.code != 0 {
			t.Errorf("got %+v", got)
		}
	}
	for method := range w.Calls() {
		if strings.Contains(method, "PUT") || strings.Contains(method, "DatastoreFile") || strings.HasPrefix(method, "Make") {
			t.Errorf("%s was called", method)
		}
	}
	if diff := cmp.Diff(before, w.Files()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := w.Sessions(); n != 0 {
		t.Errorf("%d sessions are left in vCenter", n)
	}
}

func TestADamagedStoreDoesNotHideTheOthers(t *testing.T) {
	w := newWorld(t, vchsim.Options{NoForeign: true})
	if err := os.WriteFile(filepath.Join(w.kvDirectory(), "broken.dat"), []byte(`{"a":"`+planted+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	got := vchctl(t.Context(), "", w.govc(t), "kv", "ls", "-o", "json")
	var stores []struct{ Name string }
	if err := json.Unmarshal([]byte(got.stdout), &stores); err != nil || len(stores) != 2 {
		t.Errorf("%v, got %+v", err, got)
	}
	want := `vchctl: read key/value store [LocalDS_0] vch-1/kvStores/broken: [LocalDS_0] vch-1/kvStores/broken.dat is damaged: key "a": its value is not base64` + "\n"
	if got.code != 1 || got.stderr != want {
		t.Errorf("got  %swant %s", got.stderr, want)
	}
}

func TestWhatIsNotInAKeyValueStoreIsSaid(t *testing.T) {
	w := newWorld(t, vchsim.Options{})
	env := w.govc(t)
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"no command", nil, "vchctl kv needs a command; see vchctl kv --help"},
		{"no store", []string{"get", "--vch", w.VCHName, "nobody"}, `VCH vch-1 has no key/value store "nobody" in [LocalDS_0] vch-1/kvStores; there are: apiKV, network.contexts.default`},
		{"no key", []string{"get", "--vch", w.VCHName, "apiKV", "nobody"}, `[LocalDS_0] vch-1/kvStores/apiKV.dat has no key "nobody"; vchctl kv get apiKV lists them`},
		{"a file", []string{"get", "--vch", w.VCHName, "../vch-1.vmx"}, `open key/value store "../vch-1.vmx": the name must be of letters, digits, dots and underscores`},
		{"several VCHs", []string{"get", "apiKV"}, "there are 2 VCHs, for example vch-1 and vch-2; choose one with --vch"},
		{"a value as JSON", []string{"get", "-o", "json", "apiKV", "a"}, "--output is for the list of keys; the value of a key is printed as it is"},
		{"another output", []string{"ls", "-o", "wide"}, `--output must be json, got "wide"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := vchctl(t.Context(), "", env, append([]string{"kv"}, test.args...)...)
			if got.code != 1 || got.stdout != "" || got.stderr != "vchctl: "+test.want+"\n" {
				t.Errorf("got  %+v\nwant %s", got, test.want)
			}
		})
	}
}

func TestAVCHWithoutKeyValueStoresGivesAnEmptyList(t *testing.T) {
	w := newWorld(t, vchsim.Options{NoForeign: true})
	if err := os.RemoveAll(w.kvDirectory()); err != nil {
		t.Fatal(err)
	}
	if got := vchctl(t.Context(), "", w.govc(t), "kv", "ls"); got != (result{0, "", "No key/value stores found.\n"}) {
		t.Errorf("got %+v", got)
	}
	if got := vchctl(t.Context(), "", w.govc(t), "kv", "ls", "-o", "json"); got != (result{0, "[]\n", ""}) {
		t.Errorf("got %+v", got)
	}
	got := vchctl(t.Context(), "", w.govc(t), "kv", "get", "apiKV")
	if got.code != 1 || !slices.Contains(strings.Fields(got.stderr), "none") {
		t.Errorf("got %+v", got)
	}
}
