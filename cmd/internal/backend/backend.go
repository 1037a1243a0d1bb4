// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package backend puts the driver together for the programs that run it: the
// machine-controller, when the driver is part of it, and the driver in a process
// of its own. It has the flags that both have.
package backend

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/vsphere"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// logoutTimeout is how long the logout at the end may take; a Pod has 30 seconds.
const logoutTimeout = 10 * time.Second

// Names of flags that only a program with the driver in it has.
const (
	flagMaxConcurrent  = "vcenter-max-concurrent-requests"
	flagRequestTimeout = "vcenter-request-timeout"
	flagCallTimeout    = "driver-call-timeout"
)

// Flags are those of the driver.
type Flags struct {
	// CallTimeout is that of provider.Options.
	CallTimeout time.Duration

	maxConcurrent  int
	requestTimeout time.Duration
}

// AddTo adds the flags to fs.
func (f *Flags) AddTo(fs *pflag.FlagSet) {
	fs.IntVar(&f.maxConcurrent, flagMaxConcurrent, 32, "Number of requests that may be under way at the same time in one vCenter session.")
	fs.DurationVar(&f.requestTimeout, flagRequestTimeout, time.Minute, "Timeout of a single request to vCenter.")
	fs.DurationVar(&f.CallTimeout, flagCallTimeout, provider.DefaultCallTimeout,
		"Timeout of a call of the driver, besides the time that the ProviderSpec grants a machine to start and to stop.")
}

// Validate says which flag is wrong.
func (f *Flags) Validate() error {
	switch {
	case f.maxConcurrent < 1:
		return fmt.Errorf("--%s must be at least 1, got %d", flagMaxConcurrent, f.maxConcurrent)
	case f.requestTimeout <= 0:
		return fmt.Errorf("--%s must be greater than 0, got %s", flagRequestTimeout, f.requestTimeout)
	case f.CallTimeout <= 0:
		return fmt.Errorf("--%s must be greater than 0, got %s", flagCallTimeout, f.CallTimeout)
	}
	return nil
}

// OfVCenter returns the flags that were given although only a program that
// talks to vCenter itself has a use for them.
func OfVCenter(fs *pflag.FlagSet) []string {
	var given []string
	for _, name := range []string{flagMaxConcurrent, flagRequestTimeout} {
		if fs.Changed(name) {
			given = append(given, "--"+name)
		}
	}
	return given
}

// Driver returns the driver on vCenter, and what logs its sessions out when no
// call is under way any more.
func (f *Flags) Driver() (d provider.Driver, logout func(context.Context) error) {
	pool := vcenter.NewPool(vcenter.Options{
		MaxConcurrent: f.maxConcurrent, CallTimeout: f.requestTimeout, Observer: provider.ObserveRequest,
	})
	logout = func(ctx context.Context) error {
		// The caller is ending, so its context may have ended already.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logoutTimeout)
		defer cancel()
		return pool.Close(ctx)
	}
	return provider.NewMachinePlugin(vsphere.New(vsphere.Options{Pool: pool}), provider.Options{CallTimeout: f.CallTimeout}), logout
}
