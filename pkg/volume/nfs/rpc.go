// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const (
	// callTime is how long one call may take, from its first byte to the last of the answer.
	callTime = 30 * time.Second
	// maxReply is how long an answer may be, in how many fragments. What we ask for
	// is far shorter.
	maxReply     = 256 << 10
	maxFragments = 1 << 10
	lastFragment = uint32(1) << 31
	// maxVerifier is the protocol's limit.
	maxVerifier = 400

	rpcVersion = 2
	authUnix   = 1
)

// procedure is one procedure of a version of a program, with its name in errors.
type procedure struct {
	program, version, number uint32
	name                     string
}

// transportError is that no answer came, or none that could be read. Nothing is known
// about whether the call was done.
type transportError struct {
	procedure string
	err       error
}

func (e *transportError) Error() string { return e.procedure + ": " + e.err.Error() }
func (e *transportError) Unwrap() error { return e.err }

// refusal is that the server does not take the call; it did nothing.
type refusal struct {
	procedure string
	// reason is for people; rights says that the caller is the reason, service that the
	// program is.
	reason          string
	rights, service bool
}

func (e *refusal) Error() string { return e.procedure + ": " + e.reason }

// conn is a connection with one service (ONC RPC, RFC 5531). One call at a time uses it.
// It is our own: the one kept library for clients (willscott/go-nfs-client) knows no context, repeats
// calls for minutes, and what a broken server answers can panic in a goroutine of its own.
//
// It is ours because the client libraries there are were made for a command: they
// reconnect and repeat for minutes, know no context, allocate what an answer says that
// it has, leave goroutines behind with each mount, and panic in these when a connection
// ends at the wrong time, where nobody can recover. Repeating is wrong here, too: who
// made a directory and lost the answer must not read EXIST as another one's. So a
// connection that failed once stays failed.
type conn struct {
	net.Conn
	from       *bufio.Reader
	credential []byte
	xid        uint32
	broken     error
	step       stepFunc
}

// stepFunc carries out a call to a server, which it is told of. Tests let it go wrong.
type stepFunc func(what string, do func() error) error

func justDo(_ string, do func() error) error { return do() }

func newConn(c net.Conn, credential []byte, step stepFunc) *conn {
	return &conn{Conn: c, from: bufio.NewReader(c), credential: credential, step: step}
}

// credential says who we are: AUTH_SYS, which servers believe.
func credential(machine string, uid, gid uint32) []byte {
	var e encoder
	e.uint32(0) // a stamp, which means nothing
	e.text(machine)
	e.uint32(uid)
	e.uint32(gid)
	e.uint32(0) // no other groups
	return e
}

// call sends a call and returns its results. It ends with ctx, and by itself.
func (c *conn) call(ctx context.Context, p procedure, args encoder) (results *decoder, err error) {
	err = c.step(p.name, func() error {
		if c.broken == nil {
			results, err = c.exchange(ctx, p, args)
			if _, refused := errors.AsType[*refusal](err); err == nil || refused {
				return err
			}
			c.broken = err
		}
		return &transportError{procedure: p.name, err: c.broken}
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

func (c *conn) exchange(ctx context.Context, p procedure, args encoder) (*decoder, error) {
	limit, cancel := context.WithTimeoutCause(ctx, callTime, errdefs.New(errdefs.Unavailable, "no answer within %s", callTime))
	defer cancel()
	// A deadline in the past is what ends reads and writes that are under way.
	stop := context.AfterFunc(limit, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	reply, err := c.roundTrip(p, args)
	if limit.Err() != nil {
		return nil, context.Cause(limit)
	}
	if err != nil {
		return nil, err
	}
	return c.results(p, reply)
}

func (c *conn) roundTrip(p procedure, args encoder) ([]byte, error) {
	c.xid++
	e := make(encoder, 4, 128+len(c.credential)+len(args))
	e.uint32(c.xid)
	e.uint32(0) // a call
	e.uint32(rpcVersion)
	e.uint32(p.program)
	e.uint32(p.version)
	e.uint32(p.number)
	if c.credential == nil {
		e.uint32(0)
		e.opaque(nil)
	} else {
		e.uint32(authUnix)
		e.opaque(c.credential)
	}
	e.uint32(0) // no verifier
	e.opaque(nil)
	e = append(e, args...)
	binary.BigEndian.PutUint32(e, uint32(len(e)-4)|lastFragment) //nolint:gosec // what we send is small
	if _, err := c.Write(e); err != nil {
		return nil, err
	}
	return readRecord(c.from)
}

// readRecord reads an answer. Memory is taken as bytes come, not as they are announced.
func readRecord(r io.Reader) ([]byte, error) {
	var record bytes.Buffer
	for range maxFragments {
		var mark [4]byte
		if _, err := io.ReadFull(r, mark[:]); err != nil {
			return nil, cutOff(err)
		}
		word := binary.BigEndian.Uint32(mark[:])
		size := int64(word &^ lastFragment)
		if int64(record.Len())+size > maxReply {
			return nil, fmt.Errorf("the answer is longer than %d bytes", maxReply)
		}
		if _, err := io.CopyN(&record, r, size); err != nil {
			return nil, cutOff(err)
		}
		if word&lastFragment != 0 {
			return record.Bytes(), nil
		}
	}
	return nil, fmt.Errorf("the answer has more than %d fragments", maxFragments)
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the server ended the connection")
	}
	return err
}

// results takes the envelope off an answer.
func (c *conn) results(p procedure, reply []byte) (*decoder, error) {
	d := &decoder{rest: reply}
	if xid, kind := d.uint32(), d.uint32(); d.failed || xid != c.xid || kind != 1 {
		return nil, errMalformed
	}
	if denied := d.bool(); denied {
		if mismatch := d.uint32(); mismatch == 0 {
			return nil, &refusal{procedure: p.name, reason: "the server speaks another version of RPC", service: true}
		}
		return nil, &refusal{procedure: p.name, reason: fmt.Sprintf("the server does not believe who we are (auth_stat %d)", d.uint32()), rights: true}
	}
	d.uint32()
	d.opaque(maxVerifier)
	status := d.uint32()
	switch {
	case d.failed:
		return nil, errMalformed
	case status == 0:
		return d, nil
	case status <= 3:
		reason := []string{"program", "version", "procedure"}[status-1]
		return nil, &refusal{procedure: p.name, reason: fmt.Sprintf("the server does not have the %s (program %d, version %d)", reason, p.program, p.version), service: true}
	default:
		return nil, &refusal{procedure: p.name, reason: fmt.Sprintf("the server failed (accept_stat %d)", status)}
	}
}
