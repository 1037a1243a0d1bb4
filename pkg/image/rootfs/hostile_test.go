// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootfs_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/rootfs"
)

func TestHostileLayersAreRefused(t *testing.T) {
	t.Parallel()
	typed := func(name string, kind byte) []byte {
		data := pack(t, file(name, ""))
		data[156] = kind
		checksum(data[:512])
		return data
	}
	long := strings.Repeat("x", 256)
	deep := strings.Repeat("d/", 2100) + "x"
	for name, tc := range map[string]struct {
		layer []byte
		says  string
	}{
		"a name that leaves the root":            {pack(t, file("a/../../evil", "")), `entry "a/../../evil": ".." leaves the root`},
		"an absolute name that leaves the root":  {pack(t, file("/../evil", "")), `entry "/../evil"`},
		"a directory that leaves the root":       {pack(t, dir("../", 0o755)), `entry "../"`},
		"a whiteout that leaves the root":        {pack(t, file("../.wh.evil", "")), `entry "../.wh.evil"`},
		"a whiteout of its own directory":        {pack(t, file("a/.wh.", "")), "hides no file"},
		"a whiteout of dot":                      {pack(t, file("a/.wh..", "")), "hides no file"},
		"a whiteout of the parent":               {pack(t, file("a/.wh...", "")), "hides no file"},
		"a directory called as a whiteout":       {pack(t, file(".wh.a/b", "")), "cannot be called"},
		"a hard link that leaves the root":       {pack(t, link("a", "../etc/shadow")), `entry "a": hard link to "../etc/shadow": ".." leaves the root`},
		"a hard link to nothing":                 {pack(t, link("a", "b")), `hard link to "b", which does not exist`},
		"a hard link to what comes later":        {pack(t, link("a", "b"), file("b", "")), "does not exist"},
		"a hard link to what was hidden":         {pack(t, file("b", ""), file("d/.wh.x", ""), link("a", "d/x")), "does not exist"},
		"a hard link to a directory":             {pack(t, dir("d/", 0o755), link("a", "d")), "is a directory"},
		"a hard link to the root":                {pack(t, link("a", "/")), "is a directory"},
		"a hard link into a file":                {pack(t, file("f", ""), link("a", "f/x")), "does not exist"},
		"a hard link with no target":             {pack(t, link("a", "")), "has no name"},
		"a symbolic link with no target":         {pack(t, symlink("a", "")), "points to nothing"},
		"a symbolic link that is too long":       {pack(t, symlink("a", strings.Repeat("x", 5000))), "target has 5000 bytes"},
		"symbolic links in a circle":             {pack(t, symlink("a", "b"), symlink("b", "a"), file("a/x", "")), "symbolic links to follow"},
		"something below a file of its layer":    {pack(t, file("a", ""), file("a/b", "")), "/a is no directory but a regular file"},
		"a root that is a file":                  {pack(t, file(".", "")), "root"},
		"a root that is a symbolic link":         {pack(t, symlink(".", "/etc")), "root"},
		"an entry without a name":                {pack(t, file("", "")), "has no name"},
		"a part of a name that is too long":      {pack(t, file(long, "")), "256 bytes"},
		"a name that is too long":                {pack(t, file(deep, "")), "more than 4095 bytes"},
		"a name that is long by a symbolic link": {pack(t, symlink("l", strings.Repeat("d/", 2000)), file("l/"+strings.Repeat("e/", 1000)+"x", "")), "more than 4095 bytes"},
		"an unknown type":                        {typed("a", 'V'), `type 'V'`},
		"a user that is negative":                {pack(t, entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "a", Uid: -1, Format: tar.FormatGNU}}), "user and group"},
		"a group that is too large":              {pack(t, entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "a", Gid: 1<<32 - 1}}), "user and group"},
		"a device that cannot be":                {pack(t, entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "a", Devmajor: 5000}}), "device 5000:0"},
		"a tar that ends in a header":            {pack(t, file("a", "1"), file("b", "2"))[:1024+100], `after "a"`},
		"a tar that ends in a file":              {pack(t, file("a", strings.Repeat("1", 5000)))[:4096], `after "a"`},
		"bytes that are no tar":                  {bytes.Repeat([]byte("no tar"), 500), "after \"the start\""},
		"a name that would fill the log":         {pack(t, file("../"+strings.Repeat("x", 9000), "")), "xxx..."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			layers := layersOf(tc.layer)
			_, err := rootfs.NewPlan(t.Context(), layers, rootfs.Options{})
			if !errdefs.Is(err, errdefs.InvalidArgument) {
				t.Fatalf("kind %q: %v", errdefs.KindOf(err), err)
			}
			if text := err.Error(); !strings.Contains(text, tc.says) || !strings.Contains(text, "layer layer-0") || len(text) > 1000 {
				t.Errorf("text %q has no %q", text, tc.says)
			}
		})
	}
}

func TestATarThatEndsInAnEarlierLayerIsRefused(t *testing.T) {
	t.Parallel()
	cut := pack(t, file("a", strings.Repeat("1", 5000)))[:4096]
	for i := range 2 { // a layer that can seek and one that cannot
		tars := [][]byte{pack(t), pack(t)}
		tars[i] = cut
		if _, err := rootfs.NewPlan(t.Context(), layersOf(tars...), rootfs.Options{}); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("layer %d: kind %q: %v", i, errdefs.KindOf(err), err)
		}
	}
}

// endless is a layer that has no end.
func endless(next func(i int) []byte) rootfs.Layer {
	return rootfs.Layer{Name: "endless", Open: func(context.Context) (io.ReadCloser, error) {
		i := 0
		var rest []byte
		return io.NopCloser(read(func(p []byte) (int, error) {
			if len(rest) == 0 {
				rest = next(i)
				i++
			}
			n := copy(p, rest)
			rest = rest[n:]
			return n, nil
		})), nil
	}}
}

type read func([]byte) (int, error)

func (r read) Read(p []byte) (int, error) { return r(p) }

// header is one entry without the end of a tar.
func header(t testing.TB, e entry) []byte {
	t.Helper()
	data := pack(t, e)
	return data[:len(data)-1024]
}

func TestWhatHasNoEndIsBounded(t *testing.T) {
	t.Parallel()
	record := header(t, entry{Header: tar.Header{
		Typeflag: tar.TypeDir, Name: "d/",
		PAXRecords: map[string]string{"SCHILY.xattr.user.x": strings.Repeat("x", 900_000)},
	}})
	for name, tc := range map[string]struct {
		next func(i int) []byte
		says string
	}{
		"entries":        {func(i int) []byte { return header(t, file(fmt.Sprint(i), "")) }, "more than 5000 paths"},
		"the same entry": {func(int) []byte { return header(t, file("a", "")) }, "more than 5000 entries"},
		"directories that only their children name": {func(i int) []byte {
			return header(t, file(fmt.Sprint(i, "/", strings.Repeat("d/", 1000), "x"), ""))
		}, "the file tree "},
		"names": {func(i int) []byte {
			return header(t, file(fmt.Sprint(i, strings.Repeat("x", 240)), ""))
		}, "of memory to plan"},
		"symbolic links": {func(i int) []byte {
			return header(t, symlink(fmt.Sprint(i), strings.Repeat("x", 4000)))
		}, "of memory to plan"},
		"names that come and go": {func(i int) []byte {
			if i%2 == 0 {
				return header(t, file(fmt.Sprint(i, strings.Repeat("x", 250)), ""))
			}
			return header(t, entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(i-1, strings.Repeat("x", 250)), Mode: 0o140000}})
		}, "of memory to plan"},
		"extended attributes": {func(i int) []byte {
			return header(t, entry{Header: tar.Header{
				Typeflag: tar.TypeDir, Name: fmt.Sprint(i, "/"),
				PAXRecords: map[string]string{"SCHILY.xattr.user.x": strings.Repeat("x", 100_000)},
			}})
		}, "of memory to plan"},
		"paths through symbolic links": {func(i int) []byte {
			switch {
			case i == 0:
				return header(t, dir("d/", 0o755))
			case i == 1:
				return header(t, symlink("l0", strings.Repeat("d/../", 700)+"d"))
			case i < 40:
				return header(t, symlink(fmt.Sprint("l", i-1), fmt.Sprint("l", i-2, "/../", strings.Repeat("d/../", 700), "d")))
			}
			return header(t, file("l38/x", ""))
		}, "parts, symbolic links followed"},
		"paths with many parts": {func(int) []byte {
			return header(t, file(strings.Repeat("d/", 1000)+"x", ""))
		}, "parts, symbolic links followed"},
		"content": {func(i int) []byte {
			if i == 0 {
				return header(t, entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "a"}, body: strings.Repeat("x", 9<<20)})
			}
			return make([]byte, 1<<20)
		}, "more than 8388608 bytes"},
		"extended headers without an entry": {func(int) []byte {
			return record[:len(record)-512] // the extended header alone
		}, "more than 8388608 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := rootfs.NewPlan(t.Context(), []rootfs.Layer{endless(tc.next)}, rootfs.Options{
				MaxEntries: 5000, MaxMemory: 512 << 10, MaxBytes: 8 << 20,
			})
			if !errdefs.Is(err, errdefs.ResourceExhausted) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("kind %q: %v, want %q", errdefs.KindOf(err), err, tc.says)
			}
		})
	}
}

func TestALayerThatCannotBeReadIsUnavailable(t *testing.T) {
	t.Parallel()
	broken := errors.New("input/output error")
	data := pack(t, file("a", strings.Repeat("x", 1<<20)))
	half := func() io.Reader {
		return io.MultiReader(bytes.NewReader(data[:1<<19]), read(func([]byte) (int, error) { return 0, broken }))
	}
	for name, open := range map[string]func(context.Context) (io.ReadCloser, error){
		"when it is opened": func(context.Context) (io.ReadCloser, error) { return nil, broken },
		"half-way":          func(context.Context) (io.ReadCloser, error) { return io.NopCloser(half()), nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := rootfs.NewPlan(t.Context(), []rootfs.Layer{{Name: "sha256:0", Open: open}}, rootfs.Options{})
			if !errdefs.Is(err, errdefs.Unavailable) || !errors.Is(err, broken) || !strings.Contains(err.Error(), "sha256:0") {
				t.Errorf("plan: kind %q: %v", errdefs.KindOf(err), err)
			}
			opened := 0
			plan, err := rootfs.NewPlan(t.Context(), []rootfs.Layer{{Name: "sha256:0", Open: func(ctx context.Context) (io.ReadCloser, error) {
				if opened++; opened == 1 {
					return io.NopCloser(bytes.NewReader(data)), nil
				}
				return open(ctx)
			}}}, rootfs.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := plan.Write(t.Context(), io.Discard); !errdefs.Is(err, errdefs.Unavailable) || !errors.Is(err, broken) {
				t.Errorf("write: kind %q: %v", errdefs.KindOf(err), err)
			}
		})
	}
}

func TestOptionsThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]rootfs.Options{
		"negative entries": {MaxEntries: -1}, "negative bytes": {MaxBytes: -1}, "negative memory": {MaxMemory: -1},
		"too much memory": {MaxMemory: 1 << 40}, "negative name": {MaxName: -1}, "too long names": {MaxName: 5000}, "negative parallel": {Parallel: -1},
	} {
		if _, err := rootfs.NewPlan(t.Context(), nil, opts); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%s: kind %q: %v", name, errdefs.KindOf(err), err)
		}
		if _, err := rootfs.Unpack(t.Context(), t.TempDir(), nil, opts); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%s, unpack: kind %q: %v", name, errdefs.KindOf(err), err)
		}
	}
	if _, err := rootfs.NewPlan(t.Context(), make([]rootfs.Layer, 5000), rootfs.Options{}); !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Errorf("5000 layers: kind %q: %v", errdefs.KindOf(err), err)
	}
}

func TestAPathThatIsTooLongBelowWhatGaveWayIsRefused(t *testing.T) {
	t.Parallel()
	long := strings.Repeat(strings.Repeat("x", 99)+"/", 20) + "f"
	_, err := rootfs.NewPlan(t.Context(), layersOf(pack(t, file(long, "")), pack(t, file(long+"/"+long+"/"+long, ""))), rootfs.Options{})
	if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), "more than 4095 bytes") {
		t.Errorf("kind %q: %v", errdefs.KindOf(err), err)
	}
}

func TestWhatWasReplacedCostsNoMemory(t *testing.T) {
	t.Parallel()
	var entries []entry
	for range 3000 {
		note := dir("a/", 0o755)
		note.PAXRecords = map[string]string{"SCHILY.xattr.user.note": "x"}
		socket := entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "a", Mode: 0o140755}}
		entries = append(entries, file("a", ""), note, file("a/b", ""), socket, file("a", "1"), file("c", ""), link("a", "c"))
	}
	plan, err := rootfs.NewPlan(t.Context(), layersOf(pack(t, entries...)), rootfs.Options{MaxMemory: 16 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if got := plan.Stats(); got.Paths != 3 || got.Bytes != 0 {
		t.Errorf("stats = %+v, want 3 paths without content", got)
	}
}
