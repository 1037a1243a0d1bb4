// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"context"
	"errors"

	"github.com/vmware/govmomi/vim25/types"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// CreateMachine implements spi.PluginSPI.
func (b *Backend) CreateMachine(ctx context.Context, machineName string, providerSpec *v1alpha1.ProviderSpec, secret *corev1.Secret) (providerID string, err error) {
	err = b.do(ctx, b.limits.Change, machineName, "", providerSpec, secret, func(ctx context.Context, c *call) error {
		if c.spec.Image == "" && (c.spec.RootDisk == nil || c.spec.RootDisk.VMDK == "") {
			return errdefs.New(errdefs.InvalidArgument, "image or rootDisk.vmdk: one of them is required")
		}
		vm, err := c.Find(ctx, c.id, c.mark, true)
		if err != nil {
			return err
		}
		if vm != nil && len(vm.Disks) == 0 {
			// A removal was cut off between detach and destroy: finish it, then start afresh.
			if err := b.remove(ctx, c, vm); err != nil {
				return err
			}
			vm = nil
		}
		if vm == nil {
			vm, err = b.create(ctx, c)
			if err != nil {
				return err
			}
		}
		if vm != nil {
			if err := c.fits(vm); err != nil {
				return err
			}
		}
		providerID = c.id.ProviderID()
		return nil
	})
	return providerID, err
}

// create makes the VM. It answers the VM that was there already, if a call that
// was cut off or another controller made it, else nil.
func (b *Backend) create(ctx context.Context, c *call) (*containervm.VM, error) {
	disk, err := b.image(ctx, c)
	if err != nil {
		return nil, err
	}
	var set *volume.Set
	wants := c.wants()
	if len(wants) > 0 {
		set = b.volumes(c.client, c.host)
		if err := b.ensureVolumes(ctx, c, set, wants); err != nil {
			return nil, err
		}
		if own, err := b.held(ctx, c, wants); own != nil || err != nil {
			return own, err
		}
	}
	vm, err := b.createFrom(ctx, c, disk, set, wants)
	if !vcenter.IsFileNotFound(err) {
		return vm, err
	}
	if gone := volumeVanished(ctx, set, wants, err); gone != nil {
		return nil, gone
	}
	if disk != nil {
		err = b.vanished(ctx, c, disk, err)
	}
	return vm, err
}

// plan puts together what the new VM is.
func (b *Backend) plan(c *call, disk *image.Disk, set *volume.Set, wants []*wanted) (*types.VirtualMachineConfigSpec, error) {
	joined, err := joints(set, wants)
	if err != nil {
		return nil, err
	}
	key, err := b.hostKey()
	if err != nil {
		return nil, err
	}
	return containervm.Plan(containervm.Request{
		Machine: c.mark.Machine, Identity: c.id, Spec: c.spec, Secret: c.secret, VCH: c.host,
		Image: disk, Volumes: joined, DeleteVolumes: goWith(wants), HostKey: key, Now: b.clock.Now(), ProviderVersion: providerVersion(),
	})
}

func (b *Backend) createFrom(ctx context.Context, c *call, disk *image.Disk, set *volume.Set, wants []*wanted) (*containervm.VM, error) {
	plan, err := b.plan(c, disk, set, wants)
	if err != nil {
		return nil, err
	}
	err = c.Create(ctx, plan)
	if !errdefs.Is(err, errdefs.AlreadyExists) {
		if err == nil {
			klog.FromContext(ctx).Info("created container VM", "machine", c.mark.Machine, "vm", plan.Name, "providerID", c.id.ProviderID())
		}
		return nil, err
	}
	vm, findErr := c.Find(ctx, c.id, c.mark, true)
	if vm != nil || findErr != nil {
		return vm, findErr
	}
	// No VM of ours: either files that a cut-off removal left, or a foreign VM of that name.
	if dir, known := containervm.Directory(c.spec, c.host, c.id); known {
		if err := c.RemoveLeftovers(ctx, dir, plan.Name, c.id, c.mark, c.shared()...); err != nil {
			if errdefs.Is(err, errdefs.FailedPrecondition) {
				return nil, errdefs.Wrap(errdefs.AlreadyExists, err, "create machine %s", c.mark.Machine)
			}
			return nil, err
		}
		err = c.Create(ctx, plan)
	}
	if errdefs.Is(err, errdefs.AlreadyExists) {
		return nil, errdefs.Wrap(errdefs.AlreadyExists, err, "create machine %s, whose VM is to be called %q; if another VM of VCH %s is called so, give that one another name (vchctl rename)", c.mark.Machine, plan.Name, c.host.Name)
	}
	return nil, err
}

// fits reports whether vm was made from the same spec. Of digests that were made in
// another way than today's nothing follows.
func (c *call) fits(vm *containervm.VM) error {
	digest, err := containervm.SpecDigest(c.spec)
	if err != nil {
		return err
	}
	if m := vm.Mark(); m.Digest == identity.DigestScheme && m.Spec != digest {
		return errdefs.New(errdefs.AlreadyExists, "machine %s exists as VM %q (%s), made from another provider spec (digest %s by %s, wanted %s); delete the Machine to have it made anew", c.mark.Machine, vm.Name, vm.Ref.Value, m.Spec, m.Provider, digest)
	}
	return nil
}

// InitializeMachine implements spi.PluginSPI.
func (b *Backend) InitializeMachine(ctx context.Context, machineName, providerID string, providerSpec *v1alpha1.ProviderSpec, secret *corev1.Secret) (found string, addresses []corev1.NodeAddress, err error) {
	limit := b.limits.Change + startTimeout(providerSpec)
	err = b.do(ctx, limit, machineName, providerID, providerSpec, secret, func(ctx context.Context, c *call) error {
		vm, err := c.find(ctx, true)
		if err != nil {
			return err
		}
		found = c.id.ProviderID()
		if len(vm.Disks) == 0 {
			return errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) of machine %s has no disk: its removal was cut off; delete the Machine", vm.Name, vm.Ref.Value, machineName)
		}
		started, err := b.start(ctx, c, vm)
		if err != nil {
			return err
		}
		addresses = started.Addresses()
		return nil
	})
	return found, addresses, err
}

// start starts vm, unless it runs, within the spec's start timeout, and returns it with the addresses that the guest got.
func (b *Backend) start(ctx context.Context, c *call, vm *containervm.VM) (*containervm.VM, error) {
	if vm.Running() {
		return vm, nil
	}
	startCtx, cancel := context.WithTimeout(ctx, startTimeout(c.spec))
	defer cancel()
	started, err := c.Start(startCtx, vm, b.clock.Now())
	if err != nil {
		if startCtx.Err() != nil && ctx.Err() == nil {
			err = errors.Join(err, c.Abandon(ctx, vm))
			return nil, errdefs.Wrap(errdefs.DeadlineExceeded, err, "machine %s did not start within startTimeoutSeconds (%s)", c.mark.Machine, startTimeout(c.spec))
		}
		if vcenter.IsFileLocked(err) {
			return nil, b.locked(ctx, c, vm, err)
		}
		return nil, err
	}
	klog.FromContext(ctx).Info("started container VM", "machine", c.mark.Machine, "vm", vm.Name, "providerID", c.id.ProviderID())
	return started, nil
}

// DeleteMachine implements spi.PluginSPI.
func (b *Backend) DeleteMachine(ctx context.Context, machineName, providerID string, providerSpec *v1alpha1.ProviderSpec, secret *corev1.Secret) (found string, err error) {
	err = b.do(ctx, b.limits.Change+grace(providerSpec), machineName, providerID, providerSpec, secret, func(ctx context.Context, c *call) error {
		vm, err := c.Find(ctx, c.id, c.mark, true)
		if err != nil {
			return err
		}
		if vm == nil {
			if err := b.removeVolumes(ctx, c, goWith(c.wants())); err != nil {
				return errdefs.Wrap(errdefs.KindOf(err), err, "machine %s has no VM, but a creation that was cut off may have left volumes; to give them up, take them out of the machine class", machineName)
			}
			dir, known := containervm.Directory(c.spec, c.host, c.id)
			if !known {
				return nil
			}
			return c.RemoveLeftovers(ctx, dir, containervm.DisplayName(c.host.NameConvention, machineName, c.id.ContainerID), c.id, c.mark, c.shared()...)
		}
		if err := b.remove(ctx, c, vm); err != nil {
			return err
		}
		found = c.id.ProviderID()
		klog.FromContext(ctx).Info("deleted container VM", "machine", machineName, "vm", vm.Name, "providerID", found)
		return nil
	})
	return found, err
}

func (b *Backend) remove(ctx context.Context, c *call, vm *containervm.VM) error {
	if vm.PowerState != types.VirtualMachinePowerStatePoweredOff {
		if err := b.stop(ctx, c, vm); err != nil {
			return err
		}
		// The guest wrote while it stopped, so the changeVersion of the first read is of no use any more.
		fresh, err := c.Reread(ctx, vm)
		if err != nil {
			return err
		}
		vm = fresh
	}
	if names := vm.DeleteVolumes(); len(names) > 0 {
		detached, err := c.Detach(ctx, vm, c.shared()...)
		if err != nil {
			return err
		}
		if err := b.removeVolumes(ctx, c, names, vm.Ref.Value); err != nil {
			return errdefs.Wrap(errdefs.KindOf(err), err, "VM %q (%s) stays, since nobody else knows of the volumes that go with it; to give them up, empty its key %s (govc vm.change -e)", vm.Name, vm.Ref.Value, guestinfo.AnnotationKey(containervm.DeleteVolumesAnnotation))
		}
		vm = detached
	}
	return c.Remove(ctx, vm, c.shared()...)
}

// shared are the files of the spec that no machine owns.
func (c *call) shared() []string {
	if c.spec.RootDisk == nil || c.spec.RootDisk.VMDK == "" {
		return nil // image disks are below the image store, which nothing deletes
	}
	return []string{c.spec.RootDisk.VMDK}
}

func (b *Backend) stop(ctx context.Context, c *call, vm *containervm.VM) error {
	return c.Stop(ctx, vm, c.spec.Signal(), grace(c.spec))
}

// ShutDownMachine implements spi.PluginSPI.
func (b *Backend) ShutDownMachine(ctx context.Context, machineName, providerID string, providerSpec *v1alpha1.ProviderSpec, secret *corev1.Secret) (found string, err error) {
	err = b.do(ctx, b.limits.Change+grace(providerSpec), machineName, providerID, providerSpec, secret, func(ctx context.Context, c *call) error {
		vm, err := c.find(ctx, true)
		if err != nil {
			return err
		}
		found = c.id.ProviderID()
		if err := b.stop(ctx, c, vm); err != nil {
			return err
		}
		return c.RecordStop(ctx, vm, b.clock.Now())
	})
	return found, err
}
