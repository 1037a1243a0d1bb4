// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"archive/tar"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
)

// fixture is an image and the tree that must be on its disk. The tree is written
// down beside the layers, and comes from no code that flattens anything.
type fixture struct {
	layers  [][]images.Entry
	volumes map[string]struct{}
	// want is by path. An entry with Time zero may have any time.
	want map[string]images.Entry
	// links are the groups of paths that are one file.
	links [][]string
}

// add puts entries into a layer.
func (f *fixture) add(layer int, entries ...images.Entry) {
	for len(f.layers) <= layer {
		f.layers = append(f.layers, nil)
	}
	f.layers[layer] = append(f.layers[layer], entries...)
}

// expect says what must be at the entries' paths, whose times count if not told.
func (f *fixture) expect(entries ...images.Entry) {
	for _, e := range entries {
		e.Name = strings.TrimSuffix(e.Name, "/")
		if e.Time.IsZero() {
			e.Time = images.Epoch()
		}
		f.want[e.Name] = e
	}
}

// keep puts entries into a layer, and expects them to be there in the end.
func (f *fixture) keep(layer int, entries ...images.Entry) {
	f.add(layer, entries...)
	f.expect(entries...)
}

// made says which directories and files are there that no layer has.
func (f *fixture) made(entries ...images.Entry) {
	for _, e := range entries {
		f.want[e.Name] = e
	}
}

func directory(name string, mode int64) images.Entry {
	return images.Entry{Name: name, Type: tar.TypeDir, Mode: mode}
}

// tricky is an image with everything that is hard to flatten, and many files.
func tricky(many int) *fixture {
	f := &fixture{want: map[string]images.Entry{}, volumes: map[string]struct{}{}}
	f.needed()
	f.whiteouts()
	f.hardLinks()
	f.replaced()
	f.attributes()
	f.names()
	f.contents()
	f.directories()
	for i := range many {
		f.bulk(i)
	}
	return f
}

// needed is what a container VM needs, in parts brought by the image.
func (f *fixture) needed() {
	f.made(directory(".tether", 0o777), directory("proc", 0o555), directory("sys", 0o555), directory("lost+found", 0o700),
		images.Entry{Name: "etc/hosts", Type: tar.TypeReg, Mode: 0o644}, images.Entry{Name: "etc/resolv.conf", Type: tar.TypeReg, Mode: 0o644},
		images.Entry{Name: "etc/mtab", Type: tar.TypeSymlink, Mode: 0o777, Target: "/proc/mounts"},
		directory("run", 0o755), directory("usr/lib/modules", 0o755), directory("", 0o755))
	f.keep(0, images.Dir("etc"), images.File("etc/hostname", "from-the-image\n"), images.Dir("usr"), images.Dir("usr/lib"))
	// The merged-usr kind: what comes below lib is in usr/lib.
	f.keep(0, images.Symlink("lib", "usr/lib"))
	f.add(1, images.File("lib/libc.so.6", "libc"))
	f.expect(images.File("usr/lib/libc.so.6", "libc"))
	f.volumes["/var/lib/volume"] = struct{}{}
	f.volumes["relative/../volume-2/"] = struct{}{}
	f.volumes["/"] = struct{}{}
	f.volumes["/there"] = struct{}{}
	f.made(directory("var", 0o755), directory("var/lib", 0o755), directory("var/lib/volume", 0o755), directory("volume-2", 0o755))
	there := images.Entry{Name: "there/", Mode: 0o700, UID: 12}
	f.keep(0, there)
}

func (f *fixture) whiteouts() {
	f.keep(0, images.Dir("white"), images.File("white/stays", "stays"))
	f.add(0, images.File("white/goes", "goes"), images.Dir("white/dir"), images.File("white/dir/a", "a"), images.Dir("white/dir/sub"), images.File("white/dir/sub/b", "b"))
	f.add(1, images.Whiteout("white/goes"), images.Whiteout("white/dir"), images.Whiteout("white/was-never-there"), images.Whiteout("nothing/here"))
	// Gone in one layer, back in the next.
	f.add(0, images.File("white/back", "old"))
	f.add(1, images.Whiteout("white/back"))
	f.keep(2, images.File("white/back", "new"))
	// Gone and made anew in one layer, in both orders: only what lower layers had goes.
	f.add(0, images.Dir("anew"), images.File("anew/old", "old"), images.Dir("anew-2"), images.File("anew-2/old", "old"))
	f.add(1, images.Whiteout("anew"))
	f.keep(1, images.Dir("anew"), images.File("anew/new", "new"), images.Dir("anew-2"), images.File("anew-2/new", "new"))
	f.add(1, images.Whiteout("anew-2"))
	// Opaque directories, with the marker first and last.
	f.add(0, images.Dir("opaque"), images.File("opaque/old", "old"), images.Dir("opaque/sub"), images.File("opaque/sub/old", "old"),
		images.Dir("opaque-2"), images.File("opaque-2/old", "old"))
	f.add(1, images.Opaque("opaque"))
	f.keep(1, images.Dir("opaque"), images.File("opaque/new", "new"), images.Dir("opaque-2"), images.File("opaque-2/new", "new"))
	f.add(1, images.Opaque("opaque-2"))
}

func (f *fixture) hardLinks() {
	f.keep(0, images.Dir("links"), images.File("links/one", "one"))
	f.add(0, images.Hardlink("links/two", "links/one"))
	f.add(1, images.Hardlink("links/three", "links/two")) // across layers
	f.expect(images.File("links/two", "one"), images.File("links/three", "one"))
	f.links = append(f.links, []string{"links/one", "links/three", "links/two"})
	// The target is replaced: the link keeps what it had.
	f.add(0, images.File("links/replaced", "before"), images.Hardlink("links/of-replaced", "links/replaced"))
	f.keep(1, images.File("links/replaced", "after"))
	f.expect(images.File("links/of-replaced", "before"))
	// The target is deleted: the same, with its attributes.
	capable := images.Entry{
		Name: "links/deleted", Type: tar.TypeReg, Content: "kept", Mode: 0o750, UID: 70001, GID: 70002,
		Xattrs: map[string]string{"security.capability": capability()},
	}
	f.add(0, capable, images.Hardlink("links/of-deleted", "links/deleted"), images.Hardlink("links/of-deleted-2", "links/deleted"))
	f.add(1, images.Whiteout("links/deleted"))
	for _, name := range []string{"links/of-deleted", "links/of-deleted-2"} {
		capable.Name = name
		f.expect(capable)
	}
	f.links = append(f.links, []string{"links/of-deleted", "links/of-deleted-2"})
	// A link to a lower file that the same layer deletes afterwards.
	f.add(0, images.File("links/moved", "moved"))
	f.add(1, images.Hardlink("links/moved-to", "links/moved"), images.Whiteout("links/moved"))
	f.expect(images.File("links/moved-to", "moved"))
	// A symbolic link and a device have second names too.
	f.keep(0, images.Symlink("links/symbolic", "one"))
	f.add(1, images.Hardlink("links/symbolic-2", "links/symbolic"))
	f.expect(images.Symlink("links/symbolic-2", "one"))
	f.links = append(f.links, []string{"links/symbolic", "links/symbolic-2"})
}

// replaced are paths that become something else in a higher layer.
func (f *fixture) replaced() {
	f.add(0, images.File("kinds/file-dir", "x"), images.Dir("kinds/dir-file"), images.File("kinds/dir-file/below", "x"),
		images.Symlink("kinds/link-dir", "/etc"), images.File("kinds/file-link", "x"), images.Fifo("kinds/fifo-file"))
	f.keep(1, images.Dir("kinds/file-dir"), images.File("kinds/file-dir/new", "new"), images.File("kinds/dir-file", "new"),
		images.Dir("kinds/link-dir"), images.Symlink("kinds/file-link", "/nowhere"), images.File("kinds/fifo-file", "new"))
	f.made(directory("kinds", 0o755)) // only its children name it
	// Twice in one layer: the last one counts.
	f.add(2, images.File("kinds/twice", "first"))
	f.keep(2, images.Entry{Name: "kinds/twice", Type: tar.TypeReg, Content: "second", Mode: 0o600})
	// A directory gets other attributes and keeps what is in it.
	f.add(0, images.Dir("kinds/owned"))
	f.keep(0, images.File("kinds/owned/file", "x"))
	f.keep(2, images.Entry{Name: "kinds/owned/", Mode: 0o2770, UID: 99, GID: 98, Time: time.Unix(1, 0)})
}

// capability is CAP_NET_RAW+ep as Linux keeps it.
func capability() string {
	return "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
}

func (f *fixture) attributes() {
	reg := func(name string, change func(e *images.Entry)) images.Entry {
		e := images.File("attr/"+name, name)
		change(&e)
		return e
	}
	f.keep(0, images.Dir("attr"),
		reg("setuid", func(e *images.Entry) { e.Mode = 0o4755 }),
		reg("setgid", func(e *images.Entry) { e.Mode = 0o2711 }),
		reg("none", func(e *images.Entry) { e.Mode = images.NoPermissions }),
		images.Entry{Name: "attr/sticky/", Mode: 0o1777},
		reg("uid", func(e *images.Entry) { e.UID, e.GID = 65536, 4_000_000_000 }),
		reg("cap", func(e *images.Entry) { e.Xattrs = map[string]string{"security.capability": capability()} }),
		reg("large", func(e *images.Entry) {
			e.Xattrs = map[string]string{"user.large": strings.Repeat("v", 3000), "user.b": "\x00\xff"}
		}),
		images.Entry{Name: "attr/dir/", Xattrs: map[string]string{"user.dir": "d", "trusted.overlay": "t"}},
		reg("old", func(e *images.Entry) { e.Time = time.Unix(-1000, 500) }),
		reg("late", func(e *images.Entry) { e.Time = time.Date(2100, 1, 2, 3, 4, 5, 123456789, time.UTC) }),
		images.Device("attr/char", tar.TypeChar, 1, 3), images.Device("attr/block", tar.TypeBlock, 259, 1048575),
		images.Fifo("attr/fifo"),
	)
}

func (f *fixture) names() {
	long := strings.Repeat("n", 255)
	f.keep(0, images.Dir("names"), images.File("names/"+long, "long"))
	f.keep(0, images.File("names/with space", "1"), images.File("names/with\nnewline", "2"), images.File("names/ümläut-€", "3"),
		images.File("names/..two-dots", "4"), images.File("names/.whiteout", "5"), images.File("names/\xff\xfe", "6"))
	deep := "names"
	for range 12 {
		deep += "/" + strings.Repeat("d", 100)
		f.keep(1, images.Dir(deep))
	}
	f.keep(1, images.File(deep+"/file", "deep"))
	f.keep(0, images.Symlink("names/short", strings.Repeat("s", 59)), images.Symlink("names/edge", strings.Repeat("s", 60)),
		images.Symlink("names/far", strings.Repeat("../", 700)+"etc"))
}

func (f *fixture) contents() {
	zeroes := strings.Repeat("\x00", 1<<20)
	f.keep(0, images.Dir("content"), images.File("content/empty", ""), images.File("content/block", strings.Repeat("b", 4096)),
		images.File("content/more", strings.Repeat("m", 4097)), images.File("content/zeroes", zeroes),
		images.File("content/holes", "begin"+zeroes+"middle"+zeroes+zeroes+"end"))
	f.keep(1, images.File("content/upper", strings.Repeat("upper", 100_000)))
}

// directories are large ones: of many blocks, and with many below.
func (f *fixture) directories() {
	f.keep(0, images.Dir("dirs"))
	for i := range 400 {
		f.keep(0, images.File(fmt.Sprintf("dirs/%s-%d", strings.Repeat("x", 200), i), ""))
		f.keep(1, images.Dir(fmt.Sprintf("dirs/sub-%d", i)))
	}
}

// bulk is one of the many files. Of ten, seven stay as they are, one is replaced,
// one deleted and one gets a second name.
func (f *fixture) bulk(i int) {
	dir := fmt.Sprintf("bulk/%02x/%02x", i%200, i/200%50)
	if f.want["bulk"].Name == "" {
		f.keep(0, images.Dir("bulk"))
	}
	for _, d := range []string{dir[:7], dir} {
		if f.want[d].Name == "" {
			f.keep(0, images.Dir(d))
		}
	}
	name := fmt.Sprintf("%s/file-%d", dir, i)
	e := images.Entry{Name: name, Type: tar.TypeReg, Content: fmt.Sprintf("content %d", i), UID: i, GID: i % 1000, Time: time.Unix(int64(i), 0)}
	switch i % 10 {
	case 7:
		f.add(0, e)
		e.Content = "replaced"
		f.keep(1, e)
	case 8:
		f.add(0, e)
		f.add(1, images.Whiteout(name))
	case 9:
		f.keep(0, e)
		f.add(1, images.Hardlink(name+"-link", name))
		e.Name = name + "-link"
		f.expect(e)
		f.links = append(f.links, []string{name, name + "-link"})
	default:
		f.keep(0, e)
	}
}

// paths are those of want that are not the many.
func (f *fixture) paths() map[string]images.Entry {
	few := maps.Clone(f.want)
	maps.DeleteFunc(few, func(name string, _ images.Entry) bool {
		return strings.HasPrefix(name, "bulk/") || strings.HasPrefix(name, "dirs/")
	})
	return few
}
