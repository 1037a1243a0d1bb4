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

	"github.com/mcm-vch/machine-controller-manager-provider-vch/cmd/internal/dial"
)

// probeCommand asks a server's health service. It is for exec probes: those of
// the kubelet's own that speak gRPC cannot reach a unix socket.
func probeCommand(endpoint string) *cobra.Command {
	var (
		driver  dial.Flags
		timeout time.Duration
		service string
	)
	cmd := &cobra.Command{
		Use:   "probe",
		Short: "Ask a driver for its health (grpc.health.v1); the exit code is 0 if it serves",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, secured, err := driver.Driver()
			if err != nil {
				return err
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
	driver.AddTo(f, "", endpoint, "Where the driver serves: unix:///path or tcp://host:port. The variable "+endpointEnv+" is its default.")
	f.DurationVar(&timeout, "timeout", 5*time.Second, "How long to wait for the answer.")
	f.StringVar(&service, "service", "", "Service to ask for; empty for the driver as a whole.")
	return cmd
}
