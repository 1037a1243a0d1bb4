// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatLeaksIsNamed(t *testing.T) {
	t.Parallel()
	const machines = 10
	const kept, own = "net/http.(*persistConn).readLoop", "vcenter.(*Hub).run"
	held := func(connections, owned, files int) map[string]Holdings {
		return map[string]Holdings{"driver": {Goroutines: map[string]int{kept: connections, own: owned}, Files: map[string]int{"/tmp": files}}}
	}
	for name, test := range map[string]struct {
		after map[string]Holdings
		want  string
	}{
		"as before":       {after: held(2, 1, 0)},
		"less":            {after: held(0, 1, 0)},
		"a little more":   {after: held(2+roomForConnections(machines), 1+room, room)},
		"connections":     {after: held(3+roomForConnections(machines), 1, 0), want: "driver has 19 goroutines of net/http.(*persistConn).readLoop, before the faults 2"},
		"goroutines":      {after: held(2, 2+room, 0), want: "driver has 5 goroutines of vcenter.(*Hub).run, before the faults 1"},
		"temporary files": {after: held(2, 1, 1+room), want: "driver has 4 open files of /tmp, before the faults 0"},
		"no driver left":  {want: "driver does not say what it holds"},
	} {
		got := ""
		if err := leaked(held(2, 1, 0), test.after, machines); err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestGoroutinesAreCountedByWhatTheyBeganWith(t *testing.T) {
	t.Parallel()
	const text = `goroutine profile: total 5
2 @ 0x1 0x2
#	0x1	internal/poll.(*FD).Read+0x8f	/go/src/internal/poll/fd.go:1
#	0x2	net/http.(*persistConn).readLoop+0x54	/go/src/net/http/transport.go:1

3 @ 0x1 0x2 0x3
# labels: {"a":"b"}
#	0x1	example.org/a.wait+0x8f	/a.go:1
#	0x2	example.org/a.(*Pool).keep.func1+0x54	/a.go:2
#	0x3	sync.(*WaitGroup).Go.func1+0x54	/go/src/sync/waitgroup.go:1

`
	got, err := begins(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"net/http.(*persistConn).readLoop": 2, "example.org/a.(*Pool).keep.func1": 3}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, wrong := range []string{"", "no profile", "x @ 0x1\n"} {
		if got, err := begins(strings.NewReader(wrong)); err == nil {
			t.Errorf("%q: %v", wrong, got)
		}
	}
}

// TestAGoroutineMoreIsSeen reads the profile of this process.
func TestAGoroutineMoreIsSeen(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(pprof.Index))
	t.Cleanup(server.Close)
	count := func() int {
		found, err := profile(t.Context(), server.URL+"/debug/pprof/goroutine?debug=1")
		if err != nil {
			t.Fatal(err)
		}
		return found["github.com/mcm-vch/machine-controller-manager-provider-vch/test/chaos.forget"]
	}
	if n := count(); n != 0 {
		t.Errorf("%d before there is one", n)
	}
	end, started := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(end) })
	go forget(started, end)
	<-started
	if n := count(); n != 1 {
		t.Errorf("%d goroutines, want 1", n)
	}
	if _, err := profile(t.Context(), server.URL+"/nothing"); err == nil {
		t.Error("a page that is none is read")
	}
}

func forget(started chan<- struct{}, end <-chan struct{}) {
	close(started)
	<-end
}

// TestOpenFilesAreCountedByWhatTheyAre looks at this process, whose other tests have
// files as well.
func TestOpenFilesAreCountedByWhatTheyAre(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accepted.Close() })

	files, err := filesOf("/proc", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	if files[dir] != 2 || files["listening socket"] == 0 || files["connection from others"] == 0 || files["connection to port "+port] != 1 {
		t.Errorf("%v, want 2 of %s and a connection to %s", files, dir, port)
	}
	if _, err := filesOf(t.TempDir(), 1); err == nil {
		t.Error("files of no process are counted")
	}
}
