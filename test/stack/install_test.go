// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"encoding/json"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func TestSamplesHaveTheRootDiskOfTheirWorld(t *testing.T) {
	t.Parallel()
	sim, err := vchsim.Start(t.Context(), vchsim.Options{Dir: t.TempDir(), NoForeign: true, Registry: &images.Options{}})
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	for _, image := range []bool{false, true} {
		spec := sim.ProviderSpec()
		if image {
			spec = sim.ImageSpec()
		}
		s := &Stack{options: Options{Programs: &Programs{Root: "../.."}, Namespace: "n", Image: image}}
		if s.vcenter.ProviderSpec = asMap(t, spec); image {
			s.vcenter.Image = sim.NodeImage()
		}
		samples, err := s.Samples()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(samples["MachineClass"].Object["providerSpec"])
		if err != nil {
			t.Fatal(err)
		}
		got, err := v1alpha1.Load(raw)
		if err != nil {
			t.Fatalf("image %t: %v", image, err)
		}
		switch {
		case got.VCH.Name != sim.VCHName:
			t.Errorf("image %t: the VCH is %+v", image, got.VCH)
		case image && (got.Image != sim.NodeImage() || got.RootDisk.VMDK != "" || got.RootDisk.Size == nil || got.Registries == nil):
			t.Errorf("with an image: %s", raw)
		case !image && (got.Image != "" || got.RootDisk.VMDK != vchsim.ImageDisk || got.Registries != nil):
			t.Errorf("without an image: %s", raw)
		}
	}
}

func asMap(t *testing.T, v any) (m map[string]any) {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return m
}
