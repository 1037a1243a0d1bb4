// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package plugins_test

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration/plugins"
)

func markKey() string { return guestinfo.AnnotationKey(identity.MarkAnnotation) }

// versionKeys are where the data versions of the targets are.
func versionKeys() map[migration.Target]string {
	return map[migration.Target]string{
		migration.Appliance: guestinfo.VCHPluginVersionKey,
		migration.Container: guestinfo.PluginVersionKey,
		migration.Machine:   markKey(),
	}
}

// all returns the shipped plugins.
func all() []migration.Plugin {
	var out []migration.Plugin
	for _, target := range migration.Targets() {
		out = append(out, plugins.Shipped().Plugins(target)...)
	}
	return out
}

// wantKept fails the test unless after has every key of before, and differs only in
// keys that the plugins name, and in the data versions of their targets.
func wantKept(t *testing.T, before, after map[string]string, by ...migration.Plugin) {
	t.Helper()
	for _, d := range migration.Diff(before, after) {
		if d.New == nil {
			t.Errorf("key %q is lost", d.Key)
		}
		if !slices.ContainsFunc(by, func(p migration.Plugin) bool {
			return d.Key == versionKeys()[p.Target] || slices.ContainsFunc(p.Touches, func(pattern string) bool {
				ok, err := path.Match(pattern, d.Key)
				return ok && err == nil
			})
		}) {
			t.Errorf("key %q was changed, which nobody named", d.Key)
		}
	}
}

// wantReadable fails the test if what could be decoded before cannot be decoded after.
func wantReadable(t *testing.T, before, after map[string]string) {
	t.Helper()
	for what, decode := range map[string]func(map[string]string) error{
		"a container VM": func(k map[string]string) error { _, err := guestinfo.DecodeExecutor(k); return err },
		"a VCH":          func(k map[string]string) error { _, err := guestinfo.DecodeVCH(k); return err },
	} {
		was, is := decode(before), decode(after)
		if was == nil && is != nil {
			t.Errorf("it was readable as %s, and now: %v", what, is)
		}
	}
}

// wantSameMachine fails the test if a mark became another machine's, or a mark at all.
func wantSameMachine(t *testing.T, before, after map[string]string) {
	t.Helper()
	was, noMark := identity.DecodeMark(before[markKey()])
	if noMark != nil {
		if before[markKey()] != after[markKey()] {
			t.Errorf("what is no mark, %q, became %q", before[markKey()], after[markKey()])
		}
		return
	}
	is, err := identity.DecodeMark(after[markKey()])
	if err != nil {
		t.Fatalf("the mark became %q: %v", after[markKey()], err)
	}
	was.Format, was.Digest, is.Format, is.Digest = 0, 0, 0, 0
	if diff := cmp.Diff(was, is); diff != "" {
		t.Errorf("the mark (-before +after):\n%s", diff)
	}
}

// wantPromises migrates a map in every way there is and judges what becomes of it.
func wantPromises(t *testing.T, in map[string]string) {
	t.Helper()
	untouched := maps.Clone(in)
	s := plugins.Shipped()
	for target, key := range versionKeys() {
		o, err := s.Migrate(target, in)
		if err != nil && !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%s: kind %s: %v", target, errdefs.KindOf(err), err)
		}
		wantKept(t, in, o.Keys, s.Plugins(target)...)
		wantReadable(t, in, o.Keys)
		wantSameMachine(t, in, o.Keys)
		if len(in) > 0 && err == nil && o.To != max(o.From, s.Latest(target)) {
			t.Errorf("%s: version %d was reached without an error, the latest is %d", target, o.To, s.Latest(target))
		}
		if o.Migrated() && target != migration.Machine && o.Keys[key] != strconv.Itoa(o.To) {
			t.Errorf("%s: version %d was reached and %q stored", target, o.To, o.Keys[key])
		}
		again, againErr := s.Migrate(target, o.Keys)
		if again.Migrated() || (err == nil) != (againErr == nil) {
			t.Errorf("%s: once more changes %v, %v", target, migration.Diff(o.Keys, again.Keys), againErr)
		}
	}
	v, _ := s.MigrateVM(in)
	wantKept(t, in, v.Keys, append(s.Plugins(migration.Container), s.Plugins(migration.Machine)...)...)
	wantReadable(t, in, v.Keys)
	wantSameMachine(t, in, v.Keys)
	for _, p := range all() {
		wantStepOnce(t, p, in)
	}
	if diff := cmp.Diff(untouched, in); diff != "" {
		t.Errorf("the input was changed (-before +after):\n%s", diff)
	}
}

// wantStepOnce fails the test unless a step does nothing to its own result, whatever the
// version is that is stored.
func wantStepOnce(t *testing.T, p migration.Plugin, in map[string]string) {
	t.Helper()
	once := takeStep(p, in)
	wantKept(t, in, once, p)
	wantReadable(t, in, once)
	if twice := migration.Diff(once, takeStep(p, once)); len(twice) > 0 {
		t.Errorf("%s %s: once more changes %s to %q", p.Target, p.Name, twice[0].Key, *twice[0].New)
	}
}

// takeStep returns what a step alone makes of keys; keys if it fails.
func takeStep(p migration.Plugin, keys map[string]string) map[string]string {
	change, err := p.Step(maps.Clone(keys))
	if err != nil {
		return keys
	}
	out := maps.Clone(keys)
	if out == nil {
		out = map[string]string{}
	}
	for _, key := range change.Delete {
		delete(out, key)
	}
	maps.Copy(out, change.Set)
	return out
}
