// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/imagetest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/inventory"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/virtualdisk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// world is a simulated vCenter with stores on its VCH.
type world struct {
	*testing.T
	sim    *vchsim.Sim
	client *vcenter.Client
	host   *vch.Config
	clock  *fakeClock
	// plain is a store with nothing around it.
	plain *Store

	mu      sync.Mutex
	stores  int
	vms     int
	hidden  map[types.ManagedObjectReference]bool
	touched map[string]time.Time // by the clock, paths on the datastore
	foreign []string
	// attached are the directories of VMs of Attach.
	attached map[string]string
}

func newWorld(t *testing.T, options vchsim.Options) *world {
	t.Helper()
	options.NoForeign, options.Dir = true, t.TempDir()
	sim, err := vchsim.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	w := &world{
		T: t, sim: sim, clock: newFakeClock(),
		hidden: map[types.ManagedObjectReference]bool{}, touched: map[string]time.Time{}, attached: map[string]string{},
	}
	w.client = w.session(vcenter.Options{})
	w.host, err = vch.Find(t.Context(), w.client, v1alpha1.VirtualContainerHost{Datacenter: sim.Datacenter, Name: sim.VCHName})
	if err != nil {
		t.Fatal(err)
	}
	w.plain = New(Options{Client: w.client, Host: w.host, Owner: "admin", Clock: w.clock})
	w.foreign = w.all()
	return w
}

// session logs in.
func (w *world) session(options vcenter.Options) *vcenter.Client {
	w.Helper()
	pool := vcenter.NewPool(options)
	w.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(w.Context()), 10*time.Second)
		defer cancel()
		if err := pool.Close(ctx); err != nil {
			w.Log(err)
		}
	})
	cfg, err := vcenter.ConfigFromSecret(w.sim.Secret())
	if err != nil {
		w.Fatal(err)
	}
	client, err := pool.Client(w.Context(), cfg)
	if err != nil {
		w.Fatal(err)
	}
	return client
}

// seam stands between a store and the world, and lets a step go wrong.
type seam struct {
	w     *world
	files *datastore.Files
	inv   vms
	// disks makes those of files without a step, flat with a step for each file.
	disks disks
	flat  disks
	fault imagetest.Fault
	// before, if set, is called before each step.
	before func(what string)
	// skew is added to vCenter's time.
	skew time.Duration

	mu    sync.Mutex
	steps int
}

// newSeam puts a seam between a store and the world.
func newSeam(w *world, s *Store, fault imagetest.Fault) *seam {
	files, ok := s.files.(*datastore.Files)
	if !ok {
		w.Fatalf("files are %T", s.files)
	}
	m := &seam{w: w, files: files, inv: s.inventory, disks: s.disks, fault: fault}
	m.flat = virtualdisk.New(virtualdisk.Options{Client: w.client, Host: w.host, Files: m, Datastore: s.datastore, Kind: diskKind, Clock: w.clock})
	s.files, s.inventory, s.disks = m, m, m
	return m
}

// step carries out one step, or what the fault makes of it.
func (m *seam) step(what string, do func() error) error {
	if m.before != nil {
		m.before(what)
	}
	m.mu.Lock()
	m.steps++
	n := m.steps
	m.mu.Unlock()
	failed := errdefs.New(m.fault.Kind, "the fault at step %d, %s", m.fault.Step, what)
	switch {
	case m.fault.Step == 0:
	case n == m.fault.Step && m.fault.Cancel != nil:
		m.fault.Cancel()
	case n == m.fault.Step && m.fault.After:
		_ = do()
		return failed
	case n == m.fault.Step, n > m.fault.Step && m.fault.Kill && m.fault.Cancel == nil:
		return failed
	}
	return do()
}

func (m *seam) struck() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.steps >= m.fault.Step
}

// touch notes when a file was changed, by the world's clock.
func (m *seam) touch(err error, p string) error {
	if err == nil {
		m.w.mu.Lock()
		defer m.w.mu.Unlock()
		m.w.touched[p] = m.w.clock.Now()
	}
	return err
}

func (m *seam) aged(dir string, entries []datastore.Entry) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	for i := range entries {
		entries[i].Modified = m.w.touched[path.Join(dir, entries[i].Name)]
	}
}

func (m *seam) Path(p string) string { return m.files.Path(p) }

func (m *seam) Read(ctx context.Context, p string, limit int64) (b []byte, err error) {
	return b, m.step("read "+p, func() error {
		b, err = m.files.Read(ctx, p, limit)
		return err
	})
}

func (m *seam) Size(ctx context.Context, p string) (n int64, err error) {
	return n, m.step("look at "+p, func() error {
		n, err = m.files.Size(ctx, p)
		return err
	})
}

func (m *seam) Write(ctx context.Context, p string, r io.ReaderAt, size int64, progress func(int64)) error {
	return m.step("write "+p, func() error { return m.touch(m.files.Write(ctx, p, r, size, progress), p) })
}

func (m *seam) List(ctx context.Context, dir, pattern string) (entries []datastore.Entry, err error) {
	return entries, m.step("list "+dir, func() error {
		entries, err = m.files.List(ctx, dir, pattern)
		m.aged(dir, entries)
		return err
	})
}

func (m *seam) Tree(ctx context.Context, dir string) (tree map[string][]datastore.Entry, err error) {
	return tree, m.step("search "+dir, func() error {
		tree, err = m.files.Tree(ctx, dir)
		for below, entries := range tree {
			m.aged(path.Join(dir, below), entries)
		}
		return err
	})
}

func (m *seam) MakeDirectory(ctx context.Context, dir string, parents bool) error {
	return m.step("make "+dir, func() error { return m.touch(m.files.MakeDirectory(ctx, dir, parents), dir) })
}

func (m *seam) Resolve(ctx context.Context, p string) (resolved string, err error) {
	return resolved, m.step("resolve "+p, func() error {
		resolved, err = m.files.Resolve(ctx, p)
		return err
	})
}

func (m *seam) Delete(ctx context.Context, p string) error {
	return m.step("delete "+p, func() error { return m.files.Delete(ctx, p) })
}

func (m *seam) Move(ctx context.Context, from, to string) error {
	return m.step("move "+from+" to "+to, func() error { return m.touch(m.files.Move(ctx, from, to), to) })
}

func (m *seam) ExtendDisk(ctx context.Context, p string, size int64) error {
	return m.step("extend "+p, func() error { return m.files.ExtendDisk(ctx, p, size) })
}

func (m *seam) DeleteDisk(ctx context.Context, p string) error {
	return m.step("delete disk "+p, func() error { return m.files.DeleteDisk(ctx, p) })
}

func (m *seam) CopyDisk(ctx context.Context, from, to string) error {
	return m.step("copy disk "+from+" to "+to, func() error { return m.files.CopyDisk(ctx, from, to) })
}

func (m *seam) Upload(ctx context.Context, what string, to datastore.Address, r io.ReaderAt, size int64, progress func(int64)) error {
	return m.step(what, func() error { return m.files.Upload(ctx, what, to, r, size, progress) })
}

func (m *seam) VMs(ctx context.Context, keys ...string) (all []inventory.VM, err error) {
	return all, m.step("look at VMs", func() error {
		all, err = m.inv.VMs(ctx, keys...)
		m.w.mu.Lock()
		defer m.w.mu.Unlock()
		for i, vm := range all {
			if m.w.hidden[vm.Ref] {
				all[i] = inventory.VM{Ref: vm.Ref, Name: vm.Name, Unproven: true}
			}
		}
		return err
	})
}

func (m *seam) Now(context.Context) (now time.Time, err error) {
	return now, m.step("ask for the time", func() error {
		now = m.w.clock.Now().Add(m.skew)
		return nil
	})
}

// Make is one step where disks are imported, and one for each file where they are uploaded.
func (m *seam) Make(ctx context.Context, to string, c virtualdisk.Content, mark virtualdisk.Mark, progress func(done, total int64)) error {
	if !Imports(m.w.plain.datastore) {
		return m.flat.Make(ctx, to, c, mark, progress)
	}
	return m.step("import "+to, func() error { return m.disks.Make(ctx, to, c, mark, progress) })
}

func (m *seam) Holders(ctx context.Context) (h []virtualdisk.Holder, err error) {
	return h, m.step("look for holders", func() error {
		h, err = m.disks.Holders(ctx)
		return err
	})
}

func (m *seam) DestroyHolder(ctx context.Context, ref types.ManagedObjectReference, mark virtualdisk.Mark) error {
	return m.step("destroy holder "+ref.Value, func() error { return m.disks.DestroyHolder(ctx, ref, mark) })
}

// store makes a store of its own, with a fault.
func (w *world) store(fault imagetest.Fault) (*Store, *seam) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stores++
	// A few beats do: each is a step of its own.
	s := New(Options{Client: w.client, Host: w.host, Owner: fmt.Sprintf("process-%d", w.stores), Clock: w.clock, Beat: DefaultStale / 2, Settle: time.Minute})
	return s, newSeam(w, s, fault)
}

// Store implements imagetest.Harness.
func (w *world) Store() image.Store {
	s, _ := w.store(imagetest.Fault{})
	return s
}

// Faulty implements imagetest.Harness.
func (w *world) Faulty(fault imagetest.Fault) (image.Store, func() bool) {
	s, m := w.store(fault)
	return s, m.struck
}

// Advance implements imagetest.Harness.
func (w *world) Advance(d time.Duration) { w.clock.advance(w.T, d) }

// relative is a datastore path without the datastore.
func (w *world) relative(file string) string {
	w.Helper()
	var p object.DatastorePath
	if !p.FromString(file) || p.Datastore != w.host.ImageStore.Datastore {
		w.Fatalf("%q is no path on the image store's datastore", file)
	}
	return p.Path
}

// Content implements imagetest.Harness.
func (w *world) Content(file string) []byte {
	w.Helper()
	f, err := w.sim.DiskContent(file)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		w.Fatal(err)
	}
	key, _, ok := parseUpload(path.Base(path.Dir(w.relative(file))))
	if !ok || info.Size() != key.Size {
		return nil // not as large as it should be
	}
	const seekData, seekHole = 3, 4
	var content []byte
	for at := int64(0); ; {
		if at, err = f.Seek(at, seekData); err != nil {
			if !errors.Is(err, syscall.ENXIO) {
				w.Fatal(err)
			}
			break
		}
		end, err := f.Seek(at, seekHole)
		if err != nil {
			w.Fatal(err)
		}
		content = append(content, make([]byte, end-int64(len(content)))...)
		if _, err := f.ReadAt(content[at:end], at); err != nil && !errors.Is(err, io.EOF) {
			w.Fatal(err)
		}
		at = end
	}
	return bytes.TrimRight(content, "\x00")
}

// all is everything in the world: files, and VMs.
func (w *world) all() []string {
	all := w.sim.Files()
	for _, vm := range w.sim.VMs() {
		all = append(all, "VM "+vm.Name)
	}
	return all
}

// Files implements imagetest.Harness.
func (w *world) Files() []string {
	w.Helper()
	shared := slices.Clone(w.foreign)
	for _, dir := range []string{w.plain.layout.root, w.plain.layout.disks(), w.plain.layout.names(), w.plain.layout.locks()} {
		for dir != "." {
			shared = append(shared, w.shown(dir)+"/")
			dir = path.Dir(dir)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(w.all(), func(p string) bool {
		for name, dir := range w.attached {
			if p == "VM "+name || strings.HasPrefix(p, dir+"/") {
				return true
			}
		}
		return slices.Contains(shared, p)
	})
}

// shown is how the simulator shows a directory; top-level directories may have ids.
func (w *world) shown(dir string) string {
	if resolved, err := w.plain.files.Resolve(w.Context(), dir); err == nil {
		dir = resolved
	}
	return w.plain.files.Path(dir)
}

// machine makes a VM without disks.
func (w *world) machine() (*object.VirtualMachine, image.User) {
	w.Helper()
	w.mu.Lock()
	w.vms++
	name := fmt.Sprintf("user-%d", w.vms)
	w.mu.Unlock()
	vim, ctx := w.client.Vim(), w.Context()
	pool := object.NewResourcePool(vim, w.host.Pool)
	task, err := object.NewFolder(vim, w.host.Folder).CreateVM(ctx, types.VirtualMachineConfigSpec{
		Name: name, GuestId: "otherGuest64", Files: &types.VirtualMachineFileInfo{VmPathName: "[" + w.host.ImageStore.Datastore + "]"},
		DeviceChange: []types.BaseVirtualDeviceConfigSpec{&types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationAdd,
			Device: &types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{
				SharedBus:         types.VirtualSCSISharingNoSharing,
				VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: -101}},
			}},
		}},
	}, pool, nil)
	if err != nil {
		w.Fatal(err)
	}
	info, err := task.WaitForResult(ctx)
	if err != nil {
		w.Fatal(err)
	}
	ref, ok := info.Result.(types.ManagedObjectReference)
	if !ok {
		w.Fatalf("CreateVM answered %T", info.Result)
	}
	vm := object.NewVirtualMachine(vim, ref)
	for _, known := range w.sim.VMs() {
		if known.Ref == ref {
			w.mu.Lock()
			w.attached[name] = path.Dir(known.VMX)
			w.mu.Unlock()
		}
	}
	return vm, image.User{Name: name, VM: ref.Value}
}

// Attach implements imagetest.Harness.
func (w *world) Attach(file string) image.User {
	w.Helper()
	return w.attach(file)
}

// attach makes a VM with a child disk of the first of files, which is a child of the second.
func (w *world) attach(files ...string) image.User {
	w.Helper()
	vm, user := w.machine()
	devices, err := vm.Device(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	controller, err := devices.FindDiskController("")
	if err != nil {
		w.Fatal(err)
	}
	parent := devices.CreateDisk(controller, w.host.Datastores[w.host.ImageStore.Datastore].Ref, files[0])
	if len(files) > 1 {
		// vCenter knows the whole chain by itself, the simulator what it is told.
		parent.Backing = flat(files...)
	}
	if err := vm.AddDevice(w.Context(), devices.ChildDisk(parent)); err != nil {
		w.Fatal(err)
	}
	return user
}

// AttachHidden implements imagetest.Harness.
func (w *world) AttachHidden() image.User {
	w.Helper()
	vm, user := w.machine()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hidden[vm.Reference()] = true
	user.Unproven = true
	return user
}

// Detach implements imagetest.Harness.
func (w *world) Detach(user image.User) {
	w.Helper()
	ctx := w.Context()
	vm := object.NewVirtualMachine(w.client.Vim(), types.ManagedObjectReference{Type: "VirtualMachine", Value: user.VM})
	devices, err := vm.Device(ctx)
	if err != nil {
		w.Fatal(err)
	}
	disks := devices.SelectByType((*types.VirtualDisk)(nil))
	if err := vm.RemoveDevice(ctx, true, disks...); err != nil {
		w.Fatal(err)
	}
	task, err := vm.Destroy(ctx)
	if err == nil {
		err = task.Wait(ctx)
	}
	if err != nil {
		w.Fatal(err)
	}
}

// Lose implements imagetest.Harness.
func (w *world) Lose(file string) {
	w.Helper()
	if err := w.plain.files.DeleteDisk(w.Context(), w.relative(file)); err != nil {
		w.Fatal(err)
	}
}

// Fill implements imagetest.Harness.
func (w *world) Fill(full bool) {
	w.Helper()
	w.sim.ClearFaults()
	if !full {
		return
	}
	for _, rule := range []vchsim.FaultRule{
		{Method: "ExtendVirtualDisk_Task", Kind: "task:NoDiskSpace"},
		{Method: "CopyVirtualDisk_Task", Kind: "task:NoDiskSpace"},
	} {
		if err := w.sim.SetFault(rule); err != nil {
			w.Fatal(err)
		}
	}
}

// flat is the backing of a disk with what it is a child of.
func flat(files ...string) *types.VirtualDiskFlatVer2BackingInfo {
	b := &types.VirtualDiskFlatVer2BackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: files[0]}}
	if len(files) > 1 {
		b.Parent = flat(files[1:]...)
	}
	return b
}
