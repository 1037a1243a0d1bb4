// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package kvstore_test

import (
	"maps"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/kvstore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

// tags is a set of two plugins: the first tags images, the second can be made to fail.
func tags(t *testing.T, failure error) *migration.Set {
	t.Helper()
	set, err := migration.New(
		migration.Plugin{
			Version: 2, Target: migration.KeyValue, Name: "tag", About: "images have a tag", Touches: []string{"image.tag"},
			Step: func(keys map[string]string) (migration.Change, error) {
				return migration.Change{Set: map[string]string{"image.tag": keys["image.name"] + ":latest"}}, nil
			},
		},
		migration.Plugin{
			Version: 4, Target: migration.KeyValue, Name: "owner", About: "images have an owner", Touches: []string{"image.owner"},
			Step: func(map[string]string) (migration.Change, error) {
				return migration.Change{Set: map[string]string{"image.owner": "nobody"}}, failure
			},
		},
	)
	must(t, err)
	return set
}

func migrating(set *migration.Set) func(*kvstore.Options) {
	return func(o *kvstore.Options) { o.Migrations = set }
}

// names, an image whose name is busybox, and bytes that are no text.
const oldData = `{"bytes":"/wA=","image.name":"YnVzeWJveA==","nothing":null}`

func newData() map[string][]byte {
	return map[string][]byte{
		"bytes": {255, 0}, "image.name": []byte("busybox"), "image.owner": []byte("nobody"), "image.tag": []byte("busybox:latest"), "nothing": nil,
	}
}

func wantData(t *testing.T, s *kvstore.Store, version int, want map[string][]byte) {
	t.Helper()
	snap, err := s.Read(t.Context())
	must(t, err)
	if diff := cmp.Diff(want, snap.Values); diff != "" || snap.Version != version {
		t.Errorf("version %d, want %d (-want +got):\n%s", snap.Version, version, diff)
	}
}

func suiteMigrate(t *testing.T, p place) {
	ctx, set := t.Context(), tags(t, nil)
	p.put(t, "apiKV.dat", oldData)
	s := p.store(t, 0, migrating(set))
	wantKind(t, s.Put(ctx, "a", nil), errdefs.FailedPrecondition, "has version 0, and this program writes version 4; migrate it first")

	broken := tags(t, errdefs.New(errdefs.Internal, "no owner"))
	o, err := kvstore.Migrate(ctx, broken, s, s)
	wantKind(t, err, errdefs.Internal, "apiKV", `plugin "owner" of version 4`, "no owner")
	if o.To != 2 {
		t.Errorf("got %+v", o)
	}
	p.has(t, "apiKV.dat")

	o, err = kvstore.Migrate(ctx, set, s, s)
	if err != nil || o.From != 0 || o.To != 4 || len(o.Steps) != 2 {
		t.Errorf("got %+v, %v", o, err)
	}
	p.has(t, "apiKV.dat", "apiKV.v4.dat")
	wantData(t, s, 4, newData())
	wantData(t, p.store(t, 1, readOnly), 4, newData())

	must(t, s.Put(ctx, "a", []byte("new")))
	if o, err = kvstore.Migrate(ctx, set, s, s); err != nil || o.Migrated() {
		t.Errorf("got %+v, %v", o, err)
	}
	p.has(t, "apiKV.dat", "apiKV.v4.dat", "apiKV.v4.dat.1")
	if a, err := s.Get(ctx, "a"); err != nil || string(a) != "new" {
		t.Errorf("got %q, %v", a, err)
	}
	old, err := p.machines[1].Read(ctx, p.directory+"/apiKV.dat", 1000)
	if err != nil || string(old) != oldData {
		t.Errorf("the old file has %s, %v", old, err)
	}
}

func suiteMigrateElsewhere(t *testing.T, p place) {
	ctx, set := t.Context(), tags(t, nil)
	p.put(t, "apiKV.dat", oldData)
	other := place{machines: p.machines, directory: p.directory + "/ours"}
	from, into := p.store(t, 0, readOnly), other.store(t, 0, migrating(set))
	_, err := kvstore.Migrate(ctx, set, from, into)
	must(t, err)
	other.has(t, "apiKV.v4.dat")
	wantData(t, into, 4, newData())
	must(t, into.Put(ctx, "a", []byte("ours")))
	// What the VCH does later is not looked at any more.
	p.put(t, "apiKV.dat", "{}")
	_, err = kvstore.Migrate(ctx, set, from, into)
	must(t, err)
	want := newData()
	want["a"] = []byte("ours")
	wantData(t, into, 4, want)
	other.has(t, "apiKV.v4.dat", "apiKV.v4.dat.1")

	// Without a plugin it is a copy; without a store it is nothing.
	copied := other.store(t, 1, func(o *kvstore.Options) { o.Name = "copy" })
	o, err := kvstore.Migrate(ctx, &migration.Set{}, from, copied)
	if err != nil || o.Migrated() {
		t.Errorf("got %+v, %v", o, err)
	}
	wantData(t, copied, 0, map[string][]byte{})
	nobody := p.store(t, 0, readOnly, func(o *kvstore.Options) { o.Name = "nobody" })
	none := other.store(t, 0, func(o *kvstore.Options) { o.Name = "none" })
	_, err = kvstore.Migrate(ctx, set, nobody, none)
	must(t, err)
	other.has(t, "apiKV.v4.dat", "apiKV.v4.dat.1", "copy.dat")
}

func suiteNewer(t *testing.T, p place) {
	ctx, set := t.Context(), tags(t, nil)
	p.put(t, "apiKV.dat", oldData)
	p.put(t, "apiKV.v5.dat", `{"a":"MQ=="}`)
	s := p.store(t, 0, migrating(set))
	wantData(t, s, 5, map[string][]byte{"a": []byte("1")})
	wantKind(t, s.Put(ctx, "a", nil), errdefs.FailedPrecondition, "version 5", "newer version")
	o, err := kvstore.Migrate(ctx, set, s, s)
	if err != nil || o.Migrated() || !o.Newer {
		t.Errorf("got %+v, %v", o, err)
	}
	other := place{machines: p.machines, directory: p.directory + "/ours"}
	_, err = kvstore.Migrate(ctx, set, s, other.store(t, 0))
	wantKind(t, err, errdefs.FailedPrecondition, "a copy of", "apiKV.v5.dat", "newer version")
	p.has(t, "apiKV.dat", "apiKV.v5.dat")
}

func TestOfTwoThatMigrateAtOnceOneFileComes(t *testing.T) {
	p, disk := inMemory()
	p.put(t, "apiKV.dat", oldData)
	var all sync.WaitGroup
	for i := range 10 {
		s := p.store(t, i%2, migrating(tags(t, nil)))
		all.Go(func() {
			if _, err := kvstore.Migrate(t.Context(), tags(t, nil), s, s); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	p.has(t, "apiKV.dat", "apiKV.v4.dat")
	if got := disk.content(p.directory + "/apiKV.dat"); got != oldData {
		t.Errorf("the old file has %s", got)
	}
}

func TestAMigrationThatIsCutOffAtAnyStepCanBeRepeated(t *testing.T) {
	for _, how := range modes() {
		t.Run(how.name, func(t *testing.T) {
			for n := 1; ; n++ {
				p, disk := inMemory()
				p.put(t, "apiKV.dat", oldData)
				before := maps.Clone(disk.files)
				sick := &machine{disk: disk}
				struck := sick.strike(n, how)
				set := tags(t, nil)
				s := p.by(sick).store(t, 0, migrating(set))
				_, err := kvstore.Migrate(t.Context(), set, s, s)
				if !struck() {
					if must(t, err); n < 6 {
						t.Errorf("only %d steps were taken", n-1)
					}
					return
				}
				healthy := p.store(t, 0, migrating(set))
				snap, readErr := healthy.Read(t.Context())
				must(t, readErr)
				if err == nil && snap.Version != 4 {
					t.Errorf("step %d: success, and the data has version %d", n, snap.Version)
				}
				_, err = kvstore.Migrate(t.Context(), set, healthy, healthy)
				must(t, err)
				wantData(t, healthy, 4, newData())
				if diff := cmp.Diff(before[p.directory+"/apiKV.dat"].content, disk.files[p.directory+"/apiKV.dat"].content); diff != "" {
					t.Errorf("step %d: the old file has changed:\n%s", n, diff)
				}
			}
		})
	}
}
