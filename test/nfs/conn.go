// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
)

const (
	// maxRecord is how long a call may be.
	maxRecord = 4 << 20
	last      = uint32(1) << 31

	programPortmap = 100000
	programNFS     = 100003
	programMount   = 100005
)

// serve answers the calls of one connection, one after the other.
func (s *Server) serve(conn net.Conn) {
	defer s.forget(conn)
	defer reset(conn)
	inner, err := s.inner.dial()
	if err != nil {
		return
	}
	defer func() { _ = inner.Close() }() // a pipe's does not fail
	from, back := bufio.NewReader(conn), bufio.NewReader(inner)
	for {
		record, err := readRecord(from)
		if err != nil {
			return
		}
		call, err := parse(record)
		if err != nil {
			return
		}
		call.Privileged = privileged(conn)
		call, act := s.decide(call)
		if s.options.Secure && call.Procedure == "MNT" && !call.Privileged && act.what == pass {
			act = Answer(ACCES)
		}
		var reply []byte
		switch act.what {
		case cut:
			return
		case stall:
			s.hold(from)
			return
		case raw:
			if _, err := conn.Write(act.raw); err != nil {
				return
			}
			continue
		case answer:
			reply = call.reply(act.status)
		default:
			if reply, err = s.work(call, record, inner, back); err != nil || act.what == lose {
				return
			}
		}
		if _, err := conn.Write(fragments(reply, s.options.Fragment)); err != nil {
			return
		}
	}
}

// hold waits until the other side or the server ends the connection, which closes it.
func (s *Server) hold(from io.Reader) { _, _ = io.Copy(io.Discard, from) }

// work has a call done, while no other one is.
func (s *Server) work(c Call, record []byte, inner net.Conn, back *bufio.Reader) ([]byte, error) {
	if c.Procedure == "GETPORT" {
		return c.Accepted(binary.BigEndian.AppendUint32(nil, uint32(s.Port()))), nil
	}
	s.serial.Lock()
	defer s.serial.Unlock()
	s.tree.begin(c.Procedure)
	if _, err := inner.Write(fragments(record, 0)); err != nil {
		return nil, err
	}
	reply, err := readRecord(back)
	if err != nil {
		return nil, err
	}
	// What failed for some reason is told by its cause.
	if status, ok := replyStatus(reply); ok && (status == IO || status == ACCES) {
		if better := s.tree.cause(); better != 0 {
			binary.BigEndian.PutUint32(reply[24:], uint32(better))
		}
	}
	return reply, nil
}

func privileged(conn net.Conn) bool {
	addr, ok := conn.RemoteAddr().(*net.TCPAddr)
	return ok && addr.Port < 1024
}

// readRecord returns the next record, of however many fragments.
func readRecord(r io.Reader) ([]byte, error) {
	var record []byte
	for {
		var mark [4]byte
		if _, err := io.ReadFull(r, mark[:]); err != nil {
			return nil, err
		}
		n := binary.BigEndian.Uint32(mark[:])
		size := int(n &^ last)
		if len(record)+size > maxRecord {
			return nil, errors.New("a record is too long")
		}
		at := len(record)
		record = append(record, make([]byte, size)...)
		if _, err := io.ReadFull(r, record[at:]); err != nil {
			return nil, err
		}
		if n&last != 0 {
			return record, nil
		}
	}
}

// fragments marks a record, in fragments of at most size bytes if that is not 0.
func fragments(record []byte, size int) []byte {
	var out []byte
	for size > 0 && len(record) > size {
		out = binary.BigEndian.AppendUint32(out, uint32(size))
		out = append(out, record[:size]...)
		record = record[size:]
	}
	out = binary.BigEndian.AppendUint32(out, uint32(len(record))|last)
	return append(out, record...)
}

// parse reads what a call is, and of whom.
func parse(record []byte) (Call, error) {
	word := func(at int) uint32 {
		if at+4 > len(record) {
			return 0
		}
		return binary.BigEndian.Uint32(record[at:])
	}
	if len(record) < 40 || word(4) != 0 || word(8) != 2 {
		return Call{}, fmt.Errorf("%d bytes are no call", len(record))
	}
	c := Call{xid: word(0), Procedure: procedure(word(12), word(20))}
	length := int(word(28))
	if 32+length+8 > len(record) {
		return Call{}, errors.New("a credential is too long")
	}
	if word(24) == 1 {
		name := int(word(36))
		if 40+name > len(record) {
			return Call{}, errors.New("a name is too long")
		}
		c.Unix, c.Machine = true, string(record[40:40+name])
		rest := 40 + (name+3)&^3
		c.UID, c.GID = word(rest), word(rest+4)
	}
	c.body = record[32+(length+3)&^3+8:]
	return c, nil
}

// Args are the bytes of the call's arguments.
func (c Call) Args() []byte { return c.body }

// Accepted is a record without mark that says that the call was accepted, with what it results in.
func (c Call) Accepted(results []byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, c.xid)
	out = append(out, 0, 0, 0, 1) // a reply,
	out = append(out, make([]byte, 4+8+4)...)
	return append(out, results...)
}

// Marked is a record as it is sent.
func Marked(record []byte) []byte { return fragments(record, 0) }

// reply says that a call failed; behind the status are attributes that are not there.
func (c Call) reply(s Status) []byte {
	absent := 4
	switch c.Procedure {
	case "MNT", "UMNT", "GETPORT", "NULL", "GETATTR":
		absent = 0
	case "SETATTR", "WRITE", "CREATE", "MKDIR", "SYMLINK", "MKNOD", "REMOVE", "RMDIR", "COMMIT":
		absent = 8
	case "RENAME":
		absent = 16
	}
	return c.Accepted(append(binary.BigEndian.AppendUint32(nil, uint32(s)), make([]byte, absent)...))
}

// replyStatus is that of an accepted call.
func replyStatus(reply []byte) (Status, bool) {
	if len(reply) < 28 || binary.BigEndian.Uint32(reply[8:]) != 0 || binary.BigEndian.Uint32(reply[20:]) != 0 {
		return 0, false
	}
	return Status(binary.BigEndian.Uint32(reply[24:])), true
}

func procedure(program, number uint32) string {
	var names []string
	switch program {
	case programPortmap:
		names = []string{"NULL", "SET", "UNSET", "GETPORT"}
	case programMount:
		names = []string{"NULL", "MNT", "DUMP", "UMNT", "UMNTALL", "EXPORT"}
	case programNFS:
		names = []string{
			"NULL", "GETATTR", "SETATTR", "LOOKUP", "ACCESS", "READLINK", "READ", "WRITE", "CREATE", "MKDIR", "SYMLINK",
			"MKNOD", "REMOVE", "RMDIR", "RENAME", "LINK", "READDIR", "READDIRPLUS", "FSSTAT", "FSINFO", "PATHCONF", "COMMIT",
		}
	}
	if int(number) < len(names) {
		return names[number]
	}
	return strconv.Itoa(int(program)) + "." + strconv.Itoa(int(number))
}
