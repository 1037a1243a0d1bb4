// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package conformance_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	mcmv1alpha1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/status"
	corev1 "k8s.io/api/core/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
)

// backend is a driver as its callers see it, as an implementation of the SPI. It
// keeps what the driver promises: an error that is none of MCM, or that comes
// with a response where there must be none, has no kind, which the suite refuses.
type backend struct{ driver provider.Driver }

var _ spi.PluginSPI = backend{}

func (b backend) CreateMachine(ctx context.Context, machine string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, error) {
	class, err := classOf(spec)
	if err != nil {
		return "", err
	}
	r, err := b.driver.CreateMachine(ctx, &driver.CreateMachineRequest{Machine: machineOf(machine, ""), MachineClass: class, Secret: secret})
	if err != nil {
		return "", errorOf(err, r != nil)
	}
	return r.ProviderID, nodeIs(machine, r.NodeName)
}

func (b backend) InitializeMachine(ctx context.Context, machine, providerID string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, []corev1.NodeAddress, error) {
	class, err := classOf(spec)
	if err != nil {
		return "", nil, err
	}
	r, err := b.driver.InitializeMachine(ctx, &driver.InitializeMachineRequest{Machine: machineOf(machine, providerID), MachineClass: class, Secret: secret})
	if err != nil {
		return "", nil, errorOf(err, r != nil)
	}
	return r.ProviderID, r.Addresses, nodeIs(machine, r.NodeName)
}

// GetMachineStatus hands over the response that comes with Uninitialized.
func (b backend) GetMachineStatus(ctx context.Context, machine, providerID string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, []corev1.NodeAddress, error) {
	class, err := classOf(spec)
	if err != nil {
		return "", nil, err
	}
	r, err := b.driver.GetMachineStatus(ctx, &driver.GetMachineStatusRequest{Machine: machineOf(machine, providerID), MachineClass: class, Secret: secret})
	if err != nil {
		s, _ := status.FromError(err)
		if s.Code() != codes.Uninitialized {
			return "", nil, errorOf(err, r != nil)
		}
		err = errorOf(err, r == nil)
	}
	if r == nil {
		return "", nil, err
	}
	if wrong := nodeIs(machine, r.NodeName); wrong != nil {
		return "", nil, wrong
	}
	return r.ProviderID, r.Addresses, err
}

// DeleteMachine finds the provider id in what the driver tells people.
func (b backend) DeleteMachine(ctx context.Context, machine, providerID string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, error) {
	class, err := classOf(spec)
	if err != nil {
		return "", err
	}
	r, err := b.driver.DeleteMachine(ctx, &driver.DeleteMachineRequest{Machine: machineOf(machine, providerID), MachineClass: class, Secret: secret})
	if err != nil {
		return "", errorOf(err, r != nil)
	}
	if r.LastKnownState == "Absent" {
		return "", nil
	}
	return told("Deleted ", r.LastKnownState)
}

// ShutDownMachine finds the provider id in what the driver tells people.
func (b backend) ShutDownMachine(ctx context.Context, machine, providerID string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, error) {
	class, err := classOf(spec)
	if err != nil {
		return "", err
	}
	r, err := b.driver.ShutDownMachine(ctx, &provider.ShutDownMachineRequest{Machine: machineOf(machine, providerID), MachineClass: class, Secret: secret})
	if err != nil {
		return "", errorOf(err, r != nil)
	}
	return told("Stopped ", r.LastKnownState)
}

func (b backend) ListMachines(ctx context.Context, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (map[string]string, error) {
	class, err := classOf(spec)
	if err != nil {
		return nil, err
	}
	r, err := b.driver.ListMachines(ctx, &driver.ListMachinesRequest{MachineClass: class, Secret: secret})
	if err != nil {
		return nil, errorOf(err, r != nil)
	}
	return r.MachineList, nil
}

func machineOf(name, providerID string) *mcmv1alpha1.Machine {
	m := &mcmv1alpha1.Machine{}
	m.Name, m.Namespace, m.Spec.ProviderID = name, "machines", providerID
	return m
}

func classOf(spec *v1alpha1.ProviderSpec) (*mcmv1alpha1.MachineClass, error) {
	raw, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode the ProviderSpec: %w", err)
	}
	class := &mcmv1alpha1.MachineClass{Provider: v1alpha1.Provider}
	class.Name, class.Namespace, class.ProviderSpec.Raw = "class", "machines", raw
	return class, nil
}

// errorOf reads an error as MCM does: from its text. The names of codes are those of kinds.
func errorOf(err error, wrongResponse bool) error {
	s, ok := status.FromError(err)
	switch {
	case !ok:
		return fmt.Errorf("an error that is no status of MCM: %w", err)
	case wrongResponse:
		return fmt.Errorf("with this error there is a response where there must be none, or none where there must be one: %w", err)
	}
	kind := errdefs.Kind(s.Code().String())
	if !slices.Contains(errdefs.Kinds(), kind) {
		return fmt.Errorf("the code %s is that of no kind: %w", s.Code(), err)
	}
	return errdefs.New(kind, "%s", s.Message())
}

func nodeIs(machine, node string) error {
	if node != machine {
		return fmt.Errorf("machine %s has the node name %q", machine, node)
	}
	return nil
}

// told returns what a LastKnownState says behind prefix.
func told(prefix, state string) (string, error) {
	id, ok := strings.CutPrefix(state, prefix)
	if !ok {
		return "", fmt.Errorf("last known state %q does not begin with %q", state, prefix)
	}
	return id, nil
}
