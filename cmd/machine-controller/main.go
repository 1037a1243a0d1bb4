// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Command machine-controller is machine-controller-manager's machine controller
// with the driver for Virtual Container Hosts. It takes MCM's own flags and a few
// for vCenter, and works with a target cluster and with --target-kubeconfig=none.
// With --cmi-endpoint the driver is another process, vch-driver, and this one
// never talks to vCenter.
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

	_ "github.com/gardener/machine-controller-manager/pkg/util/client/metrics/prometheus" // registers metrics of the Kubernetes client
	"github.com/gardener/machine-controller-manager/pkg/util/provider/app"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/app/options"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	_ "github.com/gardener/machine-controller-manager/pkg/util/reflector/prometheus" // registers metrics of reflectors
	_ "github.com/gardener/machine-controller-manager/pkg/util/workqueue/prometheus" // registers metrics of work queues
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/logs"
	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/cmd/internal/backend"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version"
)

func main() {
	// MCM's controller serves the default registry.
	if err := run(context.Background(), os.Args[1:], os.Stdout, prometheus.DefaultRegisterer); err != nil {
		fmt.Fprintln(os.Stderr, "machine-controller:", err)
		os.Exit(1)
	}
}

// settings are the flags.
type settings struct {
	server  *options.MCServer
	version bool
	backend backend.Flags
	cmi     plugin
}

func (s *settings) flags() *pflag.FlagSet {
	fs := pflag.NewFlagSet("machine-controller", pflag.ContinueOnError)
	fs.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	s.server = options.NewMCServer()
	s.server.AddFlags(fs)
	fs.BoolVar(&s.version, "version", false, "Print the version and exit.")
	s.backend.AddTo(fs)
	s.cmi.addTo(fs)
	return fs
}

func (s *settings) validate(fs *pflag.FlagSet) error {
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected arguments %q: there are only flags", fs.Args())
	}
	if err := s.backend.Validate(); err != nil {
		return err
	}
	return s.cmi.validate(fs)
}

func run(ctx context.Context, args []string, stdout io.Writer, registerer prometheus.Registerer) error {
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
	if err := s.validate(fs); err != nil {
		return err
	}
	logs.InitLogs()
	klog.EnableContextualLogging(true) // InitLogs turns off that lines say for which machine they are
	defer logs.FlushLogs()
	return serve(ctx, s, registerer)
}

// serve runs the controller until it fails or a signal comes.
func serve(ctx context.Context, s settings, registerer prometheus.Registerer) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	logger := klog.FromContext(ctx)
	logger.Info("Starting", "version", version.Version())

	d, end, err := s.driver(ctx, registerer)
	switch {
	case ctx.Err() != nil: // a signal ended the wait for the driver
		return nil
	case err != nil:
		return err
	}
	defer func() {
		if err := end(ctx); err != nil {
			logger.Error(err, "The driver has not ended in order")
		}
	}()

	ended := make(chan error, 1)
	go func() { ended <- app.Run(s.server, d) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		stop() // a second signal ends the process
		logger.Info("Signal received, ending the driver")
		return nil
	}
}

// driver is the one of this process or, if the flags say so, of another one.
func (s *settings) driver(ctx context.Context, registerer prometheus.Registerer) (d driver.Driver, end func(context.Context) error, err error) {
	if s.cmi.Endpoint != "" {
		return s.cmi.connect(ctx, s.backend.CallTimeout, registerer)
	}
	return s.backend.Driver(ctx, "machine-controller", registerer)
}
