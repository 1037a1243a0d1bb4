// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volumetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

const (
	// long is more time than any operation takes: what is older is a leftover.
	long = time.Hour
	// capacity is that of most volumes.
	capacity = int64(64 << 20)
	// name is that of most volumes.
	name = "data"
	// written is what is on most volumes.
	written = "what must not be lost"
)

// fixture is one test's world with words for what tests do in it.
type fixture struct {
	*testing.T
	h Harness
	// looks lets one step at a time look at the world.
	looks *sync.Mutex
	// dies are the steps at which it is known to leave something when a process dies that
	// makes a volume, removes one, or removes one that a VM wants.
	dies struct{ making, removing, wanted int }
}

// request is that of a volume with all that can be said of one.
func request(name string) volume.Request {
	return volume.Request{
		Name:     name,
		Capacity: capacity,
		Metadata: volume.Metadata{
			DriverOpts:    map[string]string{"capacity": "64", "VolumeStore": "x"},
			Labels:        map[string]string{"owner": "\"ü\n", volume.LabelMachine: "worker-1"},
			AttachHistory: []string{"worker-1"},
			Image:         "registry/node:v1",
		},
	}
}

// create makes a volume that the test needs.
func (f *fixture) create(name string) *volume.Volume {
	f.Helper()
	v, err := f.h.Store().Create(f.Context(), request(name))
	if err != nil {
		f.Fatalf("create %s: %v", name, err)
	}
	f.wantWhole(v, request(name))
	return v
}

// createWritten makes a volume with something on it.
func (f *fixture) createWritten(name string) *volume.Volume {
	f.Helper()
	v := f.create(name)
	f.h.Write(name, written)
	return v
}

// remove removes a volume that nobody has.
func (f *fixture) remove(name string) {
	f.Helper()
	if err := f.h.Store().Remove(f.Context(), name); err != nil {
		f.Fatalf("remove %s: %v", name, err)
	}
	f.wantAbsent(name)
}

// use makes a VM that has a volume.
func (f *fixture) use(name, how string) volume.User {
	f.Helper()
	user, ok := f.h.Use(name, how)
	if !ok {
		f.Fatalf("no VM can have volume %s, %s", name, how)
	}
	return user
}

// common is how most VMs have volumes.
func (f *fixture) common() string { return f.h.Uses()[0] }

// wantWhole fails the test unless the volume is what was asked for.
func (f *fixture) wantWhole(v *volume.Volume, r volume.Request) {
	f.Helper()
	if v == nil {
		f.Fatalf("no volume %s and no error", r.Name)
	}
	s := f.h.Store()
	onDisk := s.Driver() == volume.VMDK
	want := volume.Volume{Name: r.Name, Store: v.Store, Driver: s.Driver(), Location: v.Location, Disk: v.Disk, Created: v.Created, Metadata: r.Metadata}
	want.Metadata.Name, want.Metadata.Driver = r.Name, volume.PersonaDriver
	if onDisk {
		want.Capacity = r.Capacity
	}
	if diff := cmp.Diff(want, *v, cmpopts.EquateEmpty()); diff != "" {
		f.Errorf("volume %s (-want +got):\n%s", r.Name, diff)
	}
	if v.Store == "" || !strings.Contains(v.Location, r.Name) {
		f.Errorf("volume %s is in store %q at %q", r.Name, v.Store, v.Location)
	}
	if (v.Disk != "") != onDisk {
		f.Errorf("volume %s of %s has the disk %q", r.Name, v.Driver, v.Disk)
	}
	f.wantListed(r)
}

// wantListed fails the test unless VIC finds what was asked for.
func (f *fixture) wantListed(r volume.Request) {
	f.Helper()
	e, ok := f.listed(r.Name)
	if !ok {
		f.Fatalf("VIC does not find volume %s", r.Name)
	}
	got, err := volume.DecodeMetadata([]byte(e.Metadata))
	if err != nil {
		f.Errorf("metadata of volume %s, %q: %v", r.Name, e.Metadata, err)
	}
	want := r.Metadata
	want.Name, want.Driver = r.Name, volume.PersonaDriver
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		f.Errorf("metadata of volume %s as VIC finds it (-want +got):\n%s", r.Name, diff)
	}
	label, size := volume.Label(r.Name), r.Capacity
	if f.h.Store().Driver() != volume.VMDK {
		label, size = "", 0
	}
	if e.Label != label || e.Capacity != size {
		f.Errorf("volume %s has the label %q and %d bytes, want %q and %d", r.Name, e.Label, e.Capacity, label, size)
	}
}

// listed returns what VIC finds under a name.
func (f *fixture) listed(name string) (Entry, bool) {
	entries, _ := f.h.Listed()
	at := slices.IndexFunc(entries, func(e Entry) bool { return e.Name == name })
	if at < 0 {
		return Entry{}, false
	}
	return entries[at], true
}

// wantPublished fails the test unless everything shows the volume.
func (f *fixture) wantPublished(r volume.Request) *volume.Volume {
	f.Helper()
	s := f.h.Store()
	v, err := s.Get(f.Context(), r.Name)
	if err != nil {
		f.Fatalf("get %s: %v", r.Name, err)
	}
	f.wantWhole(v, r)
	list := f.list(s)
	at := slices.IndexFunc(list, func(v volume.Volume) bool { return v.Name == r.Name })
	if at < 0 {
		f.Fatalf("the list has no %s", r.Name)
	}
	if diff := cmp.Diff(*v, list[at], cmpopts.EquateEmpty()); diff != "" {
		f.Errorf("Get and List disagree on %s (-Get +List):\n%s", r.Name, diff)
	}
	return v
}

// wantKept is wantPublished with what was written.
func (f *fixture) wantKept(name string) {
	f.Helper()
	f.wantPublished(request(name))
	if got := f.h.Read(name); got != written {
		f.Errorf("volume %s holds %q, want %q", name, got, written)
	}
}

// wantAbsent fails the test if anything shows the volume.
func (f *fixture) wantAbsent(name string) {
	f.Helper()
	s := f.h.Store()
	_, err := s.Get(f.Context(), name)
	f.wantError("get "+name, err, errdefs.NotFound)
	if slices.ContainsFunc(f.list(s), func(v volume.Volume) bool { return v.Name == name }) {
		f.Errorf("the list has %s", name)
	}
	if _, ok := f.listed(name); ok {
		f.Errorf("VIC finds %s", name)
	}
}

// wantWholeOrAbsent fails the test if half a volume is there, and reports whether it is.
func (f *fixture) wantWholeOrAbsent(r volume.Request) bool {
	f.Helper()
	f.wantAgreement()
	if _, ok := f.listed(r.Name); ok {
		f.wantPublished(r)
		return true
	}
	f.wantAbsent(r.Name)
	return false
}

// wantAgreement fails the test unless List has exactly what VIC would list, and
// Damage for what it would stumble over.
func (f *fixture) wantAgreement() {
	f.Helper()
	entries, stumbles := f.h.Listed()
	var names, want []string
	damaged := false
	for _, v := range f.list(f.h.Store()) {
		if v.Damage == "" {
			names = append(names, v.Name)
		}
		damaged = damaged || v.Damage != ""
	}
	for _, e := range entries {
		want = append(want, e.Name)
	}
	if diff := cmp.Diff(want, names, cmpopts.EquateEmpty()); diff != "" {
		f.Errorf("List and VIC disagree (-VIC +List):\n%s", diff)
	}
	if (stumbles != nil) != damaged {
		f.Errorf("VIC would say %v; the list has damaged volumes: %v", stumbles, damaged)
	}
}

// wantNoFiles fails the test unless there is nothing in the world.
func (f *fixture) wantNoFiles(when string) {
	f.Helper()
	if files := f.h.Files(); len(files) != 0 {
		f.Errorf("%s there is %q, want nothing", when, files)
	}
}

func (f *fixture) list(s volume.Store) []volume.Volume {
	f.Helper()
	list, err := s.List(f.Context())
	if err != nil {
		f.Fatalf("list: %v", err)
	}
	if !slices.IsSortedFunc(list, func(a, b volume.Volume) int { return strings.Compare(a.Name, b.Name) }) {
		f.Errorf("the list is not sorted by name: %v", list)
	}
	return list
}

func (f *fixture) leftovers(s volume.Store) []volume.Leftover {
	f.Helper()
	cleaner, ok := s.(volume.Cleaner)
	if !ok {
		return nil
	}
	leftovers, err := cleaner.Leftovers(f.Context())
	if err != nil {
		f.Fatalf("leftovers: %v", err)
	}
	if !slices.IsSortedFunc(leftovers, func(a, b volume.Leftover) int { return strings.Compare(a.Path, b.Path) }) {
		f.Errorf("leftovers are not sorted by path: %v", leftovers)
	}
	for _, l := range leftovers {
		if l.Store == "" || l.Path == "" || l.Reason == "" || l.ID == "" {
			f.Errorf("leftover %+v lacks something", l)
		}
	}
	return leftovers
}

// clean deletes all leftovers, of operations that ended long ago.
func (f *fixture) clean() {
	f.Helper()
	f.h.Advance(long)
	s := f.h.Store()
	leftovers := f.leftovers(s)
	f.cleanThese(s, leftovers)
	if left := f.leftovers(s); len(left) != 0 {
		f.Errorf("after clean there are leftovers %v", left)
	}
}

func (f *fixture) cleanThese(s volume.Store, leftovers []volume.Leftover) {
	f.Helper()
	cleaner, ok := s.(volume.Cleaner)
	if !ok {
		return
	}
	if err := cleaner.Clean(f.Context(), leftovers...); err != nil {
		f.Errorf("clean %v: %v", leftovers, err)
	}
}

// wantError fails the test unless err has one of the kinds.
func (f *fixture) wantError(what string, err error, kinds ...errdefs.Kind) {
	f.Helper()
	if err == nil || !slices.Contains(kinds, errdefs.KindOf(err)) {
		f.Errorf("%s: got error %v of kind %q, want one of %v", what, err, errdefs.KindOf(err), kinds)
	}
}

// wantText fails the test unless the error's text has all parts.
func (f *fixture) wantText(err error, parts ...string) {
	f.Helper()
	for _, part := range parts {
		if err != nil && !strings.Contains(err.Error(), part) {
			f.Errorf("the error %q does not say %q", err, part)
		}
	}
}

// untouched returns a store, and a function that fails the test if it has done a step.
func (f *fixture) untouched() (s volume.Store, want func(what string)) {
	s, struck := f.h.Faulty(Fault{Step: 1, Kind: errdefs.Internal})
	return s, func(what string) {
		f.Helper()
		if struck() {
			f.Errorf("%s asked the world", what)
		}
	}
}

// observed returns a store that has look called before each of its steps.
func (f *fixture) observed(look func()) volume.Store {
	s, _ := f.h.Faulty(Fault{Before: func() {
		f.looks.Lock()
		defer f.looks.Unlock()
		look()
	}})
	return s
}

// calls are those of all methods that take a context.
func calls(ctx context.Context, s volume.Store, name string) map[string]func() error {
	all := map[string]func() error{
		"create": func() error { _, err := s.Create(ctx, request(name)); return err },
		"get":    func() error { _, err := s.Get(ctx, name); return err },
		"list":   func() error { _, err := s.List(ctx); return err },
		"users":  func() error { _, err := s.Users(ctx, name); return err },
		"remove": func() error { return s.Remove(ctx, name) },
	}
	if cleaner, ok := s.(volume.Cleaner); ok {
		all["leftovers"] = func() error { _, err := cleaner.Leftovers(ctx); return err }
	}
	return all
}

// together runs work so many times at once, and waits for the end of all.
func together(times int, work func(i int)) {
	var all sync.WaitGroup
	for i := range times {
		all.Go(func() { work(i) })
	}
	all.Wait()
}

func numbered(i int) string { return fmt.Sprintf("%s-%02d", name, i) }
