// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"net"
	"slices"
)

// Call is one call that came in.
type Call struct {
	// N counts all calls from 1, Procedure is MNT, UMNT, GETPORT or one of NFS, such as MKDIR.
	N         int
	Procedure string
	// UID, GID and Machine are whom the caller says it is; Unix tells that it does.
	Unix     bool
	UID, GID uint32
	Machine  string
	// Privileged says that the caller's port is one that not every process may use.
	Privileged bool

	xid  uint32
	body []byte
}

// Status is an answer of NFS; those of MNT have the same numbers.
type Status uint32

// Some that tests need.
const (
	PERM        Status = 1
	NOENT       Status = 2
	IO          Status = 5
	ACCES       Status = 13
	EXIST       Status = 17
	XDEV        Status = 18
	NOTDIR      Status = 20
	ISDIR       Status = 21
	INVAL       Status = 22
	FBIG        Status = 27
	NOSPC       Status = 28
	ROFS        Status = 30
	NAMETOOLONG Status = 63
	NOTEMPTY    Status = 66
	DQUOT       Status = 69
	STALE       Status = 70
	BADHANDLE   Status = 10001
	BADCOOKIE   Status = 10003
	NOTSUPP     Status = 10004
	SERVERFAULT Status = 10006
	JUKEBOX     Status = 10008
)

// Action is what becomes of a call.
type Action struct {
	what   action
	status Status
	raw    []byte
}

type action int

const (
	pass action = iota
	answer
	cut
	lose
	stall
	raw
)

// Pass does what was asked.
func Pass() Action { return Action{what: pass} }

// Answer says that it failed. Nothing is done.
func Answer(s Status) Action { return Action{what: answer, status: s} }

// Cut ends the connection. Nothing is done.
func Cut() Action { return Action{what: cut} }

// Lose does what was asked and ends the connection instead of answering.
func Lose() Action { return Action{what: lose} }

// Stall never answers. Nothing is done. The connection stays until one side ends it.
func Stall() Action { return Action{what: stall} }

// Raw sends bytes as they are, record mark and all, in place of an answer, and goes on.
// Nothing is done. See Call.Accepted for answers that clients listen to.
func Raw(b []byte) Action { return Action{what: raw, raw: b} }

// Fault decides what becomes of a call. It may be called from many goroutines.
type Fault func(Call) Action

// At does something to the n-th call from now on, counted from 1.
func At(n int, a Action) Fault { return between(n, n, a) }

// From does something to the n-th call from now on and all that follow.
func From(n int, a Action) Fault { return between(n, 0, a) }

func between(first, last int, a Action) Fault {
	base := make(chan int, 1)
	base <- 0
	return func(c Call) Action {
		start := <-base
		if start == 0 {
			start = c.N
		}
		base <- start
		if n := c.N - start + 1; n >= first && (last == 0 || n <= last) {
			return a
		}
		return Pass()
	}
}

// On does something to all calls of some procedures.
func On(a Action, procedures ...string) Fault {
	return func(c Call) Action {
		if slices.Contains(procedures, c.Procedure) {
			return a
		}
		return Pass()
	}
}

// Full is an export without room.
func Full() Fault { return On(Answer(NOSPC), "WRITE", "CREATE", "MKDIR", "SYMLINK") }

// ReadOnly is an export that cannot be written.
func ReadOnly() Fault { return On(Answer(ROFS), writing()...) }

func writing() []string {
	return []string{"SETATTR", "WRITE", "CREATE", "MKDIR", "SYMLINK", "MKNOD", "REMOVE", "RMDIR", "RENAME", "LINK", "COMMIT"}
}

// SetFault lets calls go wrong from now on; nil ends that. What is stalled stays so.
func (s *Server) SetFault(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Refuse resets connections that are opened from now on.
func (s *Server) Refuse(refuse bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusing = refuse
}

// Cut ends all connections that are open.
func (s *Server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		reset(conn)
	}
}

// Calls returns the calls that came in so far, those that went wrong too.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Count says how many calls there were, of some procedures or of all.
func (s *Server) Count(procedures ...string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.calls {
		if len(procedures) == 0 || slices.Contains(procedures, c.Procedure) {
			n++
		}
	}
	return n
}

// Connections says how many are open.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// decide counts a call and says what becomes of it.
func (s *Server) decide(c Call) (Call, Action) {
	s.mu.Lock()
	c.N = len(s.calls) + 1
	s.calls = append(s.calls, c)
	fault := s.fault
	s.mu.Unlock()
	if fault == nil {
		return c, Pass()
	}
	return c, fault(c)
}

func (s *Server) forget(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}
