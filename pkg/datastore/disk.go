// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package datastore

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// maxDescriptor is more than any descriptor of a disk has.
const maxDescriptor = 64 << 10

// settleTime is how long the end of a task that was cancelled is waited for.
const settleTime = 30 * time.Second

// ExtendDisk enlarges a virtual disk to size bytes, of whole KiB. What is new
// reads as zero and takes no space before it is written, where the datastore can do
// so. A disk that is larger already is an error.
func (f *Files) ExtendDisk(ctx context.Context, p string, size int64) error {
	if err := f.check(p); err != nil {
		return err
	}
	if size <= 0 || size%1024 != 0 {
		return errdefs.New(errdefs.InvalidArgument, "extend disk %s: size %d is not of whole KiB", f.Path(p), size)
	}
	vim := f.o.Client.Vim()
	res, err := methods.ExtendVirtualDisk_Task(ctx, vim, &types.ExtendVirtualDisk_Task{
		This: *vim.ServiceContent.VirtualDiskManager, Name: f.Path(p), Datacenter: &f.o.Datacenter,
		NewCapacityKb: size / 1024, EagerZero: ptr.To(false),
	})
	if err == nil {
		_, err = f.await(ctx, res.Returnval)
	}
	return convert(err, "extend disk %s to %d bytes", f.Path(p), size)
}

// CopyDisk copies a virtual disk, descriptor and extent. AlreadyExists if to is
// there. When ctx ends, the copying is cancelled and its end waited for, so that to
// can be deleted; after an error it may be there in part.
func (f *Files) CopyDisk(ctx context.Context, from, to string) error {
	if err := f.check(from, to); err != nil {
		return err
	}
	release, err := f.o.Client.Heavy(ctx, f.o.Datastore)
	if err != nil {
		return convert(err, "copy disk %s to %s", f.Path(from), f.Path(to))
	}
	defer release()
	vim := f.o.Client.Vim()
	// vCenter does not heed a specification of the destination.
	res, err := methods.CopyVirtualDisk_Task(ctx, vim, &types.CopyVirtualDisk_Task{
		This:       *vim.ServiceContent.VirtualDiskManager,
		SourceName: f.Path(from), SourceDatacenter: &f.o.Datacenter,
		DestName: f.Path(to), DestDatacenter: &f.o.Datacenter,
		Force: ptr.To(false),
	})
	if err == nil {
		err = f.awaitOrCancel(ctx, res.Returnval)
	}
	return convert(err, "copy disk %s to %s", f.Path(from), f.Path(to))
}

// awaitOrCancel waits for a task, and cancels it when ctx ends.
func (f *Files) awaitOrCancel(ctx context.Context, task types.ManagedObjectReference) error {
	_, err := f.await(ctx, task)
	if err == nil || ctx.Err() == nil {
		return err
	}
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	// What cannot be cancelled ends by itself; the caller's time is over in any case.
	if _, err := methods.CancelTask(settle, f.o.Client.Vim(), &types.CancelTask{This: task}); err == nil {
		_, _ = f.await(settle, task)
	}
	return err
}

// DeleteDisk deletes a virtual disk, descriptor and extent, and what is left of one
// of which a part is missing. What is not there is no error. A disk that is locked
// is Aborted.
//
// vCenter marks disks in their descriptor as not to be deleted when others may
// depend on them, and refuses then. Whoever calls this has made sure that nobody
// does: the mark is taken away, and the disk deleted.
func (f *Files) DeleteDisk(ctx context.Context, p string) error {
	if err := f.check(p); err != nil {
		return err
	}
	err := f.deleteDisk(ctx, p)
	if vcenter.IsTaskFault(err) && !errdefs.Is(err, errdefs.NotFound) {
		if changed := f.allowDeletion(ctx, p); changed {
			err = f.deleteDisk(ctx, p)
		}
	}
	if !errdefs.Is(err, errdefs.NotFound) {
		return err
	}
	// Which of the two files is missing vCenter does not say.
	for _, file := range []string{flatName(p), p} {
		if err := f.Delete(ctx, file); err != nil {
			return err
		}
	}
	return nil
}

func (f *Files) deleteDisk(ctx context.Context, p string) error {
	release, err := f.o.Client.Heavy(ctx, f.o.Datastore)
	if err != nil {
		return convert(err, "delete disk %s", f.Path(p))
	}
	defer release()
	vim := f.o.Client.Vim()
	res, err := methods.DeleteVirtualDisk_Task(ctx, vim, &types.DeleteVirtualDisk_Task{
		This: *vim.ServiceContent.VirtualDiskManager, Name: f.Path(p), Datacenter: &f.o.Datacenter,
	})
	if err == nil {
		_, err = f.await(ctx, res.Returnval)
	}
	return convert(err, "delete disk %s", f.Path(p))
}

// allowDeletion takes the mark out of a descriptor and reports whether there was
// one. An error is none: that of the deletion says more.
func (f *Files) allowDeletion(ctx context.Context, p string) bool {
	descriptor, err := f.Read(ctx, p, maxDescriptor)
	if err != nil {
		return false
	}
	mark := regexp.MustCompile(`(?mi)^[ \t]*ddb\.deletable[ \t]*=[ \t]*"false"[ \t]*\r?\n?`)
	free := mark.ReplaceAll(descriptor, nil)
	if bytes.Equal(free, descriptor) {
		return false
	}
	return f.Write(ctx, p, bytes.NewReader(free), int64(len(free)), nil) == nil
}

// flatName is the name of the extent of a disk that vSphere made.
func flatName(p string) string { return strings.TrimSuffix(p, ".vmdk") + "-flat.vmdk" }
