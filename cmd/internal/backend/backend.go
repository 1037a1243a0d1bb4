// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package backend puts the driver together for the programs that run it: the
// machine-controller, when the driver is part of it, and the driver in a process
// of its own. It has the flags that both have.
package backend

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/cmd/internal/owner"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/pull"
	imagevsphere "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vsphere"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/metrics"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/traced"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/vsphere"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/locations"
)

// endTimeout is how long work in the background and the logout may take at the
// end; a Pod has 30 seconds.
const endTimeout = 10 * time.Second

// Names of flags that only a program with the driver in it has.
const (
	flagMaxConcurrent   = "vcenter-max-concurrent-requests"
	flagMinConcurrent   = "vcenter-min-concurrent-requests"
	flagMaxHeavy        = "datastore-max-concurrent-operations"
	flagBreakerFailures = "vcenter-breaker-failures"
	flagBreakerMaxWait  = "vcenter-breaker-max-wait"
	flagMaxAttempts     = "vcenter-max-attempts"
	flagRetryBudget     = "vcenter-retry-budget"
	flagRequestTimeout  = "vcenter-request-timeout"
	flagCallTimeout     = "driver-call-timeout"
	flagImageDir        = "image-temp-dir"
	flagImagePulls      = "max-concurrent-image-pulls"
)

// Flags are those of the driver.
type Flags struct {
	// CallTimeout is that of provider.Options.
	CallTimeout time.Duration

	maxConcurrent   int
	minConcurrent   int
	maxHeavy        int
	breakerFailures int
	breakerMaxWait  time.Duration
	maxAttempts     int
	retryBudget     float64
	requestTimeout  time.Duration
	imageDir        string
	imagePulls      int
	tracing         tracing
}

// AddTo adds the flags to fs.
func (f *Flags) AddTo(fs *pflag.FlagSet) {
	fs.IntVar(&f.maxConcurrent, flagMaxConcurrent, 32, "Number of requests that may be under way at the same time with one vCenter, while it is not overloaded.")
	fs.IntVar(&f.minConcurrent, flagMinConcurrent, 2, "Number to which that limit is lowered at most when vCenter is overloaded.")
	fs.IntVar(&f.maxHeavy, flagMaxHeavy, 16, "Number of VMs being made or destroyed, and of copies, removals, moves and uploads of files, that may be under way at the same time on one datastore.")
	fs.IntVar(&f.breakerFailures, flagBreakerFailures, 5, "Number of requests in a row without an answer after which requests to that vCenter fail at once.")
	fs.DurationVar(&f.breakerMaxWait, flagBreakerMaxWait, 30*time.Second, "Longest time after which a vCenter that does not answer is tried again; at first it is 2 seconds.")
	fs.IntVar(&f.maxAttempts, flagMaxAttempts, 3, "Number of times that a request which changes nothing is sent at most, when vCenter cannot be reached for a moment. 1: never again.")
	fs.Float64Var(&f.retryBudget, flagRetryBudget, 0.2, "Share of the requests to a vCenter that may be such repetitions.")
	fs.DurationVar(&f.requestTimeout, flagRequestTimeout, time.Minute, "Timeout of a single request to vCenter.")
	fs.DurationVar(&f.CallTimeout, flagCallTimeout, provider.DefaultCallTimeout,
		"Timeout of a call of the driver, besides the time that the ProviderSpec grants a machine to start and to stop.")
	fs.StringVar(&f.imageDir, flagImageDir, os.TempDir(),
		"Directory for temporary files while images become root disks. It needs room for three times an image's uncompressed size.")
	fs.IntVar(&f.imagePulls, flagImagePulls, 1, "Number of images that may be fetched and converted at the same time; each takes up to 128 MiB of memory.")
	f.tracing.addTo(fs)
}

// Validate says which flag is wrong.
func (f *Flags) Validate() error {
	switch {
	case f.maxConcurrent < 1:
		return fmt.Errorf("--%s must be at least 1, got %d", flagMaxConcurrent, f.maxConcurrent)
	case f.minConcurrent < 1: // more than the maximum means the maximum
		return fmt.Errorf("--%s must be at least 1, got %d", flagMinConcurrent, f.minConcurrent)
	case f.maxHeavy < 1:
		return fmt.Errorf("--%s must be at least 1, got %d", flagMaxHeavy, f.maxHeavy)
	case f.breakerFailures < 1:
		return fmt.Errorf("--%s must be at least 1, got %d", flagBreakerFailures, f.breakerFailures)
	case f.breakerMaxWait <= 0:
		return fmt.Errorf("--%s must be greater than 0, got %s", flagBreakerMaxWait, f.breakerMaxWait)
	case f.maxAttempts < 1:
		return fmt.Errorf("--%s must be at least 1, got %d", flagMaxAttempts, f.maxAttempts)
	case f.retryBudget <= 0 || f.retryBudget > 1:
		return fmt.Errorf("--%s must be greater than 0 and at most 1, got %g", flagRetryBudget, f.retryBudget)
	case f.requestTimeout <= 0:
		return fmt.Errorf("--%s must be greater than 0, got %s", flagRequestTimeout, f.requestTimeout)
	case f.CallTimeout <= 0:
		return fmt.Errorf("--%s must be greater than 0, got %s", flagCallTimeout, f.CallTimeout)
	case f.imagePulls < 1:
		return fmt.Errorf("--%s must be at least 1, got %d", flagImagePulls, f.imagePulls)
	}
	return f.tracing.validate()
}

// OfVCenter returns the flags that were given although only a program that
// talks to vCenter itself has a use for them.
func OfVCenter(fs *pflag.FlagSet) []string {
	var given []string
	for _, name := range []string{
		flagMaxConcurrent, flagMinConcurrent, flagMaxHeavy, flagBreakerFailures, flagBreakerMaxWait,
		flagMaxAttempts, flagRetryBudget, flagRequestTimeout, flagImageDir, flagImagePulls,
		flagTracingEndpoint, flagTracingRatio,
	} {
		if fs.Changed(name) {
			given = append(given, "--"+name)
		}
	}
	return given
}

// Driver returns the driver on vCenter, and what ends its work in the background
// and logs its sessions out when no call is under way any more. The metrics of what
// it does are registered with registerer, which fails if those of another driver are. service is the
// name of the program in traces.
func (f *Flags) Driver(ctx context.Context, service string, registerer prometheus.Registerer) (d provider.Driver, end func(context.Context) error, err error) {
	tracer, flush, err := f.tracing.tracer(ctx, service)
	if err != nil {
		return nil, nil, err
	}
	pool := vcenter.NewPool(vcenter.Options{
		MaxConcurrent: f.maxConcurrent, MinConcurrent: f.minConcurrent, MaxHeavy: f.maxHeavy,
		BreakerFailures: f.breakerFailures, BreakerMaxWait: f.breakerMaxWait,
		MaxAttempts: f.maxAttempts, RetryBudget: f.retryBudget,
		CallTimeout: f.requestTimeout, Observer: provider.ObserveRequest, Tracer: tracer,
	})
	images := pull.New(pull.Options{Dir: f.imageDir, Parallel: f.imagePulls, Observe: func(o pull.Outcome) { provider.ObserveImagePull(o.Duration, o.Err) }})
	end = func(ctx context.Context) error {
		// The caller is ending, so its context may have ended already.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
		defer cancel()
		// What is being uploaded is taken away through the sessions.
		err := errors.Join(images.Close(ctx), pool.Close(ctx))
		flush(ctx)
		return err
	}
	who := owner.Name("driver")
	backend := vsphere.New(vsphere.Options{Pool: pool, Images: images, ImageStore: func(client *vcenter.Client, host *vch.Config) image.Store {
		return imagevsphere.New(imagevsphere.Options{Client: client, Host: host, Owner: who})
	}, Volumes: func(client *vcenter.Client, host *vch.Config) *volume.Set {
		return locations.Open(locations.Options{Client: client, Host: host, Owner: who})
	}})
	collector := metrics.New(metrics.Sources{
		Pool: pool.Stats, Images: images.Stats,
		Cache: backend.CacheStats,
	})
	if err := registerer.Register(collector); err != nil {
		return nil, nil, fmt.Errorf("register the metrics of the driver: %w", err)
	}
	var machines spi.PluginSPI = backend
	if tracer != nil {
		machines = traced.New(backend, tracer)
	}
	return provider.NewMachinePlugin(machines, provider.Options{CallTimeout: f.CallTimeout}), end, nil
}
