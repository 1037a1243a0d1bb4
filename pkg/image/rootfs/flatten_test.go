// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootfs_test

import (
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/rootfs"
)

func TestLayersBecomeOneTree(t *testing.T) {
	t.Parallel()
	type layer = []entry
	for name, tc := range map[string]struct {
		layers []layer
		want   map[string]string
	}{
		"no layers": {},
		"files of all layers are there, the highest counts": {
			[]layer{{dir("a/", 0o755), file("a/x", "1"), file("a/y", "1")}, {file("a/x", "2"), file("b", "2")}},
			map[string]string{"a": "dir 755", "a/x": "file 2", "a/y": "file 1", "b": "file 2"},
		},
		"a whiteout hides a file": {
			[]layer{{file("a", "1"), file("b", "1")}, {file(".wh.a", "")}},
			map[string]string{"b": "file 1"},
		},
		"a whiteout hides a directory with all below": {
			[]layer{{dir("d/", 0o700), dir("d/e/", 0o755), file("d/e/f", "1"), file("b", "1")}, {file(".wh.d", "")}},
			map[string]string{"b": "file 1"},
		},
		"a whiteout hides nothing of its own layer, wherever it stands": {
			[]layer{{file("a", "1"), file("b", "1")}, {file("a", "2"), file(".wh.a", ""), file(".wh.b", ""), file("b", "2")}},
			map[string]string{"a": "file 2", "b": "file 2"},
		},
		"a whiteout of nothing does nothing": {
			[]layer{{file(".wh.a", ""), file("x/.wh.b", "")}},
			map[string]string{},
		},
		"what was hidden may come back": {
			[]layer{{file("a", "1")}, {file(".wh.a", "")}, {file("a", "3")}},
			map[string]string{"a": "file 3"},
		},
		"an opaque directory hides what lower layers have in it": {
			[]layer{
				{dir("d/", 0o700), file("d/old", "1"), dir("d/sub/", 0o755), file("d/sub/old", "1")},
				{dir("d/", 0o711), file("d/new", "2"), file("d/.wh..wh..opq", "")},
			},
			map[string]string{"d": "dir 711", "d/new": "file 2"},
		},
		"an opaque marker before the directory's content does the same": {
			[]layer{
				{dir("d/", 0o700), file("d/old", "1")},
				{file("d/.wh..wh..opq", ""), file("d/new", "2")},
			},
			map[string]string{"d": "dir 700", "d/new": "file 2"},
		},
		"an opaque root hides all lower layers": {
			[]layer{{file("a", "1"), dir("d/", 0o755)}, {file("b", "2"), file(".wh..wh..opq", "")}},
			map[string]string{"b": "file 2"},
		},
		"a directory below an opaque one comes without its old attributes": {
			[]layer{{dir("d/", 0o755), dir("d/e/", 0o700), file("d/e/old", "1")}, {file("d/e/new", "2"), file("d/.wh..wh..opq", "")}},
			map[string]string{"d": "dir 755", "d/e": "dir 755", "d/e/new": "file 2"},
		},
		"an opaque directory of a middle layer lets higher layers in": {
			[]layer{{file("d/1", "1")}, {file("d/.wh..wh..opq", ""), file("d/2", "2")}, {file("d/3", "3")}},
			map[string]string{"d": "dir 755", "d/2": "file 2", "d/3": "file 3"},
		},
		"a directory hidden and made again in one layer has only the new": {
			[]layer{
				{dir("d/", 0o700), file("d/old", "1"), file("d/both", "1")},
				{file(".wh.d", ""), dir("d/", 0o711), file("d/new", "2"), file("d/both", "2")},
			},
			map[string]string{"d": "dir 711", "d/new": "file 2", "d/both": "file 2"},
		},
		"a directory hidden after it was made again has only the new": {
			[]layer{
				{dir("d/", 0o700), file("d/old", "1")},
				{file("d/new", "2"), file(".wh.d", "")},
			},
			map[string]string{"d": "dir 755", "d/new": "file 2"},
		},
		"a directory's new attributes leave its content": {
			[]layer{{dir("d/", 0o700), file("d/a", "1")}, {dir("d/", 0o711)}},
			map[string]string{"d": "dir 711", "d/a": "file 1"},
		},
		"a child does not change its directory": {
			[]layer{{dir("d/", 0o700)}, {file("d/a", "2")}},
			map[string]string{"d": "dir 700", "d/a": "file 2"},
		},
		"a directory becomes a file": {
			[]layer{{dir("d/", 0o700), file("d/a", "1")}, {file("d", "2")}},
			map[string]string{"d": "file 2"},
		},
		"a file becomes a directory": {
			[]layer{{file("d", "1")}, {dir("d/", 0o711), file("d/a", "2")}},
			map[string]string{"d": "dir 711", "d/a": "file 2"},
		},
		"a file becomes a directory that only its child names": {
			[]layer{{file("d", "1")}, {file("d/a", "2")}},
			map[string]string{"d": "dir 755", "d/a": "file 2"},
		},
		"a directory becomes a symbolic link and a directory again": {
			[]layer{{file("d/a", "1")}, {symlink("d", "e")}, {dir("d/", 0o711)}},
			map[string]string{"d": "dir 711"},
		},
		"of an entry that comes twice the last counts": {
			[]layer{{file("a", "1"), file("a", "2"), dir("d/", 0o700), file("d/x", "1"), dir("d/", 0o711)}},
			map[string]string{"a": "file 2", "d": "dir 711", "d/x": "file 1"},
		},
		"bookkeeping of AUFS is no part of the image": {
			[]layer{{dir(".wh..wh.plnk/", 0o700), file(".wh..wh.plnk/1.2", "x"), file(".wh..wh.aufs", ""), file("a", "1")}},
			map[string]string{"a": "file 1"},
		},
		"directories that no entry has are made": {
			[]layer{{file("a/b/c", "1")}},
			map[string]string{"a": "dir 755", "a/b": "dir 755", "a/b/c": "file 1"},
		},
		"names are cleaned, absolute ones begin at the root": {
			[]layer{{dir("./", 0o711), dir("./a/", 0o700), file("./a//b", "1"), file("/c", "1"), file("//d/./e", "1"), file("a/../f", "1"), file("x.wh.y", "1")}},
			map[string]string{
				"": "dir 711", "a": "dir 700", "a/b": "file 1", "c": "file 1", "d": "dir 755", "d/e": "file 1", "f": "file 1", "x.wh.y": "file 1",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tars [][]byte
			for _, l := range tc.layers {
				tars = append(tars, pack(t, l...))
			}
			if tc.want == nil {
				tc.want = map[string]string{}
			}
			expect(t, tc.want, flatten(t, rootfs.Options{}, tars...))
		})
	}
}

func TestHardLinksAreNamesOfContent(t *testing.T) {
	t.Parallel()
	type layer = []entry
	for name, tc := range map[string]struct {
		layers []layer
		want   map[string]string
	}{
		"a link in one layer": {
			[]layer{{file("a", "1"), link("b", "a"), link("c/d", "./b")}},
			map[string]string{"a": "file 1 = a b c/d", "b": "file 1 = a b c/d", "c": "dir 755", "c/d": "file 1 = a b c/d"},
		},
		"the target is in a lower layer": {
			[]layer{{file("z/a", "1")}, {link("a", "/z/a")}},
			map[string]string{"z": "dir 755", "z/a": "file 1 = a z/a", "a": "file 1 = a z/a"},
		},
		"the target is replaced in a higher layer: the link keeps the content": {
			[]layer{{file("a", "1"), link("b", "a")}, {file("a", "2")}},
			map[string]string{"a": "file 2", "b": "file 1"},
		},
		"the target is deleted in a higher layer: the first link carries the content": {
			[]layer{{file("a", "1"), link("b", "a"), link("c", "a")}, {file(".wh.a", "")}},
			map[string]string{"b": "file 1 = b c", "c": "file 1 = b c"},
		},
		"the target's directory becomes opaque": {
			[]layer{{file("d/a", "1"), link("b", "d/a")}, {file("d/.wh..wh..opq", "")}},
			map[string]string{"d": "dir 755", "b": "file 1"},
		},
		"target and link are in three layers with the target's end": {
			[]layer{{file("a", "1")}, {link("b", "a")}, {file(".wh.a", ""), link("c", "b")}},
			map[string]string{"b": "file 1 = b c", "c": "file 1 = b c"},
		},
		"the link is replaced, its target stays": {
			[]layer{{file("a", "1"), link("b", "a")}, {file("b", "2")}},
			map[string]string{"a": "file 1", "b": "file 2"},
		},
		"the target is replaced and linked anew": {
			[]layer{{file("a", "1"), link("b", "a")}, {file("a", "2"), link("c", "a")}},
			map[string]string{"a": "file 2 = a c", "b": "file 1", "c": "file 2 = a c"},
		},
		"the target comes twice in one layer with a link between": {
			[]layer{{file("a", "1"), link("b", "a"), file("a", "2")}},
			map[string]string{"a": "file 2", "b": "file 1"},
		},
		"a link replaces the directory that its target is in": {
			[]layer{{file("d/a", "1")}, {link("d", "d/a")}},
			map[string]string{"d": "file 1"},
		},
		"the target gives way to the link's directory": {
			[]layer{{file("a", "1")}, {link("a/b", "a")}},
			map[string]string{"a": "dir 755", "a/b": "file 1"},
		},
		"a link to itself is the file itself": {
			[]layer{{file("a", "1")}, {link("a", "a")}},
			map[string]string{"a": "file 1"},
		},
		"a link to a symbolic link is a second one": {
			[]layer{{symlink("s", "nowhere"), link("t", "s")}},
			map[string]string{"s": "symlink nowhere = s t", "t": "symlink nowhere = s t"},
		},
		"the target's path has a symbolic link": {
			[]layer{{file("usr/lib/a", "1"), symlink("lib", "usr/lib")}, {link("lib/b", "lib/a")}},
			map[string]string{
				"usr": "dir 755", "usr/lib": "dir 755", "lib": "symlink usr/lib",
				"usr/lib/a": "file 1 = usr/lib/a usr/lib/b", "usr/lib/b": "file 1 = usr/lib/a usr/lib/b",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tars [][]byte
			for _, l := range tc.layers {
				tars = append(tars, pack(t, l...))
			}
			expect(t, tc.want, flatten(t, rootfs.Options{}, tars...))
		})
	}
}

func TestSymbolicLinksInAPathAreFollowedWithinTheRoot(t *testing.T) {
	t.Parallel()
	type layer = []entry
	for name, tc := range map[string]struct {
		layers []layer
		want   map[string]string
	}{
		"a relative one of a lower layer": {
			[]layer{{dir("usr/lib/", 0o711), symlink("lib", "usr/lib")}, {file("lib/x", "2")}},
			map[string]string{"usr": "dir 755", "usr/lib": "dir 711", "usr/lib/x": "file 2", "lib": "symlink usr/lib"},
		},
		"an absolute one, and one after another": {
			[]layer{{symlink("a", "/b"), symlink("b", "c/d"), file("a/x", "1")}},
			map[string]string{"a": "symlink /b", "b": "symlink c/d", "c": "dir 755", "c/d": "dir 755", "c/d/x": "file 1"},
		},
		"one that climbs ends at the root": {
			[]layer{{symlink("a", "../../../../etc"), symlink("b", "/../.."), file("a/x", "1"), file("b/y", "1")}},
			map[string]string{"a": "symlink ../../../../etc", "b": "symlink /../..", "etc": "dir 755", "etc/x": "file 1", "y": "file 1"},
		},
		"one in a whiteout's path": {
			[]layer{{file("usr/lib/x", "1"), symlink("lib", "usr/lib")}, {file("lib/.wh.x", "")}},
			map[string]string{"usr": "dir 755", "usr/lib": "dir 755", "lib": "symlink usr/lib"},
		},
		"one to an opaque directory": {
			[]layer{{file("usr/lib/x", "1"), symlink("lib", "usr/lib")}, {file("lib/.wh..wh..opq", "")}},
			map[string]string{"usr": "dir 755", "usr/lib": "dir 755", "lib": "symlink usr/lib"},
		},
		"the last part is not followed": {
			[]layer{{file("a", "1"), symlink("l", "a"), symlink("m", "d"), file("d/x", "1")}, {file("l", "2"), dir("m/", 0o711)}},
			map[string]string{"a": "file 1", "l": "file 2", "m": "dir 711", "d": "dir 755", "d/x": "file 1"},
		},
		"a whiteout hides the link, not what it points to": {
			[]layer{{file("d/x", "1"), symlink("l", "d")}, {file(".wh.l", "")}},
			map[string]string{"d": "dir 755", "d/x": "file 1"},
		},
		"one to a file of a lower layer, which gives way": {
			[]layer{{file("f", "1"), symlink("l", "f")}, {file("l/x", "2")}},
			map[string]string{"f": "dir 755", "f/x": "file 2", "l": "symlink f"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tars [][]byte
			for _, l := range tc.layers {
				tars = append(tars, pack(t, l...))
			}
			expect(t, tc.want, flatten(t, rootfs.Options{}, tars...))
		})
	}
}
