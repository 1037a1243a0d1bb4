// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package kvstore_test

import (
	"bytes"
	"context"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// disk is a datastore in memory. Each of its steps is atomic, as on a real one.
type disk struct {
	mu    sync.Mutex
	files map[string]stored
	dirs  map[string]bool
	// now is its clock, tick what it moves on with each write.
	now  time.Time
	tick time.Duration
}

type stored struct {
	content  []byte
	modified time.Time
}

func newDisk() *disk {
	return &disk{files: map[string]stored{}, dirs: map[string]bool{}, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), tick: time.Millisecond}
}

// names are those of all files.
func (d *disk) names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.files))
}

func (d *disk) content(p string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return string(d.files[p].content)
}

// machine is the way of one machine to a disk. It implements kvstore.Files.
type machine struct {
	*disk
	// around, if set, is what each step goes through.
	around func(what string, do func() error) error
}

func (m *machine) step(ctx context.Context, what string, do func() error) error {
	taken := func() error {
		if err := ctx.Err(); err != nil {
			return errdefs.Wrap(errdefs.KindOf(err), err, "%s", what)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		return do()
	}
	if m.around == nil {
		return taken()
	}
	return m.around(what, taken)
}

func (*machine) Path(p string) string { return "[ds1] " + p }

func (m *machine) List(ctx context.Context, dir, pattern string) (entries []datastore.Entry, err error) {
	return entries, m.step(ctx, "list", func() error {
		if !m.dirs[dir] {
			return errdefs.New(errdefs.NotFound, "no directory %s", dir)
		}
		for name, f := range m.files {
			match, err := path.Match(pattern, path.Base(name))
			if path.Dir(name) == dir && match && err == nil {
				entries = append(entries, datastore.Entry{Name: path.Base(name), Size: int64(len(f.content)), Modified: f.modified})
			}
		}
		return nil
	})
}

func (m *machine) Read(ctx context.Context, p string, limit int64) (content []byte, err error) {
	return content, m.step(ctx, "read", func() error {
		f, there := m.files[p]
		if !there {
			return errdefs.New(errdefs.NotFound, "no file %s", p)
		}
		if content = bytes.Clone(f.content); int64(len(content)) > limit {
			return errdefs.New(errdefs.FailedPrecondition, "%s is too large", p)
		}
		return nil
	})
}

func (m *machine) Write(ctx context.Context, p string, r io.ReaderAt, size int64, _ func(int64)) error {
	return m.step(ctx, "write", func() error {
		if !m.dirs[path.Dir(p)] {
			return errdefs.New(errdefs.NotFound, "no directory %s", path.Dir(p))
		}
		content := make([]byte, size)
		if _, err := r.ReadAt(content, 0); err != nil && err != io.EOF {
			return err
		}
		m.now = m.now.Add(m.tick)
		m.files[p] = stored{content, m.now}
		return nil
	})
}

func (m *machine) Move(ctx context.Context, from, to string) error {
	return m.step(ctx, "move", func() error {
		f, there := m.files[from]
		if !there {
			return errdefs.New(errdefs.NotFound, "no file %s", from)
		}
		if _, taken := m.files[to]; taken {
			return errdefs.New(errdefs.AlreadyExists, "%s exists", to)
		}
		delete(m.files, from)
		m.files[to] = f
		return nil
	})
}

func (m *machine) Delete(ctx context.Context, p string) error {
	return m.step(ctx, "delete", func() error {
		delete(m.files, p)
		return nil
	})
}

func (m *machine) MakeDirectory(ctx context.Context, dir string, _ bool) error {
	return m.step(ctx, "make directory", func() error {
		m.dirs[dir] = true
		return nil
	})
}

// mode is how a step goes wrong.
type mode struct {
	name string
	// works says that the step does its work all the same, dies that no later one does.
	works, dies bool
}

func modes() []mode {
	return []mode{{name: "fails"}, {name: "loses its answer", works: true}, {name: "dies before", dies: true}, {name: "dies after", works: true, dies: true}}
}

// strike makes the nth step of a machine go wrong, and reports whether it was reached.
func (m *machine) strike(n int, how mode) (struck func() bool) {
	var mu sync.Mutex
	taken := 0
	m.around = func(what string, do func() error) error {
		mu.Lock()
		taken++
		is, dead := taken == n, how.dies && taken > n
		mu.Unlock()
		fault := errdefs.New(errdefs.Unavailable, "%s: a fault of the test", what)
		switch {
		case dead:
			return fault
		case !is:
			return do()
		case how.works:
			if err := do(); err != nil {
				return err
			}
		}
		return fault
	}
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		return taken >= n
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, err error, kind errdefs.Kind, texts ...string) {
	t.Helper()
	if !errdefs.Is(err, kind) {
		t.Errorf("got %v (%s), want %s", err, errdefs.KindOf(err), kind)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q does not say %q", err, text)
		}
	}
}
