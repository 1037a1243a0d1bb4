// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	corev1 "k8s.io/api/core/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/pull"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/vsphere"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// hostKey is made once: it is of no interest here and costs a tenth of a second.
var hostKey = sync.OnceValues(containervm.NewHostKey)

// HostKey returns the host key of all worlds, for backends that tests make by themselves.
func HostKey() ([]byte, error) { return hostKey() }

// World is the real backend on a simulated vCenter. Each SOAP call is a step.
// It fails its test by itself and ends with it.
type World struct {
	testing.TB
	// Sim is the simulated vCenter.
	Sim *vchsim.Sim
	// Admin sees the world past the backend.
	Admin *vim25.Client
	// Host is the VCH as the backend finds it.
	Host *vch.Config

	steps   *steps
	files   map[string]bool
	foreign map[types.ManagedObjectReference]bool

	mu      sync.Mutex
	backend *vsphere.Backend
	// kill ends the process that the backend is in.
	kill context.CancelFunc
}

var _ spitest.Harness = (*World)(nil)

// New starts a world. The files of o are in a directory of the test. With a registry,
// machines are of its node image, whose disk is there.
func New(t testing.TB, o vchsim.Options) *World {
	t.Helper()
	o.Dir = t.TempDir()
	sim, err := vchsim.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	w := &World{TB: t, Sim: sim, steps: newSteps(t), foreign: map[types.ManagedObjectReference]bool{}}
	client, err := w.Pool().Client(t.Context(), w.config())
	if err != nil {
		t.Fatal(err)
	}
	w.Admin = client.Vim()
	if w.Host, err = vch.Find(t.Context(), client, sim.ProviderSpec().VCH); err != nil {
		t.Fatal(err)
	}
	if sim.Registry() != nil {
		w.fetchImage()
	}
	for ref := range w.read("name") {
		w.foreign[ref] = true
	}
	w.files = w.allFiles()
	return w
}

func (w *World) config() vcenter.Config {
	cfg, err := vcenter.ConfigFromSecret(w.Sim.Secret())
	if err != nil {
		w.Fatal(err)
	}
	return cfg
}

// Pool returns a new pool whose calls are no steps. It ends with the test.
func (w *World) Pool() *vcenter.Pool { return w.pool(vcenter.Options{}) }

func (w *World) pool(o vcenter.Options) *vcenter.Pool {
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

// SPI returns the backend: the same one until a fault with Kill has struck.
func (w *World) SPI() spi.PluginSPI {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.backend == nil {
		// A fault strikes one request. Were it repeated, what must be left in order when a call fails would go untested.
		var life context.Context
		life, w.kill = context.WithCancel(w.Context())
		w.Cleanup(w.kill)
		w.backend = w.Backend(vcenter.Options{Middleware: func(next soap.RoundTripper) soap.RoundTripper { return mortal(life, w.steps.wrap(next)) }, MaxAttempts: 1})
	}
	return w.backend
}

// Backend returns a new backend, as another process would have it: with a pool and
// image pulls of its own, which end with the test.
func (w *World) Backend(o vcenter.Options) *vsphere.Backend {
	pool := w.pool(o)
	// A slow machine is no reason to answer that an image is not ready yet.
	images := pull.New(pull.Options{Dir: w.TempDir(), Wait: 2 * time.Minute})
	w.Cleanup(func() { // before the pool is closed
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := images.Close(ctx); err != nil {
			w.Logf("end the pulls: %v", err)
		}
	})
	return vsphere.New(vsphere.Options{Pool: pool, HostKey: hostKey, Images: images})
}

// fetchImage has the node image made into a disk, as another process would do, so
// that machines find it.
func (w *World) fetchImage() {
	w.Helper()
	_, err := w.Backend(vcenter.Options{}).CreateMachine(w.Context(), "warm-up", w.Spec(), w.Secret())
	if err == nil {
		_, err = w.Backend(vcenter.Options{}).DeleteMachine(w.Context(), "warm-up", "", w.Spec(), w.Secret())
	}
	if err != nil {
		w.Fatal(err)
	}
}

// Spec returns the simulator's ProviderSpec with defaults, with the node image if
// the world has a registry.
func (w *World) Spec() *v1alpha1.ProviderSpec {
	spec := w.Sim.ProviderSpec()
	if w.Sim.Registry() != nil {
		spec = w.Sim.ImageSpec()
	}
	v1alpha1.SetDefaults(spec)
	return spec
}

// Secret returns the simulator's credentials.
func (w *World) Secret() *corev1.Secret { return &corev1.Secret{Data: w.Sim.Secret()} }

// VCH returns the BIOS UUID of the appliance.
func (w *World) VCH() string { return w.Sim.ApplianceUUID() }

// SetGuest says how guests behave from now on.
func (w *World) SetGuest(g spitest.Guest) {
	w.Sim.SetGuest(vchsim.GuestOptions{Fail: g.StartError, Hang: g.StartHangs, IgnoreStop: g.StopHangs})
}

// Inject makes fault strike once. After one with Kill there is a new backend.
func (w *World) Inject(f spitest.Fault) (heal func() bool) {
	restore := w.steps.inject(f)
	return func() bool {
		struck := restore()
		w.Settle()
		if f.Kill && struck {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.kill() // or it would go on to watch, and its calls to count as steps
			w.backend = nil
		}
		return struck
	}
}

// Settle waits for the tasks that a struck call left running: what they do must
// be there when the world is looked at.
func (w *World) Settle() {
	w.Helper()
	var m mo.TaskManager
	if err := property.DefaultCollector(w.Admin).RetrieveOne(w.Context(), *w.Admin.ServiceContent.TaskManager, []string{"recentTask"}, &m); err != nil {
		w.Fatal(err)
	}
	if len(m.RecentTask) == 0 {
		return
	}
	var tasks []mo.Task
	if err := property.DefaultCollector(w.Admin).Retrieve(w.Context(), m.RecentTask, []string{"info.state"}, &tasks); err != nil {
		w.Fatal(err)
	}
	for _, t := range tasks {
		if t.Info.State == types.TaskInfoStateRunning || t.Info.State == types.TaskInfoStateQueued {
			// The task's own error is of no interest here.
			_, _ = object.NewTask(w.Admin, t.Self).WaitForResult(w.Context())
		}
	}
}

// TakeCalls returns how often each SOAP method was called since the last
// TakeCalls, and how many calls that are.
func (w *World) TakeCalls() (total int, calls map[string]int) { return w.steps.take() }
