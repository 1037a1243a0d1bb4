// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// raw is content without a stream.
func (c *importContent) raw() Content {
	made := c.content()
	made.Stream = func(context.Context) (io.ReaderAt, int64, error) { return nil, 0, errors.New("nobody imports") }
	return made
}

func TestAFlatDiskHasTheContentAndItsCapacity(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{})
	for what, tc := range map[string]struct {
		capacity int64
		used     int
		// sent is the length of the extent.
		sent int64
		// extended says that the disk is larger.
		extended bool
	}{
		"nothing on it":             {8 << 20, 0, 1 << 20, true},
		"a sector":                  {8 << 20, 512, 1 << 20, true},
		"a MiB":                     {8 << 20, 1 << 20, 1 << 20, true},
		"a little more":             {8 << 20, 1<<20 + 1, 2 << 20, true},
		"all of it":                 {3 << 20, 3 << 20, 3 << 20, false},
		"nearly all of it":          {3 << 20, 3<<20 - 5, 3 << 20, false},
		"as small as a disk can be": {1 << 20, 100, 1 << 20, false},
		"parts of a page":           {64 << 20, 5<<20 + 4096, 6 << 20, true},
	} {
		c := newImportContent(t, tc.capacity, tc.used)
		var told []string
		w.sim.ResetCounters()
		before := w.sim.BytesReceived()
		mark := Mark{Subject: "data", Attempt: attemptOf("up1")}
		err := w.Make(t.Context(), w.dir+"/data.v1.vmdk", c.raw(), mark, func(done, total int64) { told = append(told, fmt.Sprintf("%d of %d", done, total)) })
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		calls := w.sim.Calls()
		descriptor := w.text(w.dir + "/data.v1.vmdk")
		if sent := w.sim.BytesReceived() - before; sent < tc.sent || sent > tc.sent+4096 {
			t.Errorf("%s: %d bytes were sent, want %d and a descriptor", what, sent, tc.sent)
		}
		if got := calls["ExtendVirtualDisk_Task"] > 0; got != tc.extended {
			t.Errorf("%s: extended: %v, want %v", what, got, tc.extended)
		}
		if calls["PUT /folder"] != 2 || calls["ImportVApp"] != 0 {
			t.Errorf("%s: %v", what, calls)
		}
		w.same(w.dir+"/data.v1.vmdk", c)
		want := []string{w.files.Path(w.dir + "/data.v1-flat.vmdk"), w.files.Path(w.dir + "/data.v1.vmdk")}
		if diff := cmp.Diff(want, w.added()); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", what, diff)
		}
		if !strings.Contains(descriptor, `"data.v1-flat.vmdk"`) || !strings.Contains(descriptor, `ddb.thinProvisioned = "1"`) {
			t.Errorf("%s: descriptor\n%s", what, descriptor)
		}
		first, last := fmt.Sprintf("0 of %d", tc.used), fmt.Sprintf("%d of %d", tc.used, tc.used)
		if len(told) < 2 || told[0] != first || told[len(told)-1] != last {
			t.Errorf("%s: progress was %v, want %s first and %s last", what, told, first, last)
		}
		if err := w.files.DeleteDisk(t.Context(), w.dir+"/data.v1.vmdk"); err != nil {
			t.Fatal(err)
		}
		w.clean(what)
	}
}

// text is the content of a small file.
func (w *importWorld) text(p string) string {
	w.Helper()
	b, err := w.files.Read(w.Context(), p, 1<<20)
	if err != nil {
		w.Fatal(err)
	}
	return string(b)
}

func TestWhatCannotBecomeADiskIsRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{})
	c := newImportContent(t, 64<<20, 1<<20)
	good, mark, to := c.raw(), Mark{Subject: "data", Attempt: attemptOf("up1")}, w.dir+"/data.vmdk"
	w.sim.ResetCounters()
	for what, change := range map[string]func(to *string, c *Content, m *Mark){
		"another name":         func(to *string, _ *Content, _ *Mark) { *to = w.dir + "/data" },
		"no name":              func(to *string, _ *Content, _ *Mark) { *to = w.dir + "/.vmdk" },
		"no capacity":          func(_ *string, c *Content, _ *Mark) { c.Capacity = 0 },
		"parts of a MiB":       func(_ *string, c *Content, _ *Mark) { c.Capacity += 512 },
		"more than fits":       func(_ *string, c *Content, _ *Mark) { c.Used = c.Capacity + 1 },
		"less than nothing":    func(_ *string, c *Content, _ *Mark) { c.Used = -1 },
		"no subject":           func(_ *string, _ *Content, m *Mark) { m.Subject = "" },
		"no attempt":           func(_ *string, _ *Content, m *Mark) { m.Attempt = "" },
		"an attempt too short": func(_ *string, _ *Content, m *Mark) { m.Attempt = m.Attempt[1:] },
	} {
		to, c, m := to, good, mark
		change(&to, &c, &m)
		if err := w.Make(t.Context(), to, c, m, nil); !errdefs.Is(err, errdefs.Internal) || !strings.Contains(err.Error(), w.files.Path(to)) {
			t.Errorf("%s: %v (%s)", what, err, errdefs.KindOf(err))
		}
	}
	if n := w.sim.Requests(); n != 0 {
		t.Errorf("%d requests: %v", n, w.sim.Calls())
	}
	if err := w.Make(t.Context(), to, good, mark, nil); err != nil {
		t.Error(err)
	}
}

// short is a datastore that keeps less of extents than it was sent.
type short struct{ Files }

func (s short) Write(ctx context.Context, p string, r io.ReaderAt, size int64, progress func(int64)) error {
	if strings.HasSuffix(p, flatSuffix) {
		size -= 512
	}
	return s.Files.Write(ctx, p, r, size, progress)
}

func TestAnExtentThatArrivedInPartIsNoDisk(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{})
	c := newImportContent(t, 64<<20, 1<<20)
	w.o.Files = short{w.files}
	err := w.Make(t.Context(), w.dir+"/data.vmdk", c.raw(), Mark{Subject: "data", Attempt: attemptOf("up1")}, nil)
	if !errdefs.Is(err, errdefs.Unavailable) || !strings.Contains(err.Error(), "1048064 bytes") || !strings.Contains(err.Error(), "1048576") {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff([]string{w.files.Path(w.dir + "/data-flat.vmdk")}, w.added()); diff != "" {
		t.Errorf("there is a descriptor (-want +got):\n%s", diff)
	}
}

func TestAFlatDiskThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{})
	c := newImportContent(t, 64<<20, 1<<20)
	for what, tc := range map[string]struct {
		rule vchsim.FaultRule
		kind errdefs.Kind
	}{
		"the extent is refused":       {vchsim.FaultRule{Method: "PUT /folder", Kind: vchsim.KindHTTP403, NthCall: 1}, errdefs.PermissionDenied},
		"no room for the extent":      {vchsim.FaultRule{Method: "PUT /folder", Kind: vchsim.KindHTTP507, NthCall: 1}, errdefs.ResourceExhausted},
		"the size cannot be read":     {vchsim.FaultRule{Method: "HEAD /folder", Kind: vchsim.KindHTTP403}, errdefs.PermissionDenied},
		"no room for the descriptor":  {vchsim.FaultRule{Method: "PUT /folder", Kind: vchsim.KindHTTP507, NthCall: 2}, errdefs.ResourceExhausted},
		"no room for the enlargement": {vchsim.FaultRule{Method: "ExtendVirtualDisk_Task", Kind: "task:NoDiskSpace"}, errdefs.ResourceExhausted},
	} {
		w.fault(tc.rule)
		err := w.Make(t.Context(), w.dir+"/data.vmdk", c.raw(), Mark{Subject: "data", Attempt: attemptOf("up1")}, nil)
		if !errdefs.Is(err, tc.kind) || !strings.Contains(err.Error(), w.dir+"/data") {
			t.Errorf("%s: %v (%s), want %s", what, err, errdefs.KindOf(err), tc.kind)
		}
	}
}

func TestReadsBehindTheContentAreZero(t *testing.T) {
	t.Parallel()
	p := &padded{strings.NewReader("content"), 7}
	for at, want := range map[int64]string{0: "content\x00\x00\x00", 3: "tent\x00\x00\x00\x00\x00\x00", 7: strings.Repeat("\x00", 10), 100: strings.Repeat("\x00", 10)} {
		got := bytes.Repeat([]byte("x"), 10)
		if n, err := p.ReadAt(got, at); n != 10 || err != nil || string(got) != want {
			t.Errorf("at %d: %q, %d, %v; want %q", at, got, n, err, want)
		}
	}
	cut := &padded{strings.NewReader("con"), 7}
	if n, err := cut.ReadAt(make([]byte, 10), 0); n != 3 || !errors.Is(err, io.EOF) {
		t.Errorf("content that ends early: %d, %v", n, err)
	}
}
