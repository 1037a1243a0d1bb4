// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

const someID = "0123456789abcdef0123456789abcdef"

func TestEntriesAreReadBackAndNothingElseIs(t *testing.T) {
	t.Parallel()
	l := layout{root: "a/b"}
	e := entry{phase: removing, name: "data.1", id: someID}
	for _, tc := range [][2]string{
		{l.entry(e), "a/b/mcm-volumes/removed/data.1." + someID},
		{l.held(e), "a/b/mcm-volumes/removed/data.1." + someID + "/data.1"},
		{diskIn(l.volume("data"), "data"), "a/b/volumes/data/data.vmdk"},
		{metadataIn(l.volume("data")), "a/b/volumes/data/imageMetadata/DockerMetaData"},
		{layout{}.volumes(), "volumes"},
		{layout{}.entry(entry{making, "v", someID}), "mcm-volumes/new/v." + someID},
	} {
		if tc[0] != tc[1] {
			t.Errorf("got %s, want %s", tc[0], tc[1])
		}
	}
	if got, ok := parseEntry(removing, "data.1."+someID); !ok || got != e {
		t.Errorf("%+v, %v", got, ok)
	}
	for _, s := range []string{"", ".", "..", "x", someID, "." + someID, "data." + someID[1:], "data." + someID + "0", "data." + strings.ToUpper(someID), "data-" + someID, "_x." + someID, "a b." + someID, "../x." + someID} {
		if got, ok := parseEntry(making, s); ok {
			t.Errorf("%q is taken for %+v", s, got)
		}
	}
}

func FuzzParseEntry(f *testing.F) {
	f.Add("data." + someID)
	f.Add("a..b." + someID)
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		e, ok := parseEntry(making, s)
		if ok && (layout{}).entry(e) != "mcm-volumes/new/"+s {
			t.Errorf("%q is not read back", s)
		}
		if ok && volume.ValidateName(e.name) != nil {
			t.Errorf("%q is a volume of a bad name", s)
		}
	})
}

// plan is a store that can only think, on a datastore of a type. Its directory has an id.
func plan(kind, location string) *Store {
	s := New(Options{
		Host:  &vch.Config{Name: "vch-1", Datastores: map[string]vch.Datastore{"ds1": {Name: "ds1", Type: kind, Accessible: true}}},
		Label: "fast", Location: url.URL{Scheme: "ds", Host: "ds1", Path: location},
	})
	s.files = resolver{s.files, map[string]string{"VIC": rootID, rootID: rootID}}
	return s
}

const (
	rootID  = "5e2bd45f-1fb0-c0d3-b9b2-0050560105a8"
	otherID = "5e2bd45f-ffff-c0d3-b9b2-0050560105a8"
)

// resolver knows the ids of directories.
type resolver struct {
	files
	ids map[string]string
}

func (r resolver) Resolve(_ context.Context, p string) (string, error) {
	top, rest, deep := strings.Cut(p, "/")
	id, ok := r.ids[top]
	switch {
	case !ok:
		return "", errdefs.New(errdefs.NotFound, "%s is not there", p)
	case deep:
		return id + "/" + rest, nil
	}
	return id, nil
}

func TestWhichFilesAreOfAVolume(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		kind, location string
		in, out        []string
	}{
		"files": {"VMFS", "[ds1] VIC/x", []string{
			"[ds1] VIC/x/volumes/data/data.vmdk", "[ds1] VIC/x/volumes/data/data-000001.vmdk", "[ds1] VIC/x/volumes/data/imageMetadata/DockerMetaData", "[ds1] /VIC/x/volumes/data/data.vmdk",
		}, []string{
			"[ds1] VIC/x/volumes/data2/data.vmdk", "[ds1] VIC/x/volumes/dat/data.vmdk", "[ds1] VIC/x/volume/data/data.vmdk", "[ds2] VIC/x/volumes/data/data.vmdk",
			"[ds1] x/volumes/data/data.vmdk", "[ds1] a/VIC/x/volumes/data/data.vmdk", "[ds1] VIC/x/data/data.vmdk", "[ds1] vic/x/volumes/data/data.vmdk",
			"[ds1] VIC/x/mcm-volumes/new/data." + someID + "/data/data.vmdk", "VIC/x/volumes/data/data.vmdk", "", "[ds1]", "[ds1] volumes/data",
		}},
		"at the root": {"NFS", "[ds1]", []string{"[ds1] volumes/data/data.vmdk"}, []string{"[ds1] VIC/volumes/data/data.vmdk", "[ds1] data/data.vmdk"}},
		"known by its name": {"vsan", "[ds1] VIC/x", []string{"[ds1] VIC/x/volumes/data/data.vmdk", "[ds1] " + rootID + "/x/volumes/data/data.vmdk"}, []string{
			"[ds1] " + otherID + "/x/volumes/data/data.vmdk", "[ds1] Other/x/volumes/data/data.vmdk", "[ds1] VIC/y/volumes/data/data.vmdk",
		}},
		"known by its id": {"vsan", "[ds1] " + rootID, []string{"[ds1] " + rootID + "/volumes/data/data.vmdk", "[ds1] VIC/volumes/data/data.vmdk"}, []string{
			"[ds1] " + otherID + "/volumes/data/data.vmdk", "[ds1] " + rootID + "/x/volumes/data/data.vmdk",
		}},
		"of a name that has no id": {"vsan", "[ds1] Gone", []string{"[ds1] Gone/volumes/data/data.vmdk", "[ds1] " + otherID + "/volumes/data/data.vmdk"}, []string{"[ds1] Gone/x/volumes/data/data.vmdk"}},
	} {
		territory, err := plan(c.kind, c.location).territory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range c.in {
			if !territory.hasVolume(file, "data") {
				t.Errorf("%s: %s is not of the volume", what, file)
			}
		}
		for _, file := range c.out {
			if territory.hasVolume(file, "data") {
				t.Errorf("%s: %s is of the volume", what, file)
			}
		}
	}
	territory, err := plan("VMFS", "[ds1] VIC").territory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := entry{removing, "data", someID}
	for file, want := range map[string]bool{
		"[ds1] VIC/mcm-volumes/removed/data." + someID + "/data/data.vmdk": true,
		"[ds1] VIC/mcm-volumes/new/data." + someID + "/data/data.vmdk":     false,
		"[ds1] VIC/mcm-volumes/removed/dat." + someID + "/data/data.vmdk":  false,
		"[ds1] VIC/volumes/data/data.vmdk":                                 false,
	} {
		if got := territory.hasEntry(file, e); got != want {
			t.Errorf("%s: %v", file, got)
		}
	}
}

// descriptors has the text of files.
type descriptors struct {
	files
	text string
}

func (d descriptors) Read(context.Context, string, int64) ([]byte, error) { return []byte(d.text), nil }

func TestTheCapacityIsTheSumOfTheExtents(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"# Extent description\nRW 2097152 VMFS \"data-flat.vmdk\"\n":                                  1 << 30,
		"RW 8388608 VMFS \"vsan://d1b5c95e-6a25-2a1f-5e0a-0050560105a8\"\r\n":                         4 << 30,
		"RW 4192256 SPARSE \"a-s001.vmdk\"\nRW 2048 SPARSE \"a-s002.vmdk\"\n# RW 5 VMFS \"c.vmdk\"\n": 4194304 * 512,
		" RDONLY 2048 VMFS \"x\"\n\tNOACCESS 2048 ZERO \n":                                            2 << 20,
		"createType=\"vmfs\"\n": 0,
		"":                      0,
		"RW 0 VMFS \"x\"\n":     0,
		"RW -5 VMFS \"x\"\n":    0,
		"RW 999999999999999999999999 VMFS \"x\"\n":            0,
		strings.Repeat("RW 999999999999999 VMFS \"x\"\n", 20): 0,
	} {
		s := plan("VMFS", "[ds1] VIC")
		s.files = descriptors{s.files, text}
		got, damage, err := s.capacity(t.Context(), "x.vmdk")
		if err != nil || got != want || (damage != "") != (want == 0) {
			t.Errorf("%.80q: %d, %q, %v, want %d", text, got, damage, err, want)
		}
	}
}

func TestJoinIsVICs(t *testing.T) {
	t.Parallel()
	s := plan("VMFS", "[ds1] VIC")
	v := &volume.Volume{Name: "data", Store: "fast", Driver: volume.VMDK, Disk: "[ds1] VIC/volumes/data/data.vmdk", Capacity: 1 << 30}
	for what, c := range map[string]struct {
		mount    volume.Mount
		mode     string
		copyMode guestinfo.CopyMode
		discard  bool
	}{
		"plain":       {volume.Mount{Path: "/data"}, "rw", guestinfo.CopyNew, false},
		"read only":   {volume.Mount{Path: "/data", ReadOnly: true}, "ro", guestinfo.CopyNew, true},
		"not copied":  {volume.Mount{Path: "/data", NoCopy: true}, "rw", guestinfo.CopyNever, false},
		"neither nor": {volume.Mount{Path: "/data", ReadOnly: true, NoCopy: true}, "ro", guestinfo.CopyNever, true},
	} {
		got, err := s.Join(v, c.mount)
		if err != nil {
			t.Fatal(err)
		}
		want := &volume.Joint{Volume: "data", Disk: v.Disk, Discard: c.discard, Spec: guestinfo.MountSpec{
			Source: url.URL{Scheme: "label", Path: "8d777f385d3dfec8"}, Path: "/data", Mode: c.mode, CopyMode: c.copyMode,
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	for kind, bad := range map[errdefs.Kind][]func(v *volume.Volume, m *volume.Mount){
		errdefs.InvalidArgument: {
			func(v *volume.Volume, _ *volume.Mount) { v.Name = "../data" },
			func(v *volume.Volume, _ *volume.Mount) { v.Store = "other" },
			func(v *volume.Volume, _ *volume.Mount) { v.Driver = volume.NFS },
			func(_ *volume.Volume, m *volume.Mount) { m.Path = "data" },
			func(_ *volume.Volume, m *volume.Mount) { m.Path = "" },
			func(_ *volume.Volume, m *volume.Mount) { m.Path = "/data/" },
			func(_ *volume.Volume, m *volume.Mount) { m.Path = "/a/../data" },
		},
		errdefs.FailedPrecondition: {
			func(v *volume.Volume, _ *volume.Mount) { v.Damage = noMetadata },
			func(v *volume.Volume, _ *volume.Mount) { v.Disk = "" },
		},
	} {
		for i, change := range bad {
			v, m := *v, volume.Mount{Path: "/data"}
			change(&v, &m)
			if j, err := s.Join(&v, m); !errdefs.Is(err, kind) || j != nil || !strings.Contains(err.Error(), s.String()) {
				t.Errorf("%s %d: %v, %v", kind, i, j, err)
			}
		}
	}
}

// TestALocationThatIsNoGoodIsSaidByEachMethod: before anything is sent, for there is nobody to send it to.
func TestALocationThatIsNoGoodIsSaidByEachMethod(t *testing.T) {
	t.Parallel()
	host := &vch.Config{Name: "vch-1", DatacenterPath: "/dc-1", Datastores: map[string]vch.Datastore{
		"ds1": {Name: "ds1", Type: "VMFS", Accessible: true}, "lost": {Name: "lost", Type: "VMFS"}, "vsan": {Name: "vsan", Type: "vsan", Accessible: true},
	}}
	for what, c := range map[string]struct {
		location url.URL
		kind     errdefs.Kind
		text     string
	}{
		"not in the datacenter": {url.URL{Scheme: "ds", Host: "ds2", Path: "[ds2] VIC"}, errdefs.FailedPrecondition, `datastore "ds2" is not in the VCH's datacenter /dc-1`},
		"inaccessible":          {url.URL{Scheme: "ds", Host: "lost", Path: "[lost] VIC"}, errdefs.Unavailable, `datastore "lost" is inaccessible`},
		"no directory":          {url.URL{Scheme: "ds", Host: "vsan", Path: "[vsan]"}, errdefs.FailedPrecondition, "needs a directory"},
		"no path":               {url.URL{Scheme: "ds", Host: "ds1", Path: "[ds1 VIC"}, errdefs.FailedPrecondition, "no datastore in brackets"},
		"another scheme":        {url.URL{Scheme: "nfs", Host: "h", Path: "/e", User: url.UserPassword("u", "secret")}, errdefs.FailedPrecondition, "on no datastore"},
	} {
		s := New(Options{Host: host, Label: "fast", Location: c.location})
		ctx := t.Context()
		for method, call := range map[string]func() error{
			"create":    func() error { _, err := s.Create(ctx, volume.Request{Name: "data"}); return err },
			"get":       func() error { _, err := s.Get(ctx, "data"); return err },
			"list":      func() error { _, err := s.List(ctx); return err },
			"users":     func() error { _, err := s.Users(ctx, "data"); return err },
			"remove":    func() error { return s.Remove(ctx, "data") },
			"leftovers": func() error { _, err := s.Leftovers(ctx); return err },
			"clean":     func() error { return s.Clean(ctx, volume.Leftover{ID: "x"}) },
		} {
			err := call()
			if !errdefs.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), `"fast"`) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s, %s: %v (%s)", what, method, err, errdefs.KindOf(err))
			}
		}
	}
}

func TestWhatIsFoundIsJudgedAsVICWould(t *testing.T) {
	t.Parallel()
	dir := func(name string) datastore.Entry { return datastore.Entry{Name: name, Dir: true} }
	file := func(name string) datastore.Entry { return datastore.Entry{Name: name} }
	s := plan("VMFS", "[ds1] VIC")
	for what, c := range map[string]struct {
		of   datastore.Entry
		tree map[string][]datastore.Entry
		want string
	}{
		"a file":                {file("data"), nil, strayFile},
		"an empty directory":    {dir("data"), map[string][]datastore.Entry{"data": {}}, noDirectory},
		"a file as directory":   {dir("data"), map[string][]datastore.Entry{"data": {file("imageMetadata"), file("data.vmdk")}}, noDirectory},
		"no key":                {dir("data"), map[string][]datastore.Entry{"data": {dir("imageMetadata"), file("data.vmdk")}, "data/imageMetadata": {file("other")}}, noMetadata},
		"a directory as key":    {dir("data"), map[string][]datastore.Entry{"data": {dir("imageMetadata"), file("data.vmdk")}, "data/imageMetadata": {dir("DockerMetaData")}}, noMetadata},
		"a directory as disk":   {dir("data"), map[string][]datastore.Entry{"data": {dir("imageMetadata"), dir("data.vmdk")}, "data/imageMetadata": {file("DockerMetaData")}}, noDisk},
		"a disk of another one": {dir("data"), map[string][]datastore.Entry{"data": {dir("imageMetadata"), file("x.vmdk")}, "data/imageMetadata": {file("DockerMetaData")}}, noDisk},
	} {
		s.files = descriptors{s.files, "{}"}
		f := found{Entry: c.of, tree: c.tree, dir: "data"}
		v, err := s.damaged(t.Context(), f)
		if err != nil || v.Damage != c.want || v.Capacity != 0 || f.whole() {
			t.Errorf("%s: %+v, %v, want %s", what, v, err, c.want)
		}
	}
	for name, hides := range map[string]bool{"a b": true, ".x": true} {
		if v := s.unnamed(found{Entry: file(name)}); strings.Contains(v.Damage, "shows none") != hides || !strings.Contains(v.Damage, "by hand") {
			t.Errorf("%s: %s", name, v.Damage)
		}
	}
}
