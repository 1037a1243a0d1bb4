// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider/cmi"
)

// probeCommand asks a server's health service. It is for exec probes: those of
// the kubelet's own that speak gRPC cannot reach a unix socket.
func probeCommand(endpoint string) *cobra.Command {
	var (
		insecure bool
		files    cmi.TLSFiles
		timeout  time.Duration
		service  string
	)
	cmd := &cobra.Command{
		Use:   "probe",
		Short: "Ask a driver for its health (grpc.health.v1); the exit code is 0 if it serves",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := cmi.ParseEndpoint(endpoint)
			if err != nil {
				return fmt.Errorf("--endpoint: %w", err)
			}
			secured, err := cmi.ClientCredentials(at, files, insecure)
			if err != nil {
				return fmt.Errorf("--insecure, --tls-cert-file, --tls-key-file, --tls-ca-file: %w", err)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			conn, err := grpc.NewClient(at.Target(), grpc.WithTransportCredentials(secured), grpc.WithNoProxy())
			if err != nil {
				return fmt.Errorf("prepare a connection to %s: %w", at, err)
			}
			defer conn.Close() //nolint:errcheck // the process ends
			response, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
			if err != nil {
				return fmt.Errorf("ask the driver at %s for its health: %w", at, err)
			}
			if response.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
				return fmt.Errorf("the driver at %s answers %s", at, response.GetStatus())
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), response.GetStatus())
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&endpoint, "endpoint", endpoint, "Where the driver serves: unix:///path or tcp://host:port. The variable "+endpointEnv+" is its default.")
	f.BoolVar(&insecure, "insecure", false, "Use TCP without TLS; only to a loopback address.")
	f.StringVar(&files.CertFile, "tls-cert-file", "", "Certificate of this client, PEM; required for TCP.")
	f.StringVar(&files.KeyFile, "tls-key-file", "", "Key of that certificate, PEM.")
	f.StringVar(&files.CAFile, "tls-ca-file", "", "Certificates that sign the driver's, PEM.")
	f.StringVar(&files.ServerName, "tls-server-name", "", "Name in the driver's certificate, if it is not the endpoint's host.")
	f.DurationVar(&timeout, "timeout", 5*time.Second, "How long to wait for the answer.")
	f.StringVar(&service, "service", "", "Service to ask for; empty for the driver as a whole.")
	return cmd
}
