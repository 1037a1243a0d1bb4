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
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const (
	// privatePrefix, up to privateDigits digits and privateSocket are the names of
	// the directory in which a socket is made, and of the socket in it.
	privatePrefix = ".cmi-"
	privateDigits = 10
	privateSocket = "s"

	modeSocket = 0o600

	// Nobody holds the lock for longer than it takes to make or remove a socket.
	lockLimit  = 10 * time.Second
	closeLimit = time.Second
	lockPoll   = 5 * time.Millisecond
	// A unix socket answers or refuses at once.
	knockLimit = 2 * time.Second
)

// Listen listens on an endpoint.
//
// A unix socket appears at its path with mode 0600 and ready for clients, never
// in any other state. It replaces the socket of a process that is gone. If another
// process serves there, or if something else than a socket is there, that stays
// and Listen returns FailedPrecondition. Of processes that start at the same time, one
// gets the socket. Nothing else is left in the socket's directory, not even
// after a process was killed in the middle: the next one cleans up.
//
// Closing the listener removes the socket, unless another one has taken its place.
func Listen(ctx context.Context, e Endpoint) (net.Listener, error) {
	var listener net.Listener
	var err error
	switch e.network {
	case networkUnix:
		listener, err = listenUnix(ctx, e.address)
	case networkTCP:
		listener, err = listenTCP(ctx, e.address)
	default:
		return nil, errdefs.New(errdefs.InvalidArgument, "listen: there is no endpoint; %s", rightEndpoints)
	}
	if err != nil {
		return nil, errdefs.Wrap(errdefs.KindOf(err), err, "listen on %s", e)
	}
	return listener, nil
}

func listenTCP(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, networkTCP, address)
	var unknown *net.DNSError
	switch {
	case err == nil:
		return listener, nil
	case ctx.Err() != nil:
		return nil, errdefs.Wrap(errdefs.KindOf(ctx.Err()), err, "gave up")
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, errdefs.Wrap(errdefs.FailedPrecondition, err, "another process has this port")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, errdefs.Wrap(errdefs.FailedPrecondition, err, "this machine has no such address")
	case errors.As(err, &unknown):
		return nil, errdefs.Wrap(errdefs.FailedPrecondition, err, "resolve the host")
	default:
		return nil, onFile(err, "open the port")
	}
}

// listenUnix holds the lock on the directory while it looks and replaces, so that
// whoever else does the same sees the state before or after.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	unlock, err := lockDirectory(ctx.Done(), dir, lockLimit)
	if err != nil {
		if ctx.Err() != nil {
			return nil, errdefs.Wrap(errdefs.KindOf(ctx.Err()), ctx.Err(), "wait for the lock on directory %s", dir)
		}
		return nil, err
	}
	defer unlock()
	removeLeftovers(dir)
	if err := vacant(ctx, path); err != nil {
		return nil, err
	}
	return bind(ctx, path)
}

// lockDirectory takes the lock on a directory, which is not a file in it. It gives up
// when done is closed or the limit is over.
func lockDirectory(done <-chan struct{}, dir string, limit time.Duration) (unlock func(), err error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0) //nolint:gosec // the operator's choice
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errdefs.Wrap(errdefs.FailedPrecondition, err, "the directory of the socket is missing: make %s, owned by this process's user and with mode 0700", dir)
	case err != nil:
		return nil, onFile(err, "open the directory of the socket, %s", dir)
	}
	unlock = func() { _ = f.Close() } // which ends the lock, and cannot fail for a directory
	over := time.NewTimer(limit)
	defer over.Stop()
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return unlock, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			unlock()
			return nil, onFile(err, "lock directory %s", dir)
		}
		select {
		case <-poll.C:
			continue
		case <-done:
		case <-over.C:
		}
		unlock()
		return nil, errdefs.Wrap(errdefs.Unavailable, err, "lock directory %s: another process holds the lock (flock) for more than %s; lsof %s shows which", dir, limit, dir)
	}
}

// vacant returns an error if something stands at path that must stay.
func vacant(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return onFile(err, "look at %s", path)
	case info.Mode().Type() != fs.ModeSocket:
		return errdefs.New(errdefs.FailedPrecondition, "there is %s, which is not touched; remove it or choose another path", describe(info.Mode()))
	}
	dialer := net.Dialer{Timeout: knockLimit}
	conn, err := dialer.DialContext(ctx, networkUnix, path)
	switch {
	case err == nil:
		_ = conn.Close() // nothing was said
		return errdefs.New(errdefs.FailedPrecondition, "another process serves %s", path)
	case errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist):
		return nil
	case ctx.Err() != nil:
		return errdefs.Wrap(errdefs.KindOf(ctx.Err()), err, "ask who serves %s", path)
	case errors.Is(err, fs.ErrPermission):
		return errdefs.Wrap(errdefs.PermissionDenied, err, "there is a socket of another user, which is not touched")
	default:
		// A full queue, a socket of another type: somebody has it.
		return errdefs.Wrap(errdefs.FailedPrecondition, err, "another process serves %s, but takes no connection now", path)
	}
}

func describe(mode fs.FileMode) string {
	switch mode.Type() {
	case 0:
		return "a file"
	case fs.ModeDir:
		return "a directory"
	case fs.ModeSymlink:
		return "a symbolic link"
	default:
		return "something that is not a socket (" + mode.String() + ")"
	}
}

// bind makes the socket in a directory that nobody else may enter and moves it to
// its path when it is as it shall be. A socket's address keeps the name of that
// directory, which tools such as ss show.
func bind(ctx context.Context, path string) (_ net.Listener, err error) {
	private, err := os.MkdirTemp(filepath.Dir(path), privatePrefix+"*")
	if err != nil {
		return nil, onFile(err, "make a directory beside the socket")
	}
	defer removePrivate(private)
	temporary := filepath.Join(private, privateSocket)
	var config net.ListenConfig
	opened, err := config.Listen(ctx, networkUnix, temporary)
	if err != nil {
		return nil, onFile(err, "make the socket %s", temporary)
	}
	listener, ok := opened.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(errdefs.New(errdefs.Internal, "the socket is a %T", opened), opened.Close())
	}
	listener.SetUnlinkOnClose(false) // it knows the temporary name only
	defer func() {
		if err != nil {
			_ = listener.Close() // err says what is wrong
		}
	}()
	if err := os.Chmod(temporary, modeSocket); err != nil {
		return nil, onFile(err, "set the mode of the socket %s", temporary)
	}
	info, err := os.Lstat(temporary)
	if err != nil {
		return nil, onFile(err, "look at the socket %s", temporary)
	}
	if err := os.Rename(temporary, path); err != nil {
		return nil, onFile(err, "move the socket to %s", path)
	}
	return newSocket(listener, path, info), nil
}

// socket is a listener that knows its path.
type socket struct {
	*net.UnixListener
	path  string
	close func() error
}

func newSocket(listener *net.UnixListener, path string, info fs.FileInfo) *socket {
	s := &socket{UnixListener: listener, path: path}
	s.close = sync.OnceValue(func() error {
		// In this order: as long as the listener is open, its inode's number goes to no
		// other socket.
		return errors.Join(removeOwn(path, info), s.UnixListener.Close())
	})
	return s
}

// Addr is the socket's path.
func (s *socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: networkUnix} }

// Close ends the listener and removes the socket, if the path still leads to it.
func (s *socket) Close() error { return s.close() }

// removeOwn removes a socket if it still is the one that info describes. It looks
// under the lock, because a successor may be about to take the place. Without the
// lock the socket stays, which hurts nobody: the next start replaces it.
func removeOwn(path string, info fs.FileInfo) error {
	unlock, err := lockDirectory(nil, filepath.Dir(path), closeLimit)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	defer unlock()
	now, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && !os.SameFile(now, info)) {
		return nil
	}
	if err == nil {
		err = os.Remove(path)
	}
	return onFile(err, "remove the socket %s", path)
}

// removeLeftovers removes the private directories of processes that were killed.
// Whoever lives holds the lock while it has one. What looks different is not ours,
// and what cannot be removed is tried again next time: no reason not to start.
func removeLeftovers(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		name := filepath.Join(dir, entry.Name())
		if isPrivate(entry.Name()) && ownDirectory(name) && holdsSocketAtMost(name) {
			removePrivate(name)
		}
	}
}

func isPrivate(name string) bool {
	digits, ok := strings.CutPrefix(name, privatePrefix)
	if !ok || len(digits) > privateDigits {
		return false
	}
	_, err := strconv.ParseUint(digits, 10, 64)
	return err == nil
}

// ownDirectory says whether name is a directory that this user made and kept to itself.
func ownDirectory(name string) bool {
	var stat unix.Stat_t
	err := unix.Lstat(name, &stat)
	return err == nil && stat.Mode&unix.S_IFMT == unix.S_IFDIR && stat.Mode&0o077 == 0 && int(stat.Uid) == os.Geteuid()
}

func holdsSocketAtMost(name string) bool {
	entries, err := os.ReadDir(name)
	if err != nil || len(entries) > 1 {
		return false
	}
	return len(entries) == 0 || (entries[0].Name() == privateSocket && entries[0].Type() == fs.ModeSocket)
}

// removePrivate removes a private directory with the socket in it, if it still has one. It
// removes nothing else, whatever is there.
func removePrivate(name string) {
	_ = os.Remove(filepath.Join(name, privateSocket))
	_ = os.Remove(name)
}

// onFile gives a kind to an error of the file system.
func onFile(err error, format string, args ...any) error {
	kind := errdefs.FailedPrecondition
	if errors.Is(err, fs.ErrPermission) {
		kind = errdefs.PermissionDenied
	}
	return errdefs.Wrap(kind, err, format, args...)
}
