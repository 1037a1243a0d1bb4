// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package contender

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/vsphere"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// ours is the driver's backend as the programs put it together.
type ours struct {
	pool    *vcenter.Pool
	backend *vsphere.Backend
	spec    *v1alpha1.ProviderSpec
	secret  *corev1.Secret
}

func openOurs(ctx context.Context, site Site, spec *v1alpha1.ProviderSpec) (Contender, error) {
	pool := vcenter.NewPool(vcenter.Options{})
	o := &ours{pool: pool, spec: spec, secret: site.secret(), backend: vsphere.New(vsphere.Options{
		Pool:    pool,
		HostKey: func() ([]byte, error) { return site.HostKey, nil },
		// By default the VCH's configuration is read anew every 5 minutes, in 8 calls. That is nothing
		// for those who do thousands of operations in that time, and much for the few that
		// are measured here, if one of them happens to meet it.
		VCHCacheTTL: time.Hour,
	})}
	if err := o.watch(ctx); err != nil {
		_ = pool.Close(ctx) // the first error says more
		return nil, err
	}
	return o, nil
}

// watch waits until the VCH is watched: what a process pays once is not measured here.
func (o *ours) watch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return wait.PollUntilContextCancel(ctx, 10*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		if _, err := o.List(ctx); err != nil {
			return false, err
		}
		stats := o.backend.CacheStats()
		return len(stats) == 1 && stats[0].Synced, nil
	})
}

func (o *ours) Create(ctx context.Context, machine string) error {
	id, err := o.backend.CreateMachine(ctx, machine, o.spec, o.secret)
	if err == nil {
		_, _, err = o.backend.InitializeMachine(ctx, machine, id, o.spec, o.secret)
	}
	return err
}

func (o *ours) Status(ctx context.Context, machine string) error {
	_, _, err := o.backend.GetMachineStatus(ctx, machine, "", o.spec, o.secret)
	return err
}

func (o *ours) List(ctx context.Context) (int, error) {
	machines, err := o.backend.ListMachines(ctx, o.spec, o.secret)
	return len(machines), err
}

func (o *ours) Delete(ctx context.Context, machine string) error {
	_, err := o.backend.DeleteMachine(ctx, machine, "", o.spec, o.secret)
	return err
}

// Prepare has nothing to do: the backend finds what it needs.
func (o *ours) Prepare(context.Context, []string) error { return nil }

func (o *ours) Close(ctx context.Context) error { return o.pool.Close(ctx) }
