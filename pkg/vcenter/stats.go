// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"cmp"
	"slices"
	"time"
)

// HostStats is the state of the way to one vCenter.
type HostStats struct {
	// Host is vCenter's host name, with the port if it is not the usual one.
	Host string
	// Sessions counts those that are logged in.
	Sessions int
	// Limit is how many calls may be under way now; it is never outside of
	// MinLimit and MaxLimit, which do not change.
	Limit, MinLimit, MaxLimit int
	// InFlight counts the calls under way, Waiting those that wait for their turn,
	// LongPolls those that rest in vCenter and need no turn.
	InFlight, Waiting, LongPolls int
	// Tasks counts the tasks of vCenter that somebody waits for.
	Tasks int
	// Overloads counts how often the limit was lowered, or would have been if it could.
	Overloads uint64
	// Retries counts the calls that were sent again, RetriesDenied those that were
	// not since the budget was used up.
	Retries, RetriesDenied uint64
	// Breaker is the circuit breaker's state. Since is when it closed last or, if it
	// is not closed, since when vCenter does not answer. Until is when it is tried
	// again, if it is open. Failures counts the failures since the last answer, Cause
	// is the text of the last of them, without secrets.
	Breaker      BreakerState
	Since, Until time.Time
	Failures     int
	Cause        string
	// Datastores are those on which heavy operations are under way or wait, sorted by ID.
	Datastores []DatastoreStats
}

// DatastoreStats is the state of one datastore's heavy operations.
type DatastoreStats struct {
	// ID is vCenter's id of the datastore, such as datastore-12.
	ID string
	// Limit is how many operations may be under way; InFlight are, Waiting wait.
	Limit, InFlight, Waiting int
}

// Stats returns the state of each vCenter that has a session, or waits for one,
// sorted by host. It sends nothing, waits for nobody, and may be called at any
// time from any goroutine. Counters of a vCenter begin anew when all its sessions
// have ended for idleness. After Close it is empty.
func (p *Pool) Stats() []HostStats {
	p.mu.Lock()
	sessions := make([]*session, 0, len(p.sessions))
	for _, s := range p.sessions {
		sessions = append(sessions, s)
	}
	p.mu.Unlock()

	counts, tasks := map[*host]int{}, map[*host]int{}
	for _, s := range sessions {
		s.mu.Lock()
		client := s.client
		s.mu.Unlock()
		counts[s.host] += 0 // one that waits for its first login is to be seen, too
		if client != nil {
			counts[s.host]++
			tasks[s.host] += client.hub.taskCount()
		}
	}
	all := make([]HostStats, 0, len(counts))
	for h, n := range counts {
		stats := h.stats(n)
		stats.Tasks = tasks[h]
		all = append(all, stats)
	}
	slices.SortFunc(all, func(a, b HostStats) int { return cmp.Compare(a.Host, b.Host) })
	return all
}

func (h *host) stats(sessions int) HostStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, inUse, waiting := h.slots.load()
	b := h.breaker
	s := HostStats{
		Host: h.name, Sessions: sessions,
		Limit: h.limit.limit, MinLimit: h.limit.floor, MaxLimit: h.limit.ceiling,
		InFlight: inUse, Waiting: waiting, LongPolls: h.polls, Overloads: h.limit.overloads,
		Retries: h.retries, RetriesDenied: h.denied,
		Breaker: b.state, Since: b.since, Failures: b.failures, Cause: b.cause,
	}
	if b.state == BreakerOpen {
		s.Until = b.until
	}
	for ref, q := range h.datastores {
		limit, inUse, waiting := q.load()
		s.Datastores = append(s.Datastores, DatastoreStats{ref.Value, limit, inUse, waiting})
	}
	slices.SortFunc(s.Datastores, func(a, b DatastoreStats) int { return cmp.Compare(a.ID, b.ID) })
	return s
}
