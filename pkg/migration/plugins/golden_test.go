// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package plugins_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration/plugins"
)

var update = flag.Bool("update", false, "write the golden files")

// cases returns the names of the cases in a directory of testdata: each has a file with what is
// there before, one with what is there after, and one with the error if there is one.
func cases(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.before.json"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, file := range files {
		out = append(out, strings.TrimSuffix(filepath.Base(file), ".before.json"))
	}
	return out
}

func readMap(t testing.TB, dir, file string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", dir, file))
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]string
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatalf("%s/%s: %v", dir, file, err)
	}
	return out
}

func writeFile(t *testing.T, dir, file, text string) {
	t.Helper()
	name := filepath.Join("testdata", dir, file)
	if text == "" {
		_ = os.Remove(name)
		return
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// wantGolden compares what a migration made of a case with its files.
func wantGolden(t *testing.T, dir, name string, got map[string]string, err error) {
	t.Helper()
	text := ""
	if err != nil {
		text = err.Error() + "\n"
	}
	if *update {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(got); err != nil {
			t.Fatal(err)
		}
		writeFile(t, dir, name+".after.json", b.String())
		writeFile(t, dir, name+".error.txt", text)
	}
	if diff := cmp.Diff(readMap(t, dir, name+".after.json"), got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	want, _ := os.ReadFile(filepath.Join("testdata", dir, name+".error.txt"))
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

// Each plugin alone: what it makes of the data that it is for, and of odd data.
func TestAPluginMakesOfEachMapWhatItShould(t *testing.T) {
	for _, p := range all() {
		t.Run(p.Name, func(t *testing.T) {
			alone, err := migration.New(p)
			if err != nil {
				t.Fatal(err)
			}
			names := cases(t, p.Name)
			if len(names) < 6 {
				t.Errorf("there are %d cases; one of its data and 5 of odd data are the least", len(names))
			}
			for _, name := range names {
				t.Run(name, func(t *testing.T) {
					in := readMap(t, p.Name, name+".before.json")
					o, err := alone.Migrate(p.Target, in)
					wantGolden(t, p.Name, name, o.Keys, err)
					wantKept(t, in, o.Keys, p)
					if again, _ := alone.Migrate(p.Target, o.Keys); again.Migrated() {
						t.Errorf("once more changes %v", migration.Diff(o.Keys, again.Keys))
					}
					wantPromises(t, in)
				})
			}
		})
	}
}

// All plugins on whole configurations, as old VCHs have them.
func TestWholeConfigurationsOfEachVersionBecomeThoseOfToday(t *testing.T) {
	s := plugins.Shipped()
	migrate := map[string]func(map[string]string) (map[string]string, error){
		"appliance": func(k map[string]string) (map[string]string, error) {
			o, err := s.Migrate(migration.Appliance, k)
			return o.Keys, err
		},
		"container": func(k map[string]string) (map[string]string, error) {
			o, err := s.Migrate(migration.Container, k)
			return o.Keys, err
		},
		"machine": func(k map[string]string) (map[string]string, error) { v, err := s.MigrateVM(k); return v.Keys, err },
	}
	for dir, f := range migrate {
		for _, name := range cases(t, dir) {
			t.Run(dir+"/"+name, func(t *testing.T) {
				in := readMap(t, dir, name+".before.json")
				got, err := f(in)
				wantGolden(t, dir, name, got, err)
				wantPromises(t, in)
			})
		}
	}
}

func TestWhatAnyVersionWroteReadsLikeTheDataOfToday(t *testing.T) {
	today, err := guestinfo.DecodeExecutor(readMap(t, "container", "v10.before.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range cases(t, "container") {
		got, err := guestinfo.DecodeExecutor(readMap(t, "container", name+".after.json"))
		if err != nil {
			t.Fatal(err)
		}
		// The version is another one, and so is the time of the oldest, which are not copies.
		got.Version, got.CreateTime = today.Version, today.CreateTime
		if diff := cmp.Diff(today, got); diff != "" {
			t.Errorf("container %s (-today +migrated):\n%s", name, diff)
		}
	}
	registries := []string{"10.20.0.0/16", "insecure.example.com:5000", "mirror.example.com/hub"}
	for _, name := range cases(t, "appliance") {
		got, err := guestinfo.DecodeVCH(readMap(t, "appliance", name+".after.json"))
		if err != nil {
			t.Fatal(err)
		}
		if got.Name != "vch-1" {
			t.Errorf("appliance %s: the name is %q", name, got.Name)
		}
		env := got.Sessions["vicadmin"].Cmd.Env
		if want := []string{"PATH=/sbin:/bin", "VICADMIN_HTTP_PROXY=http://proxy.example.com:3128", "VICADMIN_HTTPS_PROXY=http://proxy.example.com:3128/?a=b"}; !slices.Equal(env, want) {
			t.Errorf("appliance %s: the environment is %q", name, env)
		}
		if name == "v10" { // has a registry of its own
			continue
		}
		slices.Sort(got.InsecureRegistries)
		if diff := cmp.Diff(registries, got.InsecureRegistries); diff != "" {
			t.Errorf("appliance %s (-want +got):\n%s", name, diff)
		}
	}
}
