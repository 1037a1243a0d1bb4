// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package migration_test

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

type (
	keys = map[string]string
	step = func(map[string]string) (migration.Change, error)
)

// plugin returns one for container data that may touch the keys trail and k1, k2 and so on.
func plugin(version int, s step) migration.Plugin {
	return migration.Plugin{
		Version: version, Target: migration.Container, Name: fmt.Sprintf("p%d", version), About: "a test",
		Touches: []string{"trail", "k*"}, Step: s,
	}
}

// leave appends a text to the key trail, so that the order shows.
func leave(text string) step {
	return func(k map[string]string) (migration.Change, error) {
		return migration.Change{Set: keys{"trail": k["trail"] + text}}, nil
	}
}

func set(t testing.TB, plugins ...migration.Plugin) *migration.Set {
	t.Helper()
	s, err := migration.New(plugins...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// same reports whether two maps are one.
func same(a, b map[string]string) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
}

func ran(o migration.Outcome) (versions []int) {
	for _, s := range o.Steps {
		versions = append(versions, s.Plugin.Version)
	}
	return versions
}

func wantError(t *testing.T, err error, kind errdefs.Kind, parts ...string) {
	t.Helper()
	if !errdefs.Is(err, kind) {
		t.Fatalf("the error is %v of kind %q, want kind %s", err, errdefs.KindOf(err), kind)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not contain %q", err, part)
		}
	}
}

const stamp = guestinfo.PluginVersionKey

func TestPluginsRunInTheOrderOfTheirVersionsFromTheStoredOneOn(t *testing.T) {
	s := set(t, plugin(2, leave("2")), plugin(3, leave("3")), plugin(7, leave("7")))
	tests := map[string]struct {
		stored string
		trail  string
		ran    []int
		to     int
	}{
		"no version":        {"", "237", []int{2, 3, 7}, 7},
		"0":                 {"0", "237", []int{2, 3, 7}, 7},
		"before the first":  {"1", "237", []int{2, 3, 7}, 7},
		"the first":         {"2", "37", []int{3, 7}, 7},
		"between":           {"5", "7", []int{7}, 7},
		"the last":          {"7", "", nil, 7},
		"behind the last":   {"9", "", nil, 9},
		"VIC's last":        {"10", "", nil, 10},
		"a sign":            {"+3", "7", []int{7}, 7},
		"zeros before it":   {"0003", "7", []int{7}, 7},
		"newer than VIC":    {"11", "", nil, 11},
		"the highest known": {"2147483647", "", nil, 2147483647},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			in := keys{"other": "x", "empty": ""}
			if test.stored != "" {
				in[stamp] = test.stored
			}
			before := maps.Clone(in)
			o, err := s.Migrate(migration.Container, in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.ran, ran(o)); diff != "" {
				t.Errorf("ran (-want +got):\n%s", diff)
			}
			want := maps.Clone(before)
			if test.ran != nil {
				want["trail"], want[stamp] = test.trail, fmt.Sprint(test.to)
			}
			if diff := cmp.Diff(want, o.Keys); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
			if o.To != test.to || o.Migrated() != (test.ran != nil) || o.Target != migration.Container {
				t.Errorf("the outcome is %+v", o)
			}
			if diff := cmp.Diff(before, in); diff != "" {
				t.Errorf("the input was changed (-before +after):\n%s", diff)
			}
			if same(in, o.Keys) != (test.ran == nil) {
				t.Errorf("the map that came in goes out: %t", same(in, o.Keys))
			}
			again, err := s.Migrate(migration.Container, o.Keys)
			if err != nil || again.Migrated() || !same(again.Keys, o.Keys) {
				t.Errorf("the second migration is %+v, %v", again, err)
			}
		})
	}
}

func TestTheFirstErrorEndsTheMigrationBehindTheLastGoodPlugin(t *testing.T) {
	broken := errdefs.New(errdefs.FailedPrecondition, "key %q is odd", "k1")
	later := false
	s := set(t,
		plugin(2, leave("2")), plugin(3, leave("3")),
		plugin(5, func(k map[string]string) (migration.Change, error) {
			k["trail"] = "spoilt"
			return migration.Change{Set: keys{"trail": "lost"}, Delete: []string{"k2"}}, broken
		}),
		plugin(7, func(map[string]string) (migration.Change, error) { later = true; return migration.Change{}, nil }),
	)
	in := keys{stamp: "2", "k2": "x"}
	o, err := s.Migrate(migration.Container, in)
	wantError(t, err, errdefs.FailedPrecondition, "migrate container data from version 2", `plugin "p5" of version 5`, `key "k1" is odd`)
	if !errors.Is(err, broken) {
		t.Error("the plugin's error is not in the chain")
	}
	if later {
		t.Error("a plugin behind the broken one ran")
	}
	if diff := cmp.Diff(keys{stamp: "3", "k2": "x", "trail": "3"}, o.Keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if o.From != 2 || o.To != 3 || !o.Migrated() || o.Newer {
		t.Errorf("the outcome is %+v", o)
	}

	first := keys{stamp: "4", "k2": "x"}
	o, err = s.Migrate(migration.Container, first)
	if err == nil || o.Migrated() || !same(first, o.Keys) || first[stamp] != "4" {
		t.Errorf("a first plugin that fails leaves %+v, %v", o, err)
	}
}

func TestAStepCannotChangeItsInput(t *testing.T) {
	wild := func(k map[string]string) (migration.Change, error) {
		for key := range k {
			delete(k, key)
		}
		k["foreign"], k[stamp] = "planted", "99"
		return migration.Change{Set: keys{"k1": "new"}}, nil
	}
	s := set(t, plugin(2, wild), plugin(3, wild))
	in := keys{"k0": "a", "foreign": "b"}
	o, err := s.Migrate(migration.Container, in)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(keys{"k0": "a", "foreign": "b"}, in); diff != "" {
		t.Errorf("the input was changed (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(keys{"k0": "a", "foreign": "b", "k1": "new", stamp: "3"}, o.Keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	// What a step returned is its own; it may keep it.
	o.Steps[0].Change.Set["k1"] = "other"
	if o.Keys["k1"] != "new" {
		t.Error("the outcome shares a map with its step")
	}
}

func TestAStepMayChangeOnlyWhatItNames(t *testing.T) {
	tests := map[string]migration.Change{
		"sets another key":             {Set: keys{"k1": "x", "foreign": "x"}},
		"deletes another key":          {Set: keys{"k1": "x"}, Delete: []string{"foreign"}},
		"deletes a key that is not":    {Delete: []string{"nothing"}},
		"sets what a star is not":      {Set: keys{"k/1": "x"}},
		"sets the version":             {Set: keys{stamp: "7"}},
		"sets and deletes the same":    {Set: keys{"k1": "x"}, Delete: []string{"k1"}},
		"sets a key without a name":    {Set: keys{"": "x"}},
		"sets a key that begins so":    {Set: keys{"trails": "x"}},
		"sets one in different letter": {Set: keys{"Trail": "x"}},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			s := set(t, plugin(2, leave("2")), plugin(3, func(map[string]string) (migration.Change, error) { return change, nil }), plugin(4, leave("4")))
			o, err := s.Migrate(migration.Container, keys{"foreign": "old", "k1": "old"})
			wantError(t, err, errdefs.Internal, `plugin "p3" of version 3`, "it wants to")
			if diff := cmp.Diff(keys{"foreign": "old", "k1": "old", "trail": "2", stamp: "2"}, o.Keys); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAStepShowsOnlyWhatItReallyChanged(t *testing.T) {
	s := set(t, plugin(2, func(map[string]string) (migration.Change, error) {
		return migration.Change{Set: keys{"k1": "same", "k2": "new", "k3": ""}, Delete: []string{"k6", "k5", "k4", "k5"}}, nil
	}), plugin(3, func(map[string]string) (migration.Change, error) { return migration.Change{}, nil }))
	o, err := s.Migrate(migration.Container, keys{"k1": "same", "k2": "old", "k5": "x", "k6": ""})
	if err != nil {
		t.Fatal(err)
	}
	want := []migration.Change{{Set: keys{"k2": "new", "k3": ""}, Delete: []string{"k5", "k6"}}, {}}
	for i, step := range o.Steps {
		if diff := cmp.Diff(want[i], step.Change); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
	if diff := cmp.Diff(keys{"k1": "same", "k2": "new", "k3": "", stamp: "3"}, o.Keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestAVersionThatIsNoneIsRefusedAndTheDataStays(t *testing.T) {
	s := set(t, plugin(2, leave("2")))
	for _, version := range []string{"x", "-1", "2.0", " 2", "2 ", "0x2", "99999999999999999999", "2147483648", "-99999999999999999999", "<nil>", "१"} {
		in := keys{stamp: version}
		o, err := s.Migrate(migration.Container, in)
		wantError(t, err, errdefs.InvalidArgument, stamp, fmt.Sprintf("%q", version))
		if o.Migrated() || o.Newer || !same(in, o.Keys) || o.Target != migration.Container {
			t.Errorf("version %q gives %+v", version, o)
		}
	}
	in := keys{"k1": "x"}
	o, err := s.MigrateFrom(migration.Container, -1, in)
	wantError(t, err, errdefs.InvalidArgument, "-1")
	if o.Migrated() || !same(in, o.Keys) {
		t.Errorf("got %+v", o)
	}
}

func TestNewerDataIsReadAndNotWritten(t *testing.T) {
	shipped := set(t, plugin(2, leave("2")), plugin(9, leave("9")))
	ours := set(t, plugin(2, leave("2")), plugin(12, leave("c")))
	tests := map[string]struct {
		set    *migration.Set
		stored int
		newer  bool
	}{
		"VIC's last":                          {shipped, 10, false},
		"newer than VIC's last":               {shipped, 11, true},
		"the last of a set that knows more":   {ours, 12, false},
		"between VIC's last and the set's":    {ours, 11, false},
		"newer than a set that knows more":    {ours, 13, true},
		"newer than a set that knows nothing": {set(t), 11, true},
	}
	for name, test := range tests {
		in := keys{stamp: fmt.Sprint(test.stored), "k1": "x"}
		o, err := test.set.Migrate(migration.Container, in)
		if err != nil || o.Newer != test.newer || o.Keys["k1"] != "x" {
			t.Errorf("%s: got %+v, %v", name, o, err)
		}
		if test.newer {
			wantError(t, o.Writable("VM vm-1"), errdefs.FailedPrecondition, "VM vm-1 is not changed", "container data", fmt.Sprint(test.stored), "newer version of it")
		} else if err := o.Writable("VM vm-1"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoDataStaysNoData(t *testing.T) {
	s := set(t, plugin(2, leave("2")))
	for _, target := range migration.Targets() {
		for _, in := range []map[string]string{nil, {}} {
			o, err := s.Migrate(target, in)
			if err != nil || o.Migrated() || len(o.Keys) > 0 || o.Target != target {
				t.Errorf("%s: got %+v, %v", target, o, err)
			}
		}
	}
	v, err := s.MigrateVM(nil)
	if err != nil || v.Migrated() || len(v.Keys) > 0 {
		t.Errorf("got %+v, %v", v, err)
	}
}

func TestAStoreHasItsVersionElsewhereAndMayBeEmpty(t *testing.T) {
	p := plugin(4, leave("4"))
	p.Target = migration.KeyValue
	s := set(t, p)
	for _, in := range []map[string]string{nil, {}, {"k1": "x"}} {
		o, err := s.MigrateFrom(migration.KeyValue, 0, in)
		want := keys{"trail": "4"}
		maps.Copy(want, in)
		if err != nil || o.From != 0 || o.To != 4 {
			t.Errorf("got %+v, %v", o, err)
		}
		if diff := cmp.Diff(want, o.Keys); diff != "" {
			t.Errorf("keys (-want +got):\n%s", diff)
		}
		o, err = s.MigrateFrom(migration.KeyValue, 4, o.Keys)
		if err != nil || o.Migrated() || o.Newer {
			t.Errorf("got %+v, %v", o, err)
		}
	}
	o, err := s.MigrateFrom(migration.KeyValue, 5, keys{"k1": "x"})
	if err != nil || !o.Newer {
		t.Errorf("got %+v, %v", o, err)
	}
	wantError(t, o.Writable("store apiKV"), errdefs.FailedPrecondition, "keyvalue data has version 5")
}
