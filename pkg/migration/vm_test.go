// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package migration_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration/plugins"
)

func markKey() string { return guestinfo.AnnotationKey(identity.MarkAnnotation) }

const (
	oldMark = `{"cluster":"shoot","role":"node","machine":"m-0","provider":"v1"}`
	newMark = `{"cluster":"shoot","role":"node","machine":"m-0","provider":"v1","format":2}`
)

// machinePlugin may touch the mark.
func machinePlugin(version int, s step) migration.Plugin {
	p := plugin(version, s)
	p.Target, p.Touches = migration.Machine, append(p.Touches, markKey())
	return p
}

func TestAVMHasTwoKindsOfDataThatAreMigratedByThemselves(t *testing.T) {
	fails := func(map[string]string) (migration.Change, error) {
		return migration.Change{}, errdefs.New(errdefs.InvalidArgument, "planned")
	}
	type outcome struct {
		Container, Machine int
		Trail              string
		Mark, Version      string
		Failed             string
	}
	good, bad := leave, func(string) step { return fails }
	tests := map[string]struct {
		container, machine func(string) step
		in                 keys
		want               outcome
	}{
		"both old":           {good, good, keys{markKey(): oldMark}, outcome{2, 2, "cm", newMark, "2", ""}},
		"ours old":           {good, good, keys{markKey(): oldMark, stamp: "10"}, outcome{10, 2, "m", newMark, "10", ""}},
		"VIC's old":          {good, good, keys{markKey(): newMark}, outcome{2, 2, "c", newMark, "2", ""}},
		"neither":            {bad, bad, keys{markKey(): newMark, stamp: "10"}, outcome{10, 2, "", newMark, "10", ""}},
		"no machine":         {good, bad, keys{"a": "b"}, outcome{2, 0, "c", "", "2", ""}},
		"half a mark":        {good, bad, keys{markKey(): `{"cluster":"shoot"}`}, outcome{2, 0, "c", `{"cluster":"shoot"}`, "2", ""}},
		"no mark at all":     {good, bad, keys{markKey(): `{`}, outcome{2, 0, "c", `{`, "2", ""}},
		"VIC's fails":        {bad, good, keys{markKey(): oldMark}, outcome{0, 2, "m", newMark, "", "container"}},
		"ours fails":         {good, bad, keys{markKey(): oldMark}, outcome{2, 1, "c", oldMark, "2", "machine"}},
		"both fail":          {bad, bad, keys{markKey(): oldMark}, outcome{0, 1, "", oldMark, "", "container machine"}},
		"VIC's is no number": {good, good, keys{markKey(): oldMark, stamp: "x"}, outcome{0, 2, "m", newMark, "x", stamp}},
		"ours is negative": {
			good, bad,
			keys{markKey(): `{"cluster":"c","role":"r","machine":"m","provider":"","format":-1}`},
			outcome{2, 0, "c", `{"cluster":"c","role":"r","machine":"m","provider":"","format":-1}`, "2", markKey()},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := set(t, plugin(2, test.container("c")), machinePlugin(2, test.machine("m")))
			before := maps.Clone(test.in)
			v, err := s.MigrateVM(test.in)
			got := outcome{v.Container.To, v.Machine.To, v.Keys["trail"], v.Keys[markKey()], v.Keys[stamp], test.want.Failed}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if (err != nil) != (test.want.Failed != "") {
				t.Fatalf("the error is %v", err)
			}
			if err != nil {
				wantError(t, err, errdefs.InvalidArgument, strings.Fields(test.want.Failed)...)
			}
			if diff := cmp.Diff(before, test.in); diff != "" {
				t.Errorf("the input was changed (-before +after):\n%s", diff)
			}
			if v.Migrated() == same(test.in, v.Keys) {
				t.Errorf("migrated is %t, and the map that came in goes out is %t", v.Migrated(), same(test.in, v.Keys))
			}
		})
	}
}

func TestANewerPartOfAVMKeepsItFromBeingWritten(t *testing.T) {
	s := set(t, plugin(2, leave("c")), machinePlugin(2, leave("m")))
	newer := strings.Replace(newMark, "2}", "3}", 1)
	for name, in := range map[string]keys{
		"container data has version 11": {markKey(): newMark, stamp: "11"},
		"machine data has version 3":    {markKey(): newer, stamp: "10"},
	} {
		v, err := s.MigrateVM(in)
		if err != nil || v.Migrated() || !same(v.Keys, in) {
			t.Errorf("%s: got %+v, %v", name, v, err)
		}
		wantError(t, v.Writable("VM vm-1"), errdefs.FailedPrecondition, "VM vm-1 is not changed", name)
	}
	v, err := s.MigrateVM(keys{markKey(): newMark, stamp: "10"})
	if err := errors.Join(err, v.Writable("VM vm-1")); err != nil {
		t.Error(err)
	}
}

func TestAMarkIsStampedWithTheFormatThatWasReachedAndNoOther(t *testing.T) {
	breaks := func(value string) step {
		return func(map[string]string) (migration.Change, error) {
			return migration.Change{Set: keys{markKey(): value}}, nil
		}
	}
	const lies = `{"cluster":"shoot","role":"node","machine":"m-0","provider":"v1","format":99}`
	v, err := set(t, machinePlugin(2, breaks(lies))).MigrateVM(keys{markKey(): oldMark, stamp: "10"})
	if err != nil || v.Keys[markKey()] != newMark || v.Machine.To != 2 {
		t.Errorf("got %+v, %v", v, err)
	}
	in := keys{markKey(): oldMark, stamp: "10"}
	v, err = set(t, machinePlugin(2, breaks(`{"cluster":"shoot"}`))).MigrateVM(in)
	wantError(t, err, errdefs.InvalidArgument, "mark is incomplete")
	if v.Migrated() || !same(v.Keys, in) {
		t.Errorf("a plugin that breaks the mark leaves %+v", v)
	}
	_, err = set(t).Migrate(migration.Machine, keys{"a": "b"})
	wantError(t, err, errdefs.InvalidArgument, "there is no mark of this provider")
}

// machine returns the keys of a whole machine, of today or as old as there are.
func machine(tb testing.TB, old bool) map[string]string {
	tb.Helper()
	file := "after"
	if old {
		file = "before"
	}
	data, err := os.ReadFile(fmt.Sprintf("plugins/testdata/machine/v0.%s.json", file))
	if err != nil {
		tb.Fatal(err)
	}
	var out map[string]string
	if err := json.Unmarshal(data, &out); err != nil {
		tb.Fatal(err)
	}
	return out
}

// Every VM that is read goes through MigrateVM: what is up to date costs the reading of its mark.
func TestAVMThatIsUpToDateIsNotCopied(t *testing.T) {
	s, current := plugins.Shipped(), machine(t, false)
	encoded := current[markKey()]
	reading := testing.AllocsPerRun(100, func() {
		if _, err := identity.DecodeMark(encoded); err != nil {
			t.Fatal(err)
		}
	})
	all := testing.AllocsPerRun(100, func() {
		if v, err := s.MigrateVM(current); err != nil || v.Migrated() {
			t.Fatalf("got %+v, %v", v, err)
		}
	})
	if all > reading {
		t.Errorf("%v allocations, %v of them for the mark", all, reading)
	}
	delete(current, markKey())
	if n := testing.AllocsPerRun(100, func() { _, _ = s.MigrateVM(current) }); n > 0 {
		t.Errorf("%v allocations for a VM of others", n)
	}
}

func BenchmarkMigrateVM(b *testing.B) {
	s := plugins.Shipped()
	for name, old := range map[string]bool{"current": false, "old": true} {
		b.Run(name, func(b *testing.B) {
			k := machine(b, old)
			b.ReportAllocs()
			for b.Loop() {
				if v, err := s.MigrateVM(k); err != nil || v.Migrated() != old {
					b.Fatalf("got %+v, %v", v, err)
				}
			}
		})
	}
}
