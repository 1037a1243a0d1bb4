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
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/rootfs"
)

// entry is a header of a layer with its content.
type entry struct {
	tar.Header
	body string
}

func dir(name string, mode int64) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}}
}

func file(name, body string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, body: body}
}

func symlink(name, target string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

func link(name, target string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}}
}

// pack makes a tar of entries, in any format that can hold them.
func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.body))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatalf("pack %q: %v", h.Name, err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatalf("pack %q: %v", h.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// layersOf makes layers of tars, the lowest first.
func layersOf(tars ...[]byte) []rootfs.Layer {
	layers := make([]rootfs.Layer, len(tars))
	for i, data := range tars {
		layers[i] = rootfs.Layer{
			Name: fmt.Sprintf("layer-%d", i),
			Open: func(context.Context) (io.ReadCloser, error) {
				if i%2 == 0 { // one that can seek, and one that cannot
					return struct {
						io.ReadSeeker
						io.Closer
					}{bytes.NewReader(data), io.NopCloser(nil)}, nil
				}
				return io.NopCloser(bytes.NewReader(data)), nil
			},
		}
	}
	return layers
}

// flat is a path of a flattened tree.
type flat struct {
	tar.Header
	body  string
	names []string // all names of the same content, when there are several
}

// String shows what matters of a path: "file body", "dir 755", "link target".
func (f flat) String() string {
	var s string
	switch f.Typeflag {
	case tar.TypeDir:
		s = fmt.Sprintf("dir %o", f.Mode)
	case tar.TypeReg:
		s = "file " + f.body
	case tar.TypeSymlink:
		s = "symlink " + f.Linkname
	case tar.TypeChar, tar.TypeBlock:
		s = fmt.Sprintf("device %c %d:%d", f.Typeflag, f.Devmajor, f.Devminor)
	default:
		s = fmt.Sprintf("type %c", f.Typeflag)
	}
	if len(f.names) > 1 {
		s += " = " + strings.Join(f.names, " ")
	}
	return s
}

// unpackFlat reads a flattened image and says what about it is not as promised:
// each path once, parents before children, targets before links, nothing outside.
func unpackFlat(r io.Reader) (map[string]flat, error) {
	tree := map[string]flat{}
	first := map[string]string{} // path to the path that carries its content
	tr := tar.NewReader(r)
	for count := 0; ; count++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(h.Name, "/")
		switch {
		case count == 0:
			if h.Name != "./" || h.Typeflag != tar.TypeDir {
				return nil, fmt.Errorf("the first entry is %q, not the root", h.Name)
			}
			name = ""
		case path.Clean("/" + name)[1:] != name || name == "":
			return nil, fmt.Errorf("name %q is not clean", h.Name)
		case (h.Typeflag == tar.TypeDir) != strings.HasSuffix(h.Name, "/"):
			return nil, fmt.Errorf("name %q does not fit its type", h.Name)
		}
		if strings.HasPrefix(path.Base(name), ".wh.") {
			return nil, fmt.Errorf("whiteout %q is in the result", h.Name)
		}
		if _, twice := tree[name]; twice {
			return nil, fmt.Errorf("path %q is there twice", name)
		}
		if name != "" {
			parent := path.Dir(name)
			if parent == "." {
				parent = ""
			}
			if p, ok := tree[parent]; !ok || p.Typeflag != tar.TypeDir {
				return nil, fmt.Errorf("path %q comes before its parent", name)
			}
		}
		body, err := io.ReadAll(tr)
		if err != nil {
			return nil, err
		}
		f := flat{Header: *h, body: string(body)}
		if h.Typeflag == tar.TypeLink {
			target, ok := tree[h.Linkname]
			if !ok || target.Typeflag == tar.TypeDir || first[h.Linkname] != h.Linkname {
				return nil, fmt.Errorf("hard link %q has no target %q", name, h.Linkname)
			}
			f, first[name] = target, h.Linkname
		} else {
			first[name] = name
		}
		tree[name] = f
	}
	for name, f := range tree {
		for _, other := range slices.Sorted(maps.Keys(tree)) {
			if first[other] == first[name] {
				f.names = append(f.names, other)
			}
		}
		tree[name] = f
	}
	return tree, nil
}

// show makes a tree comparable.
func show(tree map[string]flat) map[string]string {
	out := map[string]string{}
	for name, f := range tree {
		out[name] = f.String()
	}
	return out
}

// flatten flattens and checks.
func flatten(t testing.TB, opts rootfs.Options, layers ...[]byte) map[string]flat {
	t.Helper()
	var b bytes.Buffer
	stats, err := rootfs.Flatten(t.Context(), layersOf(layers...), &b, opts)
	if err != nil {
		t.Fatalf("flatten: %v", err)
	}
	tree, err := unpackFlat(&b)
	if err != nil {
		t.Fatalf("the flattened image: %v", err)
	}
	if stats.Paths != len(tree) {
		t.Errorf("stats say %d paths, the image has %d", stats.Paths, len(tree))
	}
	return tree
}

// expect compares a tree with what it should be; the root need not be listed.
func expect(t testing.TB, want map[string]string, got map[string]flat) {
	t.Helper()
	shown := show(got)
	if _, listed := want[""]; !listed {
		delete(shown, "")
	}
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
}

func unix(seconds, nanos int64) time.Time { return time.Unix(seconds, nanos) }

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}
