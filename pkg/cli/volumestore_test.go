// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/cli"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/fake"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// bay is a volume store in memory that fails when a test says so.
type bay struct {
	*fake.Store
	// errs are the answers of methods, by name, instead of what they do; calls are all
	// that were called.
	errs  map[string]error
	mu    sync.Mutex
	calls []string
}

func (b *bay) call(method string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, method)
	return b.errs[method]
}

func (b *bay) Create(ctx context.Context, r volume.Request) (*volume.Volume, error) {
	if err := b.call("Create"); err != nil {
		return nil, err
	}
	return b.Store.Create(ctx, r)
}

func (b *bay) Get(ctx context.Context, name string) (*volume.Volume, error) {
	if err := b.call("Get"); err != nil {
		return nil, err
	}
	return b.Store.Get(ctx, name)
}

func (b *bay) List(ctx context.Context) ([]volume.Volume, error) {
	if err := b.call("List"); err != nil {
		return nil, err
	}
	return b.Store.List(ctx)
}

func (b *bay) Users(ctx context.Context, names ...string) (map[string][]volume.User, error) {
	if err := b.call("Users"); err != nil {
		return nil, err
	}
	return b.Store.Users(ctx, names...)
}

func (b *bay) Remove(ctx context.Context, name string, except ...string) error {
	if err := b.call("Remove"); err != nil {
		return err
	}
	return b.Store.Remove(ctx, name, except...)
}

func (b *bay) Leftovers(ctx context.Context) ([]volume.Leftover, error) {
	if err := b.call("Leftovers"); err != nil {
		return nil, err
	}
	return b.Store.Leftovers(ctx)
}

func (b *bay) Clean(ctx context.Context, leftovers ...volume.Leftover) error {
	if err := b.call("Clean"); err != nil {
		return err
	}
	return b.Store.Clean(ctx, leftovers...)
}

// leave lets a process die that makes a volume.
func (b *bay) leave(t *testing.T, name string) {
	t.Helper()
	dying := b.Another()
	dead := false
	dying.Intercept(func(_ context.Context, step string, do func() error) error {
		if dead = dead || step == fake.StepPublish; dead {
			return errdefs.New(errdefs.Unavailable, "the process is dead")
		}
		return do()
	})
	if _, err := dying.Create(t.Context(), volume.Request{Name: name}); err == nil {
		t.Fatal("it did not die")
	}
}

// cellar is a VCH in a simulated vCenter whose volume stores hold what a test says.
type cellar struct {
	world
	clock *clocktesting.FakeClock
	env   map[string]string
	bays  map[string]*bay

	// stdin and stderr are those of commands, if they are set.
	stdin  io.Reader
	stderr io.Writer
}

// newCellar has a store default of disks, and one of NFS.
func newCellar(t *testing.T) *cellar {
	t.Helper()
	c := &cellar{world: newWorld(t, vchsim.Options{NoForeign: true})}
	c.env = c.govc(t)
	return c.another()
}

// another returns a cellar in the same vCenter, whose stores are empty.
func (c *cellar) another() *cellar {
	clk := clocktesting.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	other := &cellar{world: c.world, env: c.env, clock: clk, bays: map[string]*bay{}}
	other.bay("default", volume.VMDK)
	other.bay("nfs", volume.NFS)
	return other
}

func (c *cellar) bay(label string, driver volume.Driver) *bay {
	c.bays[label] = &bay{Store: fake.New(c.VCHName, label, driver), errs: map[string]error{}}
	return c.bays[label]
}

// run runs vchctl volume.
func (c *cellar) run(ctx context.Context, args ...string) result {
	return c.command(ctx, append([]string{"volume"}, args...)...)
}

// command runs vchctl.
func (c *cellar) command(ctx context.Context, args ...string) result {
	var stdout, stderr bytes.Buffer
	options := cli.Options{
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Env: func(name string) string { return c.env[name] }, Owner: "vchctl of a test",
		Clock: c.clock, Volumes: func(_ *vcenter.Client, host *vch.Config) *volume.Set {
			stores := map[string]volume.Store{}
			for label, b := range c.bays {
				stores[label] = b
			}
			return volume.NewSet(host.Name, stores)
		},
	}
	if c.stdin != nil {
		options.Stdin = c.stdin
	}
	if c.stderr != nil {
		options.Stderr = c.stderr
	}
	code := cli.Run(ctx, args, options)
	return result{code, stdout.String(), stderr.String()}
}

// put puts a volume into a store, and gives it to VMs.
func (c *cellar) put(t *testing.T, label, name string, labels map[string]string, users ...volume.User) {
	t.Helper()
	store := c.bays[label].Store
	if _, err := store.Create(t.Context(), volume.Request{Name: name, Metadata: volume.Metadata{Labels: labels}}); err != nil {
		t.Fatal(err)
	}
	for _, user := range users {
		store.Attach(user, name)
	}
}

// step lets time pass.
func (c *cellar) step(d time.Duration) {
	c.clock.Step(d)
	for _, b := range c.bays {
		b.Advance(d)
	}
}

// fill has volumes of all kinds.
func (c *cellar) fill(t *testing.T) {
	t.Helper()
	anonymous := func(machine string) map[string]string {
		return map[string]string{
			volume.LabelAnonymous: "true", volume.LabelMachine: machine, volume.LabelCluster: "shoot-1", volume.LabelCreated: c.clock.Now().Format(time.RFC3339),
		}
	}
	workerA, workerB := volume.User{Name: "worker-a-1", VM: "vm-11"}, volume.User{Name: "worker-b-2", VM: "vm-12"}
	c.put(t, "default", "data", map[string]string{"team": "a"}, workerA)
	c.put(t, "default", "data-old", map[string]string{"team": "a"})
	c.put(t, "default", gone, anonymous("worker-0"))
	c.put(t, "default", kept, anonymous("worker-a"), workerA)
	c.put(t, "nfs", "shared", nil, workerA, workerB, volume.User{Name: "c", VM: "vm-13"}, volume.User{Name: "d", VM: "vm-14"})
	c.put(t, "nfs", "shared-old", nil)
	c.bays["default"].Damage("stray", "it has no metadata")
	c.bays["default"].leave(t, "half")
	c.step(2 * time.Hour)
	c.put(t, "default", fresh, anonymous("worker-c"))
	c.step(3 * time.Minute)
}

// Names of anonymous volumes.
const (
	gone  = "0a000000-0000-5000-8000-000000000000"
	kept  = "0b000000-0000-5000-8000-000000000000"
	fresh = "0c000000-0000-5000-8000-000000000000"
)

// in returns the names of what is in a store.
func (c *cellar) in(t *testing.T, label string) []string {
	t.Helper()
	volumes, err := c.bays[label].Store.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range volumes {
		names = append(names, v.Name)
	}
	return names
}

// names returns what is in all stores.
func (c *cellar) names(t *testing.T) []string {
	t.Helper()
	var names []string
	for label := range c.bays {
		names = append(names, c.in(t, label)...)
	}
	slices.Sort(names)
	return names
}

// has reports whether a store has a volume.
func (c *cellar) has(t *testing.T, label, name string) bool {
	t.Helper()
	return slices.Contains(c.in(t, label), name)
}

// changes returns the calls of all stores that change something.
func (c *cellar) changes() []string {
	var calls []string
	for label, b := range c.bays {
		for _, call := range b.calls {
			if call != "Get" && call != "List" && call != "Users" && call != "Leftovers" {
				calls = append(calls, label+" "+call)
			}
		}
	}
	slices.Sort(calls)
	return calls
}

func (c *cellar) forget() {
	for _, b := range c.bays {
		b.calls = nil
	}
}
