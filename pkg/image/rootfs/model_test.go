// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootfs_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/rootfs"
)

// model is what an overlay of layers means, said as simply as possible: a map from
// path to file, changed by one entry after the other. It shares nothing with the
// code under test, and takes its time.
type model map[string]*modelPath

type modelPath struct {
	file  *modelFile
	layer int // that wrote the path
}

type modelFile struct{ text, kind, target string }

func impliedDir() *modelFile { return &modelFile{text: "dir 755", kind: "dir"} }

// below are the paths below a path.
func (m model) below(p string) []string {
	var out []string
	for q := range m {
		if p == "" && q != "" || strings.HasPrefix(q, p+"/") {
			out = append(out, q)
		}
	}
	return out
}

func (m model) removeAll(p string) {
	for _, q := range m.below(p) {
		delete(m, q)
	}
	delete(m, p)
}

func join(dir, name string) string { return strings.TrimPrefix(dir+"/"+name, "/") }

func up(p string) string {
	if d := path.Dir(p); d != "." {
		return d
	}
	return ""
}

// resolve returns the real path of a directory: ok is false when it does not
// exist, and with layer >= 0 it is made.
func (m model) resolve(p string, layer int) (at string, ok bool, err error) {
	todo := strings.Split(p, "/")
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			at = up(at)
			continue
		}
		next := join(at, part)
		found := m[next]
		switch {
		case found == nil && layer < 0:
			return "", false, nil
		case found == nil:
			m[next] = &modelPath{impliedDir(), layer}
			at = next
		case found.file.kind == "dir":
			at = next
		case found.file.kind == "symlink":
			if links++; links > 40 {
				return "", false, fmt.Errorf("loop at %q", next)
			}
			if strings.HasPrefix(found.file.target, "/") {
				at = ""
			}
			todo = append(strings.Split(found.file.target, "/"), todo...)
		case layer < 0:
			return "", false, nil
		case found.layer == layer:
			return "", false, fmt.Errorf("%q is no directory", next)
		default:
			m[next] = &modelPath{impliedDir(), layer}
			at = next
		}
	}
	return at, true, nil
}

// hide removes what lower layers have below p, and with self p too.
func (m model) hide(p string, layer int, self bool) {
	paths := m.below(p)
	if self {
		paths = append(paths, p)
	}
	kept := func(q string) bool {
		if m[q] == nil || m[q].layer == layer {
			return true
		}
		for _, r := range m.below(q) {
			if m[r].layer == layer {
				return true
			}
		}
		return false
	}
	var gone []string
	for _, q := range paths {
		switch {
		case !kept(q):
			gone = append(gone, q)
		case m[q] != nil && m[q].layer != layer:
			defer func() { m[q] = &modelPath{impliedDir(), layer} }()
		}
	}
	for _, q := range gone {
		delete(m, q)
	}
}

// apply applies an entry of a layer.
func (m model) apply(e entry, layer int) error {
	name := path.Clean("/" + e.Name)[1:]
	base := path.Base(name)
	if base == ".wh..wh..opq" {
		d, _, err := m.resolve(up(name), layer)
		if err == nil {
			m.hide(d, layer, false)
		}
		return err
	}
	if hidden, ok := strings.CutPrefix(base, ".wh."); ok {
		d, ok, err := m.resolve(up(name), -1)
		if err == nil && ok && m[join(d, hidden)] != nil {
			m.hide(join(d, hidden), layer, true)
		}
		return err
	}
	file := &modelFile{}
	switch e.Typeflag {
	case '1':
		target := path.Clean("/" + e.Linkname)[1:]
		d, ok, err := m.resolve(up(target), -1)
		if err != nil {
			return err
		}
		at := join(d, path.Base(target))
		if !ok || m[at] == nil || m[at].file.kind == "dir" {
			return fmt.Errorf("no target %q", target)
		}
		file = m[at].file
	case '2':
		*file = modelFile{text: "symlink " + e.Linkname, kind: "symlink", target: e.Linkname}
	case '5':
		*file = modelFile{text: fmt.Sprintf("dir %o", e.Mode), kind: "dir"}
	default:
		*file = modelFile{text: "file " + e.body, kind: "file"}
	}
	d, _, err := m.resolve(up(name), layer)
	if err != nil {
		return err
	}
	at := join(d, base)
	if old := m[at]; old == nil || old.file.kind != "dir" || file.kind != "dir" {
		m.removeAll(at)
	}
	m[at] = &modelPath{file, layer}
	return nil
}

// tree is the model in the words of show.
func (m model) tree() map[string]string {
	names := map[*modelFile][]string{}
	for p, f := range m {
		names[f.file] = append(names[f.file], p)
	}
	out := map[string]string{}
	for p, f := range m {
		out[p] = f.file.text
		if all := names[f.file]; len(all) > 1 {
			out[p] += " = " + strings.Join(sorted(all), " ")
		}
	}
	return out
}

// makeLayers makes layers of few names, so that everything meets everything, and
// what the model says of them. Of the entries that it refuses most are left out.
func makeLayers(choose func(n int) int) ([][]entry, model, error) {
	m := model{"": {impliedDir(), -1}}
	names := []string{"a", "b", "c"}
	name := func() string {
		p := names[choose(3)]
		for range choose(3) {
			p += "/" + names[choose(3)]
		}
		return p
	}
	layers := make([][]entry, 1+choose(4))
	for i := range layers {
		for j := range 1 + choose(8) {
			var e entry
			switch p := name(); choose(10) {
			case 0, 1:
				e = dir(p+"/", int64(0o700+choose(8)))
			case 2, 3:
				e = link(p, name())
			case 4:
				e = symlink(p, []string{"", "/", "../"}[choose(3)]+name())
			case 5:
				e = file(join(up(p), ".wh."+path.Base(p)), "")
			case 6:
				e = file(p+"/.wh..wh..opq", "")
			default:
				e = file(p, fmt.Sprintf("%d.%d", i, j))
			}
			before := maps.Clone(m)
			err := m.apply(e, i)
			if err != nil && choose(16) > 0 {
				m = before
				continue
			}
			layers[i] = append(layers[i], e)
			if err != nil {
				return layers, nil, err
			}
		}
	}
	return layers, m, nil
}

// compare flattens chosen layers and holds the result against the model. It reports
// whether the layers made an image at all.
func compare(t testing.TB, choose func(n int) int) bool {
	t.Helper()
	layers, m, want := makeLayers(choose)
	tars := make([][]byte, len(layers))
	for i, l := range layers {
		tars[i] = pack(t, l...)
	}
	var b bytes.Buffer
	_, err := rootfs.Flatten(t.Context(), layersOf(tars...), &b, rootfs.Options{})
	if (err == nil) != (want == nil) || err != nil && !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Errorf("%s\nerror is %v, the model says %v", describe(layers), err, want)
	}
	if err != nil || want != nil {
		return false
	}
	tree, err := unpackFlat(&b)
	if err != nil {
		t.Errorf("%s\nthe flattened image: %v", describe(layers), err)
		return true
	}
	if diff := cmp.Diff(m.tree(), show(tree)); diff != "" {
		t.Errorf("%s\ntree (-model +got):\n%s", describe(layers), diff)
	}
	return true
}

func describe(layers [][]entry) string {
	s := ""
	for i, l := range layers {
		for _, e := range l {
			s += fmt.Sprintf("layer %d: %c %s %s %s\n", i, e.Typeflag, e.Name, e.Linkname, e.body)
		}
	}
	return s
}

func TestRandomLayersAreWhatTheModelSays(t *testing.T) {
	t.Parallel()
	runs := 2_000
	if testing.Short() {
		runs = 1_000
	}
	images := 0
	for seed := range runs {
		r := rand.New(rand.NewPCG(uint64(seed), 4))
		if compare(t, r.IntN) {
			images++
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if images < runs/2 {
		t.Errorf("only %d of %d runs made an image: the test looks at too little", images, runs)
	}
	t.Logf("%d of %d made an image", images, runs)
}

// FuzzModel lets the fuzzer choose the layers.
func FuzzModel(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20})
	f.Fuzz(func(t *testing.T, data []byte) {
		compare(t, func(n int) int {
			if len(data) == 0 {
				return 0
			}
			c := int(data[0])
			data = data[1:]
			return c % n
		})
	})
}
