// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"context"
	"errors"
	"io"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vmdk"
)

// content is a disk in temporary files.
type content struct {
	job      *job
	raw      *file
	used     int64
	vmdk     *file
	vmdkSize int64
}

var _ image.Content = (*content)(nil)

// Description implements image.Content.
func (c *content) Description() image.Description { return c.job.description(c.used) }

// Raw implements image.Content.
func (c *content) Raw() (io.ReaderAt, int64) { return c.raw, c.used }

// Identity implements image.Content.
func (c *content) Identity() [16]byte { return c.job.derive("disk") }

// StreamOptimized implements image.Content. After an error it may be called again.
func (c *content) StreamOptimized(ctx context.Context, report image.Report) (io.ReaderAt, int64, error) {
	if c.vmdk != nil {
		return c.vmdk, c.vmdkSize, nil
	}
	f, err := c.job.dir.newFile("vmdk")
	if err != nil {
		return nil, 0, err
	}
	m := &meter{report: report, stage: image.Compressing, total: c.used}
	m.set(0)
	result, err := vmdk.WriteFile(ctx, f.File, &measured{r: c.raw, meter: m}, c.used, vmdk.Options{
		Capacity: c.job.key.Size, Identity: c.Identity(),
	})
	if err != nil {
		return nil, 0, errors.Join(c.job.explain(err), f.close())
	}
	m.finish()
	c.vmdk, c.vmdkSize = f, result.Bytes
	return f, result.Bytes, nil
}

// Close implements image.Content. Calling it again does nothing.
func (c *content) Close() error {
	err := errors.Join(c.raw.close(), c.vmdk.close())
	c.raw, c.vmdk = nil, nil
	return errors.Join(err, c.job.dir.remove())
}
