// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"time"

	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const (
	// workTime is how long one stay at the server may take, deletionTime if files of a
	// volume are deleted: of these there may be millions.
	workTime     = 5 * time.Minute
	deletionTime = 30 * time.Minute
	// tidyTime is how long clearing away may take after a call has ended.
	tidyTime = time.Minute
	// partingTime is how long the server may take to hear that we leave.
	partingTime = 5 * time.Second

	// maxEntries is how many entries of one directory are listed.
	maxEntries = 100_000
	// maxRestarts is how often a listing is begun anew, as a directory changes.
	maxRestarts = 20
	// maxContents is how many bytes of files are read in one stay.
	maxContents = 64 << 20
	// maxDepth is how deep directories are followed that are deleted; below deep only
	// a few entries of each are held at once.
	maxDepth = 1000
	deep     = 16
	// beatEvery is after how many deleted files a removal says that it is under way.
	beatEvery = 200
)

// session is one stay at the server: the export, mounted.
type session struct {
	*conn
	root handle
	// mounts is the connection with the mount service.
	mounts *conn
	export string
	// taken is how many bytes of files were read.
	taken int
	// shared are the directories that all volumes share, as far as they were met.
	shared map[string]handle
}

// with mounts the export, works on it, and unmounts it. It ends within a limit.
func (s *Store) with(ctx context.Context, limit time.Duration, work func(context.Context, *session) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errdefs.New(errdefs.DeadlineExceeded, "it took longer than %s", limit))
	defer cancel()
	n, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer n.close(ctx)
	return work(ctx, n)
}

func (s *Store) open(ctx context.Context) (*session, error) {
	mountPort, port, err := s.ports(ctx)
	if err != nil {
		return nil, err
	}
	who := credential(machineName, s.place.uid, s.place.gid)
	mounts, err := s.connect(ctx, s.dial, mountPort, who)
	if err != nil {
		return nil, err
	}
	n := &session{conn: mounts, mounts: mounts, export: s.place.export, shared: map[string]handle{}}
	if n.root, err = mounts.mount(ctx, s.place.export); err != nil {
		return nil, errors.Join(err, mounts.Close())
	}
	if port != mountPort {
		if n.conn, err = s.connect(ctx, s.dial, port, who); err != nil {
			n.conn = mounts
			n.close(ctx)
			return nil, err
		}
	}
	return n, nil
}

// close says good-bye, which servers want for their records only, and closes.
func (n *session) close(ctx context.Context) {
	if n.mounts.broken == nil {
		parting, cancel := context.WithTimeout(context.WithoutCancel(ctx), partingTime)
		defer cancel()
		if err := n.mounts.unmount(parting, n.export); err != nil {
			klog.FromContext(ctx).V(1).Info("Could not unmount", "export", n.export, "reason", err.Error())
		}
	}
	_ = n.conn.Close() // nothing is under way
	_ = n.mounts.Close()
}

// ports are those of mount and NFS, from the location or the port mapper.
func (s *Store) ports(ctx context.Context) (mount, nfs uint32, err error) {
	mount, nfs = s.place.mountPort, s.place.port
	if mount != 0 && nfs != 0 {
		return mount, nfs, nil
	}
	c, err := s.connect(ctx, s.dialPlain, portmapPort, nil)
	if err != nil {
		return 0, 0, fmt.Errorf("ask the port mapper: %w", err)
	}
	defer func() { _ = c.Close() }() // nothing is under way
	for _, p := range []struct {
		port    *uint32
		program uint32
		name    string
	}{{&mount, programMount, "mount"}, {&nfs, programNFS, "NFS"}} {
		if *p.port != 0 {
			continue
		}
		if *p.port, err = c.getPort(ctx, p.program); err != nil {
			return 0, 0, err
		}
		if *p.port == 0 {
			return 0, 0, &refusal{procedure: "GETPORT", reason: fmt.Sprintf("the server does not have %s in version %d over TCP", p.name, nfsVersion), service: true}
		}
	}
	return mount, nfs, nil
}

func (s *Store) connect(ctx context.Context, dial DialFunc, port uint32, who []byte) (*conn, error) {
	address := net.JoinHostPort(s.place.name, strconv.FormatUint(uint64(port), 10))
	var c net.Conn
	err := s.step("connect", func() (err error) {
		c, err = dial(ctx, "tcp", address)
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	})
	if err != nil {
		if c != nil {
			_ = c.Close() // nothing is under way
		}
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return newConn(c, who, s.step), nil
}

// find is lookup for what may be absent.
func (n *session) find(ctx context.Context, dir handle, name string) (node, bool, error) {
	found, err := n.lookup(ctx, dir, name)
	if is(err, statusNoEnt) {
		return node{}, false, nil
	}
	return found, err == nil, err
}

// dir finds a directory that all volumes share, by its path from the root.
func (n *session) dir(ctx context.Context, names ...string) (handle, bool, error) {
	at := n.root
	for i, name := range names {
		key := path.Join(names[:i+1]...)
		if known, ok := n.shared[key]; ok {
			at = known
			continue
		}
		next, there, err := n.find(ctx, at, name)
		if err != nil || !there {
			return "", false, err
		}
		at = next.handle
		n.shared[key] = at
	}
	return at, true, nil
}

// in finds what has a name in a directory that all volumes share.
func (n *session) in(ctx context.Context, name string, names ...string) (node, bool, error) {
	dir, there, err := n.dir(ctx, names...)
	if err != nil || !there {
		return node{}, false, err
	}
	return n.find(ctx, dir, name)
}

// ensure is dir, and makes what is not there.
func (n *session) ensure(ctx context.Context, names ...string) (handle, error) {
	at := n.root
	for i := range names {
		next, there, err := n.dir(ctx, names[:i+1]...)
		if err != nil {
			return "", err
		}
		if !there {
			made, err := n.mkdir(ctx, at, names[i])
			if is(err, statusExist) { // somebody else did
				made, err = n.lookup(ctx, at, names[i])
			}
			if err != nil {
				return "", err
			}
			next = made.handle
			n.shared[path.Join(names[:i+1]...)] = next
		}
		at = next
	}
	return at, nil
}

// list returns what is in a directory, with what each is.
func (n *session) list(ctx context.Context, dir handle) ([]entry, error) {
	var err error
	for range maxRestarts {
		var all []entry
		if all, err = n.listOnce(ctx, dir); !is(err, statusBadCookie) {
			return all, err
		}
	}
	return nil, err
}

func (n *session) listOnce(ctx context.Context, dir handle) ([]entry, error) {
	var all []entry
	var cookie, verifier uint64
	for seen := 0; ; {
		p, err := n.readdir(ctx, dir, cookie, verifier)
		if err != nil {
			return nil, err
		}
		seen += len(p.entries)
		stuck := len(p.entries) == 0 || p.entries[len(p.entries)-1].cookie == cookie
		if stuck && !p.end || seen > maxEntries {
			return nil, fmt.Errorf("the directory has no end, or more than %d entries", maxEntries)
		}
		for _, e := range p.entries {
			cookie = e.cookie
			if e.name != "." && e.name != ".." {
				all = append(all, e)
			}
		}
		if p.end {
			return all, nil
		}
		verifier = p.verifier
	}
}

// contents reads a file, up to limit bytes; a longer one is cut there.
func (n *session) contents(ctx context.Context, file handle, limit int) ([]byte, error) {
	var all []byte
	for len(all) < limit {
		part, end, err := n.read(ctx, file, uint64(len(all)))
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
		if n.taken += len(part); n.taken > maxContents {
			return nil, fmt.Errorf("the metadata are more than %d bytes", maxContents)
		}
		if end || len(part) == 0 {
			break
		}
	}
	return all[:min(len(all), limit)], nil
}

// store writes a new file.
func (n *session) store(ctx context.Context, dir handle, name string, content []byte) (node, error) {
	f, err := n.create(ctx, dir, name, fileMode)
	if err != nil {
		return node{}, err
	}
	for at := 0; at < len(content); {
		written, err := n.write(ctx, f.handle, uint64(at), content[at:])
		if err != nil {
			return node{}, err
		}
		at += written
	}
	f.attributes, err = n.getattr(ctx, f.handle)
	return f, err
}

// deletion deletes a tree. What is gone already, or comes meanwhile, is no error.
type deletion struct {
	n *session
	// top is what is deleted. It is touched now and then, so that nobody takes this
	// for given up.
	top handle
	// count is how many things were to be deleted, done how many were.
	count, done int
}

// removeTree deletes what is called name in a directory, with all that is in it.
func (n *session) removeTree(ctx context.Context, dir handle, name string) error {
	d := &deletion{n: n}
	at, there, err := n.find(ctx, dir, name)
	if err != nil || !there {
		return err
	}
	d.top = at.handle
	return d.remove(ctx, dir, name, at, 0)
}

func (d *deletion) remove(ctx context.Context, dir handle, name string, at node, depth int) error {
	d.count++
	if d.count%beatEvery == 0 {
		if err := d.n.touch(ctx, d.top); err != nil && !answered(err) {
			return err
		}
	}
	if !at.directory {
		return d.gone(d.n.remove(ctx, dir, name))
	}
	if depth == maxDepth {
		return fmt.Errorf("directories are nested more than %d deep", maxDepth)
	}
	// A server may say again and again that something is there, and then that it is not.
	for vain := 0; ; {
		// Most often there is nothing in it.
		err := d.gone(d.n.rmdir(ctx, dir, name))
		if !is(err, statusNotEmpty, statusExist) {
			return err
		}
		done := d.done
		if err := d.empty(ctx, at.handle, depth); err != nil {
			return err
		}
		if vain++; d.done > done {
			vain = 0
		}
		if vain > maxRestarts {
			return fmt.Errorf("a directory cannot be emptied: %w", err)
		}
	}
}

// gone is gone, and counts.
func (d *deletion) gone(err error) error {
	if err == nil {
		d.done++
	}
	return gone(err)
}

// empty deletes the first part of what is in a directory. The rest comes next time: so
// nothing depends on how a server numbers entries while they vanish, and no directory is too large.
func (d *deletion) empty(ctx context.Context, dir handle, depth int) error {
	entries, err := d.n.some(ctx, dir)
	if err != nil {
		return gone(err)
	}
	if depth > deep {
		entries = slices.Clone(entries[:min(len(entries), deep)])
	}
	for _, e := range entries {
		at := node{attributes: e.attributes}
		if !e.known || e.directory {
			var there bool
			if at, there, err = d.n.find(ctx, dir, e.name); err != nil {
				return err
			}
			if !there {
				continue
			}
		}
		if err := d.remove(ctx, dir, e.name, at, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// some returns some entries of a directory; none if it is empty.
func (n *session) some(ctx context.Context, dir handle) ([]entry, error) {
	var cookie, verifier uint64
	for range maxRestarts {
		p, err := n.readdir(ctx, dir, cookie, verifier)
		if err != nil {
			return nil, err
		}
		for _, e := range p.entries {
			cookie = e.cookie
		}
		entries := slices.DeleteFunc(p.entries, func(e entry) bool { return e.name == "." || e.name == ".." })
		if len(entries) > 0 || p.end {
			return entries, nil
		}
		verifier = p.verifier
	}
	return nil, errors.New("the directory has no end")
}

// gone is err, unless that says that there is nothing to delete.
func gone(err error) error {
	if is(err, statusNoEnt, statusStale) {
		return nil
	}
	return err
}
