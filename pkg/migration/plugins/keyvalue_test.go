// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

// imageTag is an example of a plugin for a key/value store, and in docs/migration-plugins.md: images
// have a tag. The old key stays, in the new file too.
func imageTag() migration.Plugin {
	return migration.Plugin{
		Version: 4, Target: migration.KeyValue, Name: "image-tag",
		About:   "images have a tag",
		Touches: []string{"image.tag"},
		Step: func(values map[string]string) (migration.Change, error) {
			name, tag := values["image.name"], values["image.tag"]
			if name == "" || tag != "" {
				return migration.Change{}, nil
			}
			return migration.Change{Set: map[string]string{"image.tag": name + ":latest"}}, nil
		},
	}
}

func TestAPluginForAStoreAddsToWhatIsThere(t *testing.T) {
	set, err := migration.New(append(Shipped().Plugins(migration.KeyValue), imageTag())...)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ in, added map[string]string }{
		"a name":                {map[string]string{"image.name": "busybox", "other": "x"}, map[string]string{"image.tag": "busybox:latest"}},
		"no name":               {map[string]string{"other": "x"}, nil},
		"an empty name":         {map[string]string{"image.name": ""}, nil},
		"a tag already":         {map[string]string{"image.name": "busybox", "image.tag": "busybox:1"}, nil},
		"bytes that no text is": {map[string]string{"image.name": "\xff\x00", "blob": "\x00\xfe"}, map[string]string{"image.tag": "\xff\x00:latest"}},
		"an empty store":        {map[string]string{}, nil},
		"no map at all":         {nil, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before := maps.Clone(test.in)
			want := map[string]string{}
			maps.Copy(want, test.in)
			maps.Copy(want, test.added)
			for _, stored := range []int{0, 3} {
				o, err := set.MigrateFrom(migration.KeyValue, stored, test.in)
				if err != nil || o.From != stored || o.To != 4 {
					t.Fatalf("got %+v, %v", o, err)
				}
				if diff := cmp.Diff(want, o.Keys); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				again, err := set.MigrateFrom(migration.KeyValue, o.To, o.Keys)
				if err != nil || again.Migrated() {
					t.Errorf("the second migration gives %+v, %v", again, err)
				}
			}
			if diff := cmp.Diff(before, test.in); diff != "" {
				t.Errorf("the input was changed (-before +after):\n%s", diff)
			}
		})
	}
}

func TestAStoreOfANewerProgramIsNotWritten(t *testing.T) {
	set, err := migration.New(imageTag())
	if err != nil {
		t.Fatal(err)
	}
	o, err := set.MigrateFrom(migration.KeyValue, 5, map[string]string{"image.name": "busybox"})
	if err != nil || o.Migrated() || o.Keys["image.name"] != "busybox" {
		t.Errorf("got %+v, %v", o, err)
	}
	if err := o.Writable("store images"); !errdefs.Is(err, errdefs.FailedPrecondition) {
		t.Errorf("it may be written: %v", err)
	}
}
