// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vmdk"
)

// nfcPrefix is where the contents of disks are sent.
const nfcPrefix = "/nfc/"

// defaultLeaseTimeout is vCenter's.
const defaultLeaseTimeout = 5 * time.Minute

// imports are the imports of VMs that are under way.
type imports struct {
	mu     sync.Mutex
	leases map[string]*nfcLease // by the id in their URLs
}

// nfcLease is the import of one VM: vCenter makes the VM, the client sends the
// contents of its disks and completes the lease. Until then the VM belongs to the
// lease: nothing else may be done with it, and it goes when the lease is
// aborted or not heard of for too long.
type nfcLease struct {
	mo.HttpNfcLease

	sim   *Sim
	id    string
	timer *time.Timer

	// Guarded by imports.mu.
	vm       ref
	urls     []types.HttpNfcLeaseDeviceUrl
	disks    map[string]string // datastore paths by the last element of their URLs
	manifest []types.HttpNfcLeaseManifestEntry
	ended    bool
}

// ImportVApp makes a VM and lends its disks out, as vCenter does. Unlike vcsim, the
// lease belongs to this Sim, and what is sent becomes the content of the disk.
func (o *overrides) ImportVApp(ctx *simulator.Context, req *types.ImportVApp) soap.HasFault {
	body := new(methods.ImportVAppBody)
	spec, ok := req.Spec.(*types.VirtualMachineImportSpec)
	if !ok {
		body.Fault_ = simulator.Fault("", &types.InvalidArgument{InvalidProperty: "spec"})
		return body
	}
	folder := o.sim.places.vmFolder
	if req.Folder != nil {
		folder = *req.Folder
	}
	if _, ok := o.sim.registry.Get(folder).(*simulator.Folder); !ok {
		body.Fault_ = simulator.Fault("", &types.ManagedObjectNotFound{Obj: folder})
		return body
	}
	lease := &nfcLease{sim: o.sim, id: uuid.NewString(), disks: map[string]string{}}
	lease.Self = ref{Type: "HttpNfcLease", Value: fmt.Sprintf("session[%s]%s", ctx.Session.Key, uuid.NewString())}
	lease.State = types.HttpNfcLeaseStateInitializing
	ctx.Session.Put(lease)
	o.sim.running.Go(func() {
		lease.begin(&types.CreateVM_Task{This: folder, Config: spec.ConfigSpec, Pool: req.This, Host: req.Host})
	})
	body.Res = &types.ImportVAppResponse{Returnval: lease.Self}
	return body
}

// begin makes the VM and opens the lease.
func (l *nfcLease) begin(create *types.CreateVM_Task) {
	s := l.sim
	ctx := s.newContext()
	body, ok := s.calls.CreateVMTask(ctx, create).(*methods.CreateVM_TaskBody)
	if !ok || body.Fault_ != nil {
		l.fail(&types.ManagedObjectNotFound{Obj: create.This})
		return
	}
	task, ok := s.registry.Get(body.Res.Returnval).(*simulator.Task)
	if !ok {
		l.fail(&types.SystemErrorFault{Reason: "no task"})
		return
	}
	task.Wait()
	if task.Info.Error != nil {
		l.fail(task.Info.Error.Fault)
		return
	}
	vm, _ := task.Info.Result.(ref)
	l.lend(vm)
	l.update(types.PropertyChange{Name: "info", Val: types.HttpNfcLeaseInfo{
		Lease: l.Self, Entity: vm, DeviceUrl: l.urls, LeaseTimeout: int32(max(1, s.options.LeaseTimeout/time.Second)),
	}}, types.PropertyChange{Name: "state", Val: types.HttpNfcLeaseStateReady})
}

// lend notes the VM's disks and starts the lease's time.
func (l *nfcLease) lend(vm ref) {
	s := l.sim
	var files []string
	var name string
	if o, ok := s.registry.Get(vm).(*simulator.VirtualMachine); ok {
		ctx := s.newContext()
		ctx.WithLock(o, func() { files, name = diskChains(o), o.Name })
	}
	s.imports.mu.Lock()
	defer s.imports.mu.Unlock()
	l.vm = vm
	for i, file := range files {
		target := fmt.Sprintf("disk-%d.vmdk", i)
		l.disks[target] = file
		u := url.URL{Scheme: "https", Host: s.importHost(), Path: nfcPrefix + l.id + "/" + target}
		l.urls = append(l.urls, types.HttpNfcLeaseDeviceUrl{
			Key:       fmt.Sprintf("/%s/ParaVirtualSCSIController0:%d", vm.Value, i),
			ImportKey: fmt.Sprintf("/%s/ParaVirtualSCSIController0:%d", name, i),
			Url:       u.String(), SslThumbprint: s.importThumbprint(), Disk: types.NewBool(true), TargetId: target,
		})
	}
	if s.imports.leases == nil {
		s.imports.leases = map[string]*nfcLease{}
	}
	s.imports.leases[l.id] = l
	l.timer = time.AfterFunc(s.options.LeaseTimeout, l.expire)
}

// Imports returns how many imports are under way, or were given up by their client
// and not yet by vCenter.
func (s *Sim) Imports() int {
	s.imports.mu.Lock()
	defer s.imports.mu.Unlock()
	return len(s.imports.leases)
}

// importing reports whether a VM belongs to a lease.
func (s *Sim) importing(vm ref) bool {
	s.imports.mu.Lock()
	defer s.imports.mu.Unlock()
	for _, l := range s.imports.leases {
		if l.vm == vm {
			return true
		}
	}
	return false
}

// end takes the lease out of the table; it answers false if that was done before.
func (l *nfcLease) end() bool {
	l.sim.imports.mu.Lock()
	defer l.sim.imports.mu.Unlock()
	if l.ended || l.sim.imports.leases[l.id] == nil {
		return false
	}
	l.ended = true
	l.timer.Stop()
	delete(l.sim.imports.leases, l.id)
	return true
}

// expire is called when the client was not heard of for too long.
func (l *nfcLease) expire() {
	select {
	case <-l.sim.closed:
		return
	default:
	}
	if l.end() {
		l.removeVM()
		l.fail(&types.Timedout{})
	}
}

// removeVM takes the VM of a lease that came to nothing away.
func (l *nfcLease) removeVM() {
	if l.sim.registry.Get(l.vm) == nil {
		return
	}
	body, ok := l.sim.calls.DestroyTask(l.sim.newContext(), &types.Destroy_Task{This: l.vm}).(*methods.Destroy_TaskBody)
	if !ok || body.Res == nil {
		return
	}
	if task, ok := l.sim.registry.Get(body.Res.Returnval).(*simulator.Task); ok {
		task.Wait()
	}
}

func (l *nfcLease) fail(fault types.BaseMethodFault) {
	l.update(types.PropertyChange{Name: "error", Val: types.LocalizedMethodFault{Fault: fault}},
		types.PropertyChange{Name: "state", Val: types.HttpNfcLeaseStateError})
}

func (l *nfcLease) update(changes ...types.PropertyChange) {
	ctx := l.sim.newContext()
	ctx.WithLock(l, func() { ctx.Update(l, changes) })
}

// HttpNfcLeaseComplete gives the VM free.
func (l *nfcLease) HttpNfcLeaseComplete(ctx *simulator.Context, _ *types.HttpNfcLeaseComplete) soap.HasFault { //nolint:revive // vSphere's name
	if !l.end() {
		return &methods.HttpNfcLeaseCompleteBody{Fault_: simulator.Fault("", &types.InvalidState{})}
	}
	ctx.Update(l, []types.PropertyChange{{Name: "state", Val: types.HttpNfcLeaseStateDone}})
	return &methods.HttpNfcLeaseCompleteBody{Res: new(types.HttpNfcLeaseCompleteResponse)}
}

// HttpNfcLeaseAbort removes the VM.
func (l *nfcLease) HttpNfcLeaseAbort(ctx *simulator.Context, _ *types.HttpNfcLeaseAbort) soap.HasFault { //nolint:revive // vSphere's name
	if !l.end() {
		return &methods.HttpNfcLeaseAbortBody{Fault_: simulator.Fault("", &types.InvalidState{})}
	}
	l.removeVM()
	ctx.Update(l, []types.PropertyChange{{Name: "state", Val: types.HttpNfcLeaseStateError}})
	return &methods.HttpNfcLeaseAbortBody{Res: new(types.HttpNfcLeaseAbortResponse)}
}

// HttpNfcLeaseProgress keeps the lease alive.
func (l *nfcLease) HttpNfcLeaseProgress(ctx *simulator.Context, req *types.HttpNfcLeaseProgress) soap.HasFault { //nolint:revive // vSphere's name
	l.sim.imports.mu.Lock()
	alive := !l.ended && l.timer != nil && l.timer.Stop()
	if alive {
		l.timer.Reset(l.sim.options.LeaseTimeout)
	}
	l.sim.imports.mu.Unlock()
	if !alive {
		return &methods.HttpNfcLeaseProgressBody{Fault_: simulator.Fault("", &types.Timedout{})}
	}
	ctx.Update(l, []types.PropertyChange{{Name: "transferProgress", Val: req.Percent}})
	return &methods.HttpNfcLeaseProgressBody{Res: new(types.HttpNfcLeaseProgressResponse)}
}

// HttpNfcLeaseGetManifest tells what was received.
func (l *nfcLease) HttpNfcLeaseGetManifest(*simulator.Context, *types.HttpNfcLeaseGetManifest) soap.HasFault { //nolint:revive // vSphere's name
	l.sim.imports.mu.Lock()
	defer l.sim.imports.mu.Unlock()
	return &methods.HttpNfcLeaseGetManifestBody{Res: &types.HttpNfcLeaseGetManifestResponse{
		Returnval: append([]types.HttpNfcLeaseManifestEntry(nil), l.manifest...),
	}}
}

// serveNFC takes the content of a disk. Whoever knows the address may send it.
func (s *Sim) serveNFC(w http.ResponseWriter, r *http.Request) {
	id, target, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, nfcPrefix), "/")
	s.imports.mu.Lock()
	lease := s.imports.leases[id]
	file := ""
	if lease != nil {
		file = lease.disks[target]
	}
	s.imports.mu.Unlock()
	switch {
	case file == "":
		http.NotFound(w, r)
		return
	case r.Method != http.MethodPost && r.Method != http.MethodPut:
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	entry, err := s.takeDisk(r.Body, file)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.imports.mu.Lock()
	defer s.imports.mu.Unlock()
	for _, u := range lease.urls {
		if u.TargetId == target {
			entry.Key = u.Key
		}
	}
	lease.manifest = append(lease.manifest, entry)
	w.WriteHeader(http.StatusCreated)
}

// takeDisk makes what comes in the content of a disk.
func (s *Sim) takeDisk(from io.Reader, file string) (types.HttpNfcLeaseManifestEntry, error) {
	var entry types.HttpNfcLeaseManifestEntry
	temp, err := os.CreateTemp(s.dir, "nfc-")
	if err != nil {
		return entry, err
	}
	defer func() { _ = errors.Join(temp.Close(), os.Remove(temp.Name())) }()
	sum := sha1.New()
	size, err := io.Copy(io.MultiWriter(temp, sum), from)
	if err != nil {
		return entry, err
	}
	disk, err := vmdk.Open(temp, size)
	if err != nil {
		return entry, err
	}
	s.calls.files.Lock()
	local, text, extent, fault := s.calls.descriptor(file)
	s.calls.files.Unlock()
	if fault != nil {
		return entry, fmt.Errorf("the VM has no disk %s: %T", file, fault)
	}
	if want := fmt.Sprint(disk.Capacity / sector); want != string(text[extent[2]:extent[3]]) {
		return entry, fmt.Errorf("the disk has %s sectors, the VM's has %s", want, text[extent[2]:extent[3]])
	}
	if err := writeSparse(filepath.Join(filepath.Dir(local), string(text[extent[6]:extent[7]])), disk, disk.Capacity, disk.Next); err != nil {
		return entry, err
	}
	entry.Sha1, entry.Size, entry.Disk, entry.Capacity = hex.EncodeToString(sum.Sum(nil)), size, true, disk.Capacity
	return entry, nil
}
