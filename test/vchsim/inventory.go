// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
)

// VM is what a test wants to know of a VM. It is a copy.
type VM struct {
	Ref      types.ManagedObjectReference
	Name     string
	UUID     string // BIOS UUID
	Folder   string // name of the folder that it is in
	VMX      string // datastore path
	On       bool
	Address  string // as the guest reports it
	ID       string // container id, "" if it is no container VM
	Started  string // what the guest wrote
	Version  string // config.changeVersion
	Disks    []string
	Mark     *identity.Mark
	ExtraCfg map[string]string
}

// VMs returns all VMs, sorted by name.
func (s *Sim) VMs() []VM {
	var all []VM
	for _, e := range s.registry.All("VirtualMachine") {
		if vm, ok := e.(*simulator.VirtualMachine); ok {
			all = append(all, s.describe(vm))
		}
	}
	slices.SortFunc(all, func(a, b VM) int { return strings.Compare(a.Name+a.Ref.Value, b.Name+b.Ref.Value) })
	return all
}

// Machines returns the VMs in the VCH's folder that bear a mark of Cluster, sorted by name.
func (s *Sim) Machines() []VM {
	return slices.DeleteFunc(s.VMs(), func(vm VM) bool {
		return vm.Mark == nil || vm.Mark.Cluster != Cluster || vm.Folder != s.VCHName
	})
}

// Machine returns the VM of a machine of Cluster, if there is exactly one.
func (s *Sim) Machine(name string) (VM, bool) {
	found := slices.DeleteFunc(s.Machines(), func(vm VM) bool { return vm.Mark.Machine != name })
	if len(found) != 1 {
		return VM{}, false
	}
	return found[0], true
}

func (s *Sim) describe(vm *simulator.VirtualMachine) VM {
	d := VM{Ref: vm.Self}
	ctx := s.newContext()
	ctx.WithLock(vm, func() {
		d.Name = vm.Name
		if vm.Config == nil {
			return
		}
		d.UUID, d.VMX, d.Version = strings.ToLower(vm.Config.Uuid), vm.Config.Files.VmPathName, vm.Config.ChangeVersion
		d.On = vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
		if vm.Guest != nil {
			d.Address = vm.Guest.IpAddress
		}
		d.ExtraCfg = extraConfig(&vm.VirtualMachine)
		d.ID = d.ExtraCfg[commonID]
		d.Started = d.ExtraCfg[startedKey(d.ID)]
		d.Disks = diskChains(vm)
		d.Mark = markOf(d.ExtraCfg)
		if vm.Parent != nil {
			if folder, ok := s.registry.Get(*vm.Parent).(*simulator.Folder); ok {
				d.Folder = folder.Name
			}
		}
	})
	return d
}

func markOf(keys map[string]string) *identity.Mark {
	text, ok := keys["annotations|"+identity.MarkAnnotation]
	if !ok {
		return nil
	}
	mark, err := identity.DecodeMark(text)
	if err != nil {
		return nil // a broken mark is no mark
	}
	return &mark
}

// Files returns the datastore paths of everything in all datastores, sorted;
// directories end with a slash. The directory that a vSAN datastore calls by a
// UUID appears under that UUID.
func (s *Sim) Files() []string {
	var files []string
	root := filepath.Join(s.dir, "datastores")
	// What vanishes during the walk is not there.
	_ = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Dir(file) == root || file == root {
			return nil //nolint:nilerr // see above
		}
		shown := s.shownPath(file)
		if d.IsDir() {
			shown += "/"
		}
		files = append(files, shown)
		return nil
	})
	slices.Sort(files)
	return files
}

// Sessions returns how many sessions are logged in.
func (s *Sim) Sessions() int { return len(s.sessions()) }

func (s *Sim) sessions() []types.UserSession {
	manager := s.registry.SessionManager()
	view := &simulator.Session{Registry: simulator.NewRegistry(), Map: s.registry}
	m, ok := view.Get(manager.Self).(*simulator.SessionManager)
	if !ok {
		return nil
	}
	return m.SessionList
}

// ExpireSessions ends all sessions, as vCenter does after idle time or a
// restart: the next call of each client is NotAuthenticated.
func (s *Sim) ExpireSessions() {
	for _, session := range s.sessions() {
		s.terminate(session.Key)
	}
}

func (s *Sim) terminate(key string) {
	s.registry.SessionManager().TerminateSession(s.newContext(), &types.TerminateSession{SessionId: []string{key}})
	s.collectors.end(key)
}

// CreateForeignVM makes a container VM in the VCH's folder that is in somebody's
// way: it has the VM name, the BIOS UUID (a new one if empty) and the mark (none
// if nil) that are given. It is powered off.
func (s *Sim) CreateForeignVM(name, withUUID string, mark *identity.Mark) (types.ManagedObjectReference, error) {
	vm, err := s.makeContainer(container{
		vch: s.vch, name: name, vmName: name, mark: mark, bios: withUUID,
		id: containerID("foreign", name, withUUID),
	})
	if err != nil {
		return ref{}, err
	}
	return vm.Self, nil
}

// Duplicate makes a second VM with the BIOS UUID, the container id and the mark
// of a machine, in another directory and under another name, as a careless
// restore does.
func (s *Sim) Duplicate(providerID string) (types.ManagedObjectReference, error) {
	id, err := identity.ParseProviderID(providerID)
	if err != nil {
		return ref{}, err
	}
	found := s.index.find(id.BIOSUUID, false)
	if len(found) == 0 {
		return ref{}, errdefs.New(errdefs.NotFound, "duplicate %s: no such VM", providerID)
	}
	original, ok := s.registry.Get(found[0]).(*simulator.VirtualMachine)
	if !ok {
		return ref{}, errdefs.New(errdefs.NotFound, "duplicate %s: no such VM", providerID)
	}
	d := s.describe(original)
	folder := s.vch.folder
	if original.Parent != nil {
		folder = *original.Parent
	}
	dir := d.Name + "-restored"
	vm, err := s.makeVM(folder, s.vch.pool, types.VirtualMachineConfigSpec{
		Name: dir, Uuid: d.UUID, GuestId: "otherGuest64",
		Files:       &types.VirtualMachineFileInfo{VmPathName: dsPath(dir, dir+".vmx")},
		ExtraConfig: options(d.ExtraCfg),
	})
	if err != nil {
		return ref{}, err
	}
	return vm.Self, nil
}
