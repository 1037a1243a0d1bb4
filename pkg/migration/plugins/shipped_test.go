// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package plugins_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration/plugins"
)

func TestTheShippedSetIsComplete(t *testing.T) {
	want := map[migration.Target][]int{
		migration.Appliance: {1, 5, 7, 8}, // VIC's
		migration.Container: {2, 9},       // VIC's
		migration.Machine:   {2},
		migration.KeyValue:  nil,
	}
	for _, target := range migration.Targets() {
		var got []int
		for _, p := range plugins.Shipped().Plugins(target) {
			got = append(got, p.Version)
		}
		if diff := cmp.Diff(want[target], got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", target, diff)
		}
	}
	if got := plugins.Shipped().Latest(migration.Machine); got != identity.MarkFormat {
		t.Errorf("machines are migrated to format %d, and made with format %d", got, identity.MarkFormat)
	}
}

// An older program must find what it wrote.
func TestNoShippedPluginDeletes(t *testing.T) {
	for _, p := range all() {
		for _, name := range cases(t, p.Name) {
			change, err := p.Step(readMap(t, p.Name, name+".before.json"))
			if err == nil && len(change.Delete) > 0 {
				t.Errorf("%s deletes %q of %s", p.Name, change.Delete, name)
			}
		}
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(file, "_test.go") && regexp.MustCompile(`\bDelete\b|\bdelete\(`).Match(text) {
			t.Errorf("%s has something that deletes", file)
		}
	}
}

// A directory that no plugin reads would be a test that nobody runs.
func TestEveryDirectoryOfTestdataIsUsed(t *testing.T) {
	known := []string{"appliance", "container", "machine", "fuzz"}
	for _, p := range all() {
		known = append(known, p.Name)
	}
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !slices.Contains(known, entry.Name()) {
			t.Errorf("testdata/%s belongs to no plugin", entry.Name())
		}
		files, err := os.ReadDir(filepath.Join("testdata", entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		names := cases(t, entry.Name())
		for _, file := range files {
			name, _, _ := strings.Cut(file.Name(), ".")
			if entry.Name() != "fuzz" && !slices.Contains(names, name) {
				t.Errorf("testdata/%s/%s belongs to no case", entry.Name(), file.Name())
			}
		}
	}
}
