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
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider/cmi"
)

// plugin are the flags for a driver in another process.
type plugin struct {
	endpoint       string
	insecure       bool
	tls            cmi.TLSFiles
	startupTimeout time.Duration
}

func (p *plugin) addTo(fs *pflag.FlagSet) {
	fs.StringVar(&p.endpoint, "cmi-endpoint", "", "Where a driver serves CMI v1, unix:///path or tcp://host:port; empty: the driver is part of this process.")
	fs.BoolVar(&p.insecure, "cmi-insecure", false, "Use TCP without TLS; only to a loopback address.")
	fs.StringVar(&p.tls.CertFile, "cmi-tls-cert-file", "", "Certificate of this client, PEM; required for TCP. Read again at each connection.")
	fs.StringVar(&p.tls.KeyFile, "cmi-tls-key-file", "", "Key of that certificate, PEM.")
	fs.StringVar(&p.tls.CAFile, "cmi-tls-ca-file", "", "Certificates that sign the driver's, PEM.")
	fs.StringVar(&p.tls.ServerName, "cmi-tls-server-name", "", "Name in the driver's certificate, if it is not the endpoint's host.")
	fs.DurationVar(&p.startupTimeout, "cmi-startup-timeout", 30*time.Second, "How long to wait at the start until the driver is ready.")
}

// validate says which flags do not fit together.
func (p *plugin) validate(fs *pflag.FlagSet) error {
	if p.endpoint == "" {
		var useless []string
		fs.Visit(func(f *pflag.Flag) {
			if strings.HasPrefix(f.Name, "cmi-") && f.Name != "cmi-endpoint" {
				useless = append(useless, "--"+f.Name)
			}
		})
		if len(useless) > 0 {
			return fmt.Errorf("%s without --cmi-endpoint: the driver is part of this process", strings.Join(useless, ", "))
		}
		return nil
	}
	if _, err := cmi.ParseEndpoint(p.endpoint); err != nil {
		return fmt.Errorf("--cmi-endpoint: %w", err)
	}
	if p.startupTimeout <= 0 {
		return fmt.Errorf("--cmi-startup-timeout must be greater than 0, got %s", p.startupTimeout)
	}
	if useless := backend.OfVCenter(fs); len(useless) > 0 {
		return fmt.Errorf("%s together with --cmi-endpoint: give it to the driver, which talks to vCenter", strings.Join(useless, ", "))
	}
	return nil
}

// driver returns the driver when it is ready.
func (p *plugin) driver(ctx context.Context, callTimeout time.Duration) (driver.Driver, func(context.Context) error, error) {
	endpoint, err := cmi.ParseEndpoint(p.endpoint)
	if err != nil {
		return nil, nil, fmt.Errorf("--cmi-endpoint: %w", err)
	}
	secured, err := cmi.ClientCredentials(endpoint, p.tls, p.insecure)
	if err != nil {
		return nil, nil, fmt.Errorf("--cmi-insecure, --cmi-tls-cert-file, --cmi-tls-key-file, --cmi-tls-ca-file: %w", err)
	}
	d, err := cmi.NewDriver(cmi.DriverOptions{
		Endpoint: endpoint, Credentials: secured, CallTimeout: callTimeout, Registerer: prometheus.DefaultRegisterer,
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
