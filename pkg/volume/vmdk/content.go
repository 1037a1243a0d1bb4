// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/ext4"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vmdk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/virtualdisk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// dataDirectory is what VIC mounts of a volume.
const dataDirectory = ".vic.vol.data/"

// makeContent makes the content of an empty volume, in memory.
func makeContent(ctx context.Context, name string, capacity int64, now time.Time) (virtualdisk.Content, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dataDirectory, Mode: 0o755, ModTime: now})
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return virtualdisk.Content{}, errdefs.Wrap(errdefs.Internal, err, "make the content of volume %s", name)
	}
	id := uuid.New()
	raw := &memory{}
	made, err := ext4.Write(ctx, &archive, raw, ext4.Options{Size: capacity, Label: volume.Label(name), UUID: id, Time: now})
	if err != nil {
		return virtualdisk.Content{}, err
	}
	return virtualdisk.Content{
		Capacity: capacity, Raw: raw, Used: made.UsedBytes, Identity: id,
		Stream: func(ctx context.Context) (io.ReaderAt, int64, error) {
			stream := &memory{}
			packed, err := vmdk.WriteFile(ctx, stream, raw, made.UsedBytes, vmdk.Options{Capacity: capacity, Identity: vmdk.Identity(id)})
			return stream, packed.Bytes, err
		},
	}, nil
}

// memory is a file in memory.
type memory struct{ content []byte }

// WriteAt implements io.WriterAt.
func (m *memory) WriteAt(b []byte, at int64) (int, error) {
	if end := at + int64(len(b)); end > int64(len(m.content)) {
		_ = m.Truncate(end)
	}
	return copy(m.content[at:], b), nil
}

// Truncate sets the length; what is added reads as zeroes.
func (m *memory) Truncate(size int64) error {
	if more := size - int64(len(m.content)); more > 0 {
		m.content = append(m.content, make([]byte, more)...)
	}
	m.content = m.content[:size]
	return nil
}

// ReadAt implements io.ReaderAt.
func (m *memory) ReadAt(b []byte, at int64) (int, error) {
	if at >= int64(len(m.content)) {
		return 0, io.EOF
	}
	n := copy(b, m.content[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}
