// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package fake_test

import (
	"context"
	"fmt"
	"maps"
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
)

func TestConformance(t *testing.T) {
	t.Parallel()
	spitest.Run(t, newHarness)
}

func TestConformanceUnderFaults(t *testing.T) {
	t.Parallel()
	spitest.RunFaults(t, newHarness)
}

func newHarness(t *testing.T) spitest.Harness {
	t.Helper()
	return &harness{Fake: fake.New(), t: t}
}

const cluster, role = "conformance", "worker"

// harness is a world with a Fake in it.
type harness struct {
	*fake.Fake
	t       *testing.T
	foreign []string // directories of foreigners
}

func (h *harness) SPI() spi.PluginSPI { return h.Fake }

func (h *harness) VCH() string { return fake.VCH }

func (h *harness) Spec() *v1alpha1.ProviderSpec {
	spec := &v1alpha1.ProviderSpec{
		VCH:      v1alpha1.VirtualContainerHost{Datacenter: "DC0", Name: "vch-1"},
		Tags:     map[string]string{identity.ClusterTagPrefix + cluster: "1", identity.RoleTagPrefix + role: "1"},
		RootDisk: &v1alpha1.RootDisk{VMDK: "[LocalDS_0] images/node.vmdk"},
		Command:  []string{"/bin/sleep", "infinity"},
		Networks: []v1alpha1.Network{{Name: "net"}},
		CPUs:     ptr.To[int32](2),
	}
	v1alpha1.SetDefaults(spec)
	return spec
}

func (h *harness) Secret() *corev1.Secret {
	return &corev1.Secret{Data: map[string][]byte{
		v1alpha1.SecretHost:     []byte("fake.invalid"),
		v1alpha1.SecretUsername: []byte(fake.Username),
		v1alpha1.SecretPassword: []byte(fake.Password),
	}}
}

func (h *harness) SetGuest(g spitest.Guest) { h.Fake.SetGuest(fake.Guest(g)) }

func (h *harness) Inject(fault spitest.Fault) func() bool {
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

func (h *harness) ours(vm fake.VM) (identity.Mark, bool) {
	mark, err := identity.DecodeMark(vm.Mark)
	return mark, err == nil && mark.Cluster == cluster && mark.Role == role && !slices.Contains(h.foreign, vm.Directory)
}

func (h *harness) Machines() []spitest.Machine {
	var machines []spitest.Machine
	for _, vm := range h.VMs() {
		if mark, ok := h.ours(vm); ok {
			machines = append(machines, spitest.Machine{Name: mark.Machine, Running: vm.Running})
		}
	}
	slices.SortFunc(machines, func(a, b spitest.Machine) int { return strings.Compare(a.Name, b.Name) })
	return machines
}

func (h *harness) Leftovers() []string {
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

func (h *harness) Foreigners() map[string]string {
	all := map[string]string{}
	for i, vm := range h.VMs() {
		if _, ok := h.ours(vm); !ok {
			all[fmt.Sprintf("%s in %s", vm.Name, vm.Directory)] = fmt.Sprintf("%+v", h.VMs()[i])
		}
	}
	return all
}

func (h *harness) Plant(kind spitest.Foreign, name string) string {
	own, err := identity.New(fake.VCH, cluster, name)
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
		vm.Mark = `{"cluster":"` + cluster + `","role":"` + role + `"}`
	case spitest.OtherRole:
		vm.Mark = h.mark(cluster, "another-role", name)
	case spitest.OtherCluster:
		if id, err = identity.New(fake.VCH, "another-cluster", name); err != nil {
			h.t.Fatal(err)
		}
		vm.Mark = h.mark("another-cluster", role, name)
	case spitest.Namesake:
		vm.BIOSUUID, vm.ContainerID = uuid.NewString(), ""
	case spitest.Docker:
		if id, err = identity.ParseProviderID("vch://" + fake.VCH + "/" + strings.Repeat("d0c4e5", 11)[:64]); err != nil {
			h.t.Fatal(err)
		}
	case spitest.Clone:
		vm.BIOSUUID, vm.Mark = uuid.NewString(), h.mark(cluster, role, name)
	case spitest.Duplicate:
		vm.Mark = h.mark(cluster, role, name)
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

func (h *harness) mark(cluster, role, name string) string {
	text, err := identity.Mark{Cluster: cluster, Role: role, Machine: name}.Encode()
	if err != nil {
		h.t.Fatal(err)
	}
	return text
}

func TestTheFakeStartsEmptyAndShowsWhatItMakes(t *testing.T) {
	t.Parallel()
	h := &harness{Fake: fake.New(), t: t}
	if len(h.VMs()) != 0 || len(h.Files()) != 0 {
		t.Errorf("a new fake holds %v and %v, want nothing", h.VMs(), h.Files())
	}
	id, err := h.CreateMachine(t.Context(), "m", h.Spec(), h.Secret())
	if err != nil {
		t.Fatal(err)
	}
	vms := h.VMs()
	if len(vms) != 1 || !strings.HasSuffix(id, vms[0].ContainerID) || !slices.Equal(h.Files(), []string{vms[0].Directory}) {
		t.Errorf("after create of %s the fake holds %+v and %v", id, vms, h.Files())
	}
}

func TestTheInterceptorSeesTheStepsOfACreateInOrder(t *testing.T) {
	t.Parallel()
	h := &harness{Fake: fake.New(), t: t}
	var steps []string
	h.Intercept(func(_ context.Context, step string, do func() error) error {
		steps = append(steps, step)
		return do()
	})
	if _, err := h.CreateMachine(t.Context(), "m", h.Spec(), h.Secret()); err != nil {
		t.Fatal(err)
	}
	want := []string{fake.StepLogin, fake.StepFind, fake.StepCreateDirectory, fake.StepCreateVM}
	if !slices.Equal(steps, want) {
		t.Errorf("steps %v, want %v", steps, want)
	}
}

func TestChangingWhatVMsReturnsChangesNoVM(t *testing.T) {
	t.Parallel()
	h := &harness{Fake: fake.New(), t: t}
	if _, err := h.CreateMachine(t.Context(), "m", h.Spec(), h.Secret()); err != nil {
		t.Fatal(err)
	}
	h.VMs()[0].Mark = ""
	got, err := h.ListMachines(t.Context(), h.Spec(), h.Secret())
	if err != nil || !slices.Equal(slices.Collect(maps.Values(got)), []string{"m"}) {
		t.Errorf("list = %v, %v, want m", got, err)
	}
}

func TestOverlappingCreatesOfOneMachineMakeOneVM(t *testing.T) {
	t.Parallel()
	const width = 8
	h := &harness{Fake: fake.New(), t: t}
	var begun sync.WaitGroup
	begun.Add(width)
	h.Intercept(func(_ context.Context, step string, do func() error) error {
		switch step {
		case fake.StepLogin:
			begun.Done()
		case fake.StepCreateVM:
			begun.Wait() // the window in which nobody sees a VM stays open until all are under way
		}
		return do()
	})
	var wg sync.WaitGroup
	for range width {
		wg.Go(func() {
			if _, err := h.CreateMachine(t.Context(), "m", h.Spec(), h.Secret()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if vms := h.VMs(); len(vms) != 1 {
		t.Errorf("%d creates of one machine made %d VMs", width, len(vms))
	}
}
