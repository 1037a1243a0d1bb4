// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package migration_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

func TestPluginsThatDoNotFitAreRefused(t *testing.T) {
	change := func(f func(*migration.Plugin)) []migration.Plugin {
		p := plugin(3, leave(""))
		f(&p)
		return []migration.Plugin{plugin(2, leave("")), p}
	}
	tests := map[string]struct {
		plugins []migration.Plugin
		want    string
	}{
		"version 0":        {change(func(p *migration.Plugin) { p.Version = 0 }), "the version must be greater than 0"},
		"version -1":       {change(func(p *migration.Plugin) { p.Version = -1 }), "the version must be greater than 0"},
		"no target":        {change(func(p *migration.Plugin) { p.Target = "" }), "the target must be one of [appliance container machine keyvalue]"},
		"unknown target":   {change(func(p *migration.Plugin) { p.Target = "vm" }), "the target must be one of"},
		"no name":          {change(func(p *migration.Plugin) { p.Name = "" }), "the name must be lower-case words"},
		"name with blanks": {change(func(p *migration.Plugin) { p.Name = "a b" }), "the name must be lower-case words"},
		"not explained":    {change(func(p *migration.Plugin) { p.About = "" }), "it must say what it is about"},
		"no step":          {change(func(p *migration.Plugin) { p.Step = nil }), "it has no step"},
		"no keys":          {change(func(p *migration.Plugin) { p.Touches = nil }), "it must name the keys that it touches"},
		"malformed key":    {change(func(p *migration.Plugin) { p.Touches = []string{"a", "b["} }), `pattern "b[" of a touched key is malformed`},
		"empty key":        {change(func(p *migration.Plugin) { p.Touches = []string{""} }), `pattern "" of a touched key is malformed`},
		"the version":      {change(func(p *migration.Plugin) { p.Touches = []string{stamp} }), "which holds the data version"},
		"keys like the version": {change(func(p *migration.Plugin) {
			p.Target, p.Touches = migration.Appliance, []string{"guestinfo.vice./init/version/*"}
		}), guestinfo.VCHPluginVersionKey},
		"same version twice": {change(func(p *migration.Plugin) { p.Version = 2 }), `plugin "p2" has that version already; take the next one`},
		"same name twice":    {change(func(p *migration.Plugin) { p.Name = "p2" }), "the name is taken by version 2"},
		"wrong order":        {change(func(p *migration.Plugin) { p.Version = 1 }), `it stands behind plugin "p2" of version 2; list plugins by version`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := migration.New(test.plugins...)
			if s != nil {
				t.Error("a set was made of them")
			}
			last := test.plugins[len(test.plugins)-1]
			wantError(t, err, errdefs.InvalidArgument, "migration plugin", last.Name, test.want)
		})
	}
}

func TestATargetHasNumbersAndNamesOfItsOwn(t *testing.T) {
	var all []migration.Plugin
	for _, target := range migration.Targets() {
		p := plugin(2, leave(""))
		p.Target = target
		all = append(all, p)
	}
	s := set(t, all...)
	for _, target := range migration.Targets() {
		if got := s.Plugins(target); len(got) != 1 || got[0].Target != target || s.Latest(target) != 2 {
			t.Errorf("%s has %v", target, got)
		}
	}
	if empty := set(t); empty.Latest(migration.Container) != 0 || len(empty.Plugins(migration.Container)) != 0 {
		t.Error("an empty set is not empty")
	}
}

func TestASetDoesNotChange(t *testing.T) {
	touches := []string{"trail", "k*"}
	p := plugin(2, leave("2"))
	p.Touches = touches
	s := set(t, p)
	touches[0] = "other"
	got := s.Plugins(migration.Container)
	got[0].Touches[0], got[0].Step = "other", nil
	if diff := cmp.Diff([]string{"trail", "k*"}, s.Plugins(migration.Container)[0].Touches); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if o, err := s.Migrate(migration.Container, keys{"a": "b"}); err != nil || o.Keys["trail"] != "2" {
		t.Errorf("got %+v, %v", o, err)
	}
}

func TestMustPanicsForPluginsThatDoNotFit(t *testing.T) {
	if s := migration.Must(migration.New(plugin(2, leave("")))); s.Latest(migration.Container) != 2 {
		t.Errorf("got %v", s)
	}
	defer func() {
		err, ok := recover().(error)
		if !ok {
			t.Fatal("it did not panic with an error")
		}
		wantError(t, err, errdefs.InvalidArgument, "p2")
	}()
	migration.Must(migration.New(plugin(2, leave("")), plugin(2, leave(""))))
}

func TestRenameNeedsDataThatIsStoredAsVersion4(t *testing.T) {
	for stored, want := range map[int]bool{0: false, 3: false, 4: true, 9: true, 10: true, 11: true} {
		if got := migration.Rename().In(stored); got != want {
			t.Errorf("version %d: %t", stored, got)
		}
	}
	if name := migration.Rename().Name; name != "rename" {
		t.Errorf("it is called %q", name)
	}
}

func TestDiffSaysWhatBecameOfEachKey(t *testing.T) {
	text := func(s string) *string { return &s }
	tests := map[string]struct {
		before, after map[string]string
		want          []migration.Difference
	}{
		"nothing":   {nil, nil, nil},
		"the same":  {keys{"a": "1", "b": ""}, keys{"b": "", "a": "1"}, nil},
		"all new":   {nil, keys{"b": "", "a": "1"}, []migration.Difference{{Key: "a", New: text("1")}, {Key: "b", New: text("")}}},
		"all gone":  {keys{"b": "", "a": "1"}, nil, []migration.Difference{{Key: "a", Old: text("1")}, {Key: "b", Old: text("")}}},
		"some each": {keys{"a": "1", "b": "1", "c": "1"}, keys{"b": "2", "c": "1", "d": "1"}, []migration.Difference{{Key: "a", Old: text("1")}, {Key: "b", Old: text("1"), New: text("2")}, {Key: "d", New: text("1")}}},
		"emptied":   {keys{"a": "1"}, keys{"a": ""}, []migration.Difference{{Key: "a", Old: text("1"), New: text("")}}},
	}
	for name, test := range tests {
		if diff := cmp.Diff(test.want, migration.Diff(test.before, test.after)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
