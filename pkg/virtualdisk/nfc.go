// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

const (
	// cleanUpTime is how long clearing away may take after an import that failed.
	cleanUpTime = 2 * time.Minute
	// renewal is how often a lease is told that somebody is there, unless its own
	// time-out wants it more often.
	renewal = 20 * time.Second
	// scsiKey and diskKey are temporary keys of the holder's devices.
	scsiKey, diskKey = -101, -102
	// holderMemory is the least that vSphere accepts everywhere; the holder never runs.
	holderMemory = 32
)

// importDisk makes a disk where no file can be put as it is. vCenter makes a VM, the
// holder, and lends out its disk; the content goes to the host that has it; the disk is
// copied to where it belongs, and the holder destroyed. It never runs, and nobody else's
// disk stands on its. What is left of it when it cannot be taken away vCenter removes by
// itself when its lease runs out, or Holders finds it.
func (m *Maker) importDisk(ctx context.Context, to string, c Content, mark Mark, progress func(done, total int64)) error {
	content, size, err := c.Stream(ctx)
	if err != nil {
		return err
	}
	sum := newSummed(content)
	l, err := m.open(ctx, mark)
	if err != nil {
		m.abandon(ctx, l, mark)
		return err
	}
	err = m.fill(ctx, l, sum, size, progress)
	if err == nil {
		err = m.complete(ctx, l)
	}
	if err == nil {
		err = m.copyOut(ctx, l, mark, to)
	}
	if err != nil {
		m.abandon(ctx, l, mark)
		return err
	}
	// The disk is there; a holder that stays is found later.
	if err := m.DestroyHolder(ctx, l.info.Entity, mark); err != nil {
		m.abandon(ctx, l, mark)
	}
	return nil
}

// lease is the right to fill a holder's disk.
type lease struct {
	// ref is empty until vCenter has answered.
	ref types.ManagedObjectReference
	// info is empty until the lease is ready.
	info     types.HttpNfcLeaseInfo
	complete bool
}

// open makes the holder and waits until its disk can be filled. The lease is never nil.
func (m *Maker) open(ctx context.Context, mark Mark) (*lease, error) {
	l := &lease{}
	vim := m.o.Client.Vim()
	spec, err := m.holderSpec(mark)
	if err != nil {
		return l, err
	}
	req := &types.ImportVApp{This: m.o.Host.Pool, Spec: &types.VirtualMachineImportSpec{ConfigSpec: *spec}, Folder: &m.o.Host.Folder}
	if m.o.Host.Pool.Type == "VirtualApp" {
		req.Folder = nil // the vApp has its own
	}
	release, err := m.o.Client.Heavy(ctx, m.o.Datastore.Ref)
	if err != nil {
		return l, vcenter.Convert(err, "begin the import of %s %s into VM %q", mark.Kind, mark.Subject, mark.name())
	}
	defer release() // before the content is sent, which takes a turn of its own
	// The call is not cut off: without its answer the holder could not be taken
	// away before its lease runs out. It has the session's own limit.
	res, err := methods.ImportVApp(context.WithoutCancel(ctx), vim, req)
	if err != nil {
		return l, vcenter.Convert(err, "begin the import of %s %s into VM %q", mark.Kind, mark.Subject, mark.name())
	}
	l.ref = res.Returnval
	return l, m.ready(ctx, l, mark)
}

// ready waits until the lease is ready.
func (m *Maker) ready(ctx context.Context, l *lease, mark Mark) error {
	var state types.HttpNfcLeaseState
	var fault *types.LocalizedMethodFault
	err := m.o.Client.Until(ctx, []types.PropertyFilterSpec{{
		ObjectSet: []types.ObjectSpec{{Obj: l.ref}},
		PropSet:   []types.PropertySpec{{Type: "HttpNfcLease", PathSet: []string{"state", "error", "info"}}},
	}}, func(updates []types.ObjectUpdate) (bool, error) {
		for _, u := range updates {
			for _, change := range u.ChangeSet {
				switch v := change.Val.(type) {
				case types.HttpNfcLeaseState:
					state = v
				case types.HttpNfcLeaseInfo:
					l.info = v
				case types.LocalizedMethodFault:
					fault = &v
				}
			}
		}
		return state != "" && state != types.HttpNfcLeaseStateInitializing, nil
	})
	what := fmt.Sprintf("begin the import of %s %s into VM %q", mark.Kind, mark.Subject, mark.name())
	switch {
	case err != nil:
		return vcenter.Convert(err, "%s", what)
	case fault != nil:
		return vcenter.Convert(&task.Error{LocalizedMethodFault: fault}, "%s", what)
	case state != types.HttpNfcLeaseStateReady:
		return errdefs.New(errdefs.Unavailable, "%s: the lease is %s", what, state)
	}
	return nil
}

// holderSpec is the VM that holds a disk until it is copied.
func (m *Maker) holderSpec(mark Mark) (*types.VirtualMachineConfigSpec, error) {
	text, err := mark.encode()
	if err != nil {
		return nil, err
	}
	// vCenter makes the directory, on every kind of datastore.
	place := "[" + m.o.Datastore.Name + "]"
	return &types.VirtualMachineConfigSpec{
		Name: mark.name(), GuestId: string(types.VirtualMachineGuestOsIdentifierOtherGuest64),
		Annotation:  fmt.Sprintf("Holds the disk of %s %s until it is copied to %s (%s). Never started; removed by itself.", mark.Kind, mark.Subject, mark.To, mark.Owner),
		Files:       &types.VirtualMachineFileInfo{VmPathName: place},
		NumCPUs:     1,
		MemoryMB:    holderMemory,
		ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: holderKey, Value: text}},
		DeviceChange: []types.BaseVirtualDeviceConfigSpec{
			&types.VirtualDeviceConfigSpec{
				Operation: types.VirtualDeviceConfigSpecOperationAdd,
				Device: &types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{
					SharedBus:         types.VirtualSCSISharingNoSharing,
					VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: scsiKey}},
				}},
			},
			&types.VirtualDeviceConfigSpec{
				Operation:     types.VirtualDeviceConfigSpecOperationAdd,
				FileOperation: types.VirtualDeviceConfigSpecFileOperationCreate,
				Device: &types.VirtualDisk{
					CapacityInKB: mark.Size / 1024, CapacityInBytes: mark.Size,
					VirtualDevice: types.VirtualDevice{
						Key: diskKey, ControllerKey: scsiKey, UnitNumber: types.NewInt32(0),
						Backing: &types.VirtualDiskFlatVer2BackingInfo{
							VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: place, Datastore: &m.o.Datastore.Ref},
							DiskMode:                     string(types.VirtualDiskModePersistent), ThinProvisioned: types.NewBool(true),
						},
					},
				},
			},
		},
	}, nil
}

// complete gives the holder free.
func (m *Maker) complete(ctx context.Context, l *lease) error {
	if _, err := methods.HttpNfcLeaseComplete(ctx, m.o.Client.Vim(), &types.HttpNfcLeaseComplete{This: l.ref}); err != nil {
		return vcenter.Convert(err, "complete the import into VM %s", l.info.Entity.Value)
	}
	l.complete = true
	return nil
}

// copyOut copies the holder's disk to its place.
func (m *Maker) copyOut(ctx context.Context, l *lease, mark Mark, to string) error {
	h, err := m.readHolder(ctx, l.info.Entity)
	if err != nil {
		return err
	}
	if h == nil {
		return errdefs.New(errdefs.Aborted, "VM %q (%s) with the imported disk is gone", mark.name(), l.info.Entity.Value)
	}
	from, err := m.ownDisk(ctx, h)
	if err != nil {
		return err
	}
	err = m.o.Files.CopyDisk(ctx, from, to)
	if err != nil && !errdefs.Is(err, errdefs.AlreadyExists) {
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
		defer cancel()
		if err := m.o.Files.DeleteDisk(detached, to); err != nil {
			klog.FromContext(ctx).Info("Could not delete a disk that was copied in part", "path", m.o.Files.Path(to), "reason", err.Error())
		}
	}
	return err
}

// abandon takes away what a failed import made.
func (m *Maker) abandon(ctx context.Context, l *lease, mark Mark) {
	log := klog.FromContext(ctx).WithValues("vm", mark.name())
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	if l.ref.Value != "" && l.info.Entity.Value == "" {
		// It is still being made, or failed. Which of them is all one; both are over then.
		_ = m.ready(detached, l, mark)
	}
	if l.ref.Value != "" && !l.complete {
		if _, err := methods.HttpNfcLeaseAbort(detached, m.o.Client.Vim(), &types.HttpNfcLeaseAbort{This: l.ref}); err != nil {
			log.V(1).Info("Could not abort the lease of an import; vCenter ends it later", "reason", err.Error())
		}
	}
	vm := l.info.Entity
	if vm.Value == "" {
		found, err := m.findHolder(detached, mark)
		if err != nil || found == nil {
			if err != nil {
				log.Info("Could not look for what is left of an import", "reason", err.Error())
			}
			return
		}
		vm = *found
	}
	if err := m.DestroyHolder(detached, vm, mark); err != nil {
		log.Info("What is left of an import stays for now", "ref", vm.Value, "reason", err.Error())
	}
}

// percent is what a lease is told.
func percent(done, total int64) int32 {
	if total <= 0 {
		return 0
	}
	return int32(min(100, math.Floor(float64(done)*100/float64(total))))
}
