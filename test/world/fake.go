// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/fake"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// The tags of machines in a Fake.
const fakeCluster, fakeRole = "conformance", "worker"

// Fake is a world with the backend in memory.
type Fake struct {
	*fake.Fake

	t       testing.TB
	foreign []string // directories of foreigners
}

var _ spitest.Harness = (*Fake)(nil)

// NewFake returns a world without any VM.
func NewFake(t testing.TB) *Fake {
	t.Helper()
	return &Fake{Fake: fake.New(), t: t}
}

// SPI returns the backend, which remembers nothing but the world.
func (h *Fake) SPI() spi.PluginSPI { return h.Fake }

// VCH returns the BIOS UUID of the appliance.
func (h *Fake) VCH() string { return fake.VCH }

// Spec returns a ProviderSpec that a machine can be made from.
func (h *Fake) Spec() *v1alpha1.ProviderSpec {
	spec := &v1alpha1.ProviderSpec{
		VCH:      v1alpha1.VirtualContainerHost{Datacenter: "DC0", Name: "vch-1"},
		Tags:     map[string]string{identity.ClusterTagPrefix + fakeCluster: "1", identity.RoleTagPrefix + fakeRole: "1"},
		RootDisk: &v1alpha1.RootDisk{VMDK: "[LocalDS_0] images/node.vmdk"},
		Command:  []string{"/bin/sleep", "infinity"},
		Networks: []v1alpha1.Network{{Name: "net"}},
		CPUs:     ptr.To[int32](2),
	}
	v1alpha1.SetDefaults(spec)
	return spec
}

// Secret returns the credentials that the backend accepts.
func (h *Fake) Secret() *corev1.Secret {
	return &corev1.Secret{Data: map[string][]byte{
		v1alpha1.SecretHost:     []byte("fake.invalid"),
		v1alpha1.SecretUsername: []byte(fake.Username),
		v1alpha1.SecretPassword: []byte(fake.Password),
	}}
}

// SetGuest says how guests behave from now on.
func (h *Fake) SetGuest(g spitest.Guest) { h.Fake.SetGuest(fake.Guest(g)) }

// Inject makes fault strike once.
func (h *Fake) Inject(fault spitest.Fault) func() bool {
	var mu sync.Mutex
	steps := 0
	h.Intercept(func(_ context.Context, step string, do func() error) error {
		mu.Lock()
		steps++
		n := steps
		mu.Unlock()
		switch {
		case n < fault.Step, n > fault.Step && !fault.Kill:
			return do()
		case n > fault.Step:
			return errdefs.New(errdefs.Unavailable, "%s: the process is dead", step)
		case fault.Cancel != nil:
			fault.Cancel()
			return do()
		case fault.After:
			if err := do(); err != nil {
				return err
			}
		}
		return errdefs.New(fault.Kind, "%s: injected", step)
	})
	return func() bool {
		h.Intercept(nil)
		mu.Lock()
		defer mu.Unlock()
		return steps >= fault.Step
	}
}

func (h *Fake) ours(vm fake.VM) (identity.Mark, bool) {
	mark, err := identity.DecodeMark(vm.Mark)
	return mark, err == nil && mark.Cluster == fakeCluster && mark.Role == fakeRole && !slices.Contains(h.foreign, vm.Directory)
}

// Machines returns all VMs that are ours.
func (h *Fake) Machines() []spitest.Machine {
	var machines []spitest.Machine
	for _, vm := range h.VMs() {
		if mark, ok := h.ours(vm); ok {
			machines = append(machines, spitest.Machine{Name: mark.Machine, Running: vm.Running})
		}
	}
	slices.SortFunc(machines, func(a, b spitest.Machine) int { return strings.Compare(a.Name, b.Name) })
	return machines
}

// Leftovers compares directories, but those of VMs that are there.
func (h *Fake) Leftovers() []string {
	known := slices.Clone(h.foreign)
	for _, vm := range h.VMs() {
		if _, ok := h.ours(vm); ok {
			known = append(known, vm.Directory)
		}
	}
	var left []string
	for _, name := range h.Files() {
		if !slices.Contains(known, name) {
			left = append(left, "there is still "+name)
		}
	}
	for _, name := range h.foreign {
		if !slices.Contains(h.Files(), name) {
			left = append(left, "there is no more "+name)
		}
	}
	return left
}

// Foreigners returns the VMs that are not ours, as they are.
func (h *Fake) Foreigners() map[string]string {
	all := map[string]string{}
	for i, vm := range h.VMs() {
		if _, ok := h.ours(vm); !ok {
			all[fmt.Sprintf("%s in %s", vm.Name, vm.Directory)] = fmt.Sprintf("%+v", h.VMs()[i])
		}
	}
	return all
}

// Plant makes foreigners past the calls of the SPI.
func (h *Fake) Plant(kind spitest.Foreign, name string) string {
	own, err := identity.New(fake.VCH, fakeCluster, name)
	if err != nil {
		h.t.Fatal(err)
	}
	vm := fake.VM{
		Name: name, BIOSUUID: own.BIOSUUID, ContainerID: own.ContainerID, Running: true,
		Directory: fmt.Sprintf("[fake] foreigner-%d/", len(h.VMs())),
	}
	id := own
	switch kind {
	case spitest.Unmarked:
	case spitest.HalfMarked:
		vm.Mark = `{"cluster":"` + fakeCluster + `","role":"` + fakeRole + `"}`
	case spitest.OtherRole:
		vm.Mark = h.mark(fakeCluster, "another-role", name)
	case spitest.OtherCluster:
		if id, err = identity.New(fake.VCH, "another-cluster", name); err != nil {
			h.t.Fatal(err)
		}
		vm.Mark = h.mark("another-cluster", fakeRole, name)
	case spitest.Namesake:
		vm.BIOSUUID, vm.ContainerID = uuid.NewString(), ""
	case spitest.Docker:
		if id, err = identity.ParseProviderID("vch://" + fake.VCH + "/" + strings.Repeat("d0c4e5", 11)[:64]); err != nil {
			h.t.Fatal(err)
		}
	case spitest.Clone:
		vm.BIOSUUID, vm.Mark = uuid.NewString(), h.mark(fakeCluster, fakeRole, name)
	case spitest.Duplicate:
		vm.Mark = h.mark(fakeCluster, fakeRole, name)
	default:
		h.t.Fatalf("unknown kind of foreigner %q", kind)
	}
	if id != own {
		vm.BIOSUUID, vm.ContainerID = id.BIOSUUID, id.ContainerID
	}
	if kind != spitest.Duplicate {
		h.foreign = append(h.foreign, vm.Directory)
	}
	h.Fake.Plant(vm)
	if vm.ContainerID == "" {
		return ""
	}
	return id.ProviderID()
}

// Volumes returns all volumes with their labels but for when they were made.
func (h *Fake) Volumes() map[string]spitest.Volume {
	out := map[string]spitest.Volume{}
	for name, v := range h.Fake.Volumes() {
		delete(v.Labels, volume.LabelCreated)
		out[name] = spitest.Volume{Labels: v.Labels, Content: v.Content}
	}
	for _, vm := range h.VMs() {
		holder := "?"
		if mark, ok := h.ours(vm); ok {
			holder = mark.Machine
		}
		for _, name := range vm.Volumes {
			v := out[name]
			v.Holders = append(v.Holders, holder)
			slices.Sort(v.Holders)
			out[name] = v
		}
	}
	return out
}

// PlantVolume makes a volume past the calls of the SPI.
func (h *Fake) PlantVolume(name string, v spitest.Volume) {
	h.PutVolume(name, fake.Volume{Labels: v.Labels, Content: v.Content})
}

// WriteVolume puts content on a volume that is there.
func (h *Fake) WriteVolume(name, content string) {
	v, ok := h.Fake.Volumes()[name]
	if !ok {
		h.t.Fatalf("there is no volume %s", name)
	}
	v.Content = content
	h.PutVolume(name, v)
}

func (h *Fake) mark(cluster, role, name string) string {
	text, err := identity.Mark{Cluster: cluster, Role: role, Machine: name}.Encode()
	if err != nil {
		h.t.Fatal(err)
	}
	return text
}
