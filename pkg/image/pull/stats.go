// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package pull

// Stats counts the pulls of a Puller since it was made. All but Running only grow.
type Stats struct {
	// Running counts those under way, those that wait for their turn included.
	Running int
	// Made counts those that made a disk in this process, Found those whose disk was
	// there under another name or was made by another process, Failed the others that
	// ended. That the registry was asked and all was there already is no pull.
	Made, Found, Failed uint64
	// Downloaded counts the bytes of Outcome.Bytes, those of pulls that failed
	// included; Uploaded the bytes that were sent to datastores, as they are sent.
	Downloaded, Uploaded uint64
}

// end counts the end of a pull; nothing says that all was there.
func (s *Stats) end(o Outcome, nothing bool) {
	s.Running--
	s.Downloaded += uint64(max(0, o.Bytes))
	switch {
	case o.Err != nil:
		s.Failed++
	case nothing:
	case o.Made:
		s.Made++
	default:
		s.Found++
	}
}

// Stats returns what was done so far. It waits for nobody, and may be called at any
// time from any goroutine, after Close too.
func (p *Puller) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

func (p *Puller) count(what func(*Stats)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	what(&p.stats)
}
