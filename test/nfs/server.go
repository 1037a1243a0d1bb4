// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path"
	"strconv"
	"sync"

	"github.com/willscott/go-nfs"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// DefaultExport is what is exported when Options does not say.
const DefaultExport = "/export"

// Options describe a server. The zero value will do.
type Options struct {
	// Listen is the address to serve on, which must be one of loopback. Default: a
	// free port of 127.0.0.1.
	Listen string
	// Dir is an existing directory for the files, which stay there after Close. By
	// default it is a new one, which Close removes.
	Dir string
	// Export is the path that can be mounted. Default: DefaultExport.
	Export string
	// Secure refuses to be mounted from ports that any process may use, as most
	// servers do unless they are told otherwise.
	Secure bool
	// Fragment is how many bytes of an answer go into one fragment at most; 0 is all.
	Fragment int
}

// Server serves until Close. All methods may be called from many goroutines.
type Server struct {
	options  Options
	listener net.Listener
	inner    *pipes
	tree     *tree
	owned    bool
	running  sync.WaitGroup
	closed   chan struct{}

	// serial is held while a call is worked on.
	serial sync.Mutex

	mu       sync.Mutex
	fault    Fault
	refusing bool
	calls    []Call
	conns    map[net.Conn]bool
}

// Serve starts a server.
func Serve(o Options) (*Server, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Export == "" {
		o.Export = DefaultExport
	}
	o.Export = path.Clean("/" + o.Export)
	s := &Server{options: o, owned: o.Dir == "", inner: newPipes(), closed: make(chan struct{}), conns: map[net.Conn]bool{}}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	inner := &nfs.Server{Handler: newHandler(s.tree, o.Export)}
	s.running.Go(func() { _ = inner.Serve(s.inner) }) // it ends with an error, when it is told to
	s.running.Go(s.accept)
	return s, nil
}

func (s *Server) open() (err error) {
	quiet()
	if s.owned {
		if s.options.Dir, err = os.MkdirTemp("", "nfs-"); err != nil {
			return errdefs.Wrap(errdefs.Unavailable, err, "make a directory to export")
		}
	}
	if s.tree, err = newTree(s.options.Dir); err != nil {
		return errdefs.Wrap(errdefs.FailedPrecondition, err, "export %s", s.options.Dir)
	}
	host, _, err := net.SplitHostPort(s.options.Listen)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return errdefs.New(errdefs.InvalidArgument, "listen on %s: not an address of loopback with a port", s.options.Listen)
	}
	if s.listener, err = new(net.ListenConfig).Listen(context.Background(), "tcp", s.options.Listen); err != nil {
		return errdefs.Wrap(errdefs.Unavailable, err, "listen on %s", s.options.Listen)
	}
	return nil
}

// Close ends it: connections are cut, calls that are held end.
func (s *Server) Close() error {
	s.mu.Lock()
	select {
	case <-s.closed:
		s.mu.Unlock()
		return nil
	default:
	}
	close(s.closed)
	s.mu.Unlock()
	var errs []error
	if s.listener != nil {
		errs = append(errs, s.listener.Close())
	}
	_ = s.inner.Close() // it cannot fail
	s.Cut()
	s.running.Wait()
	if s.tree != nil {
		errs = append(errs, s.tree.root.Close())
	}
	if s.owned && s.options.Dir != "" {
		errs = append(errs, os.RemoveAll(s.options.Dir))
	}
	return errors.Join(errs...)
}

// Dir is the directory with the files: what is exported, no more and no less.
func (s *Server) Dir() string { return s.options.Dir }

// Export is the path that can be mounted.
func (s *Server) Export() string { return s.options.Export }

// Addr is the address that it serves on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Port is the port of mount, NFS and the port mapper.
func (s *Server) Port() int {
	addr, ok := s.listener.Addr().(*net.TCPAddr)
	if !ok {
		return 0
	}
	return addr.Port
}

// URL is the location of the export, with the ports for those who cannot ask a port mapper:
// nfs://127.0.0.1/export?mountport=N&port=N.
func (s *Server) URL() *url.URL {
	host, port, _ := net.SplitHostPort(s.Addr()) // a listener's address is well-formed
	if net.ParseIP(host).To4() == nil {
		host = "[" + host + "]"
	}
	return &url.URL{Scheme: "nfs", Host: host, Path: s.Export(), RawQuery: url.Values{"port": {port}, "mountport": {port}}.Encode()}
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		refusing := s.refusing
		select {
		case <-s.closed:
			refusing = true
		default:
		}
		if !refusing {
			s.conns[conn] = true
		}
		s.mu.Unlock()
		if refusing {
			reset(conn)
			continue
		}
		s.running.Go(func() { s.serve(conn) })
	}
}

// reset ends a connection so that the other side gets an error and not an end.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // then it ends politely
	}
	_ = conn.Close()
}

func (s *Server) String() string {
	return "NFS server " + s.URL().String() + " (" + strconv.Quote(s.Dir()) + ")"
}

var _ fmt.Stringer = (*Server)(nil)
