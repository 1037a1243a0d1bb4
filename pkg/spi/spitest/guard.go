// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package spitest

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
)

// tooLong is when a call counts as hanging. It is far above what any call of
// the suite may take, since slow machines run it too.
const tooLong = 2 * time.Minute

// guard is an SPI that checks at every call what holds for all calls: arguments
// stay as they are, errors have a kind and no secret, addresses are in order,
// and the call ends.
type guard struct {
	t     *testing.T
	inner spi.PluginSPI
}

var _ spi.PluginSPI = guard{}

func (g guard) CreateMachine(ctx context.Context, machine string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (id string, err error) {
	g.watch("CreateMachine", spec, secret, func() ([]corev1.NodeAddress, error) {
		id, err = g.inner.CreateMachine(ctx, machine, spec, secret)
		return nil, err
	})
	return id, err
}

func (g guard) InitializeMachine(ctx context.Context, machine, providerID string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (id string, addresses []corev1.NodeAddress, err error) {
	g.watch("InitializeMachine", spec, secret, func() ([]corev1.NodeAddress, error) {
		id, addresses, err = g.inner.InitializeMachine(ctx, machine, providerID, spec, secret)
		return addresses, err
	})
	return id, addresses, err
}

func (g guard) GetMachineStatus(ctx context.Context, machine, providerID string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (id string, addresses []corev1.NodeAddress, err error) {
	g.watch("GetMachineStatus", spec, secret, func() ([]corev1.NodeAddress, error) {
		id, addresses, err = g.inner.GetMachineStatus(ctx, machine, providerID, spec, secret)
		return addresses, err
	})
	return id, addresses, err
}

func (g guard) DeleteMachine(ctx context.Context, machine, providerID string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (id string, err error) {
	g.watch("DeleteMachine", spec, secret, func() ([]corev1.NodeAddress, error) {
		id, err = g.inner.DeleteMachine(ctx, machine, providerID, spec, secret)
		return nil, err
	})
	return id, err
}

func (g guard) ShutDownMachine(ctx context.Context, machine, providerID string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (id string, err error) {
	g.watch("ShutDownMachine", spec, secret, func() ([]corev1.NodeAddress, error) {
		id, err = g.inner.ShutDownMachine(ctx, machine, providerID, spec, secret)
		return nil, err
	})
	return id, err
}

func (g guard) ListMachines(ctx context.Context, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (machines map[string]string, err error) {
	g.watch("ListMachines", spec, secret, func() ([]corev1.NodeAddress, error) {
		machines, err = g.inner.ListMachines(ctx, spec, secret)
		return nil, err
	})
	return machines, err
}

func (g guard) watch(method string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret, call func() ([]corev1.NodeAddress, error)) {
	g.t.Helper()
	specBefore, secretBefore := g.text(spec), g.text(secret)
	hanging := time.AfterFunc(tooLong, func() { panic(method + " has not ended after " + tooLong.String()) })
	addresses, err := call()
	hanging.Stop()
	if after := g.text(spec); after != specBefore {
		g.t.Errorf("%s changed the ProviderSpec\nfrom %s\nto   %s", method, specBefore, after)
	}
	if g.text(secret) != secretBefore {
		g.t.Errorf("%s changed the Secret", method)
	}
	if !slices.IsSortedFunc(addresses, func(a, b corev1.NodeAddress) int {
		if a == b {
			return 1 // duplicates count as out of order
		}
		return strings.Compare(string(a.Type)+a.Address, string(b.Type)+b.Address)
	}) {
		g.t.Errorf("%s: addresses must be sorted by type and address, without duplicates, got %v", method, addresses)
	}
	if err == nil {
		return
	}
	if errdefs.KindOf(err) == errdefs.Unknown {
		g.t.Errorf("%s: the error has no kind: %v", method, err)
	}
	for _, planted := range plantedSecrets() {
		if strings.Contains(err.Error(), planted) {
			g.t.Errorf("%s: the error holds a secret of the kind %q", method, planted)
		}
	}
}

func (g guard) text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		g.t.Errorf("encode an argument: %v", err)
	}
	return string(b)
}
