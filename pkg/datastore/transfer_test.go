// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package datastore_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// pattern is content that differs everywhere.
func pattern(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

func TestFilesAreWrittenReadAndLookedAt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{}, vcenter.Options{})
	must(t, w.files.MakeDirectory(t.Context(), "d", false))
	for _, size := range []int{0, 1, 64<<10 - 1, 64 << 10, 3<<20 + 17} {
		content := pattern(size)
		var told []int64
		must(t, w.files.Write(t.Context(), "d/f", bytes.NewReader(content), int64(size), func(done int64) { told = append(told, done) }))
		if !bytes.Equal(w.content("d/f"), content) {
			t.Errorf("%d bytes: the file has another content", size)
		}
		for i := range told {
			if i > 0 && told[i] <= told[i-1] {
				t.Fatalf("progress goes back: %v", told)
			}
		}
		if size > 0 && (len(told) == 0 || told[len(told)-1] != int64(size)) {
			t.Errorf("%d bytes: progress ended with %v", size, told)
		}
		got, err := w.files.Read(t.Context(), "d/f", int64(size))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes: read %d, %v", size, len(got), err)
		}
		if n, err := w.files.Size(t.Context(), "d/f"); n != int64(size) || err != nil {
			t.Errorf("size is %d, %v, want %d", n, err, size)
		}
	}
	_, err := w.files.Read(t.Context(), "d/f", 1<<20)
	wantKind(t, "a file above the limit", err, errdefs.FailedPrecondition, "larger than 1048576", "d/f")
	_, err = w.files.Read(t.Context(), "d/none", 10)
	wantKind(t, "read an absent file", err, errdefs.NotFound, w.files.Path("d/none"))
	_, err = w.files.Size(t.Context(), "d/none")
	wantKind(t, "look at an absent file", err, errdefs.NotFound, w.files.Path("d/none"))
	wantKind(t, "write into an absent directory", w.files.Write(t.Context(), "none/f", strings.NewReader("x"), 1, nil), errdefs.NotFound)
	w.has("d", "f")
}

func TestSignsWithAMeaningElsewhereAreAllowedInNames(t *testing.T) {
	t.Parallel()
	for _, vsan := range []bool{false, true} {
		w := newWorld(t, vchsim.Options{VSAN: vsan}, vcenter.Options{})
		for _, name := range []string{
			"with space", "a+b", "100%", "%41%2f", "a#b", "a?b=c&d", "ünïcödé 日本", "[brackets] x", "semi;colon:@", "~quote'\"`",
		} {
			dir := name
			if vsan {
				dir = "top/" + name // the simulator takes no such names for objects
			}
			must(t, w.files.MakeDirectory(t.Context(), dir, true))
			file := dir + "/" + name + ".json"
			w.write(file, name)
			got, err := w.files.Read(t.Context(), file, 100)
			if err != nil || string(got) != name {
				t.Errorf("%s: read %q, %v", file, got, err)
			}
			entries, err := w.files.List(t.Context(), dir, "*")
			if err != nil || len(entries) != 1 || entries[0].Name != name+".json" || entries[0].Size != int64(len(name)) {
				t.Errorf("%s: %+v, %v", dir, entries, err)
			}
			must(t, w.files.Delete(t.Context(), dir))
			_, err = w.files.List(t.Context(), dir, "*")
			wantKind(t, "list "+dir, err, errdefs.NotFound)
		}
	}
}

func TestPathsThatCouldLeadElsewhereAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{}, vcenter.Options{})
	w.sim.ResetCounters()
	for _, p := range []string{"", "/a", "a/", "a//b", "..", "a/../b", "./a", "a/.", "a\\b", "a\x00b", "a\nb", "a\xffb"} {
		for what, f := range map[string]func() error{
			"Read":          func() error { _, err := w.files.Read(t.Context(), p, 1); return err },
			"Size":          func() error { _, err := w.files.Size(t.Context(), p); return err },
			"Write":         func() error { return w.files.Write(t.Context(), p, strings.NewReader(""), 0, nil) },
			"MakeDirectory": func() error { return w.files.MakeDirectory(t.Context(), p, true) },
			"Resolve":       func() error { _, err := w.files.Resolve(t.Context(), p); return err },
			"Delete":        func() error { return w.files.Delete(t.Context(), p) },
			"Move":          func() error { return w.files.Move(t.Context(), "a", p) },
			"Move from":     func() error { return w.files.Move(t.Context(), p, "a") },
			"ExtendDisk":    func() error { return w.files.ExtendDisk(t.Context(), p, 1024) },
			"CopyDisk":      func() error { return w.files.CopyDisk(t.Context(), "a", p) },
			"DeleteDisk":    func() error { return w.files.DeleteDisk(t.Context(), p) },
			"Tree": func() error {
				if p == "" {
					return errdefs.New(errdefs.InvalidArgument, "is allowed")
				}
				_, err := w.files.Tree(t.Context(), p)
				return err
			},
		} {
			if err := f(); !errdefs.Is(err, errdefs.InvalidArgument) {
				t.Errorf("%s(%q): %v", what, p, err)
			}
		}
	}
	wantKind(t, "a negative size", w.files.Write(t.Context(), "a", strings.NewReader(""), -1, nil), errdefs.InvalidArgument)
	if n := w.sim.Requests(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestAnExpiredSessionIsRenewedAndTheTransferRepeated(t *testing.T) {
	t.Parallel()
	var observed sync.Map
	w := newWorld(t, vchsim.Options{}, vcenter.Options{Observer: func(_ context.Context, method string, _ time.Duration, _ error) { observed.Store(method, true) }})
	must(t, w.files.MakeDirectory(t.Context(), "d", false))
	content := pattern(5 << 20)

	w.sim.ExpireSessions()
	w.sim.ResetCounters()
	counted := &countedAt{ReaderAt: bytes.NewReader(content)}
	must(t, w.files.Write(t.Context(), "d/f", counted, int64(len(content)), nil))
	if !bytes.Equal(w.content("d/f"), content) {
		t.Error("the file has another content")
	}
	calls := w.sim.Calls()
	if w.sim.Logins() != 1 || calls["PUT /folder"] != 2 {
		t.Errorf("%d logins, calls %v; want one login and the request twice", w.sim.Logins(), calls)
	}
	// The refused attempt waited for vCenter's word before it sent anything.
	if counted.n != len(content) || w.sim.BytesReceived() != int64(len(content)) {
		t.Errorf("%d bytes were read and %d received for %d", counted.n, w.sim.BytesReceived(), len(content))
	}

	w.sim.ExpireSessions()
	w.sim.ResetCounters()
	got, err := w.files.Read(t.Context(), "d/f", 10<<20)
	if err != nil || !bytes.Equal(got, content) || w.sim.Logins() != 1 {
		t.Errorf("read %d bytes, %v, %d logins", len(got), err, w.sim.Logins())
	}

	// Many at once share one login.
	w.sim.ExpireSessions()
	w.sim.ResetCounters()
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			if err := w.files.Write(t.Context(), "d/"+strconv.Itoa(i), strings.NewReader("x"), 1, nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := w.sim.Logins(); n != 1 {
		t.Errorf("10 transfers logged in %d times", n)
	}

	// A 401 that a login does not cure ends after one repetition.
	must(t, w.sim.SetFault(vchsim.FaultRule{Method: "PUT /folder", Kind: vchsim.KindHTTP401}))
	w.sim.ResetCounters()
	wantKind(t, "always 401", w.files.Write(t.Context(), "d/g", strings.NewReader("x"), 1, nil), errdefs.Unauthenticated, "401")
	if n := w.sim.Calls()["PUT /folder"]; n != 2 || w.sim.Logins() != 0 {
		t.Errorf("%d attempts, %d logins; want 2 and none, since the session is alive", n, w.sim.Logins())
	}
	for _, method := range []string{"PUT /folder", "GET /folder"} {
		if _, ok := observed.Load(method); !ok {
			t.Errorf("the observer saw no %s", method)
		}
	}
}

func TestTransfersThatFailSayWhatKindItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{}, vcenter.Options{})
	must(t, w.files.MakeDirectory(t.Context(), "d", false))
	big := pattern(4 << 20)
	w.write("d/small", "x")
	must(t, w.files.Write(t.Context(), "d/big", bytes.NewReader(big), int64(len(big)), nil))
	for fault, kind := range map[string]errdefs.Kind{
		vchsim.KindHTTP401:         errdefs.Unauthenticated,
		vchsim.KindHTTP403:         errdefs.PermissionDenied,
		vchsim.KindHTTP404:         errdefs.NotFound,
		vchsim.KindHTTP500:         errdefs.Unavailable,
		vchsim.KindHTTP503:         errdefs.Unavailable,
		vchsim.KindHTTP507:         errdefs.ResourceExhausted,
		vchsim.KindConnectionReset: errdefs.Unavailable,
		vchsim.KindResponseLost:    errdefs.Unavailable,
		vchsim.KindHalf:            errdefs.Unavailable,
	} {
		for name, content := range map[string][]byte{"small": []byte("abcdef"), "big": big} {
			for method, f := range map[string]func() error{
				"PUT /folder": func() error {
					return w.files.Write(t.Context(), "d/"+name, bytes.NewReader(content), int64(len(content)), nil)
				},
				"GET /folder":  func() error { _, err := w.files.Read(t.Context(), "d/"+name, 10<<20); return err },
				"HEAD /folder": func() error { _, err := w.files.Size(t.Context(), "d/"+name); return err },
			} {
				if method == "HEAD /folder" && (fault == vchsim.KindHalf || fault == vchsim.KindResponseLost) {
					continue // has no content; the answer is not needed for anything to happen
				}
				w.sim.ClearFaults()
				must(t, w.sim.SetFault(vchsim.FaultRule{Method: method, Kind: fault}))
				wantKind(t, method+" of a "+name+" file meets "+fault, f(), kind, w.files.Path("d/"+name))
			}
		}
		w.sim.ClearFaults()
		must(t, w.files.Write(t.Context(), "d/big", bytes.NewReader(big), int64(len(big)), nil))
	}
	// Half of an upload is there: whoever looks at the size sees it.
	must(t, w.sim.SetFault(vchsim.FaultRule{Method: "PUT /folder", Kind: vchsim.KindHalf}))
	err := w.files.Write(t.Context(), "d/big", bytes.NewReader(big), int64(len(big)), nil)
	wantKind(t, "cut in the middle", err, errdefs.Unavailable)
	if n, err := w.files.Size(t.Context(), "d/big"); err != nil || n >= int64(len(big)) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestAnAnswerThatIsNoSuccessOrTooEarlyIsAnError(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{}, vcenter.Options{})
	must(t, w.sim.SetFault(vchsim.FaultRule{Method: "PUT /folder", Kind: vchsim.KindHTTP404, Count: 1}))
	err := w.files.Write(t.Context(), "f", bytes.NewReader(pattern(8<<20)), 8<<20, nil)
	wantKind(t, "refused before content", err, errdefs.NotFound, "404")
	if n := w.sim.BytesReceived(); n != 0 {
		t.Errorf("%d bytes were sent to somebody who refused", n)
	}

	hasty := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }))
	defer hasty.Close()
	patient := func(server *httptest.Server) *http.Client {
		transport := w.options.Client.Vim().DefaultTransport().Clone()
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		transport.TLSClientConfig.RootCAs.AddCert(server.Certificate())
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	to := datastore.Address{Method: http.MethodPost, URL: hasty.URL, ContentType: "text/plain", Client: patient(hasty)}
	err = w.files.Upload(t.Context(), "send it", to, bytes.NewReader(pattern(8<<20)), 8<<20, nil)
	wantKind(t, "a success before the end", err, errdefs.Unavailable, "send it", "201")
	full := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "vmkfstools: No space left on device", http.StatusInternalServerError)
	}))
	defer full.Close()
	to.URL, to.Client = full.URL, patient(full)
	err = w.files.Upload(t.Context(), "send it", to, bytes.NewReader(pattern(8<<20)), 8<<20, nil)
	wantKind(t, "a host that is full", err, errdefs.ResourceExhausted, "500")
}

// countedAt counts what is read.
type countedAt struct {
	io.ReaderAt
	n int
}

// ReadAt reads and counts.
func (c *countedAt) ReadAt(p []byte, at int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, at)
	c.n += n
	return n, err
}

// failingAt reads well up to an offset.
type failingAt struct {
	at  int64
	err error
}

// ReadAt fails from an offset on.
func (f failingAt) ReadAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) > f.at {
		n := max(0, f.at-at)
		clear(p[:n])
		return int(n), f.err
	}
	clear(p)
	return len(p), nil
}

func TestContentThatCannotBeReadIsTheCallersError(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{}, vcenter.Options{})
	cause := errors.New("broken disk")
	err := w.files.Write(t.Context(), "f", failingAt{100_000, cause}, 1<<20, nil)
	wantKind(t, "unknown kind", err, errdefs.Internal, "100000 of 1048576")
	if !errors.Is(err, cause) {
		t.Errorf("%v does not have its cause", err)
	}
	err = w.files.Write(t.Context(), "f", failingAt{100_000, errdefs.New(errdefs.ResourceExhausted, "x")}, 1<<20, nil)
	wantKind(t, "its own kind", err, errdefs.ResourceExhausted)
	err = w.files.Write(t.Context(), "f", failingAt{100_000, io.EOF}, 1<<20, nil)
	wantKind(t, "shorter than said", err, errdefs.Internal, "100000 of 1048576", "unexpected EOF")
}

func TestATransferThatStandsStillEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{}, vcenter.Options{})
	big := pattern(4 << 20)
	must(t, w.files.Write(t.Context(), "big", bytes.NewReader(big), int64(len(big)), nil))
	for method, f := range map[string]func(*datastore.Files) error{
		"PUT /folder": func(files *datastore.Files) error {
			return files.Write(t.Context(), "f", bytes.NewReader(big), int64(len(big)), nil)
		},
		"GET /folder":  func(files *datastore.Files) error { _, err := files.Read(t.Context(), "big", 10<<20); return err },
		"HEAD /folder": func(files *datastore.Files) error { _, err := files.Size(t.Context(), "big"); return err },
	} {
		clk := clocktesting.NewFakeClock(time.Unix(1, 0))
		o := w.options
		o.Clock, o.Stall = clk, 40*time.Second
		w.sim.ClearFaults()
		must(t, w.sim.SetFault(vchsim.FaultRule{Method: method, Kind: vchsim.KindStall}))
		result := make(chan error, 1)
		go func() { result <- f(datastore.New(o)) }()
		var err error
		for waiting := true; waiting; {
			select {
			case err = <-result:
				waiting = false
			default:
				if clk.HasWaiters() {
					clk.Step(o.Stall)
				}
				runtime.Gosched()
			}
		}
		wantKind(t, method, err, errdefs.Unavailable, "no byte was moved for 40s")
	}
}

func TestATransferThatMovesIsNotEndedHoweverLongItTakes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{}, vcenter.Options{})
	clk := clocktesting.NewFakeClock(time.Unix(1, 0))
	o := w.options
	o.Clock, o.Stall = clk, time.Minute
	files := datastore.New(o)
	must(t, files.Write(t.Context(), "f", failingAt{1 << 40, nil}, 4<<20, func(int64) { clk.Step(50 * time.Second) }))
	if took := clk.Since(time.Unix(1, 0)); took < 10*time.Minute {
		t.Errorf("the test took no longer than %s", took)
	}
}

func TestATransferEndsWithItsContextAndLeavesTheContentAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{}, vcenter.Options{})
	must(t, w.sim.SetFault(vchsim.FaultRule{Method: "PUT /folder", Kind: vchsim.KindStall}))
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	ended := false
	err := w.files.Write(ctx, "f", failingAt{1 << 40, nil}, 64<<20, func(done int64) {
		mu.Lock()
		defer mu.Unlock()
		if ended {
			t.Error("progress was told after the end")
		}
		if done > 1<<20 {
			cancel()
		}
	})
	mu.Lock()
	ended = true
	mu.Unlock()
	wantKind(t, "cancelled", err, errdefs.Canceled, "write "+w.files.Path("f"))

	ctx, cancel = context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	_, err = w.files.Read(ctx, "f", 10)
	wantKind(t, "over time", err, errdefs.DeadlineExceeded)
}

func TestTransfersTakeLittleMemoryWhateverTheSize(t *testing.T) {
	w := newWorld(t, vchsim.Options{}, vcenter.Options{})
	const size = 256 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	must(t, w.files.Write(t.Context(), "f", failingAt{1 << 40, nil}, size, nil))
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
		t.Errorf("%d MiB were allocated, at both ends, for %d MiB", used>>20, size>>20)
	}
	if n, err := w.files.Size(t.Context(), "f"); n != size || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestEachTransferIsOneRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{}, vcenter.Options{})
	w.write("f", "x")
	for _, tc := range []struct {
		call func() error
		want map[string]int
	}{
		{func() error { w.write("f", "y"); return nil }, map[string]int{"PUT /folder": 1}},
		{func() error { _, err := w.files.Read(t.Context(), "f", 10); return err }, map[string]int{"GET /folder": 1}},
		{func() error { _, err := w.files.Size(t.Context(), "f"); return err }, map[string]int{"HEAD /folder": 1}},
	} {
		if diff := cmp.Diff(tc.want, w.calls(tc.call)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
