// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"context"
	"encoding/json"
	"path"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

const (
	// holderKey is the ExtraConfig key that makes a VM a holder.
	holderKey = "mcm-vch-image-holder"
	// holderPrefix begins the names of holders.
	holderPrefix = "mcm-image-"
	digestDigits = 12
)

// holderMark says of a VM that it is a holder, and whose.
type holderMark struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
	// Upload is the id of the attempt.
	Upload string `json:"upload"`
	// Owner is the process, for people.
	Owner string `json:"owner,omitempty"`
}

func (m holderMark) key() image.Key { return image.Key{Digest: m.Digest, Size: m.Size} }

// name is the holder's name in the inventory, different for each attempt.
func (m holderMark) name() string {
	digits := strings.TrimPrefix(m.Digest, "sha256:")
	return holderPrefix + digits[:min(len(digits), digestDigits)] + "-" + m.Upload
}

// same reports whether both mean one attempt.
func (m holderMark) same(o holderMark) bool {
	return m.Digest == o.Digest && m.Size == o.Size && m.Upload == o.Upload
}

func (m holderMark) encode() (string, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return "", errdefs.Wrap(errdefs.Internal, err, "encode the mark of VM %q", m.name())
	}
	return string(b), nil
}

// decodeHolderMark reads a mark; false for everything that is none.
func decodeHolderMark(text string) (holderMark, bool) {
	var m holderMark
	if json.Unmarshal([]byte(text), &m) != nil || m.key().Validate() != nil || m.Upload == "" {
		return holderMark{}, false
	}
	return m, true
}

// holder is a VM that holds a disk until it is copied, as it is in vCenter.
type holder struct {
	ref  types.ManagedObjectReference
	name string
	// mark is that of the import.
	mark holderMark
	// marked is false if the VM has none, or one of another VM's name.
	marked bool
	// inPlace says that it stands among the VCH's container VMs.
	inPlace bool
	power   types.VirtualMachinePowerState
	vmx     string
	devices object.VirtualDeviceList
}

// removable returns why a VM must not be destroyed as a leftover, if so.
func (h *holder) removable() error {
	refuse := func(why string) error {
		return errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) is not touched: %s", h.name, h.ref.Value, why)
	}
	switch {
	case !h.marked:
		return refuse("it has not the mark of an import with its name")
	case !h.inPlace:
		return refuse("it does not stand where imports make VMs")
	case h.power != types.VirtualMachinePowerStatePoweredOff:
		return refuse("it is not powered off, and imports never start a VM")
	}
	return nil
}

func holderProperties() []string {
	return []string{"name", "parent", "resourcePool", "runtime.powerState", vch.KeyProperty(holderKey)}
}

// holders returns the marked VMs of the VCH's pool, in one look whatever their
// number: leftovers of imports that were cut off, and imports that are under way,
// here or elsewhere; their Upload tells which. VMs that are not powered off are
// left out, and such whose mark cannot be read yet.
func (i *importer) holders(ctx context.Context) ([]holder, error) {
	content, err := property.DefaultCollector(i.client.Vim()).RetrieveProperties(ctx, types.RetrieveProperties{
		SpecSet: []types.PropertyFilterSpec{{
			ObjectSet: []types.ObjectSpec{{Obj: i.host.Pool, Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{
				&types.TraversalSpec{Type: "ResourcePool", Path: "vm"},
			}}},
			PropSet: []types.PropertySpec{{Type: "VirtualMachine", PathSet: holderProperties()}},
		}},
	})
	if err != nil {
		return nil, vcenter.Convert(err, "look for VMs of imports in VCH %s", i.host.Name)
	}
	var out []holder
	for _, o := range content.Returnval {
		if h := i.holderOf(o); h.removable() == nil {
			out = append(out, *h)
		}
	}
	return out, nil
}

// holderOf reads what was retrieved of a VM.
func (i *importer) holderOf(o types.ObjectContent) *holder {
	h := &holder{ref: o.Obj}
	var parent, pool types.ManagedObjectReference
	for _, p := range o.PropSet {
		switch p.Name {
		case "name":
			h.name, _ = p.Val.(string)
		case "parent":
			parent, _ = p.Val.(types.ManagedObjectReference)
		case "resourcePool":
			pool, _ = p.Val.(types.ManagedObjectReference)
		case "runtime.powerState":
			h.power, _ = p.Val.(types.VirtualMachinePowerState)
		case "config.files.vmPathName":
			h.vmx, _ = p.Val.(string)
		case "config.hardware.device":
			if list, ok := p.Val.(types.ArrayOfVirtualDevice); ok {
				h.devices = list.VirtualDevice
			}
		case vch.KeyProperty(holderKey):
			h.mark, h.marked = decodeHolderMark(vch.KeyValue(p.Val))
		}
	}
	h.marked = h.marked && h.name == h.mark.name()
	h.inPlace = pool == i.host.Pool && (i.host.Pool.Type == "VirtualApp" || parent == i.host.Folder)
	return h
}

// readHolder reads one VM with its devices; nil if it is gone.
func (i *importer) readHolder(ctx context.Context, ref types.ManagedObjectReference) (*holder, error) {
	var content []types.ObjectContent
	err := property.DefaultCollector(i.client.Vim()).Retrieve(ctx, []types.ManagedObjectReference{ref},
		append(holderProperties(), "config.files.vmPathName", "config.hardware.device"), &content)
	switch {
	case vcenter.IsManagedObjectNotFound(err):
		return nil, nil
	case err != nil:
		return nil, vcenter.Convert(err, "read VM %s", ref.Value)
	case len(content) == 0:
		return nil, nil
	}
	return i.holderOf(content[0]), nil
}

// ownDisk returns the path of the holder's one disk, on the datastore. A disk that
// lies elsewhere or has a parent is somebody else's.
func (i *importer) ownDisk(ctx context.Context, h *holder) (string, error) {
	disks := h.devices.SelectByType((*types.VirtualDisk)(nil))
	if len(disks) != 1 {
		return "", errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) has %d disks, not the one that was imported", h.name, h.ref.Value, len(disks))
	}
	backing, ok := disks[0].GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if !ok || backing.Parent != nil {
		return "", errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) has another disk than the one that was imported", h.name, h.ref.Value)
	}
	var disk, vmx object.DatastorePath
	if !disk.FromString(backing.FileName) || !vmx.FromString(h.vmx) || disk.Datastore != i.datastore.Name || vmx.Datastore != i.datastore.Name {
		return "", errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) has its disk at %q, not on datastore %s", h.name, h.ref.Value, backing.FileName, i.datastore.Name)
	}
	if path.Dir(disk.Path) == path.Dir(vmx.Path) {
		return disk.Path, nil
	}
	// One directory may have two names.
	at, err := i.files.Resolve(ctx, disk.Path)
	if err != nil {
		return "", err
	}
	if path.Dir(at) != path.Dir(vmx.Path) {
		return "", errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) has a disk of its own at %q, outside its directory", h.name, h.ref.Value, backing.FileName)
	}
	return disk.Path, nil
}

// findHolder looks for the VM of an import by its name.
func (i *importer) findHolder(ctx context.Context, mark holderMark) (*types.ManagedObjectReference, error) {
	vim := i.client.Vim()
	within := i.host.Folder
	if i.host.Pool.Type == "VirtualApp" {
		within = i.host.Pool
	}
	res, err := methods.FindChild(ctx, vim, &types.FindChild{This: *vim.ServiceContent.SearchIndex, Entity: within, Name: mark.name()})
	if err != nil {
		return nil, vcenter.Convert(err, "look for VM %q", mark.name())
	}
	return res.Returnval, nil
}

// destroyHolder destroys the VM of an import with its disk, after a look that it is
// still that. One that is gone is no error. FailedPrecondition: it is not the VM of
// this import, it is not off, or it has a disk that is not its own, which would
// be deleted too.
func (i *importer) destroyHolder(ctx context.Context, ref types.ManagedObjectReference, mark holderMark) error {
	h, err := i.readHolder(ctx, ref)
	if err != nil || h == nil {
		return err
	}
	if err := h.removable(); err != nil {
		return err
	}
	if !h.mark.same(mark) {
		return errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) is not touched: it is of another import", h.name, ref.Value)
	}
	if len(h.devices.SelectByType((*types.VirtualDisk)(nil))) > 0 {
		if _, err := i.ownDisk(ctx, h); err != nil {
			return err
		}
	}
	res, err := methods.Destroy_Task(ctx, i.client.Vim(), &types.Destroy_Task{This: ref})
	if err == nil {
		waiter := i.client.NewWaiter()
		defer waiter.Close(ctx)
		_, err = waiter.Task(ctx, res.Returnval)
	}
	if vcenter.IsManagedObjectNotFound(err) {
		return nil
	}
	return vcenter.Convert(err, "destroy VM %q (%s)", h.name, ref.Value)
}
