// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"context"
	"io"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Layer is one layer of an image, uncompressed.
type Layer struct {
	// Name is what errors call the layer, such as its diff ID.
	Name string
	// Open opens the layer's tar. It is called once by NewPlan and once by each
	// Plan.Write, and must give the same bytes each time. A reader that can seek
	// is not asked for content that nobody needs.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Options bounds the work and says what the result has beside the layers. The
// zero value of a field means its default.
type Options struct {
	// MaxEntries bounds the headers of all layers together, the paths of the tree at
	// any time, and, with 64 for each, the parts of paths that are walked. Default
	// 500,000.
	MaxEntries int
	// MaxMemory bounds the bytes that a plan holds: nodes, names, link targets and
	// the extended attributes of directories. Default 40 MiB, which is 500,000
	// paths with names of 20 bytes, or fewer with longer ones.
	MaxMemory int64
	// MaxBytes bounds the uncompressed bytes of all layers together; holes of
	// sparse files count. Default 64 GiB.
	MaxBytes int64
	// MaxName bounds the bytes of a path, symbolic links followed. Default and
	// maximum 4095, Linux's limit.
	MaxName int
	// Parallel is how many layers Unpack decompresses at once. Default 2.
	Parallel int
	// ModTime is the modification time of what no layer has an entry for. Default
	// the Unix epoch, so that the same layers give the same bytes.
	ModTime time.Time
	// Require is what the tree must have in the end; see ContainerVM.
	Require []Required
}

const (
	defaultMaxEntries = 500_000
	defaultMaxMemory  = 40 << 20
	defaultMaxBytes   = 64 << 30
	maxPath           = 4095 // PATH_MAX without its NUL
	maxPart           = 255  // NAME_MAX
	maxLayers         = 1 << 12
)

// withDefaults returns the options with defaults filled in, or says which is wrong.
func (o Options) withDefaults() (Options, error) {
	if o.MaxEntries == 0 {
		o.MaxEntries = defaultMaxEntries
	}
	if o.MaxMemory == 0 {
		o.MaxMemory = defaultMaxMemory
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.MaxName == 0 {
		o.MaxName = maxPath
	}
	if o.Parallel == 0 {
		o.Parallel = 2
	}
	if o.ModTime.IsZero() {
		o.ModTime = time.Unix(0, 0)
	}
	switch {
	case o.MaxEntries < 0, o.MaxMemory < 0, o.MaxBytes < 0, o.Parallel < 0:
		return o, errdefs.New(errdefs.InvalidArgument, "flatten an image: a limit is negative: %+v", o)
	case o.MaxMemory > 1<<30:
		return o, errdefs.New(errdefs.InvalidArgument, "flatten an image: MaxMemory is %d, want at most 1 GiB", o.MaxMemory)
	case o.MaxName < 0, o.MaxName > maxPath:
		return o, errdefs.New(errdefs.InvalidArgument, "flatten an image: MaxName is %d, want at most %d", o.MaxName, maxPath)
	}
	return o, nil
}
