// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"context"
	"errors"

	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/pull"
	imagevsphere "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vsphere"
)

// imageRequest is the request for the image of the spec.
func (b *Backend) imageRequest(c *call) pull.Request {
	return pull.Request{
		Store:     b.stores(c.client, c.host),
		Reference: c.spec.Image,
		Size:      c.spec.RootDiskBytes(),
		Policy:    c.spec.ImagePullPolicy,
		Registry:  pull.Registries(c.spec.Registries, c.secret).Join(imagevsphere.Registries(c.host)),
	}
}

// image returns the disk of the spec's image; nil when the spec names a prepared
// disk. An image that is not there yet is Unavailable, with how far it is: it is
// being fetched meanwhile.
func (b *Backend) image(ctx context.Context, c *call) (*image.Disk, error) {
	if c.spec.Image == "" {
		return nil, nil //nolint:nilnil // a spec without an image has none
	}
	if b.images == nil {
		return nil, errdefs.New(errdefs.Unimplemented, "image %s: this driver makes no root disks of images; use rootDisk.vmdk", c.spec.Image)
	}
	return b.images.Ready(ctx, b.imageRequest(c))
}

// vanished is called when vCenter did not find a file of a new VM: somebody may
// have deleted the image disk. It is then made anew by the next call.
func (b *Backend) vanished(ctx context.Context, c *call, disk *image.Disk, cause error) error {
	req := b.imageRequest(c)
	err := b.images.Vanished(ctx, req)
	if err == nil {
		_, err = req.Store.Find(ctx, disk.Key)
	}
	switch {
	case err == nil:
		return cause // the disk is there: it was another file
	case errdefs.Is(err, errdefs.NotFound):
		klog.FromContext(ctx).Info("the image disk is gone, it will be made again", "machine", c.mark.Machine, "image", c.spec.Image, "disk", disk.Path)
		return errdefs.Wrap(errdefs.Unavailable, cause, "image %s: its disk %s is gone and will be made again", c.spec.Image, disk.Path)
	}
	return errors.Join(cause, err)
}
