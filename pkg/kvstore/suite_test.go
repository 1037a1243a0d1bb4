// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package kvstore_test

import (
	"context"
	"errors"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/kvstore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

// place is a directory that does not exist, and the ways of two machines to it.
type place struct {
	machines  [2]kvstore.Files
	directory string
	// writers is how many goroutines each machine has that write at once.
	writers int
}

// store opens a store as a machine does.
func (p place) store(t *testing.T, machine int, change ...func(*kvstore.Options)) *kvstore.Store {
	t.Helper()
	o := kvstore.Options{Files: p.machines[machine], Directory: p.directory, Name: "apiKV"}
	for _, c := range change {
		c(&o)
	}
	s, err := kvstore.Open(o)
	must(t, err)
	return s
}

// by is the place as another machine gets to it.
func (p place) by(m *machine) place {
	p.machines[0] = m
	return p
}

// put writes a file past the package.
func (p place) put(t *testing.T, name, content string) {
	t.Helper()
	must(t, p.machines[1].MakeDirectory(t.Context(), p.directory, true))
	must(t, p.machines[1].Write(t.Context(), path.Join(p.directory, name), strings.NewReader(content), int64(len(content)), nil))
}

// has compares the names of the files that are there.
func (p place) has(t *testing.T, want ...string) {
	t.Helper()
	entries, err := p.machines[1].List(t.Context(), p.directory, "*")
	if err != nil && !errdefs.Is(err, errdefs.NotFound) {
		t.Fatal(err)
	}
	got := []string{}
	for _, e := range entries {
		got = append(got, e.Name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func readOnly(o *kvstore.Options) { o.ReadOnly = true }

// increment counts in the key n.
func increment(values map[string][]byte) error {
	n, _ := strconv.Atoi(string(values["n"])) // nothing is 0
	values["n"] = strconv.AppendInt(nil, int64(n+1), 10)
	return nil
}

// count reads what increment counted.
func count(t *testing.T, s *kvstore.Store) int {
	t.Helper()
	snap, err := s.Read(context.WithoutCancel(t.Context()))
	must(t, err)
	n, _ := strconv.Atoi(string(snap.Values["n"])) // nothing is 0
	return n
}

// runSuite runs what a store promises in new places of a world.
func runSuite(t *testing.T, newPlace func(*testing.T) place) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, place){
		"what is written is read on another machine":             suiteWriteAndRead,
		"a store that is not there is empty":                     suiteMissing,
		"keys are listed by a pattern":                           suiteList,
		"what changes nothing writes nothing":                    suiteNoChange,
		"an error of the function writes nothing":                suiteFunctionError,
		"the store of a VCH is read and never written":           suiteReadOnly,
		"a damaged file is named and nothing taken in its place": suiteDamaged,
		"a file of VIC's is the first generation":                suiteFirstGeneration,
		"stores are told apart":                                  suiteNames,
		"of concurrent updates none is lost":                     suiteConcurrent,
		"data is migrated into a new file":                       suiteMigrate,
		"data of a VCH is migrated into another directory":       suiteMigrateElsewhere,
		"newer data is read and not changed":                     suiteNewer,
	} {
		t.Run(name, func(t *testing.T) { test(t, newPlace(t)) })
	}
}

func suiteWriteAndRead(t *testing.T, p place) {
	ctx := t.Context()
	here, there := p.store(t, 0), p.store(t, 1)
	must(t, here.Put(ctx, "a", []byte("1")))
	must(t, there.Put(ctx, "b", []byte{0, 255}))
	must(t, here.Put(ctx, "a", []byte("2")))
	snap, err := there.Read(ctx)
	must(t, err)
	want := map[string][]byte{"a": []byte("2"), "b": {0, 255}}
	if diff := cmp.Diff(want, snap.Values); diff != "" || !snap.Exists || snap.Version != 0 || snap.Generation != 2 {
		t.Errorf("got %+v (-want +got):\n%s", snap, diff)
	}
	if file := p.machines[1].Path(path.Join(p.directory, "apiKV.dat.2")); snap.File != file {
		t.Errorf("got %s, want %s", snap.File, file)
	}
	must(t, there.Delete(ctx, "a"))
	if _, err := here.Get(ctx, "a"); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("got %v", err)
	}
	wantKind(t, here.Delete(ctx, "a"), errdefs.NotFound, `"a"`)
	if b, err := here.Get(ctx, "b"); err != nil || string(b) != "\x00\xff" {
		t.Errorf("got %q, %v", b, err)
	}
	p.has(t, "apiKV.dat", "apiKV.dat.1", "apiKV.dat.2", "apiKV.dat.3")
}

func suiteMissing(t *testing.T, p place) {
	s := p.store(t, 0)
	snap, err := s.Read(t.Context())
	must(t, err)
	if snap.Exists || len(snap.Values) > 0 || snap.Values == nil {
		t.Errorf("got %+v", snap)
	}
	names, err := kvstore.Names(t.Context(), p.machines[0], p.directory)
	if err != nil || len(names) > 0 {
		t.Errorf("got %q, %v", names, err)
	}
	p.put(t, "other.dat", "{}")
	if n := count(t, s); n != 0 {
		t.Errorf("got %d", n)
	}
	p.has(t, "other.dat")
}

func suiteList(t *testing.T, p place) {
	s := p.store(t, 0)
	must(t, s.Update(t.Context(), func(values map[string][]byte) error {
		values["docker.images"], values["docker.layers"], values["dockerXimages"] = []byte("1"), []byte("2"), []byte("3")
		return nil
	}))
	got, err := s.List(t.Context(), regexp.MustCompile(`^docker\.`))
	if diff := cmp.Diff(map[string][]byte{"docker.images": []byte("1"), "docker.layers": []byte("2")}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if got, err = s.List(t.Context(), nil); err != nil || len(got) != 3 {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err = s.List(t.Context(), regexp.MustCompile("nothing")); err != nil || got == nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

func suiteNoChange(t *testing.T, p place) {
	s := p.store(t, 0)
	must(t, s.Update(t.Context(), func(map[string][]byte) error { return nil }))
	p.has(t)
	must(t, s.Put(t.Context(), "a", []byte("1")))
	must(t, s.Put(t.Context(), "a", []byte("1")))
	p.has(t, "apiKV.dat")
}

func suiteFunctionError(t *testing.T, p place) {
	s := p.store(t, 0)
	must(t, s.Put(t.Context(), "a", []byte("1")))
	why := errors.New("not today")
	err := s.Update(t.Context(), func(values map[string][]byte) error {
		values["a"][0] = '2'
		return errdefs.Wrap(errdefs.OutOfRange, why, "count")
	})
	if wantKind(t, err, errdefs.OutOfRange, "apiKV"); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	p.has(t, "apiKV.dat")
	wantKind(t, s.Put(t.Context(), "\xff", nil), errdefs.InvalidArgument)
	p.has(t, "apiKV.dat")
}

func suiteReadOnly(t *testing.T, p place) {
	p.put(t, "apiKV.dat", `{"a":"MQ=="}`)
	// Somebody's own copies.
	p.put(t, "apiKV.dat.1", `{"a":"Mg=="}`)
	p.put(t, "apiKV.dat-abcdefghij.tmp", `{`)
	s := p.store(t, 0, readOnly)
	if a, err := s.Get(t.Context(), "a"); err != nil || string(a) != "1" {
		t.Errorf("got %q, %v", a, err)
	}
	called := false
	err := s.Update(t.Context(), func(map[string][]byte) error { called = true; return nil })
	if wantKind(t, err, errdefs.FailedPrecondition, "apiKV belongs to a VCH", "port layer"); called {
		t.Error("the function was called")
	}
	wantKind(t, s.Put(t.Context(), "a", nil), errdefs.FailedPrecondition)
	wantKind(t, s.Delete(t.Context(), "a"), errdefs.FailedPrecondition)
	_, err = kvstore.Migrate(t.Context(), &migration.Set{}, s, s)
	wantKind(t, err, errdefs.FailedPrecondition, "port layer")
	p.has(t, "apiKV.dat", "apiKV.dat.1", "apiKV.dat-abcdefghij.tmp")
}

func suiteDamaged(t *testing.T, p place) {
	s := p.store(t, 0)
	must(t, s.Put(t.Context(), "a", []byte("1")))
	p.put(t, "apiKV.dat.1", `{"a":"c2VjcmV0"`)
	_, err := s.Read(t.Context())
	wantKind(t, err, errdefs.FailedPrecondition, "apiKV.dat.1 is damaged")
	wantKind(t, s.Put(t.Context(), "b", nil), errdefs.FailedPrecondition, "apiKV.dat.1 is damaged")
	_, err = kvstore.Migrate(t.Context(), &migration.Set{}, s, s)
	wantKind(t, err, errdefs.FailedPrecondition, "apiKV.dat.1 is damaged")
	p.has(t, "apiKV.dat", "apiKV.dat.1")
}

func suiteFirstGeneration(t *testing.T, p place) {
	p.put(t, "apiKV.dat", `{"n":"NDE="}`)
	must(t, p.store(t, 0).Update(t.Context(), increment))
	if n := count(t, p.store(t, 1)); n != 42 {
		t.Errorf("got %d", n)
	}
	if n := count(t, p.store(t, 1, readOnly)); n != 41 {
		t.Errorf("the file of VIC's has %d", n)
	}
}

func suiteNames(t *testing.T, p place) {
	digits := strings.Repeat("0123456789abcdef", 2)
	for _, name := range []string{"b.dat", "a.dat.7", "a.v2.dat", "c.dat-" + digits + ".tmp", "a.dat.dat", "x.v2.v3.dat", "readme.txt", "d.dat.x", "e-f.dat"} {
		p.put(t, name, "{}")
	}
	names, err := kvstore.Names(t.Context(), p.machines[0], p.directory)
	if diff := cmp.Diff([]string{"a", "a.dat", "b"}, names); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	snap, err := p.store(t, 0, func(o *kvstore.Options) { o.Name = "a" }).Read(t.Context())
	if err != nil || snap.Version != 2 || snap.Generation != 0 {
		t.Errorf("got %+v, %v", snap, err)
	}
}

func suiteConcurrent(t *testing.T, p place) {
	var all sync.WaitGroup
	for i := range p.machines {
		s := p.store(t, i)
		for range p.writers {
			all.Go(func() {
				if err := s.Update(t.Context(), increment); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	if n := count(t, p.store(t, 0)); n != 2*p.writers {
		t.Errorf("got %d, want %d", n, 2*p.writers)
	}
}
