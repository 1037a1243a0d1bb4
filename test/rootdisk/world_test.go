// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootdisk_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/pull"
	imagevsphere "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vsphere"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/vsphere"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/world"
)

// patience is how long anything here may take.
const patience = 2 * time.Minute

// site is a simulated vCenter and a registry with one image.
type site struct {
	testing.TB
	sim       *vchsim.Sim
	registry  *images.Registry
	reference string
	layer     string // digest of the image's one layer
	size      int64  // of that layer's blob
	stale     time.Duration
}

func newSite(t testing.TB, o vchsim.Options) *site {
	t.Helper()
	o.Dir = t.TempDir()
	sim, err := vchsim.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	registry, err := images.Serve(images.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(registry.Close)
	s := &site{TB: t, stale: soon, sim: sim, registry: registry}
	// Half of it is random, as programs are to a compressor.
	noise := make([]byte, 4<<20)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(noise[:len(noise)/2]) // never fails
	layer, err := images.Layer(images.Dir("etc/"), images.File("etc/passwd", "root:x:0:0::/root:/bin/sh\n"), images.Dir("bin/"),
		images.Executable("bin/node", "#!/bin/sh\n"), images.File("bin/data", string(noise)))
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	s.layer = digest.String()
	if s.size, err = layer.Size(); err != nil {
		t.Fatal(err)
	}
	img, err := images.Image(images.Config{Entrypoint: []string{"/bin/node"}, Env: []string{"PATH=/bin"}}, layer)
	if err != nil {
		t.Fatal(err)
	}
	if s.reference, err = registry.Push("node:v1", img); err != nil {
		t.Fatal(err)
	}
	return s
}

// spec is that of machines from the image.
func (s *site) spec() *v1alpha1.ProviderSpec {
	spec := s.sim.ProviderSpec()
	size := resource.MustParse("128Mi")
	spec.RootDisk, spec.Command, spec.Image = &v1alpha1.RootDisk{Size: &size}, nil, s.reference
	spec.Registries = &v1alpha1.Registries{Insecure: []string{s.registry.Host()}}
	v1alpha1.SetDefaults(spec)
	if errs := v1alpha1.Validate(spec); len(errs) > 0 {
		s.Fatal(errs.ToAggregate())
	}
	return spec
}

func (s *site) secret() *corev1.Secret { return &corev1.Secret{Data: s.sim.Secret()} }

// controller is a process with the driver in it, as far as images go.
type controller struct {
	*site
	pool   *vcenter.Pool
	images *pull.Puller
	*vsphere.Backend
}

// soon is after what time a process that shows nothing counts as dead, where one is
// killed. Where all live, it must be longer than a busy machine may hold one up.
const soon = time.Second

// impatient is a store whose waits are short.
func impatient(owner string, stale time.Duration) func(*vcenter.Client, *vch.Config) image.Store {
	return func(client *vcenter.Client, host *vch.Config) image.Store {
		return imagevsphere.New(imagevsphere.Options{
			Client: client, Host: host, Owner: owner,
			Settle: time.Millisecond, Beat: 100 * time.Millisecond, Stale: stale, Poll: 20 * time.Millisecond,
		})
	}
}

func (s *site) controller(name, dir string) *controller {
	s.Helper()
	c := &controller{
		site: s, pool: vcenter.NewPool(vcenter.Options{}),
		images: pull.New(pull.Options{Dir: dir, Retry: time.Millisecond}),
	}
	c.Backend = vsphere.New(vsphere.Options{Pool: c.pool, HostKey: world.HostKey, Images: c.images, ImageStore: impatient(name, s.stale)})
	s.Cleanup(c.close)
	return c
}

func (c *controller) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.images.Close(ctx); err != nil {
		c.Errorf("close the puller: %v", err)
	}
	if err := c.pool.Close(ctx); err != nil {
		c.Errorf("close the pool: %v", err)
	}
}

// create does what MCM does: it repeats the call as long as the answer is that the
// image is under way. It returns these answers.
func (c *controller) create(machine string) (told []string) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	for {
		_, err := c.CreateMachine(ctx, machine, c.spec(), c.secret())
		if err == nil {
			return told
		}
		if !errdefs.Is(err, errdefs.Unavailable) || ctx.Err() != nil {
			c.Errorf("create machine %s after %q: %v", machine, told, err)
			return told
		}
		told = append(told, err.Error())
	}
}

// store is the image store, as an administrator's program has it.
func (c *controller) store() image.Store {
	c.Helper()
	cfg, err := vcenter.ConfigFromSecret(c.sim.Secret())
	if err != nil {
		c.Fatal(err)
	}
	client, err := c.pool.Client(c.Context(), cfg)
	if err != nil {
		c.Fatal(err)
	}
	host, err := vch.Find(c.Context(), client, c.spec().VCH)
	if err != nil {
		c.Fatal(err)
	}
	return impatient("administrator", c.stale)(client, host)
}

// prune removes leftovers and says how many there were. A VM whose import was cut off
// is vCenter's until its lease has run out.
func (c *controller) prune() int {
	c.Helper()
	err := wait.PollUntilContextTimeout(c.Context(), 20*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		return c.sim.Imports() == 0, nil
	})
	if err != nil {
		c.Fatal(err)
	}
	left, err := c.store().Leftovers(c.Context())
	if err != nil {
		c.Fatal(err)
	}
	if err := c.store().Clean(c.Context(), left...); err != nil {
		c.Fatal(err)
	}
	return len(left)
}

// onlyTheDiskIsThere expects one published disk, and nothing else but its record and its name.
func (c *controller) onlyTheDiskIsThere() {
	c.Helper()
	disks, err := c.store().List(c.Context())
	if err != nil {
		c.Fatal(err)
	}
	if len(disks) != 1 {
		c.Fatalf("%d disks are published: %v", len(disks), disks)
	}
	got := map[string]int{}
	for _, file := range c.sim.Files() {
		if _, below, ok := strings.Cut(file, "/mcm-images/"); ok && !strings.HasSuffix(file, "/") {
			dir, _, _ := strings.Cut(below, "/")
			got[dir+" "+path.Ext(file)]++
		}
	}
	if diff := cmp.Diff(map[string]int{"disks .json": 1, "disks .vmdk": 2, "names .json": 1}, got); diff != "" {
		c.Errorf("files of the image store (-want +got):\n%s\n%s", diff, strings.Join(c.sim.Files(), "\n"))
	}
	for _, vm := range c.sim.VMs() {
		if strings.HasPrefix(vm.Name, "mcm-image-") {
			c.Errorf("VM %s is left", vm.Name)
		}
	}
}

func empty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names bytes.Buffer
	for _, e := range entries {
		names.WriteString(" " + e.Name())
	}
	if len(entries) > 0 {
		t.Errorf("temporary files are left:%s", names.String())
	}
}
