// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"context"
	"errors"
	"slices"

	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/pull"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// imageRequest is the request for the image of the spec.
func (b *Backend) imageRequest(c *call) pull.Request {
	return pull.Request{
		Store:     b.stores(c.client, c.host),
		Reference: c.spec.Image,
		Size:      c.spec.RootDiskBytes(),
		Policy:    c.spec.ImagePullPolicy,
		Registry:  registryOptions(c.spec.Registries, c.secret, c.host.Registries),
	}
}

// registryOptions puts together what the spec, the Secret and the VCH say of
// registries. What the VCH allows counts for us as it does for docker users; its
// insecure registries are ours as well.
func registryOptions(spec *v1alpha1.Registries, secret map[string][]byte, host vch.Registries) registry.Options {
	o := registry.Options{
		Auth:     secret[v1alpha1.SecretDockerConfig],
		CABundle: slices.Clone(host.CABundle),
		Insecure: slices.Clone(host.Insecure),
		Allow:    host.Whitelist,
	}
	if spec == nil {
		return o
	}
	if len(o.CABundle) > 0 && len(spec.CABundle) > 0 {
		o.CABundle = append(o.CABundle, '\n')
	}
	o.CABundle = append(o.CABundle, spec.CABundle...)
	o.Insecure = append(o.Insecure, spec.Insecure...)
	for _, m := range spec.Mirrors {
		o.Mirrors = append(o.Mirrors, registry.Mirror{Registry: m.Registry, Endpoint: m.Endpoint})
	}
	return o
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
