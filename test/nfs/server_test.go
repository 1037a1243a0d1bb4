// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	client "github.com/willscott/go-nfs-client/nfs"
	"github.com/willscott/go-nfs-client/nfs/rpc"
	"github.com/willscott/go-nfs-client/nfs/xdr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/nfs"
)

func serve(t *testing.T, o nfs.Options) *nfs.Server {
	t.Helper()
	s, err := nfs.Serve(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// mount mounts with a client that is not ours.
func mount(t *testing.T, s *nfs.Server, export string) (*client.Target, error) {
	t.Helper()
	conn, err := rpc.DialTCP("tcp", s.Addr(), false)
	for range 20 { // the library draws its own port by lot, and may draw one that somebody has
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
		conn, err = rpc.DialTCP("tcp", s.Addr(), false)
	}
	if err != nil {
		t.Fatal(err)
	}
	// It is left open: the library panics when a connection ends twice.
	return (&client.Mount{Client: conn}).Mount(export, rpc.NewAuthUnix("tester", 7, 8).Auth())
}

func mounted(t *testing.T, s *nfs.Server) *client.Target {
	t.Helper()
	target, err := mount(t, s, s.Export())
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func TestAnotherClientMakesReadsMovesAndRemovesFiles(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]nfs.Options{"on its own": {}, "in a directory that is there": {Dir: t.TempDir(), Export: "/a/b"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, o)
			target := mounted(t, s)
			if _, err := target.Mkdir("dir", 0o750); err != nil {
				t.Fatal(err)
			}
			f, err := target.OpenFile("dir/file", 0o640)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write([]byte("content")); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if content, err := os.ReadFile(filepath.Join(s.Dir(), "dir", "file")); err != nil || string(content) != "content" {
				t.Errorf("the directory has %q, %v", content, err)
			}
			if info, err := os.Stat(filepath.Join(s.Dir(), "dir")); err != nil || info.Mode() != os.ModeDir|0o750 {
				t.Errorf("the directory is %v, %v", info, err)
			}
			if err := target.Rename("dir", "moved"); err != nil {
				t.Fatal(err)
			}
			r, err := target.Open("moved/file")
			if err != nil {
				t.Fatal(err)
			}
			if content, err := io.ReadAll(r); err != nil || string(content) != "content" {
				t.Errorf("read %q, %v", content, err)
			}
			if err := target.RemoveAll("moved"); err != nil {
				t.Fatal(err)
			}
			if entries, err := os.ReadDir(s.Dir()); err != nil || len(entries) != 0 {
				t.Errorf("left are %v, %v", entries, err)
			}
		})
	}
}

func TestFailuresAreToldByTheirCause(t *testing.T) {
	t.Parallel()
	s := serve(t, nfs.Options{})
	if err := os.MkdirAll(filepath.Join(s.Dir(), "full", "of"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir(), "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	target := mounted(t, s)
	mkdir := func(name string) error { _, err := target.Mkdir(name, 0o755); return err }
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"a directory that is there":      {mkdir("full"), os.ErrExist.Error()},
		"a directory where a file is":    {mkdir("file"), os.ErrExist.Error()},
		"a directory that is not empty":  {target.RmDir("full"), "NFS3ERR_NOTEMPTY"},
		"a file removed as a directory":  {target.RmDir("file"), "NFS3ERR_NOTDIR"},
		"a directory removed as a file":  {target.Remove("full"), "NFS3ERR_ISDIR"},
		"nothing to remove":              {target.Remove("nothing"), os.ErrNotExist.Error()},
		"nothing to move":                {target.Rename("nothing", "else"), os.ErrNotExist.Error()},
		"moved over what is not empty":   {func() error { _ = mkdir("x"); return target.Rename("x", "full") }(), os.ErrExist.Error() + " NFS3ERR_NOTEMPTY"},
		"a name that is too long":        {mkdir(strings.Repeat("n", 300)), "NFS3ERR_NAMETOOLONG"},
		"an export that is not exported": {func() error { _, err := mount(t, s, "/other"); return err }(), "MNT3ERR_NOENT"},
	} {
		if tc.err == nil || !strings.Contains(tc.want, tc.err.Error()) {
			t.Errorf("%s: %v, want %s", name, tc.err, tc.want)
		}
	}
}

func TestOfManyThatMakeADirectoryOneDoes(t *testing.T) {
	t.Parallel()
	s := serve(t, nfs.Options{})
	var made atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		target := mounted(t, s)
		wg.Go(func() {
			switch _, err := target.Mkdir("one", 0o755); {
			case err == nil:
				made.Add(1)
			case !errors.Is(err, os.ErrExist):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 {
		t.Errorf("%d have made it", made.Load())
	}
}

func TestCallsAreCountedWithWhoMadeThem(t *testing.T) {
	t.Parallel()
	s := serve(t, nfs.Options{})
	target := mounted(t, s)
	if _, err := target.Mkdir("dir", 0o755); err != nil {
		t.Fatal(err)
	}
	if n := s.Count("MKDIR"); n != 1 || s.Count() < 3 {
		t.Errorf("%d calls of MKDIR, %d of all", n, s.Count())
	}
	for i, c := range s.Calls() {
		if c.N != i+1 || !c.Unix || c.UID != 7 || c.GID != 8 || c.Machine != "tester" || c.Privileged {
			t.Errorf("call %d: %+v", i, c)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	s := serve(t, nfs.Options{})
	target := mounted(t, s)
	mkdir := func(name string) error { _, err := target.Mkdir(name, 0o755); return err }

	s.SetFault(nfs.Full())
	if err := mkdir("a"); err == nil || err.Error() != "NFS3ERR_NOSPC" {
		t.Errorf("a full export: %v", err)
	}
	s.SetFault(nfs.ReadOnly())
	if err := mkdir("a"); err == nil || err.Error() != "NFS3ERR_ROFS" {
		t.Errorf("a read-only export: %v", err)
	}
	// A lookup and then MKDIR.
	s.SetFault(nfs.At(2, nfs.Answer(nfs.PERM)))
	if err := mkdir("a"); !errors.Is(err, os.ErrPermission) {
		t.Errorf("what was answered: %v", err)
	}
	if err := mkdir("a"); err != nil {
		t.Errorf("the call after that: %v", err)
	}
	s.SetFault(nfs.From(2, nfs.Answer(nfs.STALE)))
	for range 2 {
		if err := mkdir("b"); err == nil {
			t.Error("a call after the first one that fails has success")
		}
	}
	s.SetFault(nil)
	if err := mkdir("b"); err != nil {
		t.Errorf("without a fault: %v", err)
	}
}

// caller makes calls by hand: the other client repeats what fails, and panics when
// connections end.
type caller struct {
	*testing.T
	net.Conn
	xid uint32
}

func dial(t *testing.T, s *nfs.Server) *caller {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &caller{T: t, Conn: conn}
}

func (c *caller) send(program, number uint32, args ...any) {
	c.Helper()
	c.xid++
	var call bytes.Buffer
	head := []any{c.xid, uint32(0), uint32(2), program, uint32(3), number, rpc.NewAuthUnix("tester", 7, 8).Auth(), rpc.AuthNull}
	for _, v := range append(head, args...) {
		if err := xdr.Write(&call, v); err != nil {
			c.Fatal(err)
		}
	}
	if _, err := c.Write(nfs.Marked(call.Bytes())); err != nil {
		c.Fatal(err)
	}
}

// status reads an answer and returns the first word of the results, and what follows.
func (c *caller) status() (uint32, []byte, error) {
	var mark [4]byte
	if _, err := io.ReadFull(c.Conn, mark[:]); err != nil {
		return 0, nil, err
	}
	reply := make([]byte, binary.BigEndian.Uint32(mark[:])&^(1<<31))
	if _, err := io.ReadFull(c.Conn, reply); err != nil {
		return 0, nil, err
	}
	return binary.BigEndian.Uint32(reply[24:]), reply[28:], nil
}

const (
	mountProgram, mnt = 100005, 1
	nfsProgram, mkdir = 100003, 9
)

func (c *caller) root() []byte {
	c.Helper()
	c.send(mountProgram, mnt, "/export")
	status, rest, err := c.status()
	if err != nil || status != 0 {
		c.Fatal(status, err)
	}
	return rest[4 : 4+binary.BigEndian.Uint32(rest)]
}

func TestAnAnswerThatIsLostIsOfACallThatWasDone(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		action nfs.Action
		done   bool
	}{"lost": {nfs.Lose(), true}, "cut": {nfs.Cut(), false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, nfs.Options{})
			c := dial(t, s)
			root := c.root()
			s.SetFault(nfs.At(1, tc.action))
			c.send(nfsProgram, mkdir, root, "dir", client.Sattr3{})
			if status, _, err := c.status(); err == nil {
				t.Errorf("it was answered with %d", status)
			}
			if _, err := os.Stat(filepath.Join(s.Dir(), "dir")); (err == nil) != tc.done {
				t.Errorf("done: %v", err)
			}
		})
	}
}

func TestAnswersInFragmentsAndRawOnes(t *testing.T) {
	t.Parallel()
	s := serve(t, nfs.Options{Fragment: 4})
	c := dial(t, s)
	s.SetFault(nfs.At(1, nfs.Raw([]byte("raw!"))))
	c.send(mountProgram, mnt, "/export")
	raw := make([]byte, 4)
	if _, err := io.ReadFull(c.Conn, raw); err != nil || string(raw) != "raw!" {
		t.Errorf("the raw answer is %q, %v", raw, err)
	}
	c.send(mountProgram, mnt, "/export")
	for at, end := 0, false; !end; at++ {
		part := make([]byte, 8)
		if _, err := io.ReadFull(c.Conn, part); err != nil {
			t.Fatal(err)
		}
		end = part[0]&0x80 != 0
		if part[3] != 4 || at > 40 {
			t.Fatalf("fragment %d is %x", at, part)
		}
	}
}

func TestAHandleIsOfOneFile(t *testing.T) {
	t.Parallel()
	s := serve(t, nfs.Options{})
	target := mounted(t, s)
	first, err := target.Mkdir("dir", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if err := target.RmDir("dir"); err != nil {
		t.Fatal(err)
	}
	second, err := target.Mkdir("dir", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first, second) {
		t.Error("the second directory has the handle of the first one")
	}
	if _, err := target.GetAttr(first); err == nil || err.Error() != "NFS3ERR_STALE" {
		t.Errorf("what was removed: %v", err)
	}
	if _, err := target.GetAttr(second); err != nil {
		t.Error(err)
	}
}

func TestRefusedConnectionsAndCutOnes(t *testing.T) {
	t.Parallel()
	s := serve(t, nfs.Options{})
	c := dial(t, s)
	c.root()
	s.Cut()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still there")
	}
	s.Refuse(true)
	if conn, err := net.Dial("tcp", s.Addr()); err == nil { // it may come so far
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("a refused connection is served")
		}
		_ = conn.Close()
	}
	s.Refuse(false)
	dial(t, s).root()
}

func TestASecureExportWantsAPrivilegedPort(t *testing.T) {
	t.Parallel()
	s := serve(t, nfs.Options{Secure: true})
	if _, err := mount(t, s, s.Export()); err == nil || err.Error() != "MNT3ERR_ACCES" {
		t.Errorf("mount: %v", err)
	}
}

func TestCloseEndsWhatIsStalled(t *testing.T) {
	t.Parallel()
	s, err := nfs.Serve(nfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	arrived := make(chan struct{})
	s.SetFault(func(nfs.Call) nfs.Action { close(arrived); return nfs.Stall() })
	c := dial(t, s)
	c.send(mountProgram, mnt, "/export")
	<-arrived
	dir := s.Dir()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the call was answered")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its directory is still there: %v", err)
	}
	if n := s.Connections(); n != 0 {
		t.Errorf("%d connections are open", n)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}

func TestWhatCannotBeServed(t *testing.T) {
	t.Parallel()
	for _, o := range []nfs.Options{{Listen: "0.0.0.0:0"}, {Listen: "127.0.0.1"}, {Dir: "/nowhere/at/all"}} {
		if s, err := nfs.Serve(o); err == nil {
			t.Errorf("%+v is served", o)
			_ = s.Close()
		}
	}
}

func TestTheURLHasTheAddress(t *testing.T) {
	t.Parallel()
	s := serve(t, nfs.Options{Listen: "[::1]:0"})
	u := s.URL()
	if u.Scheme != "nfs" || u.Hostname() != "::1" || u.Path != "/export" || u.Query().Get("port") == "" {
		t.Errorf("URL %s", u)
	}
	mounted(t, s)
}
