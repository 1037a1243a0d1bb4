// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package imagetest

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// publishing are the tests of what is shown.
func publishing() map[string]func(*fixture) {
	return map[string]func(*fixture){
		"a disk that is made is shown whole, by every method":             shownWhole,
		"what is not there is NotFound":                                   notThere,
		"a disk that is there is not made again":                          notAgain,
		"a disk may have no name":                                         noName,
		"a name moves to another digest":                                  nameMoves,
		"a name in two sizes leads to two disks":                          twoSizes,
		"a digest under several names is one disk":                        severalNames,
		"names of every form are kept apart":                              formsOfNames,
		"the list is sorted by first name, digest and size":               sortedList,
		"keys that are not valid are InvalidArgument":                     invalidKeys,
		"errors name the store and the disk":                              namedErrors,
		"stores of one place have one name":                               oneName,
		"verify withdraws a disk whose files vanished":                    vanishedFiles,
		"progress is reported in order, not overlapping, until the end":   progress,
		"progress may be nobody's business":                               noReport,
		"what an answer holds is the caller's, and changes nothing":       ownAnswers,
		"users of a disk are the VMs whose chains have it, by key":        usersOfDisks,
		"a VM whose disks cannot be told counts as user of everything":    hiddenUsers,
		"a disk that is not published may be asked for its users as well": usersOfAbsent,
	}
}

func shownWhole(f *fixture) {
	key := keyOf(1, size)
	f.ensure(f.h.Store(), key, "registry.example.com/node:v1")
	f.wantPublished(key, "registry.example.com/node:v1")
	if n := f.made.calls.Load(); n != 1 {
		f.Errorf("the source was called %d times", n)
	}
	if got := f.list(f.h.Store()); len(got) != 1 {
		f.Errorf("the list has %d disks, want one", len(got))
	}
	if left := f.leftovers(f.h.Store()); len(left) != 0 {
		f.Errorf("after an Ensure that went well there are leftovers %v", left)
	}
}

func notThere(f *fixture) {
	f.ensure(f.h.Store(), keyOf(1, size), "node:v1")
	f.wantUnpublished(keyOf(2, size), "node:v2")
	f.wantUnpublished(keyOf(1, 2*size), "node:v1") // another size is another disk
	removed, err := f.tryRemove(f.h.Store(), keyOf(2, size))
	f.wantError("remove", err, errdefs.NotFound)
	if len(removed) != 0 {
		f.Errorf("%v were removed, which were not there", removed)
	}
	f.wantPublished(keyOf(1, size), "node:v1")
}

func notAgain(f *fixture) {
	key, s := keyOf(1, size), f.h.Store()
	first := f.ensure(s, key, "node:v1")
	for _, s := range []image.Store{s, f.h.Store()} {
		again, err := s.Ensure(f.Context(), key, "node:v1", f.never(), nil)
		if err != nil {
			f.Fatal(err)
		}
		f.wantWhole(again, key)
		if again.Path != first.Path {
			f.Errorf("the disk was in %s and is in %s", first.Path, again.Path)
		}
	}
	f.wantPublished(key, "node:v1")
}

func noName(f *fixture) {
	key := keyOf(1, size)
	f.ensure(f.h.Store(), key, "")
	f.wantPublished(key)
	// It gets one later, and does not lose it again.
	for _, name := range []string{"node:v1", ""} {
		if _, err := f.h.Store().Ensure(f.Context(), key, name, f.never(), nil); err != nil {
			f.Fatal(err)
		}
		f.wantPublished(key, "node:v1")
	}
}

func nameMoves(f *fixture) {
	older, newer, s := keyOf(1, size), keyOf(2, size), f.h.Store()
	f.ensure(s, older, "node:latest")
	f.ensure(s, older, "node:v1")
	f.ensure(f.h.Store(), newer, "node:latest")
	f.wantPublished(newer, "node:latest")
	f.wantPublished(older, "node:v1")
	if disk, err := s.Lookup(f.Context(), "node:latest", older.Size); err != nil || disk.Key != newer {
		f.Errorf("a store that knew the name before shows %v, %v", disk, err)
	}
	if _, err := s.Ensure(f.Context(), older, "node:latest", f.never(), nil); err != nil { // and back
		f.Fatal(err)
	}
	f.wantPublished(older, "node:latest", "node:v1")
	f.wantPublished(newer)
	f.remove(s, newer)
	f.wantPublished(older, "node:latest", "node:v1") // a name that has moved on is not taken along
}

func twoSizes(f *fixture) {
	small, large, s := keyOf(1, size), keyOf(1, 2*size), f.h.Store()
	f.ensure(s, small, "node:v1")
	f.wantUnpublished(large, "node:v1")
	f.ensure(s, large, "node:v1")
	f.wantPublished(small, "node:v1")
	f.wantPublished(large, "node:v1")
	f.remove(s, small)
	f.wantUnpublished(small, "node:v1")
	f.wantPublished(large, "node:v1")
}

func severalNames(f *fixture) {
	key := keyOf(1, size)
	f.ensure(f.h.Store(), key, "node:v1.34")
	for _, name := range []string{"a/node:v1", "node@" + key.Digest, "node:latest"} {
		if _, err := f.h.Store().Ensure(f.Context(), key, name, f.never(), nil); err != nil {
			f.Fatal(err)
		}
	}
	f.wantPublished(key, "a/node:v1", "node:latest", "node:v1.34", "node@"+key.Digest)
	f.remove(f.h.Store(), key)
	f.wantUnpublished(key, "a/node:v1", "node:latest", "node:v1.34", "node@"+key.Digest)
	f.wantNoFiles("after the disk was removed")
}

func formsOfNames(f *fixture) {
	names := []string{
		"docker.io/library/node:v1", "docker.io/library/node_v1", "docker.io/library-node:v1", "127.0.0.1:5000/a/b/c:v1",
		"[::1]:5000/node:V1", "[::1]:5000/node:v1", "r/node:v1@" + digest(9), "r/" + strings.Repeat("long/", 50) + "node:" + strings.Repeat("t", 128),
	}
	s := f.h.Store()
	for i, name := range names {
		f.ensure(s, keyOf(i, size), name)
	}
	for i, name := range names {
		f.wantPublished(keyOf(i, size), name)
	}
}

func sortedList(f *fixture) {
	s := f.h.Store()
	if got := f.list(s); len(got) != 0 {
		f.Errorf("a new place has %v", got)
	}
	var want []image.Key
	byDigest := []int{1, 2, 3, 4}
	slices.SortFunc(byDigest, func(a, b int) int { return strings.Compare(digest(a), digest(b)) })
	for _, n := range []int{4, 2, 1, 3} { // without names
		f.ensure(s, keyOf(n, size), "")
	}
	for _, n := range byDigest {
		want = append(want, keyOf(n, size))
	}
	for _, named := range []struct {
		key  image.Key
		name string
	}{{keyOf(5, 2*size), "b:1"}, {keyOf(5, size), "b:1"}, {keyOf(6, size), "c:1"}, {keyOf(7, size), "a:1"}, {keyOf(6, size), "a:2"}} {
		if _, err := s.Ensure(f.Context(), named.key, named.name, f.plain(), nil); err != nil {
			f.Fatal(err)
		}
	}
	want = append(want, keyOf(7, size), keyOf(6, size), keyOf(5, size), keyOf(5, 2*size))
	var got []image.Key
	for _, d := range f.list(f.h.Store()) {
		f.wantWhole(&d, d.Key)
		got = append(got, d.Key)
	}
	if !slices.Equal(got, want) {
		f.Errorf("the list is %v, want %v", got, want)
	}
}

func invalidKeys(f *fixture) {
	good := keyOf(1, size)
	s := f.h.Store()
	for what, bad := range map[string]image.Key{
		"nothing":            {},
		"no digest":          {Size: good.Size},
		"another algorithm":  {Digest: "sha512:" + strings.Repeat("a", 128), Size: good.Size},
		"capital letters":    {Digest: strings.ToUpper(good.Digest), Size: good.Size},
		"a digest cut short": {Digest: good.Digest[:70], Size: good.Size},
		"a path":             {Digest: "sha256:../" + good.Digest[10:], Size: good.Size},
		"more after it":      {Digest: good.Digest + "\n", Size: good.Size},
		"no size":            {Digest: good.Digest},
		"a negative size":    {Digest: good.Digest, Size: -good.Size},
		"less than 64 MiB":   {Digest: good.Digest, Size: image.MinSize - image.SizeUnit},
		"more than 2 TiB":    {Digest: good.Digest, Size: image.MaxSize + image.SizeUnit},
		"a part of a MiB":    {Digest: good.Digest, Size: good.Size + 512},
	} {
		_, err := s.Ensure(f.Context(), bad, "node:v1", f.never(), nil)
		f.wantError("ensure with "+what, err, errdefs.InvalidArgument)
		_, err = s.Find(f.Context(), bad)
		f.wantError("find with "+what, err, errdefs.InvalidArgument)
		_, err = s.Verify(f.Context(), bad)
		f.wantError("verify with "+what, err, errdefs.InvalidArgument)
		_, err = s.Users(f.Context(), bad)
		f.wantError("users with "+what, err, errdefs.InvalidArgument)
		_, err = f.tryRemove(s, bad)
		f.wantError("remove with "+what, err, errdefs.InvalidArgument)
		if bad.Size != good.Size {
			_, err = s.Lookup(f.Context(), "node:v1", bad.Size)
			f.wantError("lookup with "+what, err, errdefs.InvalidArgument)
		}
	}
	f.wantNoFiles("after calls with keys that are not valid")
}

func namedErrors(f *fixture) {
	key, s := keyOf(1, size), f.h.Store()
	_, err := s.Find(f.Context(), key)
	f.wantText(err, s.String(), short(key))
	_, err = s.Verify(f.Context(), key)
	f.wantText(err, s.String(), short(key))
	_, err = s.Lookup(f.Context(), "node:v1", key.Size)
	f.wantText(err, s.String(), "node:v1")
	_, err = f.tryRemove(s, key)
	f.wantText(err, s.String(), short(key))
	broken := f.source(source{read: func() error { return errors.New("words of the content") }})
	_, err = s.Ensure(f.Context(), key, "node:v1", broken, nil)
	f.wantText(err, s.String(), short(key), "words of the content")
}

func oneName(f *fixture) {
	a, b := f.h.Store(), f.h.Store()
	if a.String() == "" || a.String() != b.String() {
		f.Errorf("stores of one place are called %q and %q", a, b)
	}
}

func vanishedFiles(f *fixture) {
	key, other, s := keyOf(1, size), keyOf(2, size), f.h.Store()
	lost := f.ensure(s, key, "node:v1")
	f.ensure(s, key, "node:latest")
	f.ensure(s, other, "other:v1")
	f.h.Lose(lost.Path)
	_, err := s.Verify(f.Context(), key)
	f.wantError("verify", err, errdefs.NotFound)
	f.wantUnpublished(key, "node:v1", "node:latest")
	f.wantPublished(other, "other:v1")
	f.ensure(f.h.Store(), key, "node:v1")
	f.wantPublished(key, "node:v1")
	f.remove(s, key, other)
	f.clean()
	f.wantNoFiles("after all was removed")
}

func progress(f *fixture) {
	key := keyOf(1, size)
	of := func(stage image.Stage, done int64) image.Progress {
		return image.Progress{Stage: stage, Done: done, Total: 100}
	}
	reported := []image.Progress{of(image.Downloading, 0), of(image.Downloading, 100), of(image.Unpacking, 50), of(image.Converting, 62)}
	var seen []image.Progress
	report, stop := f.watch(func(p image.Progress) { seen = append(seen, p) })
	if _, err := f.h.Store().Ensure(f.Context(), key, "node:v1", f.source(source{progress: reported}), report); err != nil {
		f.Fatal(err)
	}
	stop()
	own := slices.DeleteFunc(slices.Clone(seen), func(p image.Progress) bool { return !slices.Contains(reported, p) })
	if !slices.Equal(own, reported) {
		f.Errorf("what the source reported came as %v", own)
	}
	if len(seen) == len(own) {
		f.Error("the store reported nothing, want at least the upload")
	}
	report, stop = f.watch(nil)
	if _, err := f.h.Store().Ensure(f.Context(), key, "node:v1", f.never(), report); err != nil {
		f.Fatal(err)
	}
	stop()
	report, stop = f.watch(nil)
	fails := f.source(source{read: func() error { return errors.New("no") }})
	_, err := f.h.Store().Ensure(f.Context(), keyOf(2, size), "node:v2", fails, report)
	stop()
	if err == nil {
		f.Error("no error of a content that cannot be read")
	}
}

func noReport(f *fixture) {
	source := f.source(source{progress: []image.Progress{{Stage: image.Downloading}}})
	if _, err := f.h.Store().Ensure(f.Context(), keyOf(1, size), "node:v1", source, nil); err != nil {
		f.Fatal(err)
	}
	f.wantPublished(keyOf(1, size), "node:v1")
}

func ownAnswers(f *fixture) {
	key, s := keyOf(1, size), f.h.Store()
	spoil := func(d *image.Disk) {
		d.Config.Env[0], d.Config.Entrypoint[0] = "spoilt", "spoilt"
		for i := range d.Names {
			d.Names[i] = "spoilt"
		}
		d.Path = "spoilt"
	}
	spoil(f.ensure(s, key, "node:v1"))
	for what, get := range map[string]func() (*image.Disk, error){
		"find":   func() (*image.Disk, error) { return s.Find(f.Context(), key) },
		"verify": func() (*image.Disk, error) { return s.Verify(f.Context(), key) },
		"lookup": func() (*image.Disk, error) { return s.Lookup(f.Context(), "node:v1", key.Size) },
		"list":   func() (*image.Disk, error) { return &f.list(s)[0], nil },
	} {
		for range 2 {
			disk, err := get()
			if err != nil {
				f.Fatalf("%s: %v", what, err)
			}
			f.wantWhole(disk, key)
			spoil(disk)
		}
	}
	f.wantPublished(key, "node:v1")
}

// wantUsers fails the test unless a disk has exactly these users.
func (f *fixture) wantUsers(got map[image.Key][]image.User, key image.Key, want ...image.User) {
	f.Helper()
	byVM := func(a, b image.User) int { return cmp.Compare(a.VM, b.VM) }
	have := slices.SortedFunc(slices.Values(got[key]), byVM)
	if !slices.Equal(have, slices.SortedFunc(slices.Values(want), byVM)) {
		f.Errorf("users of %s are %v, want %v", key, have, want)
	}
}

func (f *fixture) users(keys ...image.Key) map[image.Key][]image.User {
	f.Helper()
	users, err := f.h.Store().Users(f.Context(), keys...)
	if err != nil {
		f.Fatalf("users: %v", err)
	}
	return users
}

func usersOfDisks(f *fixture) {
	one, two, three, s := keyOf(1, size), keyOf(1, 2*size), keyOf(2, size), f.h.Store()
	a := f.h.Attach(f.ensure(s, one, "node:v1").Path)
	b := f.h.Attach(f.ensure(s, one, "node:v1").Path)
	c := f.h.Attach(f.ensure(s, two, "node:v1").Path)
	f.ensure(s, three, "other:v1")
	got := f.users(one, two, three)
	f.wantUsers(got, one, a, b)
	f.wantUsers(got, two, c)
	f.wantUsers(got, three)
	if a == b || a.Name == "" || a.VM == "" {
		f.Errorf("users are %+v and %+v", a, b)
	}
	f.h.Detach(a)
	f.wantUsers(f.users(one), one, b)
	if got := f.users(); len(got) != 0 {
		f.Errorf("users of no disk are %v", got)
	}
}

func hiddenUsers(f *fixture) {
	one, two, s := keyOf(1, size), keyOf(2, size), f.h.Store()
	a := f.h.Attach(f.ensure(s, one, "node:v1").Path)
	f.ensure(s, two, "node:v2")
	hidden := f.h.AttachHidden()
	if !hidden.Unproven || a.Unproven {
		f.Errorf("unproven are %+v and %+v", a, hidden)
	}
	got := f.users(one, two)
	f.wantUsers(got, one, a, hidden)
	f.wantUsers(got, two, hidden)
	removed, err := f.tryRemove(s, two)
	f.wantError("remove", err, errdefs.FailedPrecondition)
	f.wantText(err, hidden.Name)
	if len(removed) != 0 {
		f.Errorf("%v were removed, which a VM may use", removed)
	}
	f.wantPublished(two, "node:v2")
}

func usersOfAbsent(f *fixture) {
	key, s := keyOf(1, size), f.h.Store()
	f.wantUsers(f.users(key), key)
	disk := f.ensure(s, key, "node:v1")
	user := f.h.Attach(disk.Path)
	f.wantUsers(f.users(key, keyOf(2, size)), key, user)
	f.h.Lose(disk.Path)
	_, err := s.Verify(f.Context(), key)
	f.wantError("verify", err, errdefs.NotFound)
	f.wantUsers(f.users(key), key, user) // its chain has it, whatever became of the files
}
