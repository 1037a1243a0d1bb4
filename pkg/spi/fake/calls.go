// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version"
)

// machine is what a call is about.
type machine struct {
	id   identity.Identity
	mark identity.Mark
	// text is the complete mark as it stands in the VM; only while creating.
	text string
}

func (m machine) directory() string { return "[fake] " + m.id.ContainerID + "/" }

// begin checks the arguments that all calls for one machine share, logs in and
// takes the machine's lock, which the caller releases.
func (f *Fake) begin(ctx context.Context, name, providerID string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (machine, func(), error) {
	cluster, role, err := identity.Tags(spec.Tags)
	if err != nil {
		return machine{}, nil, err
	}
	id, err := identity.New(VCH, cluster, name)
	if err != nil {
		return machine{}, nil, err
	}
	if providerID != "" {
		given, err := identity.ParseProviderID(providerID)
		if err != nil {
			return machine{}, nil, err
		}
		if given != id {
			return machine{}, nil, errdefs.New(errdefs.FailedPrecondition, "provider id %s is not that of machine %s, which is %s", providerID, name, id.ProviderID())
		}
	}
	if err := f.login(ctx, secret); err != nil {
		return machine{}, nil, err
	}
	release, err := f.locks.acquire(ctx, id.BIOSUUID)
	if err != nil {
		return machine{}, nil, err
	}
	return machine{id: id, mark: identity.Mark{Cluster: cluster, Role: role, Machine: name}}, release, nil
}

func (f *Fake) login(ctx context.Context, secret *corev1.Secret) error {
	return f.step(ctx, StepLogin, func() error {
		if secret == nil {
			return errdefs.New(errdefs.Unauthenticated, "no Secret: %s and %s are required", v1alpha1.SecretUsername, v1alpha1.SecretPassword)
		}
		if string(secret.Data[v1alpha1.SecretUsername]) != Username || string(secret.Data[v1alpha1.SecretPassword]) != Password {
			return errdefs.New(errdefs.Unauthenticated, "%s or %s of the Secret is wrong", v1alpha1.SecretUsername, v1alpha1.SecretPassword)
		}
		return nil
	})
}

// describe completes the mark by which a machine that exists is compared with
// spec: with a digest of all that shapes the VM, which the times do not.
func (m *machine) describe(spec *v1alpha1.ProviderSpec) error {
	shape := *spec
	shape.StartTimeoutSeconds, shape.StopGracePeriodSeconds = nil, nil
	b, err := json.Marshal(shape)
	if err != nil {
		return errdefs.Wrap(errdefs.InvalidArgument, err, "encode the ProviderSpec of machine %s", m.mark.Machine)
	}
	sum := sha256.Sum256(b)
	m.mark.Spec, m.mark.Provider = hex.EncodeToString(sum[:8]), version.Version()
	m.text, err = m.mark.Encode()
	return err
}

// CreateMachine implements spi.PluginSPI.
func (f *Fake) CreateMachine(ctx context.Context, name string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, error) {
	m, release, err := f.begin(ctx, name, "", spec, secret)
	if err != nil {
		return "", err
	}
	defer release()
	if err := m.describe(spec); err != nil {
		return "", err
	}
	vm, err := f.find(ctx, m)
	if err != nil {
		return "", err
	}
	if vm != nil && vm.Detached {
		// A removal was cut off: finish it, then start afresh.
		if err := f.remove(ctx, m, vm); err != nil {
			return "", err
		}
		vm = nil
	}
	switch {
	case vm == nil:
		if err := f.create(ctx, m, m.wants(spec)); err != nil {
			return "", err
		}
	case vm.Mark != m.text:
		return "", errdefs.New(errdefs.AlreadyExists, "machine %s exists and was made from another ProviderSpec", name)
	}
	return m.id.ProviderID(), nil
}

// create makes volumes, directory and VM; without the VM it takes the directory away again.
func (f *Fake) create(ctx context.Context, m machine, wants []want) error {
	if err := f.ensureVolumes(ctx, m, wants); err != nil {
		return err
	}
	err := f.step(ctx, StepCreateDirectory, func() error {
		f.files[m.directory()] = true
		return nil
	})
	if err != nil {
		return err
	}
	err = f.step(ctx, StepCreateVM, func() error {
		vm := &VM{
			Name: m.mark.Machine, BIOSUUID: m.id.BIOSUUID, ContainerID: m.id.ContainerID,
			Mark: m.text, Directory: m.directory(), DeleteVolumes: goWith(wants),
		}
		for _, w := range wants {
			if _, ok := f.volumes[w.name]; !ok {
				return errdefs.New(errdefs.Aborted, "%s: volume %s vanished meanwhile", w.field, w.name)
			}
			vm.Volumes = append(vm.Volumes, w.name)
		}
		f.vms = append(f.vms, vm)
		return nil
	})
	if err == nil {
		return nil
	}
	// The answer may be lost while the VM is there; a directory in use stays.
	return errors.Join(err, f.step(context.WithoutCancel(ctx), StepCleanup, func() error {
		if !slices.ContainsFunc(f.vms, func(vm *VM) bool { return vm.Directory == m.directory() }) {
			delete(f.files, m.directory())
		}
		return nil
	}))
}

// InitializeMachine implements spi.PluginSPI.
func (f *Fake) InitializeMachine(ctx context.Context, name, providerID string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, []corev1.NodeAddress, error) {
	m, release, err := f.begin(ctx, name, providerID, spec, secret)
	if err != nil {
		return "", nil, err
	}
	defer release()
	vm, err := f.existing(ctx, m)
	if err != nil {
		return "", nil, err
	}
	if vm.Detached {
		return "", nil, errdefs.New(errdefs.FailedPrecondition, "VM %s has no disk: its removal was cut off; delete the Machine", vm.Name)
	}
	if !vm.Running {
		if err := f.powerOn(ctx, vm); err != nil {
			return "", nil, err
		}
	}
	timeout := time.Duration(ptr.Deref(spec.StartTimeoutSeconds, 180)) * time.Second
	if err := f.waitStarted(ctx, vm, timeout); err != nil {
		return "", nil, err
	}
	return m.id.ProviderID(), vm.addresses(), nil
}

func (f *Fake) powerOn(ctx context.Context, vm *VM) error {
	return f.step(ctx, StepPowerOn, func() error {
		for _, name := range vm.Volumes {
			if holder := f.holder(name, vm.BIOSUUID, true); holder != nil {
				return errdefs.New(errdefs.FailedPrecondition, "power on VM %s: volume %s is held by VM %s", vm.Name, name, holder.Name)
			}
		}
		vm.GuestError, vm.Address = f.guest.StartError, ""
		vm.Running = vm.GuestError == ""
		vm.Started = vm.Running && !f.guest.StartHangs
		if vm.Started {
			f.addresses++
			vm.Address = fmt.Sprintf("10.0.%d.%d", f.addresses/250, f.addresses%250+1)
		}
		return nil
	})
}

// waitStarted waits until the guest reports. A guest that does not within the
// timeout is powered off, so that the next call starts it anew.
func (f *Fake) waitStarted(ctx context.Context, vm *VM, timeout time.Duration) error {
	err := f.step(ctx, StepWaitStarted, func() error {
		if vm.GuestError != "" {
			return errdefs.New(errdefs.Internal, "machine %s did not start: %s", vm.Name, vm.GuestError)
		}
		return nil
	})
	if err != nil || vm.Started {
		return err
	}
	timer := f.clock.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return errdefs.Wrap(errdefs.KindOf(ctx.Err()), ctx.Err(), "wait for machine %s to start", vm.Name)
	case <-timer.C():
		err := errdefs.New(errdefs.DeadlineExceeded, "machine %s did not start within %s", vm.Name, timeout)
		return errors.Join(err, f.powerOff(ctx, vm))
	}
}

func (f *Fake) powerOff(ctx context.Context, vm *VM) error {
	return f.step(ctx, StepPowerOff, func() error {
		vm.Running, vm.Started, vm.Address = false, false, ""
		return nil
	})
}

// GetMachineStatus implements spi.PluginSPI.
func (f *Fake) GetMachineStatus(ctx context.Context, name, providerID string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, []corev1.NodeAddress, error) {
	m, release, err := f.begin(ctx, name, providerID, spec, secret)
	if err != nil {
		return "", nil, err
	}
	defer release()
	vm, err := f.existing(ctx, m)
	if err != nil {
		return "", nil, err
	}
	if !vm.Started {
		return m.id.ProviderID(), vm.addresses(), errdefs.New(errdefs.Uninitialized, "machine %s is created but not started", name)
	}
	return m.id.ProviderID(), vm.addresses(), nil
}

// DeleteMachine implements spi.PluginSPI.
func (f *Fake) DeleteMachine(ctx context.Context, name, providerID string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, error) {
	m, release, err := f.begin(ctx, name, providerID, spec, secret)
	if err != nil {
		return "", err
	}
	defer release()
	vm, err := f.find(ctx, m)
	if err != nil {
		return "", err
	}
	if vm == nil {
		if err := f.removeVolumes(ctx, m, goWith(m.wants(spec))); err != nil {
			return "", err
		}
		return "", f.cleanUp(ctx, m)
	}
	if err := f.stop(ctx, vm, spec); err != nil {
		return "", err
	}
	if err := f.remove(ctx, m, vm); err != nil {
		return "", err
	}
	return m.id.ProviderID(), nil
}

// remove takes away a VM that is off, with the volumes that go with it.
func (f *Fake) remove(ctx context.Context, m machine, vm *VM) error {
	if len(vm.DeleteVolumes) > 0 {
		if err := f.detach(ctx, vm); err != nil {
			return err
		}
		if err := f.removeVolumes(ctx, m, vm.DeleteVolumes); err != nil {
			return err
		}
	}
	err := f.step(ctx, StepDestroy, func() error {
		f.vms = slices.DeleteFunc(f.vms, func(other *VM) bool { return other == vm })
		return nil
	})
	if err != nil {
		return err
	}
	return f.cleanUp(ctx, m)
}

// cleanUp takes the machine's directory away.
func (f *Fake) cleanUp(ctx context.Context, m machine) error {
	return f.step(ctx, StepCleanup, func() error {
		delete(f.files, m.directory())
		return nil
	})
}

// ShutDownMachine implements spi.PluginSPI.
func (f *Fake) ShutDownMachine(ctx context.Context, name, providerID string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, error) {
	m, release, err := f.begin(ctx, name, providerID, spec, secret)
	if err != nil {
		return "", err
	}
	defer release()
	vm, err := f.existing(ctx, m)
	if err != nil {
		return "", err
	}
	if err := f.stop(ctx, vm, spec); err != nil {
		return "", err
	}
	return m.id.ProviderID(), nil
}

// stop asks the guest, waits the grace period if it does not obey, and powers off then.
func (f *Fake) stop(ctx context.Context, vm *VM, spec *v1alpha1.ProviderSpec) error {
	if !vm.Running {
		return nil
	}
	err := f.step(ctx, StepStop, func() error {
		if !f.guest.StopHangs {
			vm.Running, vm.Started, vm.Address = false, false, ""
		}
		return nil
	})
	if err != nil || !vm.Running {
		return err
	}
	timer := f.clock.NewTimer(time.Duration(ptr.Deref(spec.StopGracePeriodSeconds, 10)) * time.Second)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return errdefs.Wrap(errdefs.KindOf(ctx.Err()), ctx.Err(), "wait for machine %s to stop", vm.Name)
	case <-timer.C():
		return f.powerOff(ctx, vm)
	}
}

// ListMachines implements spi.PluginSPI.
func (f *Fake) ListMachines(ctx context.Context, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (map[string]string, error) {
	cluster, role, err := identity.Tags(spec.Tags)
	if err != nil {
		return nil, err
	}
	if err := f.login(ctx, secret); err != nil {
		return nil, err
	}
	machines := map[string]string{}
	err = f.step(ctx, StepList, func() error {
		for _, vm := range f.vms {
			mark, err := identity.DecodeMark(vm.Mark)
			if err != nil || mark.Cluster != cluster || mark.Role != role {
				continue // not ours
			}
			id, err := identity.New(VCH, cluster, mark.Machine)
			if err != nil || id.BIOSUUID != vm.BIOSUUID || id.ContainerID != vm.ContainerID {
				continue // bears our mark in a place where no machine of ours is
			}
			machines[id.ProviderID()] = mark.Machine
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return machines, nil
}

// existing is find for calls that need the machine: absent is NotFound.
func (f *Fake) existing(ctx context.Context, m machine) (*VM, error) {
	vm, err := f.find(ctx, m)
	if err == nil && vm == nil {
		return nil, errdefs.New(errdefs.NotFound, "machine %s does not exist", m.mark.Machine)
	}
	return vm, err
}

func (vm *VM) addresses() []corev1.NodeAddress {
	if vm.Address == "" {
		return nil
	}
	return []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: vm.Address}}
}
