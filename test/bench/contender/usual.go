// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package contender

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// usual keeps nothing between calls.
type usual struct {
	*planner
	roots *x509.CertPool
}

func openUsual(ctx context.Context, site Site, spec *v1alpha1.ProviderSpec) (Contender, error) {
	p, err := newPlanner(ctx, site, spec)
	if err != nil {
		return nil, err
	}
	u := &usual{planner: p, roots: x509.NewCertPool()}
	if !u.roots.AppendCertsFromPEM(site.CABundle) {
		return nil, errors.New("no certificate to trust vCenter by")
	}
	return u, nil
}

// login is a session for one call.
type login struct {
	*govmomi.Client
	finder     *find.Finder
	datacenter *object.Datacenter
}

// with logs in, calls fn and logs out.
func (u *usual) with(ctx context.Context, fn func(login) error) (err error) {
	client, err := logIn(ctx, u.site, u.roots)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Logout(ctx)) }()
	l := login{Client: client, finder: find.NewFinder(client.Client, false)} // names only, not all properties
	if l.datacenter, err = l.finder.Datacenter(ctx, u.host.DatacenterPath); err != nil {
		return fmt.Errorf("find datacenter: %w", err)
	}
	l.finder.SetDatacenter(l.datacenter)
	return fn(l)
}

func logIn(ctx context.Context, site Site, roots *x509.CertPool) (*govmomi.Client, error) {
	u := &url.URL{Scheme: "https", Host: site.Host, Path: vim25.Path}
	transport := soap.NewClient(u, false)
	transport.DefaultTransport().TLSClientConfig.RootCAs = roots
	vim, err := vim25.NewClient(ctx, transport)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	client := &govmomi.Client{Client: vim, SessionManager: session.NewManager(vim)}
	if err := client.Login(ctx, url.UserPassword(site.Username, site.Password)); err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	return client, nil
}

func (u *usual) Create(ctx context.Context, name string) error {
	m, err := u.machine(name)
	if err != nil {
		return err
	}
	spec, err := u.plan(name, m)
	if err != nil {
		return err
	}
	return u.with(ctx, func(l login) error {
		folder, err := l.finder.Folder(ctx, u.folder)
		if err != nil {
			return fmt.Errorf("find folder: %w", err)
		}
		pool, err := l.finder.ResourcePool(ctx, u.pool)
		if err != nil {
			return fmt.Errorf("find resource pool: %w", err)
		}
		// The plan has both already, by reference; a driver that makes its own specification needs them.
		if _, err := l.finder.Datastore(ctx, u.host.ImageStore.Datastore); err != nil {
			return fmt.Errorf("find datastore: %w", err)
		}
		if _, err := l.finder.Network(ctx, u.network); err != nil {
			return fmt.Errorf("find network: %w", err)
		}
		task, err := folder.CreateVM(ctx, *spec, pool, nil)
		if err != nil {
			return fmt.Errorf("create VM: %w", err)
		}
		info, err := task.WaitForResult(ctx)
		if err != nil {
			return fmt.Errorf("create VM: %w", err)
		}
		ref, ok := info.Result.(types.ManagedObjectReference)
		if !ok {
			return errors.New("create VM: no VM in the task's result")
		}
		return u.start(ctx, l, object.NewVirtualMachine(l.Client.Client, ref), m)
	})
}

// start powers on and waits for the guest.
func (u *usual) start(ctx context.Context, l login, vm *object.VirtualMachine, m machine) error {
	if err := await(ctx, vm.PowerOn); err != nil {
		return fmt.Errorf("power on: %w", err)
	}
	err := property.Wait(ctx, property.DefaultCollector(l.Client.Client), vm.Reference(), []string{m.started()}, func(changes []types.PropertyChange) bool {
		for _, c := range changes {
			if isStarted(c.Val) {
				return true
			}
		}
		return false
	})
	if err != nil {
		return fmt.Errorf("wait for the guest: %w", err)
	}
	return nil
}

// await starts a task and waits for it in the way of govmomi: with a property collector
// and a filter for this task alone.
func await(ctx context.Context, start func(context.Context) (*object.Task, error)) error {
	task, err := start(ctx)
	if err == nil {
		err = task.Wait(ctx)
	}
	return err
}

// vm walks to a machine's VM.
func (l login) vm(ctx context.Context, m machine) (*object.VirtualMachine, error) {
	vm, err := l.finder.VirtualMachine(ctx, m.path)
	if err != nil {
		return nil, fmt.Errorf("find VM: %w", err)
	}
	return vm, nil
}

func (u *usual) Status(ctx context.Context, name string) error {
	m, err := u.machine(name)
	if err != nil {
		return err
	}
	return u.with(ctx, func(l login) error {
		vm, err := l.vm(ctx, m)
		if err != nil {
			return err
		}
		values, err := l.read(ctx, vm.Reference(), "runtime.powerState", "guest.ipAddress", "config.uuid", m.started())
		if err != nil {
			return err
		}
		if !isStarted(values[m.started()]) || values["runtime.powerState"] != types.VirtualMachinePowerStatePoweredOn {
			return fmt.Errorf("machine %s does not run", name)
		}
		return nil
	})
}

// read reads properties of one object.
func (l login) read(ctx context.Context, ref types.ManagedObjectReference, properties ...string) (map[string]types.AnyType, error) {
	return read(ctx, l.Client.Client, ref, properties...)
}

func (u *usual) List(ctx context.Context) (count int, err error) {
	mark := vch.KeyProperty(guestinfo.AnnotationKey(identity.MarkAnnotation))
	err = u.with(ctx, func(l login) error {
		vms, err := l.finder.VirtualMachineList(ctx, u.folder+"/*")
		if err != nil {
			return fmt.Errorf("list VMs: %w", err)
		}
		for _, vm := range vms {
			values, err := l.read(ctx, vm.Reference(), "name", "config.uuid", mark)
			if err != nil {
				return err
			}
			if m, err := identity.DecodeMark(vch.KeyValue(values[mark])); err == nil && m.Cluster == u.cluster && m.Role == u.role {
				count++
			}
		}
		return nil
	})
	return count, err
}

func (u *usual) Delete(ctx context.Context, name string) error {
	m, err := u.machine(name)
	if err != nil {
		return err
	}
	return u.with(ctx, func(l login) error {
		vm, err := l.vm(ctx, m)
		if err != nil {
			return err
		}
		power, err := vm.PowerState(ctx)
		if err != nil {
			return fmt.Errorf("read power state: %w", err)
		}
		if power != types.VirtualMachinePowerStatePoweredOff {
			if err := await(ctx, vm.PowerOff); err != nil {
				return fmt.Errorf("power off: %w", err)
			}
		}
		// Destroy would take the shared image along.
		devices, err := vm.Device(ctx)
		if err != nil {
			return fmt.Errorf("read devices: %w", err)
		}
		if err := vm.RemoveDevice(ctx, true, devices.SelectByType((*types.VirtualDisk)(nil))...); err != nil {
			return fmt.Errorf("detach disks: %w", err)
		}
		if err := await(ctx, vm.Destroy); err != nil {
			return fmt.Errorf("destroy: %w", err)
		}
		err = await(ctx, func(ctx context.Context) (*object.Task, error) {
			return object.NewFileManager(l.Client.Client).DeleteDatastoreFile(ctx, strings.TrimRight(m.dir, "/"), l.datacenter)
		})
		if err != nil && !vcenter.IsFileNotFound(err) {
			return fmt.Errorf("delete directory: %w", err)
		}
		return nil
	})
}

// Prepare has nothing to do: everything is found anew.
func (u *usual) Prepare(context.Context, []string) error { return nil }

// Close has nothing to do: each call logged out.
func (u *usual) Close(context.Context) error { return nil }

// read reads properties of one object in one call.
func read(ctx context.Context, client *vim25.Client, ref types.ManagedObjectReference, properties ...string) (map[string]types.AnyType, error) {
	res, err := property.DefaultCollector(client).RetrieveProperties(ctx, types.RetrieveProperties{SpecSet: []types.PropertyFilterSpec{{
		ObjectSet: []types.ObjectSpec{{Obj: ref}},
		PropSet:   []types.PropertySpec{{Type: ref.Type, PathSet: properties}},
	}}})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", ref.Value, err)
	}
	values := map[string]types.AnyType{}
	for _, o := range res.Returnval {
		for _, p := range o.PropSet {
			values[p.Name] = p.Val
		}
	}
	return values, nil
}
