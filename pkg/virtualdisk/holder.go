// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"context"
	"encoding/json"
	"path"
	"regexp"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

const (
	// holderKey is the ExtraConfig key that makes a VM a holder.
	holderKey = "mcm-vch-disk-holder"
	// holderPrefix begins the names of holders; digestDigits of a digest are in it.
	holderPrefix = "mcm-"
	digestPrefix = "sha256:"
	digestDigits = 12
	// maxName is what vSphere allows for the name of a VM.
	maxName = 80
)

var (
	kindPattern    = regexp.MustCompile(`^[a-z]{1,12}$`)
	attemptPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// valid reports whether a mark can be one.
func (m Mark) valid() bool {
	return kindPattern.MatchString(m.Kind) && m.Subject != "" && attemptPattern.MatchString(m.Attempt) && m.Size > 0
}

// name is the holder's name in the inventory, different for each attempt: the kind,
// the begin of the subject, and the attempt. It has no dot: vSphere calls the disk after
// the VM, and what is called x.vmdk-1.vmdk not all programs find the end of.
func (m Mark) name() string {
	subject, room := m.Subject, maxName-len(holderPrefix+m.Kind+"-"+"-"+m.Attempt)
	if digits, ok := strings.CutPrefix(subject, digestPrefix); ok {
		subject, room = digits, digestDigits
	}
	subject = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		}
		return '-'
	}, subject)
	return holderPrefix + m.Kind + "-" + subject[:min(len(subject), room)] + "-" + m.Attempt
}

// same reports whether both mean one attempt.
func (m Mark) same(o Mark) bool {
	return m.Kind == o.Kind && m.Subject == o.Subject && m.Size == o.Size && m.Attempt == o.Attempt
}

func (m Mark) encode() (string, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return "", errdefs.Wrap(errdefs.Internal, err, "encode the mark of VM %q", m.name())
	}
	return string(b), nil
}

// decodeMark reads a mark of a kind; false for everything else.
func decodeMark(text, kind string) (Mark, bool) {
	var m Mark
	if json.Unmarshal([]byte(text), &m) != nil || !m.valid() || m.Kind != kind {
		return Mark{}, false
	}
	return m, true
}

// holding is a VM that may be a holder, as it is in vCenter.
type holding struct {
	Holder
	// marked is false if the VM has no mark of this kind, or one of another VM's name.
	marked bool
	// inPlace says that it stands among the VCH's container VMs.
	inPlace bool
	power   types.VirtualMachinePowerState
	vmx     string
	devices object.VirtualDeviceList
}

// removable returns why a VM must not be destroyed as a leftover, if so.
func (h *holding) removable() error {
	refuse := func(why string) error {
		return errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) is not touched: %s", h.Name, h.Ref.Value, why)
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

// Holders returns the holders of this kind in the VCH's folder, in one look whatever
// their number: leftovers of disks whose making was cut off, and of such that are made
// right now, here or elsewhere; their Attempt and To tell which. VMs that are not powered
// off are left out, and such whose mark cannot be read yet.
func (m *Maker) Holders(ctx context.Context) ([]Holder, error) {
	content, err := property.DefaultCollector(m.o.Client.Vim()).RetrieveProperties(ctx, types.RetrieveProperties{
		SpecSet: []types.PropertyFilterSpec{{
			ObjectSet: []types.ObjectSpec{{Obj: m.o.Host.Pool, Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{
				&types.TraversalSpec{Type: "ResourcePool", Path: "vm"},
			}}},
			PropSet: []types.PropertySpec{{Type: "VirtualMachine", PathSet: holderProperties()}},
		}},
	})
	if err != nil {
		return nil, vcenter.Convert(err, "look for VMs of imports in VCH %s", m.o.Host.Name)
	}
	var out []Holder
	for _, o := range content.Returnval {
		if h := m.holderOf(o); h.removable() == nil {
			out = append(out, h.Holder)
		}
	}
	return out, nil
}

// holderOf reads what was retrieved of a VM.
func (m *Maker) holderOf(o types.ObjectContent) *holding {
	h := &holding{Holder: Holder{Ref: o.Obj}}
	var parent, pool types.ManagedObjectReference
	for _, p := range o.PropSet {
		switch p.Name {
		case "name":
			h.Name, _ = p.Val.(string)
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
			h.Mark, h.marked = decodeMark(vch.KeyValue(p.Val), m.o.Kind)
		}
	}
	h.marked = h.marked && h.Name == h.Mark.name()
	h.inPlace = pool == m.o.Host.Pool && (m.o.Host.Pool.Type == "VirtualApp" || parent == m.o.Host.Folder)
	return h
}

// readHolder reads one VM with its devices; nil if it is gone.
func (m *Maker) readHolder(ctx context.Context, ref types.ManagedObjectReference) (*holding, error) {
	var content []types.ObjectContent
	err := property.DefaultCollector(m.o.Client.Vim()).Retrieve(ctx, []types.ManagedObjectReference{ref},
		append(holderProperties(), "config.files.vmPathName", "config.hardware.device"), &content)
	switch {
	case vcenter.IsManagedObjectNotFound(err):
		return nil, nil
	case err != nil:
		return nil, vcenter.Convert(err, "read VM %s", ref.Value)
	case len(content) == 0:
		return nil, nil
	}
	return m.holderOf(content[0]), nil
}

// ownDisk returns the path of the holder's one disk, on the datastore. A disk that
// lies elsewhere or has a parent is somebody else's.
func (m *Maker) ownDisk(ctx context.Context, h *holding) (string, error) {
	disks := h.devices.SelectByType((*types.VirtualDisk)(nil))
	if len(disks) != 1 {
		return "", errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) has %d disks, not the one that was imported", h.Name, h.Ref.Value, len(disks))
	}
	backing, ok := disks[0].GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if !ok || backing.Parent != nil {
		return "", errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) has another disk than the one that was imported", h.Name, h.Ref.Value)
	}
	var disk, vmx object.DatastorePath
	if !disk.FromString(backing.FileName) || !vmx.FromString(h.vmx) || disk.Datastore != m.o.Datastore.Name || vmx.Datastore != m.o.Datastore.Name {
		return "", errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) has its disk at %q, not on datastore %s", h.Name, h.Ref.Value, backing.FileName, m.o.Datastore.Name)
	}
	if path.Dir(disk.Path) == path.Dir(vmx.Path) {
		return disk.Path, nil
	}
	// One directory may have two names.
	at, err := m.o.Files.Resolve(ctx, disk.Path)
	if err != nil {
		return "", err
	}
	if path.Dir(at) != path.Dir(vmx.Path) {
		return "", errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) has a disk of its own at %q, outside its directory", h.Name, h.Ref.Value, backing.FileName)
	}
	return disk.Path, nil
}

// findHolder looks for the VM of an import by its name.
func (m *Maker) findHolder(ctx context.Context, mark Mark) (*types.ManagedObjectReference, error) {
	vim := m.o.Client.Vim()
	within := m.o.Host.Folder
	if m.o.Host.Pool.Type == "VirtualApp" {
		within = m.o.Host.Pool
	}
	res, err := methods.FindChild(ctx, vim, &types.FindChild{This: *vim.ServiceContent.SearchIndex, Entity: within, Name: mark.name()})
	if err != nil {
		return nil, vcenter.Convert(err, "look for VM %q", mark.name())
	}
	return res.Returnval, nil
}

// DestroyHolder destroys a holder with its disk, after it has made sure that the VM
// still is the one with that mark and has none but its own disk. One that is gone is no
// error. FailedPrecondition: it is not that VM, it is not off, or it has a disk that is
// not its own, which would be deleted too.
func (m *Maker) DestroyHolder(ctx context.Context, ref types.ManagedObjectReference, mark Mark) error {
	release, err := m.o.Client.Heavy(ctx, m.o.Datastore.Ref) // before the look, not between it and the deed
	if err != nil {
		return vcenter.Convert(err, "destroy VM %s", ref.Value)
	}
	defer release()
	h, err := m.readHolder(ctx, ref)
	if err != nil || h == nil {
		return err
	}
	if err := h.removable(); err != nil {
		return err
	}
	if !h.same(mark) {
		return errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) is not touched: it is of another import", h.Name, ref.Value)
	}
	if len(h.devices.SelectByType((*types.VirtualDisk)(nil))) > 0 {
		if _, err := m.ownDisk(ctx, h); err != nil {
			return err
		}
	}
	res, err := methods.Destroy_Task(ctx, m.o.Client.Vim(), &types.Destroy_Task{This: ref})
	if err == nil {
		_, err = m.o.Client.Task(ctx, res.Returnval)
	}
	if vcenter.IsManagedObjectNotFound(err) {
		return nil
	}
	return vcenter.Convert(err, "destroy VM %q (%s)", h.Name, ref.Value)
}
