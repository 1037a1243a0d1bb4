// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/simulator/vpx"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// FindAllByUuid finds VMs by BIOS or instance UUID, whatever its case. Hosts are not searched.
func (o *overrides) FindAllByUuid(_ *simulator.Context, req *types.FindAllByUuid) soap.HasFault {
	body := &methods.FindAllByUuidBody{Res: new(types.FindAllByUuidResponse)}
	if req.VmSearch {
		found := o.sim.index.find(req.Uuid, req.InstanceUuid != nil && *req.InstanceUuid)
		for _, r := range found {
			if req.Datacenter == nil || o.inside(r, *req.Datacenter) {
				body.Res.Returnval = append(body.Res.Returnval, r)
			}
		}
	}
	return body
}

// FindByUuid finds one of the VMs that FindAllByUuid finds.
func (o *overrides) FindByUuid(ctx *simulator.Context, req *types.FindByUuid) soap.HasFault {
	body := &methods.FindByUuidBody{Res: new(types.FindByUuidResponse)}
	all := types.FindAllByUuid(*req)
	if found, ok := o.FindAllByUuid(ctx, &all).(*methods.FindAllByUuidBody); ok && len(found.Res.Returnval) > 0 {
		body.Res.Returnval = &found.Res.Returnval[0]
	}
	return body
}

// FindChild finds a child of an entity by name.
func (o *overrides) FindChild(ctx *simulator.Context, req *types.FindChild) soap.HasFault {
	body := new(methods.FindChildBody)
	if o.sim.registry.Get(req.Entity) == nil {
		body.Fault_ = simulator.Fault("", &types.ManagedObjectNotFound{Obj: req.Entity})
		return body
	}
	body.Res = &types.FindChildResponse{Returnval: o.child(ctx, req.Entity, req.Name)}
	return body
}

// FindByInventoryPath finds an entity by the names on the way to it.
func (o *overrides) FindByInventoryPath(ctx *simulator.Context, req *types.FindByInventoryPath) soap.HasFault {
	root := vpx.ServiceContent.RootFolder
	at := &root
	for _, name := range strings.FieldsFunc(req.InventoryPath, func(c rune) bool { return c == '/' }) {
		if at = o.child(ctx, *at, name); at == nil {
			break
		}
	}
	return &methods.FindByInventoryPathBody{Res: &types.FindByInventoryPathResponse{Returnval: at}}
}

// child holds one lock at a time: a VM's destruction takes the VM's lock first
// and the folder's second.
func (o *overrides) child(ctx *simulator.Context, parent ref, name string) *ref {
	for _, c := range o.children(ctx, parent) {
		if o.entityName(ctx, c) == name {
			return &c
		}
	}
	return nil
}

func (o *overrides) children(ctx *simulator.Context, parent ref) (children []ref) {
	obj := o.sim.registry.Get(parent)
	if obj == nil {
		return nil
	}
	ctx.WithLock(obj, func() {
		switch e := obj.(type) {
		case *simulator.Datacenter:
			children = []ref{e.VmFolder, e.HostFolder, e.DatastoreFolder, e.NetworkFolder}
		case *simulator.Folder:
			children = append(children, e.ChildEntity...)
		case *simulator.ClusterComputeResource:
			children = append(append(children, e.Host...), *e.ResourcePool)
		case *simulator.ResourcePool:
			children = append(append(children, e.ResourcePool.ResourcePool...), e.Vm...)
		}
	})
	return children
}

func (o *overrides) entityName(ctx *simulator.Context, r ref) string {
	if name, ok := o.sim.index.name(r); ok {
		return name
	}
	var name string
	obj := o.sim.registry.Get(r)
	if obj == nil {
		return ""
	}
	ctx.WithLock(obj, func() {
		switch e := obj.(type) {
		case *simulator.DistributedVirtualPortgroup:
			name = e.Name
		case *simulator.DistributedVirtualSwitch:
			name = e.Name
		case *mo.Network:
			name = e.Name
		case mo.Entity:
			name = e.Entity().Name
		}
	})
	return name
}

// inside reports whether the object lies below the datacenter.
func (o *overrides) inside(r, datacenter ref) bool {
	for at := &r; at != nil; {
		if *at == datacenter {
			return true
		}
		e, ok := o.sim.registry.Get(*at).(mo.Entity)
		if !ok {
			return false
		}
		at = e.Entity().Parent
	}
	return false
}
