// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	corev1 "k8s.io/api/core/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/vsphere"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// hostKey is made once: it is of no interest here and costs a tenth of a second.
var hostKey = sync.OnceValues(containervm.NewHostKey)

// world is the real backend on a simulated vCenter. Each SOAP call is a step.
type world struct {
	*testing.T
	sim     *vchsim.Sim
	steps   *steps
	admin   *vim25.Client // sees the world past the backend
	host    *vch.Config
	files   map[string]bool
	foreign map[types.ManagedObjectReference]bool

	mu      sync.Mutex
	backend spi.PluginSPI
}

func newWorld(t *testing.T, o vchsim.Options) *world {
	t.Helper()
	o.Dir = t.TempDir()
	sim, err := vchsim.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	w := &world{T: t, sim: sim, steps: newSteps(t), foreign: map[types.ManagedObjectReference]bool{}}
	client, err := w.pool(nil).Client(t.Context(), w.config())
	if err != nil {
		t.Fatal(err)
	}
	w.admin = client.Vim()
	if w.host, err = vch.Find(t.Context(), client, sim.ProviderSpec().VCH); err != nil {
		t.Fatal(err)
	}
	for ref := range w.read("name") {
		w.foreign[ref] = true
	}
	w.files = w.allFiles()
	return w
}

func (w *world) config() vcenter.Config {
	cfg, err := vcenter.ConfigFromSecret(w.sim.Secret())
	if err != nil {
		w.Fatal(err)
	}
	return cfg
}

func (w *world) pool(s *steps) *vcenter.Pool {
	o := vcenter.Options{}
	if s != nil {
		o.Middleware = s.wrap
	}
	p := vcenter.NewPool(o)
	w.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			w.Logf("close the pool: %v", err)
		}
	})
	return p
}

func (w *world) SPI() spi.PluginSPI {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.backend == nil {
		w.backend = vsphere.New(vsphere.Options{Pool: w.pool(w.steps), HostKey: hostKey})
	}
	return w.backend
}

func (w *world) Spec() *v1alpha1.ProviderSpec {
	spec := w.sim.ProviderSpec()
	v1alpha1.SetDefaults(spec)
	return spec
}

func (w *world) Secret() *corev1.Secret { return &corev1.Secret{Data: w.sim.Secret()} }

func (w *world) Inject(f spitest.Fault) (heal func() bool) {
	restore := w.steps.inject(f)
	return func() bool {
		struck := restore()
		w.settle()
		if f.Kill && struck {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.backend = nil // the process died
		}
		return struck
	}
}

// settle waits for the tasks that a struck call left running: what they do must
// be there when the world is looked at.
func (w *world) settle() {
	var m mo.TaskManager
	if err := property.DefaultCollector(w.admin).RetrieveOne(w.Context(), *w.admin.ServiceContent.TaskManager, []string{"recentTask"}, &m); err != nil {
		w.Fatal(err)
	}
	if len(m.RecentTask) == 0 {
		return
	}
	var tasks []mo.Task
	if err := property.DefaultCollector(w.admin).Retrieve(w.Context(), m.RecentTask, []string{"info.state"}, &tasks); err != nil {
		w.Fatal(err)
	}
	for _, t := range tasks {
		if t.Info.State == types.TaskInfoStateRunning || t.Info.State == types.TaskInfoStateQueued {
			// The task's own error is of no interest here.
			_, _ = object.NewTask(w.admin, t.Self).WaitForResult(w.Context())
		}
	}
}

func (w *world) SetGuest(g spitest.Guest) {
	w.sim.SetGuest(vchsim.GuestOptions{Fail: g.StartError, Hang: g.StartHangs, IgnoreStop: g.StopHangs})
}

func (w *world) VCH() string { return w.sim.ApplianceUUID() }

// vms reads all VMs of the inventory whole.
func (w *world) vms() map[types.ManagedObjectReference]mo.VirtualMachine {
	w.Helper()
	return w.read("name", "parent", "resourcePool", "runtime.powerState", "config")
}

func (w *world) read(properties ...string) map[types.ManagedObjectReference]mo.VirtualMachine {
	w.Helper()
	ctx := w.Context()
	v, err := view.NewManager(w.admin).CreateContainerView(ctx, w.admin.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		w.Fatal(err)
	}
	var all []mo.VirtualMachine
	err = errors.Join(v.Retrieve(ctx, []string{"VirtualMachine"}, properties, &all), v.Destroy(ctx))
	if err != nil {
		w.Fatal(err)
	}
	out := map[types.ManagedObjectReference]mo.VirtualMachine{}
	for _, vm := range all {
		out[vm.Self] = vm
	}
	return out
}

func markOf(vm mo.VirtualMachine) (identity.Mark, bool) {
	if vm.Config == nil {
		return identity.Mark{}, false
	}
	m, err := identity.DecodeMark(vch.Keys(vm.Config.ExtraConfig)[guestinfo.AnnotationKey(identity.MarkAnnotation)])
	return m, err == nil
}

func (w *world) Machines() []spitest.Machine {
	cluster, role, err := identity.Tags(w.Spec().Tags)
	if err != nil {
		w.Fatal(err)
	}
	var out []spitest.Machine
	for ref, vm := range w.read("config.extraConfig", "runtime.powerState") {
		if m, ok := markOf(vm); ok && !w.foreign[ref] && m.Cluster == cluster && m.Role == role {
			out = append(out, spitest.Machine{Name: m.Machine, Running: vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn})
		}
	}
	slices.SortFunc(out, func(a, b spitest.Machine) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (w *world) allFiles() map[string]bool {
	out := map[string]bool{}
	root := filepath.Join(w.sim.Dir(), "datastores")
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err == nil && rel != "." {
			out[filepath.ToSlash(rel)] = true
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// Leftovers compares files, but those in the directories of VMs that are there.
func (w *world) Leftovers() []string {
	var dirs []string
	for _, vm := range w.read("config.files") {
		if vm.Config != nil {
			if ds, p, ok := strings.Cut(strings.TrimPrefix(vm.Config.Files.VmPathName, "["), "] "); ok {
				dirs = append(dirs, ds+"/"+filepath.Dir(p))
			}
		}
	}
	excepted := func(p string) bool {
		return slices.ContainsFunc(dirs, func(d string) bool { return p == d || strings.HasPrefix(p, d+"/") })
	}
	now := w.allFiles()
	var out []string
	for p := range now {
		if !w.files[p] && !excepted(p) {
			out = append(out, "left: "+p)
		}
	}
	for p := range w.files {
		if !now[p] {
			out = append(out, "lost: "+p)
		}
	}
	slices.Sort(out)
	return out
}

func (w *world) Foreigners() map[string]string {
	out := map[string]string{}
	for ref, vm := range w.vms() {
		if !w.foreign[ref] {
			continue
		}
		b, err := json.Marshal([]any{vm.Name, vm.Parent, vm.ResourcePool, vm.Runtime.PowerState, vm.Config})
		if err != nil {
			w.Fatal(err)
		}
		out[vm.Name+" "+ref.Value] = string(b)
	}
	return out
}

// Plant makes foreigners as a person would: by hand, with an ordinary client.
func (w *world) Plant(kind spitest.Foreign, machine string) string {
	w.Helper()
	spec, cluster, name := w.Spec(), vchsim.Cluster, machine
	mark := func(*types.VirtualMachineConfigSpec) {}
	switch kind {
	case spitest.OtherCluster:
		cluster = "shoot--foreign"
		spec.Tags = map[string]string{"kubernetes.io/cluster/shoot--foreign": "1", "kubernetes.io/role/node": "1"}
	case spitest.OtherRole:
		spec.Tags = map[string]string{"kubernetes.io/cluster/" + vchsim.Cluster: "1", "kubernetes.io/role/other": "1"}
	case spitest.HalfMarked:
		mark = setMark(`{"cluster":"` + vchsim.Cluster + `","role":"node"}`)
	case spitest.Unmarked:
		mark = setMark("")
	case spitest.Docker:
		name, mark = "docker-"+machine, setMark("")
	}
	id, err := identity.New(w.VCH(), cluster, name)
	if err != nil {
		w.Fatal(err)
	}
	key, err := hostKey()
	if err != nil {
		w.Fatal(err)
	}
	plan, err := containervm.Plan(containervm.Request{Machine: machine, Identity: id, Spec: spec, Secret: w.sim.Secret(), VCH: w.host, HostKey: key, Now: time.Now(), ProviderVersion: "foreign"})
	if err != nil {
		w.Fatal(err)
	}
	mark(plan)
	if kind == spitest.Clone {
		plan.Uuid = uuid.NewString()
	}
	folder, ours := w.host.Folder, kind == spitest.Duplicate
	place := "foreign-" + strings.ToLower(strings.NewReplacer(" ", "-", "'", "").Replace(string(kind))) + "-" + machine
	if kind == spitest.Namesake {
		// Its name is the machine's; it stands outside the VCH, with an identity of its own.
		plan.Uuid, plan.ExtraConfig = "", nil
		folder = w.rootFolder()
	} else {
		plan.Name = place
	}
	moveTo(plan, place)
	ref := w.createVM(folder, plan)
	if !ours {
		w.foreign[ref] = true
	}
	if kind == spitest.Namesake {
		return ""
	}
	return id.ProviderID()
}

func setMark(value string) func(*types.VirtualMachineConfigSpec) {
	return func(spec *types.VirtualMachineConfigSpec) {
		spec.ExtraConfig = slices.DeleteFunc(spec.ExtraConfig, func(o types.BaseOptionValue) bool {
			return value == "" && strings.HasPrefix(o.GetOptionValue().Key, "annotations")
		})
		for _, o := range spec.ExtraConfig {
			if o.GetOptionValue().Key == guestinfo.AnnotationKey(identity.MarkAnnotation) {
				o.GetOptionValue().Value = value
			}
		}
	}
}

// moveTo gives the VM a directory of its own.
func moveTo(spec *types.VirtualMachineConfigSpec, dir string) {
	dir = "[" + vchsim.Datastore + "] " + dir
	spec.Files.VmPathName = dir + "/foreign.vmx"
	for _, c := range spec.DeviceChange {
		switch b := c.GetVirtualDeviceConfigSpec().Device.GetVirtualDevice().Backing.(type) {
		case *types.VirtualDiskFlatVer2BackingInfo:
			b.FileName = dir + "/foreign.vmdk"
		case *types.VirtualSerialPortFileBackingInfo:
			b.FileName = dir + "/" + filepath.Base(b.FileName)
		}
	}
}

func (w *world) rootFolder() types.ManagedObjectReference {
	var dc mo.Datacenter
	if err := property.DefaultCollector(w.admin).RetrieveOne(w.Context(), w.host.Datacenter, []string{"vmFolder"}, &dc); err != nil {
		w.Fatal(err)
	}
	return dc.VmFolder
}

// steps counts SOAP calls and lets one of them go wrong.
type steps struct {
	t      *testing.T
	mu     sync.Mutex
	n      int
	fault  *spitest.Fault
	struck bool
	calls  map[string]int
}

func newSteps(t *testing.T) *steps {
	t.Helper()
	return &steps{t: t, calls: map[string]int{}}
}

func (s *steps) inject(f spitest.Fault) (heal func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n, s.fault, s.struck = 0, &f, false
	return func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.fault = nil
		return s.struck
	}
}

// take empties the count.
func (s *steps) take() (total int, calls map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls, s.calls = s.calls, map[string]int{}
	for n := range maps.Values(calls) {
		total += n
	}
	return total, calls
}

type roundTripper func(context.Context, soap.HasFault, soap.HasFault) error

func (r roundTripper) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	return r(ctx, req, res)
}

func (s *steps) wrap(next soap.RoundTripper) soap.RoundTripper {
	return roundTripper(func(ctx context.Context, req, res soap.HasFault) error {
		if r, ok := req.(*methods.ReconfigVM_TaskBody); ok && r.Req.Spec.ChangeVersion == "" {
			s.t.Error("a reconfigure carries no changeVersion: it would overwrite what others changed meanwhile")
		}
		s.mu.Lock()
		s.n++
		s.calls[strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", req), "*methods."), "Body")]++
		var f spitest.Fault
		mode := "pass"
		if s.fault != nil {
			f = *s.fault
			switch {
			case s.n == f.Step:
				s.struck = true
				mode = "strike"
			case s.n > f.Step && f.Kill:
				mode = "dead"
			}
		}
		s.mu.Unlock()
		switch {
		case mode == "pass":
			return next.RoundTrip(ctx, req, res)
		case mode == "strike" && f.Cancel != nil:
			f.Cancel()
			return next.RoundTrip(ctx, req, res)
		case mode == "strike" && f.After:
			if err := next.RoundTrip(ctx, req, res); err != nil {
				return err
			}
		}
		return faultOf(f.Kind)
	})
}

// faultOf is what vCenter says when it means kind.
func faultOf(kind errdefs.Kind) error {
	var f types.BaseMethodFault
	switch kind {
	case errdefs.PermissionDenied:
		f = &types.NoPermission{PrivilegeId: "VirtualMachine.Inventory.Create"}
	case errdefs.ResourceExhausted:
		f = &types.InsufficientMemoryResourcesFault{Requested: 1}
	case errdefs.Aborted:
		f = &types.TaskInProgress{}
	case errdefs.Internal:
		f = &types.SystemError{Reason: "simulated"}
	default:
		f = &types.HostNotConnected{}
	}
	return soap.WrapVimFault(f)
}

func (w *world) createVM(folder types.ManagedObjectReference, spec *types.VirtualMachineConfigSpec) types.ManagedObjectReference {
	w.Helper()
	task, err := object.NewFolder(w.admin, folder).CreateVM(w.Context(), *spec, object.NewResourcePool(w.admin, w.host.Pool), nil)
	if err != nil {
		w.Fatal(err)
	}
	info, err := task.WaitForResult(w.Context())
	if err != nil {
		w.Fatalf("make foreign VM %s: %v", spec.Name, err)
	}
	ref, ok := info.Result.(types.ManagedObjectReference)
	if !ok {
		w.Fatalf("result = %v", info.Result)
	}
	return ref
}
