// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package providertest

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
)

// named is a backend that fails for machines named <method>-<kind>, and for
// others does what the backend below does.
type named struct {
	spi.PluginSPI
}

func (n named) fail(method, machine string) error {
	for _, kind := range errdefs.Kinds() {
		if machine == machineFor(method, kind) {
			return errdefs.New(kind, "open [datastore1] %s/%s.vmdk: Initiate VM deletion OutOfRange [", machine, machine)
		}
	}
	return nil
}

func machineFor(method string, kind errdefs.Kind) string {
	return strings.ToLower(fmt.Sprintf("%s-%s", method, kind))
}

func (n named) CreateMachine(ctx context.Context, m string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, error) {
	if err := n.fail("create", m); err != nil {
		return "", err
	}
	return n.PluginSPI.CreateMachine(ctx, m, spec, secret)
}

func (n named) InitializeMachine(ctx context.Context, m, id string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, []corev1.NodeAddress, error) {
	if err := n.fail("initialize", m); err != nil {
		return "", nil, err
	}
	return n.PluginSPI.InitializeMachine(ctx, m, id, spec, secret)
}

func (n named) GetMachineStatus(ctx context.Context, m, id string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, []corev1.NodeAddress, error) {
	if err := n.fail("status", m); err != nil {
		return "", nil, err
	}
	return n.PluginSPI.GetMachineStatus(ctx, m, id, spec, secret)
}

func (n named) DeleteMachine(ctx context.Context, m, id string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, error) {
	if err := n.fail("delete", m); err != nil {
		return "", err
	}
	return n.PluginSPI.DeleteMachine(ctx, m, id, spec, secret)
}
