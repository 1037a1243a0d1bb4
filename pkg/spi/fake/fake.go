// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"slices"
	"sync"

	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
)

// What a new Fake is, and whom it lets in.
const (
	// VCH is the BIOS UUID of the appliance.
	VCH = "4210c0de-0000-4000-8000-00000000cafe"
	// Username and Password are the credentials that it accepts.
	Username = "user"
	Password = "password-of-fake"
)

// Steps of the calls, in the order in which a machine meets them.
const (
	StepLogin           = "login"
	StepFind            = "find"
	StepVolume          = "volume" // once for each
	StepVolumeUsers     = "volume.users"
	StepCreateDirectory = "create.directory"
	StepCreateVM        = "create.vm"
	StepPowerOn         = "poweron"
	StepWaitStarted     = "waitstarted"
	StepStop            = "stop"
	StepPowerOff        = "poweroff"
	StepDetach          = "detach"        // only of machines with volumes that go with them
	StepRemoveVolume    = "volume.remove" // once for each
	StepDestroy         = "destroy"
	StepCleanup         = "cleanup"
	StepList            = "list"
)

// Interceptor stands around each step. It decides whether do, the step itself,
// is carried out, and what the step's answer is. It may run in many goroutines
// at the same time, and must not call the Fake.
type Interceptor func(ctx context.Context, step string, do func() error) error

// Guest is how the inside of machines behaves. The zero value is a good guest.
type Guest struct {
	// StartError, if not empty, is what the guest reports instead of a start;
	// the VM is off then.
	StartError string
	// StartHangs: the guest never reports anything.
	StartHangs bool
	// StopHangs: the guest does not obey when it is told to stop.
	StopHangs bool
}

// VM is one virtual machine.
type VM struct {
	// Name is the display name.
	Name string
	// BIOSUUID is how a VM is found.
	BIOSUUID string
	// ContainerID is empty for a VM that is no container VM.
	ContainerID string
	// Mark is the mark as it stands in the VM; empty for none.
	Mark string
	// Directory holds the VM's files.
	Directory string
	// Running: the VM is powered on.
	Running bool
	// Started: the workload has reported that it runs.
	Started bool
	// GuestError is what the guest reported instead of a start.
	GuestError string
	// Address is the guest's address; empty until it has one.
	Address string
	// Volumes are the names of those that the VM has, DeleteVolumes of those that go
	// with it.
	Volumes, DeleteVolumes []string
	// Detached: the VM has no disks any more, since its removal was begun.
	Detached bool
}

// Fake is a backend in memory. All methods may be called at the same time.
type Fake struct {
	clock clock.Clock
	locks locks

	mu        sync.Mutex
	vms       []*VM
	files     map[string]bool
	volumes   map[string]Volume
	guest     Guest
	intercept Interceptor
	addresses int
}

var _ spi.PluginSPI = (*Fake)(nil)

// New returns a Fake with nothing but its VCH. It waits by the real clock.
func New() *Fake { return NewWithClock(clock.RealClock{}) }

// NewWithClock returns a Fake that waits by c.
func NewWithClock(c clock.Clock) *Fake {
	return &Fake{clock: c, files: map[string]bool{}, volumes: map[string]Volume{}, locks: locks{held: map[string]*lock{}}}
}

// SetGuest says how machines behave that are started or stopped from now on.
func (f *Fake) SetGuest(g Guest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.guest = g
}

// Intercept puts i around all steps that begin from now on; nil takes it away.
func (f *Fake) Intercept(i Interceptor) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.intercept = i
}

// Plant adds a VM as it is, and its directory.
func (f *Fake) Plant(vm VM) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.vms = append(f.vms, &vm)
	f.files[vm.Directory] = true
}

// VMs returns copies of all VMs, in the order in which they were made.
func (f *Fake) VMs() []VM {
	f.mu.Lock()
	defer f.mu.Unlock()
	var vms []VM
	for _, vm := range f.vms {
		c := *vm
		c.Volumes, c.DeleteVolumes = slices.Clone(vm.Volumes), slices.Clone(vm.DeleteVolumes)
		vms = append(vms, c)
	}
	return vms
}

// Files returns the names of all directories, sorted.
func (f *Fake) Files() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for name := range f.files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// step carries out one step, through the interceptor and with the state locked.
func (f *Fake) step(ctx context.Context, name string, do func() error) error {
	if err := context.Cause(ctx); err != nil {
		return errdefs.Wrap(errdefs.KindOf(ctx.Err()), err, "%s", name)
	}
	f.mu.Lock()
	intercept := f.intercept
	f.mu.Unlock()
	locked := func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		return do()
	}
	if intercept == nil {
		return locked()
	}
	return intercept(ctx, name, locked)
}

// find returns the machine's VM, nil if there is none. It answers
// FailedPrecondition for a VM that has the identity and not the mark, and
// OutOfRange for several VMs.
func (f *Fake) find(ctx context.Context, m machine) (vm *VM, err error) {
	err = f.step(ctx, StepFind, func() error {
		for _, candidate := range f.vms {
			if candidate.BIOSUUID != m.id.BIOSUUID {
				continue
			}
			if !m.owns(candidate) {
				return errdefs.New(errdefs.FailedPrecondition, "VM %s has the identity of machine %s but not its mark", candidate.Name, m.mark.Machine)
			}
			if vm != nil {
				return errdefs.New(errdefs.OutOfRange, "VMs %s and %s are both machine %s", vm.Name, candidate.Name, m.mark.Machine)
			}
			vm = candidate
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return vm, nil
}

// owns reports whether vm bears the full mark of the machine.
func (m machine) owns(vm *VM) bool {
	mark, err := identity.DecodeMark(vm.Mark)
	return err == nil && mark.Owns(m.mark)
}

// locks serialize the calls for one machine.
type locks struct {
	mu   sync.Mutex
	held map[string]*lock
}

type lock struct {
	token chan struct{}
	users int
}

// acquire waits for the lock of key until ctx ends.
func (l *locks) acquire(ctx context.Context, key string) (release func(), err error) {
	l.mu.Lock()
	k := l.held[key]
	if k == nil {
		k = &lock{token: make(chan struct{}, 1)}
		l.held[key] = k
	}
	k.users++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.held, key)
		}
	}
	select {
	case k.token <- struct{}{}:
		return func() { <-k.token; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, errdefs.Wrap(errdefs.KindOf(ctx.Err()), ctx.Err(), "wait for another call for the same machine")
	}
}
