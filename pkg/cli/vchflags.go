// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// vchFlags say which VCH a command is about.
type vchFlags struct {
	specFile   string
	datacenter string
	vch        string
}

func (f *vchFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.specFile, "provider-spec", "", "YAML or JSON of a ProviderSpec or of a MachineClass that holds one")
	cmd.Flags().StringVar(&f.datacenter, "datacenter", "", "name or inventory path of the datacenter (default: GOVC_DATACENTER)")
	cmd.Flags().StringVar(&f.vch, "vch", "", "name or inventory path of the VCH, or VirtualMachine:<moref> of its appliance (default: all VCHs)")
	cmd.MarkFlagsMutuallyExclusive("provider-spec", "vch")
	cmd.MarkFlagsMutuallyExclusive("provider-spec", "datacenter")
}

// selector returns the selection of the flags, the ProviderSpec and GOVC_DATACENTER.
func (f *vchFlags) selector(env func(string) string) (vchSelector, error) {
	if f.specFile != "" {
		spec, err := f.spec()
		if err != nil {
			return vchSelector{}, err
		}
		return selectorOf(spec.VCH), nil
	}
	selector := vchSelector{datacenter: f.datacenter, vch: f.vch}
	if selector.datacenter == "" {
		selector.datacenter = env("GOVC_DATACENTER")
	}
	return selector, nil
}

func selectorOf(ref v1alpha1.VirtualContainerHost) vchSelector {
	selector := vchSelector{datacenter: ref.Datacenter, vch: ref.Name + ref.Path} // exactly one is set
	if ref.MoRef != "" {
		selector.vch = vmPrefix + strings.TrimPrefix(ref.MoRef, vmPrefix)
	}
	return selector
}

// spec reads and validates the ProviderSpec.
func (f *vchFlags) spec() (*v1alpha1.ProviderSpec, error) {
	raw, err := os.ReadFile(filepath.Clean(f.specFile))
	if err != nil {
		return nil, errdefs.Wrap(errdefs.InvalidArgument, err, "read --provider-spec")
	}
	var class struct {
		Kind         string         `json:"kind"`
		ProviderSpec map[string]any `json:"providerSpec"`
	}
	// What is no YAML at all, the strict decoder describes better.
	if yaml.Unmarshal(raw, &class) == nil && class.Kind == "MachineClass" {
		if raw, err = yaml.Marshal(class.ProviderSpec); err != nil {
			return nil, errdefs.Wrap(errdefs.InvalidArgument, err, "read the providerSpec of the MachineClass in %s", f.specFile)
		}
	}
	spec, err := v1alpha1.Load(raw)
	if err != nil {
		return nil, errdefs.Wrap(errdefs.InvalidArgument, err, "--provider-spec %s", f.specFile)
	}
	return spec, nil
}
