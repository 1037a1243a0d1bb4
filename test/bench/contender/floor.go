// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package contender

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// errNoFloor is answered to what nobody needs a floor for: status and list can cost nothing at all.
var errNoFloor = errors.New("there is no floor for this")

// floor calls what must be called, and reads a task's state until it has ended.
type floor struct {
	*planner
	client *govmomi.Client

	mu    sync.Mutex
	known map[string]*knownVM
}

type knownVM struct {
	ref   types.ManagedObjectReference
	disks []types.BaseVirtualDeviceConfigSpec
}

func openFloor(ctx context.Context, site Site, spec *v1alpha1.ProviderSpec) (Contender, error) {
	p, err := newPlanner(ctx, site, spec)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(site.CABundle) // a bundle without certificates trusts nobody
	client, err := logIn(ctx, site, roots)
	if err != nil {
		return nil, err
	}
	return &floor{planner: p, client: client, known: map[string]*knownVM{}}, nil
}

func (f *floor) Create(ctx context.Context, name string) error {
	m, err := f.machine(name)
	if err != nil {
		return err
	}
	spec, err := f.plan(name, m)
	if err != nil {
		return err
	}
	res, err := methods.CreateVM_Task(ctx, f.client, &types.CreateVM_Task{This: f.host.Folder, Config: *spec, Pool: f.host.Pool})
	if err != nil {
		return fmt.Errorf("create VM: %w", err)
	}
	result, err := f.ended(ctx, res.Returnval)
	if err != nil {
		return fmt.Errorf("create VM: %w", err)
	}
	ref, ok := result.(types.ManagedObjectReference)
	if !ok {
		return errors.New("create VM: no VM in the task's result")
	}
	f.mu.Lock()
	f.known[name] = &knownVM{ref: ref}
	f.mu.Unlock()
	if _, err := methods.PowerOnVM_Task(ctx, f.client, &types.PowerOnVM_Task{This: ref}); err != nil {
		return fmt.Errorf("power on: %w", err)
	}
	for {
		values, err := read(ctx, f.client.Client, ref, m.started())
		if err != nil || isStarted(values[m.started()]) {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// ended reads a task until it has ended, and returns its result.
func (f *floor) ended(ctx context.Context, ref types.ManagedObjectReference) (types.AnyType, error) {
	for {
		values, err := read(ctx, f.client.Client, ref, "info.state", "info.error", "info.result")
		if err != nil {
			return nil, err
		}
		switch values["info.state"] {
		case types.TaskInfoStateSuccess:
			return values["info.result"], nil
		case types.TaskInfoStateError:
			if fault, ok := values["info.error"].(types.LocalizedMethodFault); ok {
				return nil, task.Error{LocalizedMethodFault: &fault}
			}
			return nil, fmt.Errorf("task %s failed", ref.Value)
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// pause is between two reads of what had not ended: without a network's latency they
// would follow one another too fast to mean anything.
func pause(ctx context.Context) error {
	timer := time.NewTimer(time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Prepare reads the disks of machines that this contender made.
func (f *floor) Prepare(ctx context.Context, names []string) error {
	for _, name := range names {
		vm, err := f.vm(name)
		if err != nil {
			return err
		}
		devices, err := object.NewVirtualMachine(f.client.Client, vm.ref).Device(ctx)
		if err != nil {
			return fmt.Errorf("read devices: %w", err)
		}
		for _, disk := range devices.SelectByType((*types.VirtualDisk)(nil)) {
			vm.disks = append(vm.disks, &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationRemove, Device: disk})
		}
	}
	return nil
}

func (f *floor) vm(name string) (*knownVM, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	vm := f.known[name]
	if vm == nil {
		return nil, fmt.Errorf("machine %s is not known", name)
	}
	return vm, nil
}

func (f *floor) Delete(ctx context.Context, name string) error {
	vm, err := f.vm(name)
	if err != nil {
		return err
	}
	m, err := f.machine(name)
	if err != nil {
		return err
	}
	for _, step := range []func() (types.ManagedObjectReference, error){
		func() (ref types.ManagedObjectReference, err error) {
			res, err := methods.PowerOffVM_Task(ctx, f.client, &types.PowerOffVM_Task{This: vm.ref})
			if err == nil {
				ref = res.Returnval
			}
			return ref, err
		},
		func() (ref types.ManagedObjectReference, err error) {
			res, err := methods.ReconfigVM_Task(ctx, f.client, &types.ReconfigVM_Task{This: vm.ref, Spec: types.VirtualMachineConfigSpec{DeviceChange: vm.disks}})
			if err == nil {
				ref = res.Returnval
			}
			return ref, err
		},
		func() (ref types.ManagedObjectReference, err error) {
			res, err := methods.Destroy_Task(ctx, f.client, &types.Destroy_Task{This: vm.ref})
			if err == nil {
				ref = res.Returnval
			}
			return ref, err
		},
		func() (ref types.ManagedObjectReference, err error) {
			res, err := methods.DeleteDatastoreFile_Task(ctx, f.client, &types.DeleteDatastoreFile_Task{
				This: *f.client.ServiceContent.FileManager, Name: strings.TrimRight(m.dir, "/"), Datacenter: &f.host.Datacenter,
			})
			if err == nil {
				ref = res.Returnval
			}
			return ref, err
		},
	} {
		ref, err := step()
		if err == nil {
			_, err = f.ended(ctx, ref)
		}
		if err != nil && !vcenter.IsFileNotFound(err) {
			return fmt.Errorf("delete machine %s: %w", name, err)
		}
	}
	return nil
}

func (f *floor) Status(context.Context, string) error { return errNoFloor }

func (f *floor) List(context.Context) (int, error) { return 0, errNoFloor }

func (f *floor) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	return f.client.Logout(ctx)
}
