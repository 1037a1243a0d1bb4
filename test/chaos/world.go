// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/cluster"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// World is an installation whose parts can be broken.
type World struct {
	Sim   *vchsim.Sim
	Stack *stack.Stack

	vcenter  stack.VCenter // the way around the proxy
	proxy    *toxiproxy.Proxy
	address  string // of the proxy
	answers  *Answers
	log      func(format string, args ...any)
	secret   string
	revived  map[string]int
	killed   int             // drivers, with a session that nobody logs out
	rotated  int             // passwords and certificates
	left     map[string]bool // sessions of killed drivers
	mu       sync.Mutex      // guards the programs of the stack and the fields above
	stopping func()
}

// Options of a world.
type Options struct {
	Programs *stack.Programs
	Cluster  *cluster.Cluster
	// Dir is an existing, empty directory. Namespace is made.
	Dir, Namespace string
	// Join makes machines join the cluster as nodes.
	Join bool
	// Log gets a line for everything that happens; it is called by many goroutines.
	Log func(format string, args ...any)
}

// Start makes a world with the driver as a sidecar and starts to revive programs that end.
func Start(ctx context.Context, options Options) (_ *World, err error) {
	w := &World{answers: &Answers{}, log: options.Log, revived: map[string]int{}, left: map[string]bool{}}
	defer func() {
		if err != nil {
			w.Stop()
		}
	}()
	simulated := vchsim.Options{Dir: options.Dir, Wrap: w.answers.Wrap, OtherVMs: 20}
	if options.Join {
		simulated.Kubeconfig, simulated.Kubemark = options.Cluster.AdminKubeconfig(), options.Programs.Tool("kubemark")
	}
	if w.Sim, err = vchsim.Start(ctx, simulated); err != nil {
		return nil, err
	}
	at, err := url.Parse(w.Sim.URL())
	if err != nil {
		return nil, fmt.Errorf("parse the address of the vCenter: %w", err)
	}
	if w.proxy, err = newProxy(at.Host); err != nil {
		return nil, err
	}
	w.address = w.proxy.Listen
	w.vcenter = stack.VCenter{
		URL: w.Sim.URL(), Username: w.Sim.Username, Password: w.Sim.Password, Thumbprint: w.Sim.Thumbprint(),
		VCH: w.Sim.VCHName, Datacenter: w.Sim.Datacenter, Secret: map[string]string{},
	}
	if w.vcenter.ProviderSpec, err = specOf(w.Sim); err != nil {
		return nil, err
	}
	behind := w.vcenter
	behind.Secret = w.access()
	w.Stack, err = stack.Start(ctx, stack.Options{
		Programs: options.Programs, Cluster: options.Cluster, Dir: options.Dir, Namespace: options.Namespace,
		Join: options.Join, Sidecar: true, VCenter: &behind, Profiling: true,
		// Machines that are being removed count, and MCM would make no new ones for most of the time.
		MCMArgs: []string{"--safety-up=1000"},
	})
	if err != nil {
		return nil, err
	}
	w.stopping = w.revive(ctx)
	return w, nil
}

// Stop ends everything. It may be repeated.
func (w *World) Stop() {
	if w.stopping != nil {
		w.stopping()
		w.stopping = nil
	}
	if w.Stack != nil {
		w.Stack.Stop()
	}
	if w.proxy != nil {
		w.proxy.Stop()
	}
	if w.Sim != nil {
		w.Sim.Close()
	}
}

// access is what a Secret needs to reach the vCenter through the proxy.
func (w *World) access() map[string]string {
	data := map[string]string{}
	for _, key := range v1alpha1.ConnectionKeys() {
		if value, found := w.Sim.Secret()[key]; found {
			data[key] = string(value)
		}
	}
	data[v1alpha1.SecretHost] = w.address
	return data
}

// Inventory reads what the vCenter has, past the proxy.
func (w *World) Inventory(ctx context.Context) (*stack.Inventory, error) {
	vcenter := w.vcenter
	vcenter.Secret = w.access()
	vcenter.Secret[v1alpha1.SecretHost] = string(w.Sim.Secret()[v1alpha1.SecretHost])
	return vcenter.Inventory(ctx)
}

func (w *World) logf(format string, args ...any) { w.log(format, args...) }

// setUp applies the Secret and the class.
func (w *World) setUp(ctx context.Context) error {
	samples, err := w.Stack.Samples()
	if err != nil {
		return err
	}
	w.secret = samples["Secret"].GetName()
	return w.Stack.Apply(ctx, samples["Secret"], samples["MachineClass"])
}

// className is that of the samples.
const className = "sample-class"

// updateSecret writes what leads to the vCenter now.
func (w *World) updateSecret(ctx context.Context) error { return w.patchSecret(ctx, w.access()) }

func (w *World) patchSecret(ctx context.Context, data map[string]string) error {
	w.mu.Lock()
	w.rotated++
	w.mu.Unlock()
	return untilItWorks(ctx, func(ctx context.Context) error {
		secrets := w.Stack.Kube.CoreV1().Secrets(w.Stack.Namespace())
		found, err := secrets.Get(ctx, w.secret, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for key, value := range data {
			found.Data[key] = []byte(value)
		}
		_, err = secrets.Update(ctx, found, metav1.UpdateOptions{})
		return err
	})
}

// rotatePassword changes the password in vCenter.
func (w *World) rotatePassword() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Sim.SetPassword(fmt.Sprintf("rotated-%d", w.rotated))
}

// cutConnections ends all connections through the proxy, and opens it again.
func (w *World) cutConnections() error {
	w.proxy.Stop()
	return w.openProxy()
}

// kill kills a program. What kills the driver leaves its sessions behind.
func (w *World) kill(program string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.Stack.Kill(program); err != nil {
		return err
	}
	if program == stack.VCHDriver {
		w.killed++
		for _, s := range w.Sim.SessionList() {
			if isDriver(s.UserAgent) {
				w.left[s.Key] = true
			}
		}
	}
	return nil
}

// isDriver tells the driver's sessions from those of Inventory.
func isDriver(agent string) bool { return strings.HasPrefix(agent, version.Name) }

// signal sends a signal to a program and returns its id.
func (w *World) signal(program string, signal syscall.Signal) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.Stack.Processes() {
		if p.Name() == program && p.Err() == nil {
			if err := syscall.Kill(p.PID(), signal); err != nil {
				return 0, fmt.Errorf("send %s to %s: %w", signal, program, err)
			}
			return p.PID(), nil
		}
	}
	return 0, fmt.Errorf("send %s to %s: it does not run", signal, program)
}

// revive starts programs again that have ended, until it is stopped.
func (w *World) revive(ctx context.Context) (stop func()) {
	return every(ctx, 300*time.Millisecond, func(ctx context.Context) {
		w.mu.Lock()
		defer w.mu.Unlock()
		names, err := w.Stack.Revive(ctx)
		for _, name := range names {
			w.revived[name]++
			w.logf("%s is started again", name)
		}
		if err != nil {
			w.logf("start what has ended: %v", err)
		}
	})
}

// every calls f at intervals in a goroutine, until it is stopped or ctx ends. stop waits
// for a call that is under way.
func every(ctx context.Context, interval time.Duration, f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				f(ctx)
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// untilItWorksTimeout is for an API server that a busy computer starts again.
const untilItWorksTimeout = 5 * time.Minute

// untilItWorks repeats f while the API server may be away.
func untilItWorks(ctx context.Context, f func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, untilItWorksTimeout, true, func(ctx context.Context) (bool, error) {
		last = f(ctx)
		return last == nil, nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	return nil
}
