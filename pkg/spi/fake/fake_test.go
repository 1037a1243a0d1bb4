// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package fake_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/fake"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/world"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	spitest.Run(t, newHarness)
}

func TestConformanceWithVolumes(t *testing.T) {
	t.Parallel()
	spitest.RunVolumes(t, newHarness)
}

func TestConformanceUnderFaults(t *testing.T) {
	t.Parallel()
	spitest.RunFaults(t, newHarness)
}

func TestConformanceWithVolumesUnderFaults(t *testing.T) {
	t.Parallel()
	spitest.RunVolumeFaults(t, newHarness)
}

func newHarness(t *testing.T) spitest.Harness { return world.NewFake(t) }

func TestTheFakeStartsEmptyAndShowsWhatItMakes(t *testing.T) {
	t.Parallel()
	h := world.NewFake(t)
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
	h := world.NewFake(t)
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
	steps = nil
	spec := h.Spec()
	spec.Volumes = []v1alpha1.Volume{{Name: "data", MountPath: "/data"}, {MountPath: "/cache"}}
	if _, err := h.CreateMachine(t.Context(), "with-volumes", spec, h.Secret()); err != nil {
		t.Fatal(err)
	}
	want = []string{fake.StepLogin, fake.StepFind, fake.StepVolume, fake.StepVolume, fake.StepVolumeUsers, fake.StepCreateDirectory, fake.StepCreateVM}
	if !slices.Equal(steps, want) {
		t.Errorf("steps with volumes %v, want %v", steps, want)
	}
}

func TestChangingWhatVolumesReturnsChangesNoVolume(t *testing.T) {
	t.Parallel()
	h := world.NewFake(t)
	labels := map[string]string{"key": "value"}
	h.PutVolume("v", fake.Volume{Labels: labels, Content: "content"})
	labels["key"] = "changed"
	h.Fake.Volumes()["v"].Labels["key"] = "changed"
	delete(h.Fake.Volumes(), "v")
	if got := h.Fake.Volumes()["v"]; got.Labels["key"] != "value" || got.Content != "content" {
		t.Errorf("volume = %v", got)
	}
}

func TestChangingWhatVMsReturnsChangesNoVM(t *testing.T) {
	t.Parallel()
	h := world.NewFake(t)
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
	h := world.NewFake(t)
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
