// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"context"
	"io"
	"os"
	"runtime"
	"runtime/metrics"
	"sync/atomic"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/rootfs"
)

const (
	// maxGarbage is how much may be allocated between two collections. Go alone would
	// allow as much as there is in use, which doubles what a large image takes.
	maxGarbage = 12 << 20
	// lookEvery is how many bytes of input or output come between two looks.
	lookEvery = 512 << 10
)

// collector collects garbage when there is much of it. Headers of archives make
// most of it, so it counts what is read. It changes no setting of the process.
type collector struct{ bytes atomic.Int64 }

// count says that bytes were read or written.
func (c *collector) count(n int) {
	if c.bytes.Add(int64(n)) < lookEvery {
		return
	}
	c.bytes.Store(0)
	c.collect()
}

// collect collects if there is much.
func (c *collector) collect() {
	const objects, live = "/memory/classes/heap/objects:bytes", "/gc/heap/live:bytes"
	samples := []metrics.Sample{{Name: objects}, {Name: live}}
	metrics.Read(samples)
	if samples[0].Value.Uint64() > samples[1].Value.Uint64()+maxGarbage {
		runtime.GC()
	}
}

// layers returns layers whose reading is counted.
func (c *collector) layers(layers []rootfs.Layer) []rootfs.Layer {
	for i, layer := range layers {
		layers[i].Open = func(ctx context.Context) (io.ReadCloser, error) {
			r, err := layer.Open(ctx)
			if s, ok := r.(io.ReadSeekCloser); ok && err == nil {
				return &collectedLayer{s, c}, nil
			}
			return r, err
		}
	}
	return layers
}

type collectedLayer struct {
	io.ReadSeekCloser
	collector *collector
}

// Read implements io.Reader.
func (l *collectedLayer) Read(p []byte) (int, error) {
	n, err := l.ReadSeekCloser.Read(p)
	l.collector.count(n)
	return n, err
}

// collectedFile is a file whose writing is counted.
type collectedFile struct {
	*os.File
	collector *collector
}

// WriteAt implements io.WriterAt.
func (f *collectedFile) WriteAt(p []byte, at int64) (int, error) {
	n, err := f.File.WriteAt(p, at)
	f.collector.count(n)
	return n, err
}
