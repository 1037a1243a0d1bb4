// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// pageSize is how many VMs vCenter tells of in one answer at most.
const pageSize = 1000

// compareKeys is the order in which locks are taken.
func compareKeys(a, b image.Key) int {
	return cmp.Or(strings.Compare(a.Digest, b.Digest), cmp.Compare(a.Size, b.Size))
}

// machineProperties are what is read of VMs.
func machineProperties() []string {
	return []string{"name", "runtime.connectionState", "config.hardware.device", "layoutEx.file", "snapshot"}
}

// vmReader is the inventory in vCenter.
type vmReader struct {
	client     *vcenter.Client
	datacenter types.ManagedObjectReference
	datastore  types.ManagedObjectReference
}

func (v *vmReader) now(ctx context.Context) (time.Time, error) {
	now, err := methods.GetCurrentTime(ctx, v.client.Vim())
	if err != nil {
		return time.Time{}, vcenter.Convert(err, "ask vCenter for its time")
	}
	return *now, nil
}

// vms reads all VMs of the datacenter and all of the datastore, of whomever: some
// calls and one for each page. It begins anew when some vanish meanwhile.
func (v *vmReader) vms(ctx context.Context) ([]types.ObjectContent, error) {
	vim := v.client.Vim()
	view, err := methods.CreateContainerView(ctx, vim, &types.CreateContainerView{
		This: *vim.ServiceContent.ViewManager, Container: v.datacenter, Type: []string{"VirtualMachine"}, Recursive: true,
	})
	if err != nil {
		return nil, vcenter.Convert(err, "look at all VMs of %s", v.datacenter.Value)
	}
	defer func() {
		tidy, cancel := detached(ctx)
		defer cancel()
		if _, err := methods.DestroyView(tidy, vim, &types.DestroyView{This: view.Returnval}); err != nil {
			klog.FromContext(ctx).V(4).Info("Could not destroy a view", "view", view.Returnval.Value, "reason", err.Error())
		}
	}()
	skip := types.NewBool(true)
	req := types.RetrievePropertiesEx{
		This: vim.ServiceContent.PropertyCollector,
		SpecSet: []types.PropertyFilterSpec{{
			PropSet: []types.PropertySpec{{Type: "VirtualMachine", PathSet: machineProperties()}},
			ObjectSet: []types.ObjectSpec{
				{Obj: view.Returnval, Skip: skip, SelectSet: []types.BaseSelectionSpec{&types.TraversalSpec{Type: "ContainerView", Path: "view"}}},
				{Obj: v.datastore, Skip: skip, SelectSet: []types.BaseSelectionSpec{&types.TraversalSpec{Type: "Datastore", Path: "vm"}}},
			},
			ReportMissingObjectsInResults: types.NewBool(true),
		}},
		Options: types.RetrieveOptions{MaxObjects: pageSize},
	}
	for attempt := 1; ; attempt++ {
		content, err := mo.RetrievePropertiesEx(ctx, vim, req)
		if vcenter.IsManagedObjectNotFound(err) && attempt < readAttempts {
			continue
		}
		if err != nil {
			return nil, vcenter.Convert(err, "read all VMs of %s", v.datacenter.Value)
		}
		return content, nil
	}
}

// machine is a VM with the files that its disks consist of.
type machine struct {
	user  image.User
	files []string // datastore paths
}

// machines reads what was retrieved of VMs. Those that vanished are left out.
func machines(content []types.ObjectContent) []machine {
	seen := map[types.ManagedObjectReference]bool{}
	var all []machine
	for _, c := range content {
		if !seen[c.Obj] && c.Obj.Type == "VirtualMachine" && !vanished(c) {
			all = append(all, machineOf(c))
		}
		seen[c.Obj] = true
	}
	return all
}

// vanished reports that a VM was gone when its properties were to be read.
func vanished(c types.ObjectContent) bool {
	return len(c.PropSet) == 0 && slices.ContainsFunc(c.MissingSet, func(m types.MissingProperty) bool {
		_, gone := m.Fault.Fault.(*types.ManagedObjectNotFound)
		return gone
	})
}

// machineOf reads one VM. It is unproven unless its devices are known, and its files
// too if it has snapshots, whose disks are in no device.
func machineOf(c types.ObjectContent) machine {
	m := machine{user: image.User{Name: c.Obj.Value, VM: c.Obj.Value}}
	var devices, layout, snapshots, unreachable, unknown bool
	for _, p := range c.PropSet {
		switch v := p.Val.(type) {
		case string:
			if p.Name == "name" {
				m.user.Name = v
			}
		case types.VirtualMachineConnectionState:
			unreachable = v == types.VirtualMachineConnectionStateInaccessible || v == types.VirtualMachineConnectionStateInvalid
		case types.ArrayOfVirtualDevice:
			devices = true
			for _, d := range v.VirtualDevice {
				if disk, ok := d.(*types.VirtualDisk); ok {
					files, known := vcenter.DiskChain(disk.Backing)
					m.files = append(m.files, files...)
					unknown = unknown || !known
				}
			}
		case types.ArrayOfVirtualMachineFileLayoutExFileInfo:
			layout = true
			for _, f := range v.VirtualMachineFileLayoutExFileInfo {
				m.files = append(m.files, f.Name)
			}
		case types.VirtualMachineSnapshotInfo:
			snapshots = true
		}
	}
	m.user.Unproven = !devices || unreachable || unknown || snapshots && !layout
	return m
}

// use is a directory of a disk that a file of a VM is in.
type use struct {
	key image.Key
	id  string
	// here says that the file is in this store; another one may have the same disk.
	here bool
}

// uses tells in which directories of disks a file is, by its datastore path.
func (s *Store) uses(file string) []use {
	var p object.DatastorePath
	if !p.FromString(file) {
		return nil
	}
	var all []use
	elements := strings.Split(strings.Trim(p.Path, "/"), "/")
	for i, e := range elements {
		if key, id, ok := parseUpload(e); ok {
			all = append(all, use{key: key, id: id, here: p.Datastore == s.o.Host.ImageStore.Datastore && s.isDisks(elements[:i])})
		}
	}
	return all
}

// isDisks reports whether elements are the path of the directory of this store's
// disks. Where the first directory has an id, any name may be that.
func (s *Store) isDisks(elements []string) bool {
	own := strings.Split(s.layout.disks(), "/")
	if s.objects() && len(elements) > 0 { // of kinds that are not well known too: rather a user too many
		elements, own = elements[1:], own[1:]
	}
	return slices.Equal(elements, own)
}

// usersOf are the VMs of which a file is used so as match says, or may be.
func (s *Store) usersOf(all []machine, match func(use) bool) []image.User {
	var users []image.User
	for _, m := range all {
		if m.user.Unproven || slices.ContainsFunc(m.files, func(f string) bool { return slices.ContainsFunc(s.uses(f), match) }) {
			users = append(users, m.user)
		}
	}
	slices.SortFunc(users, func(a, b image.User) int { return strings.Compare(a.VM, b.VM) })
	return users
}

// Users implements image.Store. It is a few calls, and one for each thousand VMs.
func (s *Store) Users(ctx context.Context, keys ...image.Key) (map[image.Key][]image.User, error) {
	if err := s.usable(keys...); err != nil {
		return nil, err
	}
	users := map[image.Key][]image.User{}
	if len(keys) == 0 {
		return users, nil
	}
	content, err := s.inventory.vms(ctx)
	if err != nil {
		return nil, s.fail(err, "look for VMs that use images")
	}
	all := machines(content)
	for _, key := range keys {
		if of := s.usersOf(all, func(u use) bool { return u.here && u.key == key }); len(of) > 0 {
			users[key] = of
		}
	}
	return users, nil
}

// inUse is the error of something that must stay.
func (s *Store) inUse(what string, users []image.User) error {
	const most = 10
	var names []string
	for i, u := range users {
		if i == most {
			names = append(names, "and more")
			break
		}
		text := u.Name + " (" + u.VM + ")"
		if u.Unproven {
			text += ", of which vCenter cannot tell the disks"
		}
		names = append(names, text)
	}
	return errdefs.New(errdefs.FailedPrecondition, "image store %s: %s is used by %d VMs: %s; delete them first", s, what, len(users), strings.Join(names, "; "))
}
