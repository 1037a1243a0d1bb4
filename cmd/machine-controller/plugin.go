// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/cmd/internal/backend"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/cmd/internal/dial"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider/cmi"
)

// prefix is that of the flags for a driver in another process.
const prefix = "cmi-"

// plugin are these flags.
type plugin struct {
	dial.Flags

	startupTimeout time.Duration
}

func (p *plugin) addTo(fs *pflag.FlagSet) {
	p.AddTo(fs, prefix, "", "Where a driver serves CMI v1, unix:///path or tcp://host:port; empty: the driver is part of this process.")
	fs.DurationVar(&p.startupTimeout, prefix+"startup-timeout", 30*time.Second, "How long to wait at the start until the driver is ready.")
}

// validate says which flags do not fit together.
func (p *plugin) validate(fs *pflag.FlagSet) error {
	if p.Endpoint == "" {
		var useless []string
		fs.Visit(func(f *pflag.Flag) {
			if strings.HasPrefix(f.Name, prefix) && f.Name != prefix+"endpoint" {
				useless = append(useless, "--"+f.Name)
			}
		})
		if len(useless) > 0 {
			return fmt.Errorf("%s without --cmi-endpoint: the driver is part of this process", strings.Join(useless, ", "))
		}
		return nil
	}
	if _, err := p.Parse(); err != nil {
		return err
	}
	if p.startupTimeout <= 0 {
		return fmt.Errorf("--cmi-startup-timeout must be greater than 0, got %s", p.startupTimeout)
	}
	if useless := backend.OfVCenter(fs); len(useless) > 0 {
		return fmt.Errorf("%s together with --cmi-endpoint: give it to the driver, which talks to vCenter", strings.Join(useless, ", "))
	}
	return nil
}

// connect returns the driver when it is ready.
func (p *plugin) connect(ctx context.Context, callTimeout time.Duration, registerer prometheus.Registerer) (driver.Driver, func(context.Context) error, error) {
	endpoint, secured, err := p.Driver()
	if err != nil {
		return nil, nil, err
	}
	d, err := cmi.NewDriver(cmi.DriverOptions{
		Endpoint: endpoint, Credentials: secured, CallTimeout: callTimeout, Registerer: registerer,
	})
	if err != nil {
		return nil, nil, err
	}
	starting, cancel := context.WithTimeout(ctx, p.startupTimeout)
	defer cancel()
	if err := d.Wait(starting); err != nil {
		_ = d.Close() // the reason for ending is the other error
		return nil, nil, err
	}
	return d, func(context.Context) error { return d.Close() }, nil
}
