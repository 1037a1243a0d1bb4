// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

func TestASocketServesItsUserAlone(t *testing.T) {
	t.Parallel()
	e := endpointSocket(t)
	listener := endpointListen(t, e)
	if got := listener.Addr(); got.Network() != networkUnix || got.String() != e.Address() {
		t.Errorf("the address is %s %s, want that of the endpoint", got.Network(), got)
	}
	info, err := os.Lstat(e.Address())
	if err != nil {
		t.Fatal(err)
	}
	if want := fs.ModeSocket | 0o600; info.Mode() != want {
		t.Errorf("the mode is %s, want %s", info.Mode(), want)
	}
	endpointWantFiles(t, e, "cmi.sock")
	endpointServe(t, listener)
	if err := endpointCheck(t, e.Target(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Error(err)
	}
}

func TestASocketIsNeverSeenWithAnotherMode(t *testing.T) {
	t.Parallel()
	e := endpointSocket(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			if info, err := os.Lstat(e.Address()); err == nil && info.Mode() != fs.ModeSocket|0o600 {
				t.Errorf("seen with mode %s", info.Mode())
				return
			}
			for _, name := range endpointFiles(t, e) {
				if info, err := os.Lstat(filepath.Join(filepath.Dir(e.Address()), name)); err == nil && info.Mode().Perm()&0o077 != 0 {
					t.Errorf("%s is seen with mode %s", name, info.Mode())
				}
			}
		}
	})
	for range 200 {
		listener, err := Listen(ctx, e)
		if err != nil {
			t.Error(err)
			break
		}
		listener.Close()
	}
	cancel()
	watching.Wait()
}

func TestASocketOfADeadProcessIsReplaced(t *testing.T) {
	t.Parallel()
	e := endpointSocket(t)
	endpointStale(t, e.Address())
	endpointServe(t, endpointListen(t, e))
	if err := endpointCheck(t, e.Target(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Error(err)
	}
	endpointWantFiles(t, e, "cmi.sock")
}

func TestASocketOfALiveProcessIsRefused(t *testing.T) {
	t.Parallel()
	e := endpointSocket(t)
	endpointServe(t, endpointListen(t, e))
	endpointWantRefused(t, e, errdefs.FailedPrecondition, "another process serves "+e.Address())
	endpointWantFiles(t, e, "cmi.sock")
	if err := endpointCheck(t, e.Target(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestACallerWhoGaveUpGetsNoSocket(t *testing.T) {
	t.Parallel()
	e := endpointSocket(t)
	endpointStale(t, e.Address())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Listen(ctx, e); !errdefs.Is(err, errdefs.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
	endpointWantFiles(t, e, "cmi.sock")
}

func TestASocketWithAFullQueueIsOfALiveProcess(t *testing.T) {
	t.Parallel()
	e := endpointSocket(t)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: e.Address()}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 16 {
		conn, err := net.Dial(networkUnix, e.Address())
		if err != nil {
			endpointWantRefused(t, e, errdefs.FailedPrecondition, "another process serves", "no connection now")
			return
		}
		defer conn.Close()
	}
	t.Fatal("the queue is never full")
}

func TestWhatIsNoSocketStays(t *testing.T) {
	t.Parallel()
	for name, put := range map[string]func(path string) error{
		"a file":      func(path string) error { return os.WriteFile(path, []byte("keep"), 0o600) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"a symbolic link": func(path string) error {
			return os.Symlink("elsewhere", path)
		},
		"something that is not a socket": func(path string) error { return unix.Mkfifo(path, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := endpointSocket(t)
			if err := put(e.Address()); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(e.Address())
			if err != nil {
				t.Fatal(err)
			}
			endpointWantRefused(t, e, errdefs.FailedPrecondition, "there is "+name)
			after, err := os.Lstat(e.Address())
			if err != nil || !os.SameFile(before, after) {
				t.Errorf("it was touched: %v", err)
			}
			endpointWantFiles(t, e, "cmi.sock")
		})
	}
}

func TestADirectoryThatIsMissingIsToBeMade(t *testing.T) {
	t.Parallel()
	e := endpointSocket(t)
	dir := filepath.Dir(e.Address())
	endpointWantRefused(t, endpointOf(t, "unix://"+filepath.Join(dir, "sub", "cmi.sock")), errdefs.FailedPrecondition, "make "+filepath.Join(dir, "sub"))
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	endpointWantRefused(t, endpointOf(t, "unix://"+filepath.Join(dir, "file", "cmi.sock")), errdefs.FailedPrecondition, "not a directory")
}

// endpointUnprivileged runs a function as somebody who may not do everything. For
// root that is a thread with the file system's user nobody, which ends with it.
func endpointUnprivileged(t *testing.T, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if os.Geteuid() == 0 {
			runtime.LockOSThread() // never unlocked: the thread ends here
			if err := unix.Setfsuid(65534); err != nil {
				t.Error(err)
				return
			}
		}
		do()
	}()
	<-done
}

func TestMissingRightsAreNamed(t *testing.T) {
	t.Parallel()
	root := os.Geteuid() == 0
	for name, tc := range map[string]struct {
		dir, socket fs.FileMode
		says        string
	}{
		"the directory cannot be read":            {dir: 0o311, says: "open the directory of the socket"},
		"nothing can be made in the directory":    {dir: 0o555, says: "make a directory beside"},
		"the socket does not let us connect":      {dir: 0o755, socket: 0o400, says: "socket of another user"},
		"what is in the directory cannot be seen": {dir: 0o444, says: "look at"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := endpointSocket(t)
			if tc.socket != 0 {
				endpointServe(t, endpointListen(t, e))
				if err := os.Chmod(e.Address(), tc.socket); err != nil {
					t.Fatal(err)
				}
			}
			dir := filepath.Dir(e.Address())
			mode := tc.dir
			if root && mode == 0o311 {
				mode = 0o711
			}
			if err := os.Chmod(dir, mode); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Chmod(dir, 0o700) })
			endpointUnprivileged(t, func() { endpointWantRefused(t, e, errdefs.PermissionDenied, tc.says) })
		})
	}
}

func TestOfManyThatStartAtTheSameTimeOneGetsTheSocket(t *testing.T) {
	t.Parallel()
	e := endpointSocket(t)
	const starters = 8
	for round := range 100 {
		if round%2 == 1 {
			endpointStale(t, e.Address())
		}
		results := make(chan net.Listener, starters)
		begin := make(chan struct{})
		for range starters {
			go func() {
				<-begin
				listener, err := Listen(t.Context(), e)
				if err != nil && (!errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), "another process serves")) {
					t.Errorf("got %v, want that another process serves", err)
				}
				results <- listener
			}()
		}
		close(begin)
		var winners []net.Listener
		for range starters {
			if listener := <-results; listener != nil {
				winners = append(winners, listener)
			}
		}
		if len(winners) != 1 {
			t.Fatalf("round %d: %d got the socket, want 1", round, len(winners))
		}
		endpointWantFiles(t, e, "cmi.sock")
		endpointTalk(t, winners[0])
		if err := winners[0].Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		endpointWantFiles(t, e)
	}
}

// endpointTalk checks that who dials the socket is heard by this listener.
func endpointTalk(t *testing.T, listener net.Listener) {
	t.Helper()
	const word = "hello"
	conn, err := net.Dial(networkUnix, listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(word)); err != nil {
		t.Fatal(err)
	}
	// Those who lost have knocked, too: they said nothing.
	for range 100 {
		accepted, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		heard := make([]byte, len(word))
		n, _ := accepted.Read(heard)
		accepted.Close()
		if string(heard[:n]) == word {
			return
		}
	}
	t.Error("nobody was heard")
}

func TestClosingLeavesTheSocketOfASuccessor(t *testing.T) {
	t.Parallel()
	e := endpointSocket(t)
	first := endpointListen(t, e)
	if err := os.Remove(e.Address()); err != nil { // by somebody in a hurry
		t.Fatal(err)
	}
	second := endpointListen(t, e)
	for range 2 {
		if err := first.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := first.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v, want net.ErrClosed", err)
	}
	endpointWantFiles(t, e, "cmi.sock")
	endpointTalk(t, second)
}

func TestClosingWithoutSocketOrDirectoryIsNoError(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(Endpoint) error{
		"socket":    func(e Endpoint) error { return os.Remove(e.Address()) },
		"directory": func(e Endpoint) error { return os.RemoveAll(filepath.Dir(e.Address())) },
	} {
		e := endpointSocket(t)
		listener := endpointListen(t, e)
		if err := remove(e); err != nil {
			t.Fatal(err)
		}
		if err := listener.Close(); err != nil {
			t.Errorf("without its %s: %v", name, err)
		}
	}
}

func TestClosingEndsTheListenerEvenIfTheDirectoryIsLocked(t *testing.T) {
	t.Parallel()
	e := endpointSocket(t)
	listener := endpointListen(t, e)
	unlock, err := lockDirectory(nil, filepath.Dir(e.Address()), lockLimit)
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); !errdefs.Is(err, errdefs.Unavailable) {
		t.Errorf("close: %v, want Unavailable", err)
	}
	if _, err := listener.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v, want net.ErrClosed", err)
	}
	unlock()
	endpointWantFiles(t, e, "cmi.sock")
	endpointListen(t, e) // the next one replaces it
}

func TestTheLockIsWaitedForWithALimit(t *testing.T) {
	t.Parallel()
	e := endpointSocket(t)
	dir := filepath.Dir(e.Address())
	unlock, err := lockDirectory(nil, dir, lockLimit)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDirectory(nil, dir, 20*time.Millisecond); !errdefs.Is(err, errdefs.Unavailable) || !strings.Contains(err.Error(), dir) {
		t.Errorf("lock: %v, want Unavailable with the directory", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Listen(short, e); !errdefs.Is(err, errdefs.DeadlineExceeded) {
		t.Errorf("listen: %v, want DeadlineExceeded", err)
	}
	listened := make(chan error, 1)
	go func() {
		listener, err := Listen(t.Context(), e)
		if err == nil {
			err = listener.Close()
		}
		listened <- err
	}()
	unlock()
	if err := <-listened; err != nil {
		t.Errorf("after the lock is free: %v", err)
	}
}

func TestLeftoversOfKilledProcessesAreRemovedAndNothingElse(t *testing.T) {
	t.Parallel()
	e := endpointSocket(t)
	in := func(name ...string) string {
		return filepath.Join(append([]string{filepath.Dir(e.Address())}, name...)...)
	}
	var errs []error
	for name, mode := range map[string]fs.FileMode{
		".cmi-1": 0o700, ".cmi-4294967295": 0o700, // ours, without and with a socket
		".cmi-2": 0o700, ".cmi-3": 0o700, ".cmi-4": 0o700, ".cmi-5": 0o755, ".cmi-x": 0o700, ".cmi-": 0o700, ".cmi-12345678901": 0o700, "cmi-6": 0o700,
	} {
		errs = append(errs, os.Mkdir(in(name), mode))
	}
	endpointStale(t, in(".cmi-4294967295", "s"))
	endpointStale(t, in(".cmi-2", "other"))
	endpointStale(t, in(".cmi-4", "s"))
	errs = append(errs,
		os.WriteFile(in(".cmi-3", "s"), nil, 0o600), os.WriteFile(in(".cmi-4", "more"), nil, 0o600),
		os.WriteFile(in(".cmi-7"), nil, 0o600), os.Symlink(".cmi-2", in(".cmi-8")))
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	endpointListen(t, e)
	endpointWantFiles(t, e, ".cmi-", ".cmi-12345678901", ".cmi-2", ".cmi-3", ".cmi-4", ".cmi-5", ".cmi-7", ".cmi-8", ".cmi-x", "cmi-6", "cmi.sock")
	for _, name := range []string{in(".cmi-2", "other"), in(".cmi-3", "s"), in(".cmi-4", "s")} {
		if _, err := os.Lstat(name); err != nil {
			t.Error(err)
		}
	}
}

func TestNothingIsLeftWhenASocketCannotBeMade(t *testing.T) {
	t.Parallel()
	e := endpointSocket(t)
	dir := filepath.Dir(e.Address())
	// Somebody made a directory there after we looked.
	if err := os.Mkdir(e.Address(), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := bind(t.Context(), e.Address()); !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), "move the socket to "+e.Address()) {
		t.Errorf("bind: %v, want FailedPrecondition with the path", err)
	}
	endpointWantFiles(t, e, "cmi.sock")
	if open, err := os.ReadFile("/proc/net/unix"); err != nil || strings.Contains(string(open), dir) {
		t.Errorf("a socket is still open (%v):\n%s", err, open)
	}
	// An address that holds no more.
	deep := filepath.Join(dir, strings.Repeat("d", maxSocketPath))
	if err := os.Mkdir(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	long := Endpoint{network: networkUnix, address: filepath.Join(deep, "s")}
	endpointWantRefused(t, long, errdefs.FailedPrecondition, "listen on")
	endpointWantFiles(t, long)
}

func TestALongestPathCanBeUsed(t *testing.T) {
	t.Parallel()
	dir := filepath.Dir(endpointSocket(t).Address())
	deep := filepath.Join(dir, strings.Repeat("d", maxSocketPath-len(dir)-len("//")-len(".cmi-0123456789/s")))
	if err := os.Mkdir(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		filepath.Join(dir, strings.Repeat("f", maxSocketPath-len(dir)-len("/"))),
		filepath.Join(deep, "s"),
	} {
		endpointTalk(t, endpointListen(t, endpointOf(t, "unix://"+path)))
	}
	if _, err := ParseEndpoint("unix://" + deep + "d/s"); !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Errorf("one byte more: %v, want InvalidArgument", err)
	}
}

func TestTCPListens(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"tcp://127.0.0.1:0", "tcp://localhost:0", "tcp://:0"} {
		listener := endpointListen(t, endpointOf(t, text))
		endpointServe(t, listener)
		_, port, err := net.SplitHostPort(listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		e := endpointOf(t, "tcp://localhost:"+port)
		if err := endpointCheck(t, e.Target(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestTCPErrorsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	taken := "tcp://" + endpointListen(t, endpointOf(t, "tcp://127.0.0.1:0")).Addr().String()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for text, tc := range map[string]struct {
		ctx  context.Context
		kind errdefs.Kind
		says string
	}{
		taken:                       {t.Context(), errdefs.FailedPrecondition, "another process has this port"},
		"tcp://192.0.2.1:1":         {t.Context(), errdefs.FailedPrecondition, "no such address"},
		"tcp://driver.invalid:8443": {canceled, errdefs.Canceled, "gave up"},
	} {
		_, err := Listen(tc.ctx, endpointOf(t, text))
		if !errdefs.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %s that says %q", text, err, tc.kind, tc.says)
		}
	}
}
