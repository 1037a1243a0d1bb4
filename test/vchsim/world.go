// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// places are the objects that every world has. They never change once the world is made.
type places struct {
	datacenter, vmFolder, rootPool ref
	cluster, host                  ref
	datastores                     map[string]ref
	vsan                           bool
	// networks are the port groups in the order of their names.
	networks []ref
	switchID string
	// internalSession is the key of the session that vcsim's own in-memory clients share.
	internalSession string
}

// Port groups of the world; the numbers are those of their names.
const (
	bridgePortgroup = iota
	externalPortgroup
	staticPortgroup
	secondBridgePortgroup
	unrelatedPortgroup
	portgroups
)

// infrastructure of one cluster; VMs are made by the functions below.
func infrastructure() *simulator.Model {
	return &simulator.Model{
		Datacenter:  1,
		Cluster:     1,
		ClusterHost: 3, // vSAN needs three
		Portgroup:   portgroups,
	}
}

// making guards simulator.EvalLicense, which vcsim changes with each new vCenter
// and copies for each new cluster and host.
var making sync.Mutex

// makeCluster makes a vCenter with a cluster.
func (s *Sim) makeCluster() error {
	making.Lock()
	defer making.Unlock()
	s.newService()
	s.rememberInternalSession()
	model := infrastructure()
	model.Service = s.service
	if err := model.CreateInfrastructure(s.service.Context); err != nil {
		return fmt.Errorf("make cluster: %w", err)
	}
	return nil
}

func (s *Sim) makeWorld(ctx context.Context) error {
	if err := s.makeCluster(); err != nil {
		return err
	}
	if err := s.findPlaces(); err != nil {
		return err
	}
	for _, name := range []string{Datastore, SecondDatastore} {
		if err := s.makeDatastore(name); err != nil {
			return err
		}
	}
	if err := s.makeDisk(ImageDisk); err != nil {
		return err
	}
	var err error
	if s.vch, err = s.makeVCH(s.VCHName, bridgePortgroup); err != nil {
		return err
	}
	if err := s.makeDockerContainers(s.vch, s.options.DockerContainers); err != nil {
		return err
	}
	if !s.options.NoForeign {
		if err := s.makeForeign(); err != nil {
			return err
		}
	}
	s.makeOthers(s.options.OtherVMs)
	if err := s.makeRunning(s.options.RunningMachines); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("make world: %w", err)
	}
	return nil
}

// rememberInternalSession learns the key that marks calls of vcsim's in-memory
// clients, so that faults meet only calls that came over the wire.
func (s *Sim) rememberInternalSession() {
	s.registry.Handler = func(ctx *simulator.Context, _ *simulator.Method) (mo.Reference, types.BaseMethodFault) {
		s.places.internalSession = ctx.Session.Key
		return nil, nil
	}
	// The answer is of no interest: every answer comes after the handler.
	_, _ = vim25.NewClient(context.Background(), s.service)
	s.registry.Handler = nil
}

func (s *Sim) findPlaces() error {
	dc, ok := s.registry.Any("Datacenter").(*simulator.Datacenter)
	if !ok {
		return fmt.Errorf("make cluster: no datacenter")
	}
	dc.Name = s.Datacenter
	cluster, ok := s.registry.Any("ClusterComputeResource").(*simulator.ClusterComputeResource)
	if !ok {
		return fmt.Errorf("make cluster: no cluster")
	}
	p := &s.places
	p.datacenter, p.vmFolder, p.vsan = dc.Self, dc.VmFolder, s.options.VSAN
	p.cluster, p.rootPool, p.host = cluster.Self, *cluster.ResourcePool, cluster.Host[0]
	p.datastores = map[string]ref{}
	dvs, ok := s.registry.Any("DistributedVirtualSwitch").(*simulator.DistributedVirtualSwitch)
	if !ok {
		return fmt.Errorf("make cluster: no distributed switch")
	}
	p.switchID = dvs.Uuid
	for i := range portgroups {
		name := fmt.Sprintf("DC0_DVPG%d", i)
		pg := s.registry.FindByName(name, dc.Network)
		if pg == nil {
			return fmt.Errorf("make cluster: no port group %s", name)
		}
		p.networks = append(p.networks, pg.Reference())
	}
	return nil
}

func (s *Sim) makeDatastore(name string) error {
	dir := s.datastoreDir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make datastore %s: %w", name, err)
	}
	for _, r := range s.registry.AllReference("HostSystem") {
		host, ok := r.(*simulator.HostSystem)
		if !ok {
			continue
		}
		system, ok := s.registry.Get(*host.ConfigManager.DatastoreSystem).(*simulator.HostDatastoreSystem)
		if !ok {
			return fmt.Errorf("make datastore %s: host %s has no datastore system", name, host.Name)
		}
		res := system.CreateLocalDatastore(s.newContext(), &types.CreateLocalDatastore{This: system.Self, Name: name, Path: dir})
		if err := answered(res, "make datastore %s", name); err != nil {
			return err
		}
	}
	for _, r := range s.registry.All("Datastore") {
		ds, ok := r.(*simulator.Datastore)
		if !ok || ds.Name != name {
			continue
		}
		s.places.datastores[name] = ds.Self
		if s.places.vsan {
			ds.Summary.Type = string(types.HostFileSystemVolumeFileSystemTypeVsan)
			ds.Capability.TopLevelDirectoryCreateSupported = types.NewBool(false)
		}
		return nil
	}
	return fmt.Errorf("make datastore %s: not in the inventory", name)
}

func (s *Sim) isDatastore(name string) bool {
	_, ok := s.places.datastores[name]
	return ok
}

// LocalPath returns where a datastore path is in the simulator's own files.
func (s *Sim) LocalPath(file string) string { return s.localPath(file) }

// localPath returns where the simulator keeps a datastore path, or "" if that
// is no path on a datastore of this world. On vSAN the first element is
// translated from its friendly name.
func (s *Sim) localPath(file string) string {
	var p object.DatastorePath
	if file == "" || !p.FromString(file) || !s.isDatastore(p.Datastore) {
		return ""
	}
	dir := s.datastoreDir(p.Datastore)
	if !s.places.vsan || p.Path == "" {
		return filepath.Join(dir, filepath.FromSlash(p.Path))
	}
	content := s.service.Context.Map.Get(vim25.ServiceInstance)
	instance, ok := content.(*simulator.ServiceInstance)
	if !ok || instance.Content.DatastoreNamespaceManager == nil {
		return ""
	}
	manager, ok := s.registry.Get(*instance.Content.DatastoreNamespaceManager).(*simulator.DatastoreNamespaceManager)
	if !ok {
		return ""
	}
	body, ok := manager.ConvertNamespacePathToUuidPath(s.newContext(), &types.ConvertNamespacePathToUuidPath{
		This: manager.Self, Datacenter: &s.places.datacenter, NamespaceUrl: dir + p.Path,
	}).(*methods.ConvertNamespacePathToUuidPathBody)
	if !ok || body.Res == nil {
		return ""
	}
	return body.Res.Returnval
}

// putFile writes a file with its directories and returns its datastore path as
// vSphere would show it.
func (s *Sim) putFile(file, content string) (string, error) {
	local := s.localPath(file)
	if err := os.MkdirAll(filepath.Dir(local), 0o700); err != nil {
		return "", fmt.Errorf("make directory of %s: %w", file, err)
	}
	if err := os.WriteFile(local, []byte(content), 0o600); err != nil {
		return "", fmt.Errorf("write %s: %w", file, err)
	}
	return s.shownPath(local), nil
}

// shownPath is the inverse of localPath.
func (s *Sim) shownPath(local string) string {
	rel, err := filepath.Rel(filepath.Join(s.dir, "datastores"), local)
	if err != nil {
		return ""
	}
	name, rest, _ := strings.Cut(filepath.ToSlash(rel), "/")
	return (&object.DatastorePath{Datastore: name, Path: rest}).String()
}

// makeDisk makes an image disk of 8 GB, descriptor and extent.
func (s *Sim) makeDisk(file string) error {
	if err := os.MkdirAll(filepath.Dir(s.localPath(file)), 0o700); err != nil {
		return fmt.Errorf("make directory of %s: %w", file, err)
	}
	manager := s.registry.VirtualDiskManager()
	_, err := s.await(manager.CreateVirtualDiskTask(s.newContext(), &types.CreateVirtualDisk_Task{
		This: manager.Reference(), Name: file, Datacenter: &s.places.datacenter,
		Spec: &types.FileBackedVirtualDiskSpec{
			VirtualDiskSpec: types.VirtualDiskSpec{DiskType: "thin", AdapterType: "lsiLogic"},
			CapacityKb:      8_000_000,
		},
	}), "make disk %s", file)
	return err
}

// makeFolder makes a VM folder in the datacenter's.
func (s *Sim) makeFolder(name string) (ref, error) {
	parent, ok := s.registry.Get(s.places.vmFolder).(*simulator.Folder)
	if !ok {
		return ref{}, fmt.Errorf("make folder %s: no VM folder", name)
	}
	body, ok := parent.CreateFolder(s.newContext(), &types.CreateFolder{This: parent.Self, Name: name}).(*methods.CreateFolderBody)
	if err := answered(body, "make folder %s", name); err != nil || !ok {
		return ref{}, err
	}
	return body.Res.Returnval, nil
}

func (s *Sim) makePool(name string) (ref, error) {
	parent, ok := s.registry.Get(s.places.rootPool).(*simulator.ResourcePool)
	if !ok {
		return ref{}, fmt.Errorf("make resource pool %s: no root pool", name)
	}
	body, ok := parent.CreateResourcePool(s.newContext(), &types.CreateResourcePool{
		This: parent.Self, Name: name, Spec: types.DefaultResourceConfigSpec(),
	}).(*methods.CreateResourcePoolBody)
	if err := answered(body, "make resource pool %s", name); err != nil || !ok {
		return ref{}, err
	}
	return body.Res.Returnval, nil
}

// makeVM creates a VM past the wire: no faults, no counters.
func (s *Sim) makeVM(folder, pool ref, spec types.VirtualMachineConfigSpec) (*simulator.VirtualMachine, error) {
	result, err := s.await(s.calls.CreateVMTask(s.newContext(), &types.CreateVM_Task{
		This: folder, Config: spec, Pool: pool, Host: &s.places.host,
	}), "make VM %s", spec.Name)
	if err != nil {
		return nil, err
	}
	r, _ := result.(ref)
	vm, ok := s.registry.Get(r).(*simulator.VirtualMachine)
	if !ok {
		return nil, fmt.Errorf("make VM %s: not in the inventory", spec.Name)
	}
	return vm, nil
}

// await waits for the task that a method started and returns its result.
func (s *Sim) await(res soap.HasFault, format string, args ...any) (types.AnyType, error) {
	if err := answered(res, format, args...); err != nil {
		return nil, err
	}
	var r ref
	switch body := res.(type) {
	case *methods.CreateVM_TaskBody:
		r = body.Res.Returnval
	case *methods.CreateVirtualDisk_TaskBody:
		r = body.Res.Returnval
	case *methods.PowerOnVM_TaskBody:
		r = body.Res.Returnval
	}
	task, ok := s.registry.Get(r).(*simulator.Task)
	if !ok {
		return nil, fmt.Errorf("%s: no task", fmt.Sprintf(format, args...))
	}
	task.Wait()
	if task.Info.Error != nil {
		return nil, fmt.Errorf("%s: %T", fmt.Sprintf(format, args...), task.Info.Error.Fault)
	}
	return task.Info.Result, nil
}

func answered(res soap.HasFault, format string, args ...any) error {
	if f := res.Fault(); f != nil {
		return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), soap.WrapSoapFault(f))
	}
	return nil
}

// dsPath joins a datastore path of the first datastore.
func dsPath(elements ...string) string { return dsPathOn(Datastore, elements...) }

// dsPathOn joins a datastore path.
func dsPathOn(datastore string, elements ...string) string {
	return (&object.DatastorePath{Datastore: datastore, Path: path.Join(elements...)}).String()
}
