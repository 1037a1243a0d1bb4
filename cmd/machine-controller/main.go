// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Command machine-controller is machine-controller-manager's machine controller
// with the driver for Virtual Container Hosts. It takes MCM's own flags and a few
// for vCenter, and works with a target cluster and with --target-kubeconfig=none.
//
// MCM's controller never returns and knows no graceful end
// (pkg/util/provider/app/app.go). On SIGTERM or SIGINT this command logs its
// sessions out of vCenter and exits with code 0; calls that are under way are
// cut off, which they are made for: the next leader meets what they began. A
// second signal ends it at once. When the controller ends itself, as with a lost
// lease, sessions are left to vCenter's time-out.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	_ "github.com/gardener/machine-controller-manager/pkg/util/client/metrics/prometheus" // registers metrics of the Kubernetes client
	"github.com/gardener/machine-controller-manager/pkg/util/provider/app"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/app/options"
	_ "github.com/gardener/machine-controller-manager/pkg/util/reflector/prometheus" // registers metrics of reflectors
	_ "github.com/gardener/machine-controller-manager/pkg/util/workqueue/prometheus" // registers metrics of work queues
	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/logs"
	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/vsphere"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version"
)

// logoutTimeout is how long the logout at the end may take; a Pod has 30 seconds.
const logoutTimeout = 10 * time.Second

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "machine-controller:", err)
		os.Exit(1)
	}
}

// settings are the flags.
type settings struct {
	server        *options.MCServer
	version       bool
	maxConcurrent int
	requestLimit  time.Duration
	callLimit     time.Duration
}

func (s *settings) flags() *pflag.FlagSet {
	fs := pflag.NewFlagSet("machine-controller", pflag.ContinueOnError)
	fs.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	s.server = options.NewMCServer()
	s.server.AddFlags(fs)
	fs.BoolVar(&s.version, "version", false, "Print the version and exit.")
	fs.IntVar(&s.maxConcurrent, "vcenter-max-concurrent-requests", 32, "Number of requests that may be under way at the same time in one vCenter session.")
	fs.DurationVar(&s.requestLimit, "vcenter-request-timeout", time.Minute, "Timeout of a single request to vCenter.")
	fs.DurationVar(&s.callLimit, "driver-call-timeout", provider.DefaultCallTimeout,
		"Timeout of a call of the driver, besides the time that the ProviderSpec grants a machine to start and to stop.")
	return fs
}

func (s *settings) validate(arguments []string) error {
	switch {
	case len(arguments) > 0:
		return fmt.Errorf("unexpected arguments %q: there are only flags", arguments)
	case s.maxConcurrent < 1:
		return fmt.Errorf("--vcenter-max-concurrent-requests must be at least 1, got %d", s.maxConcurrent)
	case s.requestLimit <= 0:
		return fmt.Errorf("--vcenter-request-timeout must be greater than 0, got %s", s.requestLimit)
	case s.callLimit <= 0:
		return fmt.Errorf("--driver-call-timeout must be greater than 0, got %s", s.callLimit)
	}
	return nil
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	var s settings
	fs := s.flags()
	switch err := fs.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return nil
	case err != nil:
		return err
	}
	if s.version {
		_, err := fmt.Fprintln(stdout, version.String())
		return err
	}
	if err := s.validate(fs.Args()); err != nil {
		return err
	}
	logs.InitLogs()
	defer logs.FlushLogs()
	return serve(ctx, s)
}

// serve runs the controller until it fails or a signal comes.
func serve(ctx context.Context, s settings) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	logger := klog.FromContext(ctx)
	logger.Info("Starting", "version", version.Version())

	pool := vcenter.NewPool(vcenter.Options{
		MaxConcurrent: s.maxConcurrent, CallTimeout: s.requestLimit, Observer: provider.ObserveRequest,
	})
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), logoutTimeout)
		defer cancel()
		if err := pool.Close(ending); err != nil {
			logger.Error(err, "Sessions are left to vCenter's time-out")
		}
	}()
	plugin := provider.NewMachinePlugin(vsphere.New(vsphere.Options{Pool: pool}), provider.Options{CallTimeout: s.callLimit})

	ended := make(chan error, 1)
	go func() { ended <- app.Run(s.server, plugin) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		stop() // a second signal ends the process
		logger.Info("Signal received, logging out of vCenter")
		return nil
	}
}
