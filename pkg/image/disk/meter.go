// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"io"
	"sync"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// step is how many bytes come between two reports.
const step = 1 << 20

// meter reports how far a stage is. It may be used by several goroutines; reports
// do not overlap.
type meter struct {
	report image.Report
	stage  image.Stage
	total  int64

	mu             sync.Mutex
	done, reported int64
}

func (j *job) newMeter(stage image.Stage, total int64) *meter {
	return &meter{report: j.report, stage: stage, total: total}
}

// set says how many bytes are done.
func (m *meter) set(done int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done = done
	m.tell()
}

// add says that more bytes are done.
func (m *meter) add(n int) {
	if n <= 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += int64(n)
	if m.done-m.reported >= step || m.done == m.total {
		m.tell()
	}
}

// finish says that the stage is through, whatever its total was thought to be.
func (m *meter) finish() { m.set(m.total) }

func (m *meter) tell() {
	m.reported = m.done
	if m.report != nil {
		m.report(image.Progress{Stage: m.stage, Done: min(m.done, m.total), Total: m.total})
	}
}

// counted counts what is read.
type counted struct {
	io.ReadCloser
	meter *meter
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.meter.add(n)
	return n, err
}

// counting counts what is written.
type counting struct {
	w     io.Writer
	meter *meter
}

// Write implements io.Writer.
func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.meter.add(n)
	return n, err
}

// measured counts what is read at places.
type measured struct {
	r     io.ReaderAt
	meter *meter
}

// ReadAt implements io.ReaderAt.
func (m *measured) ReadAt(p []byte, at int64) (int, error) {
	n, err := m.r.ReadAt(p, at)
	m.meter.add(n)
	return n, err
}
