// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"context"
	"strconv"
	"time"
)

// The limits of NFSv3 and MOUNTv3 (RFC 1813), and what we ask for at once.
const (
	maxHandle = 64
	maxName   = 255

	chunk       = 32 << 10
	pageNames   = 8 << 10
	pageReplies = 32 << 10
)

const (
	programPortmap = 100000
	programNFS     = 100003
	programMount   = 100005
	nfsVersion     = 3
	protocolTCP    = 6

	typeDirectory = 2
)

// status is what a call says that was taken: of NFS, or of mount, whose numbers are
// the same as far as they go.
type status uint32

const (
	statusPerm        status = 1
	statusNoEnt       status = 2
	statusIO          status = 5
	statusAccess      status = 13
	statusExist       status = 17
	statusNotDir      status = 20
	statusIsDir       status = 21
	statusInval       status = 22
	statusFBig        status = 27
	statusNoSpace     status = 28
	statusReadOnly    status = 30
	statusNameTooLong status = 63
	statusNotEmpty    status = 66
	statusQuota       status = 69
	statusStale       status = 70
	statusBadHandle   status = 10001
	statusBadCookie   status = 10003
	statusNotSupp     status = 10004
	statusServerFault status = 10006
	statusJukebox     status = 10008
)

func (s status) String() string {
	if name, ok := statusNames()[s]; ok {
		return name
	}
	return "status " + strconv.FormatUint(uint64(s), 10)
}

// statusNames are the protocol's own (RFC 1813, 2.6).
func statusNames() map[status]string {
	return map[status]string{
		statusPerm:        "NFS3ERR_PERM",
		statusNoEnt:       "NFS3ERR_NOENT",
		statusIO:          "NFS3ERR_IO",
		statusAccess:      "NFS3ERR_ACCES",
		statusExist:       "NFS3ERR_EXIST",
		statusNotDir:      "NFS3ERR_NOTDIR",
		statusIsDir:       "NFS3ERR_ISDIR",
		statusInval:       "NFS3ERR_INVAL",
		statusFBig:        "NFS3ERR_FBIG",
		statusNoSpace:     "NFS3ERR_NOSPC",
		statusReadOnly:    "NFS3ERR_ROFS",
		statusNameTooLong: "NFS3ERR_NAMETOOLONG",
		statusNotEmpty:    "NFS3ERR_NOTEMPTY",
		statusQuota:       "NFS3ERR_DQUOT",
		statusStale:       "NFS3ERR_STALE",
		statusBadHandle:   "NFS3ERR_BADHANDLE",
		statusBadCookie:   "NFS3ERR_BAD_COOKIE",
		statusNotSupp:     "NFS3ERR_NOTSUPP",
		statusServerFault: "NFS3ERR_SERVERFAULT",
		statusJukebox:     "NFS3ERR_JUKEBOX",
	}
}

// statusError is that the server did not do what was asked.
type statusError struct {
	procedure string
	status    status
}

func (e *statusError) Error() string { return e.procedure + ": " + e.status.String() }

// handle is what the server knows a file by.
type handle string

// attributes are what we want to know of a file.
type attributes struct {
	directory bool
	// id is the number that no other file of the export has at the time.
	id       uint64
	size     uint64
	modified time.Time
}

// node is a file or directory.
type node struct {
	handle handle
	attributes
}

// entry is one of a directory. The server may leave out what it is.
type entry struct {
	name   string
	cookie uint64
	known  bool
	attributes
}

func mountCall(number uint32, name string) procedure {
	return procedure{program: programMount, version: nfsVersion, number: number, name: name}
}

func nfsCall(number uint32, name string) procedure {
	return procedure{program: programNFS, version: nfsVersion, number: number, name: name}
}

// getPort asks a port mapper where a program is; 0 if it is nowhere.
func (c *conn) getPort(ctx context.Context, program uint32) (uint32, error) {
	var e encoder
	e.uint32(program)
	e.uint32(nfsVersion)
	e.uint32(protocolTCP)
	e.uint32(0)
	d, err := c.call(ctx, procedure{program: programPortmap, version: 2, number: 3, name: "GETPORT"}, e)
	if err != nil {
		return 0, err
	}
	port := d.uint32()
	if port > 1<<16-1 {
		d.fail()
	}
	return port, c.checked(d, "GETPORT")
}

// mount returns the handle of an export.
func (c *conn) mount(ctx context.Context, export string) (handle, error) {
	var e encoder
	e.text(export)
	d, err := c.do(ctx, mountCall(1, "MNT"), e)
	if err != nil {
		return "", err
	}
	root := d.handle()
	return root, c.checked(d, "MNT")
}

func (c *conn) unmount(ctx context.Context, export string) error {
	var e encoder
	e.text(export)
	_, err := c.call(ctx, mountCall(3, "UMNT"), e)
	return err
}

// do makes a call whose results begin with a status, and returns what follows success.
func (c *conn) do(ctx context.Context, p procedure, args encoder) (*decoder, error) {
	d, err := c.call(ctx, p, args)
	if err != nil {
		return nil, err
	}
	s := status(d.uint32())
	if err := c.checked(d, p.name); err != nil {
		return nil, err
	}
	if s != 0 {
		return nil, &statusError{procedure: p.name, status: s}
	}
	return d, nil
}

// checked ends a connection whose answers cannot be read.
func (c *conn) checked(d *decoder, name string) error {
	if err := d.err(); err != nil {
		c.broken = err
		return &transportError{procedure: name, err: err}
	}
	return nil
}

func (d *decoder) handle() handle {
	b := d.opaque(maxHandle)
	if len(b) == 0 {
		d.fail()
	}
	return handle(b)
}

func (d *decoder) attributes() attributes {
	a := attributes{directory: d.uint32() == typeDirectory}
	d.take(4 + 4 + 4 + 4) // mode, links, owner, group
	a.size = d.uint64()
	d.take(8 + 8 + 8) // used, device, file system
	a.id = d.uint64()
	d.take(8) // read
	seconds, nanoseconds := d.uint32(), d.uint32()
	d.take(8) // changed
	if nanoseconds >= uint32(time.Second) {
		nanoseconds = 0
	}
	a.modified = time.Unix(int64(seconds), int64(nanoseconds))
	return a
}

func (d *decoder) optionalAttributes() (attributes, bool) {
	if !d.bool() {
		return attributes{}, false
	}
	return d.attributes(), !d.failed
}

func dirOp(dir handle, name string) encoder {
	var e encoder
	e.opaque([]byte(dir))
	e.text(name)
	return e
}

func (c *conn) getattr(ctx context.Context, h handle) (attributes, error) {
	var e encoder
	e.opaque([]byte(h))
	d, err := c.do(ctx, nfsCall(1, "GETATTR"), e)
	if err != nil {
		return attributes{}, err
	}
	a := d.attributes()
	return a, c.checked(d, "GETATTR")
}

// touch sets the time of a file to the server's.
func (c *conn) touch(ctx context.Context, h handle) error {
	var e encoder
	e.opaque([]byte(h))
	e.settings(0)
	e.uint32(0) // no guard
	_, err := c.do(ctx, nfsCall(2, "SETATTR"), e)
	return err
}

// settings are those of a new file with a mode; with none it is told the server's time.
func (e *encoder) settings(mode uint32) {
	if mode != 0 {
		e.uint32(1)
		e.uint32(mode)
	} else {
		e.uint32(0)
	}
	e.uint32(0) // owner
	e.uint32(0) // group
	e.uint32(0) // size
	e.uint32(0) // time of reading
	if mode != 0 {
		e.uint32(0)
	} else {
		e.uint32(1)
	}
}

func (c *conn) lookup(ctx context.Context, dir handle, name string) (node, error) {
	d, err := c.do(ctx, nfsCall(3, "LOOKUP"), dirOp(dir, name))
	if err != nil {
		return node{}, err
	}
	n := node{handle: d.handle()}
	a, known := d.optionalAttributes()
	if err := c.checked(d, "LOOKUP"); err != nil {
		return node{}, err
	}
	if n.attributes = a; !known {
		n.attributes, err = c.getattr(ctx, n.handle)
	}
	return n, err
}

// read returns up to a chunk of a file, and whether that is its end.
func (c *conn) read(ctx context.Context, h handle, offset uint64) ([]byte, bool, error) {
	var e encoder
	e.opaque([]byte(h))
	e.uint64(offset)
	e.uint32(chunk)
	d, err := c.do(ctx, nfsCall(6, "READ"), e)
	if err != nil {
		return nil, false, err
	}
	d.optionalAttributes()
	d.uint32()
	eof := d.bool()
	content := d.opaque(chunk)
	if err := c.checked(d, "READ"); err != nil {
		return nil, false, err
	}
	return content, eof, nil
}

// write stores a chunk so that a crash of the server does not lose it, and returns how
// much of it was taken.
func (c *conn) write(ctx context.Context, h handle, offset uint64, content []byte) (int, error) {
	content = content[:min(len(content), chunk)]
	var e encoder
	e.opaque([]byte(h))
	e.uint64(offset)
	e.uint32(uint32(len(content))) //nolint:gosec // a chunk
	e.uint32(2)                    // FILE_SYNC
	e.opaque(content)
	d, err := c.do(ctx, nfsCall(7, "WRITE"), e)
	if err != nil {
		return 0, err
	}
	d.changes()
	n := d.uint32()
	if n == 0 || int64(n) > int64(len(content)) {
		d.fail()
	}
	return int(n), c.checked(d, "WRITE")
}

// changes passes over what a server tells of a directory or file that it changed.
func (d *decoder) changes() {
	if d.bool() {
		d.take(8 + 8 + 8)
	}
	d.optionalAttributes()
}

// create makes a file that is not there yet.
func (c *conn) create(ctx context.Context, dir handle, name string, mode uint32) (node, error) {
	e := dirOp(dir, name)
	e.uint32(1) // GUARDED
	e.settings(mode)
	return c.made(ctx, nfsCall(8, "CREATE"), e, dir, name)
}

// mkdir makes a directory that is not there yet.
func (c *conn) mkdir(ctx context.Context, dir handle, name string) (node, error) {
	e := dirOp(dir, name)
	e.settings(directoryMode)
	return c.made(ctx, nfsCall(9, "MKDIR"), e, dir, name)
}

func (c *conn) made(ctx context.Context, p procedure, args encoder, dir handle, name string) (node, error) {
	d, err := c.do(ctx, p, args)
	if err != nil {
		return node{}, err
	}
	var n node
	there := d.bool()
	if there {
		n.handle = d.handle()
	}
	a, known := d.optionalAttributes()
	if err := c.checked(d, p.name); err != nil {
		return node{}, err
	}
	if !there || !known {
		return c.lookup(ctx, dir, name)
	}
	n.attributes = a
	return n, nil
}

func (c *conn) remove(ctx context.Context, dir handle, name string) error {
	_, err := c.do(ctx, nfsCall(12, "REMOVE"), dirOp(dir, name))
	return err
}

func (c *conn) rmdir(ctx context.Context, dir handle, name string) error {
	_, err := c.do(ctx, nfsCall(13, "RMDIR"), dirOp(dir, name))
	return err
}

func (c *conn) rename(ctx context.Context, from handle, name string, to handle, as string) error {
	_, err := c.do(ctx, nfsCall(14, "RENAME"), append(dirOp(from, name), dirOp(to, as)...))
	return err
}

// page is a part of a directory.
type page struct {
	entries  []entry
	verifier uint64
	end      bool
}

func (c *conn) readdir(ctx context.Context, dir handle, cookie, verifier uint64) (page, error) {
	var e encoder
	e.opaque([]byte(dir))
	e.uint64(cookie)
	e.uint64(verifier)
	e.uint32(pageNames)
	e.uint32(pageReplies)
	d, err := c.do(ctx, nfsCall(17, "READDIRPLUS"), e)
	if err != nil {
		return page{}, err
	}
	p := d.page()
	return p, c.checked(d, "READDIRPLUS")
}

func (d *decoder) page() page {
	d.optionalAttributes()
	p := page{verifier: d.uint64()}
	for d.bool() {
		d.uint64() // its number, which the attributes have, too
		n := entry{name: string(d.opaque(maxName)), cookie: d.uint64()}
		n.attributes, n.known = d.optionalAttributes()
		if d.bool() {
			d.handle()
		}
		if d.failed {
			return page{}
		}
		p.entries = append(p.entries, n)
	}
	p.end = d.bool()
	return p
}
