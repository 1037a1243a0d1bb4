// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containercache"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/pull"
	imagevsphere "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vsphere"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration/plugins"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/locations"
)

// Limits are the longest times that calls may take: MCM sets none.
type Limits struct {
	// Read is for GetMachineStatus and ListMachines. Default: 1 minute.
	Read time.Duration
	// Change is for the creation, the stop and the removal of a VM, the grace
	// period and the start timeout of the spec not counted. Default: 5 minutes.
	Change time.Duration
}

// Options of a Backend.
type Options struct {
	// Pool has the sessions. Required.
	Pool *vcenter.Pool
	// Clock is for tests. Default: the real one.
	Clock clock.PassiveClock
	// VCHCacheTTL is how long the configuration of a VCH is believed. Default: 5 minutes.
	VCHCacheTTL time.Duration
	// Limits of the calls.
	Limits Limits
	// HostKey makes the SSH host key of a container VM. Default: containervm.NewHostKey.
	HostKey func() ([]byte, error)
	// Images fetches the images of specs that have one. Without it they are
	// Unimplemented. Close it before the pool.
	Images *pull.Puller
	// ImageStore returns where the image disks of a VCH are. It is asked for each
	// machine and sends nothing. Default: image/vsphere.
	ImageStore func(*vcenter.Client, *vch.Config) image.Store
	// Volumes returns the volume stores of a VCH. It is asked for each machine that has
	// volumes, and sends nothing. Default: locations.Open.
	Volumes func(*vcenter.Client, *vch.Config) *volume.Set
	// Migrations read the data of VMs that older versions made. Default: plugins.Shipped.
	Migrations *migration.Set
}

// Backend implements spi.PluginSPI. Safe for concurrent use.
type Backend struct {
	pool    *vcenter.Pool
	clock   clock.PassiveClock
	vchs    *vch.Cache
	cache   *containercache.Cache
	limits  Limits
	hostKey func() ([]byte, error)
	images  *pull.Puller
	stores  func(*vcenter.Client, *vch.Config) image.Store
	volumes func(*vcenter.Client, *vch.Config) *volume.Set
	data    *migration.Set
	locks   *locks
}

var _ spi.PluginSPI = (*Backend)(nil)

// New returns a backend. Close the pool when it is not needed any more.
func New(o Options) *Backend {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.VCHCacheTTL == 0 {
		o.VCHCacheTTL = 5 * time.Minute
	}
	if o.Limits.Read == 0 {
		o.Limits.Read = time.Minute
	}
	if o.Limits.Change == 0 {
		o.Limits.Change = 5 * time.Minute
	}
	if o.HostKey == nil {
		o.HostKey = containervm.NewHostKey
	}
	if o.ImageStore == nil {
		o.ImageStore = func(client *vcenter.Client, host *vch.Config) image.Store {
			return imagevsphere.New(imagevsphere.Options{Client: client, Host: host})
		}
	}
	if o.Volumes == nil {
		o.Volumes = func(client *vcenter.Client, host *vch.Config) *volume.Set {
			return locations.Open(locations.Options{Client: client, Host: host})
		}
	}
	if o.Migrations == nil {
		o.Migrations = plugins.Shipped()
	}
	return &Backend{
		pool: o.Pool, clock: o.Clock, vchs: vch.NewCache(o.Clock, o.VCHCacheTTL),
		cache: containercache.New(o.Clock), limits: o.Limits, hostKey: o.HostKey,
		images: o.Images, stores: o.ImageStore, volumes: o.Volumes, data: o.Migrations, locks: newLocks(),
	}
}

// call is one SPI call for one machine.
type call struct {
	*containervm.Operator
	client *vcenter.Client
	host   *vch.Config
	spec   *v1alpha1.ProviderSpec
	secret map[string][]byte
	id     identity.Identity
	mark   identity.Mark
}

// host reaches the vCenter of the secret and the VCH of the spec.
func (b *Backend) host(ctx context.Context, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (*vcenter.Client, *vch.Config, error) {
	var data map[string][]byte
	if secret != nil {
		data = secret.Data
	}
	cfg, err := vcenter.ConfigFromSecret(data)
	if err != nil {
		return nil, nil, err
	}
	client, err := b.pool.Client(ctx, cfg)
	if err == nil && ctx.Err() != nil { // what is known would be answered all the same
		err = vcenter.Convert(ctx.Err(), "call vCenter %s", client.Host())
	}
	if err != nil {
		return nil, nil, err
	}
	host, err := b.vchs.Get(ctx, client, spec.VCH)
	if errdefs.Is(err, errdefs.NotFound) {
		// NotFound would say that the machine does not exist: MCM would make another, or believe it deleted.
		return nil, nil, errdefs.Wrap(errdefs.FailedPrecondition, err, "find the VCH of the machine class")
	}
	if err != nil {
		return nil, nil, err
	}
	return client, host, nil
}

// do runs one call for one machine: it sets the time limit, checks what came
// in, takes the machine's lock and cleans up behind fn.
func (b *Backend) do(ctx context.Context, limit time.Duration, machine, providerID string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret, fn func(context.Context, *call) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cluster, role, err := identity.Tags(spec.Tags)
	if err != nil {
		return err
	}
	var given identity.Identity
	if providerID != "" {
		if given, err = identity.ParseProviderID(providerID); err != nil {
			return err
		}
	}
	client, host, err := b.host(ctx, spec, secret)
	if err != nil {
		return err
	}
	c := &call{client: client, host: host, spec: spec, secret: map[string][]byte{}, mark: identity.Mark{Cluster: cluster, Role: role, Machine: machine}}
	if secret != nil {
		c.secret = secret.Data
	}
	if c.id, err = identity.New(host.UUID, cluster, machine); err != nil {
		return err
	}
	if providerID != "" && given != c.id {
		return errdefs.New(errdefs.FailedPrecondition, "provider id %s is not of machine %s of cluster %s in VCH %s, whose id is %s; nothing is touched", providerID, machine, cluster, host.Name, c.id.ProviderID())
	}
	unlock, err := b.locks.lock(ctx, c.id.ContainerID)
	if err != nil {
		return errdefs.Wrap(errdefs.KindOf(err), err, "wait for another operation on machine %s", machine)
	}
	defer unlock()
	c.Operator = b.operator(ctx, client, host)
	if err = fn(ctx, c); errdefs.Is(err, errdefs.Aborted) {
		// Perhaps the VCH changed under us: read it anew next time.
		b.vchs.Forget(client, spec.VCH)
	}
	return err
}

// operator returns what works on the container VMs of a VCH, with what is known of them.
func (b *Backend) operator(ctx context.Context, client *vcenter.Client, host *vch.Config) *containervm.Operator {
	return containervm.NewOperator(client, host, b.data).Cached(b.cache.Of(ctx, client, host))
}

// CacheStats returns the state of what is known of each VCH. It sends nothing.
func (b *Backend) CacheStats() []containercache.Stats { return b.cache.Stats() }

// find is Find with the answer "absent" as an error.
func (c *call) find(ctx context.Context, change bool) (*containervm.VM, error) {
	vm, err := c.Find(ctx, c.id, c.mark, change)
	if err != nil {
		return nil, err
	}
	if vm == nil {
		return nil, errdefs.New(errdefs.NotFound, "machine %s has no container VM in VCH %s: no VM bears BIOS UUID %s", c.mark.Machine, c.host.Name, c.id.BIOSUUID)
	}
	return vm, nil
}

func grace(spec *v1alpha1.ProviderSpec) time.Duration {
	if spec.StopGracePeriodSeconds == nil {
		return 0
	}
	return time.Duration(*spec.StopGracePeriodSeconds) * time.Second
}

func startTimeout(spec *v1alpha1.ProviderSpec) time.Duration {
	if spec.StartTimeoutSeconds == nil {
		return 0
	}
	return time.Duration(*spec.StartTimeoutSeconds) * time.Second
}

// GetMachineStatus implements spi.PluginSPI: in no call for a machine that is known, in two for one that is not.
func (b *Backend) GetMachineStatus(ctx context.Context, machineName, providerID string, providerSpec *v1alpha1.ProviderSpec, secret *corev1.Secret) (found string, addresses []corev1.NodeAddress, err error) {
	err = b.do(ctx, b.limits.Read, machineName, providerID, providerSpec, secret, func(ctx context.Context, c *call) error {
		vm := c.Known(c.id, c.mark)
		if vm == nil {
			var err error
			if vm, err = c.find(ctx, false); err != nil {
				return err
			}
		}
		found = c.id.ProviderID()
		if !vm.Running() {
			return errdefs.New(errdefs.Uninitialized, "machine %s exists as VM %q (%s) but its process does not run: power %s, started %q", machineName, vm.Name, vm.Ref.Value, vm.PowerState, vm.Started())
		}
		addresses = vm.Addresses()
		return nil
	})
	return found, addresses, err
}

// ListMachines implements spi.PluginSPI: in no call while the VCH is watched, else in one.
func (b *Backend) ListMachines(ctx context.Context, providerSpec *v1alpha1.ProviderSpec, secret *corev1.Secret) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, b.limits.Read)
	defer cancel()
	cluster, role, err := identity.Tags(providerSpec.Tags)
	if err != nil {
		return nil, err
	}
	client, host, err := b.host(ctx, providerSpec, secret)
	if err != nil {
		return nil, err
	}
	machines, err := b.operator(ctx, client, host).List(ctx)
	if err != nil {
		if errdefs.Is(err, errdefs.Aborted) {
			b.vchs.Forget(client, providerSpec.VCH)
		}
		return nil, err
	}
	out := make(map[string]string, len(machines))
	for _, m := range machines {
		if m.Mark.Cluster == cluster && m.Mark.Role == role {
			out[m.Identity.ProviderID()] = m.Mark.Machine
		}
	}
	klog.FromContext(ctx).V(2).Info("listed machines", "vch", host.Name, "cluster", cluster, "role", role, "marked", len(machines), "listed", len(out))
	return out, nil
}

func providerVersion() string { return version.Version() }
