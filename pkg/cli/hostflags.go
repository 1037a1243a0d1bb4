// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// hostFlags are what all commands have that are about what a VCH keeps: how to
// reach it, and how to answer.
type hostFlags struct {
	connection connectionFlags
	which      vchFlags
	output     string
}

func (f *hostFlags) add(cmd *cobra.Command) {
	f.connection.add(cmd)
	f.which.add(cmd)
}

// addOutput adds --output, whose values must be checked by checkOutput.
func (f *hostFlags) addOutput(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.output, "output", "o", outputTable, "json")
}

func (f *hostFlags) checkOutput() error {
	if !slices.Contains([]string{outputTable, outputJSON}, f.output) {
		return errdefs.New(errdefs.InvalidArgument, "--output must be %s, got %q", outputJSON, f.output)
	}
	return nil
}

// addWideOutput adds --output of lists, whose values must be checked by checkWideOutput.
func (f *hostFlags) addWideOutput(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.output, "output", "o", outputTable, "wide (more columns) or json")
}

func (f *hostFlags) checkWideOutput() error {
	if !slices.Contains([]string{outputTable, outputWide, outputJSON}, f.output) {
		return errdefs.New(errdefs.InvalidArgument, "--output must be %s or %s, got %q", outputWide, outputJSON, f.output)
	}
	return nil
}

// hosts runs fn with the VCHs that the flags select, and with why others could not be
// read. fn is not called if there are none.
func (f *hostFlags) hosts(ctx context.Context, opts Options, fn func(ctx context.Context, client *vcenter.Client, hosts []*vch.Config, unread error) error) error {
	selector, err := f.which.selector(f.connection.govc(opts.Env))
	if err != nil {
		return err
	}
	return f.connection.client(ctx, opts, func(ctx context.Context, client *vcenter.Client) error {
		hosts, err := selector.find(ctx, client)
		if len(hosts) == 0 {
			return err
		}
		return fn(ctx, client, hosts, err)
	})
}

// host runs fn with the one VCH that the flags select.
func (f *hostFlags) host(ctx context.Context, opts Options, fn func(context.Context, *vcenter.Client, *vch.Config) error) error {
	selector, err := f.which.selector(f.connection.govc(opts.Env))
	if err != nil {
		return err
	}
	return f.connection.client(ctx, opts, func(ctx context.Context, client *vcenter.Client) error {
		host, err := selector.one(ctx, client)
		if err != nil {
			return err
		}
		return fn(ctx, client, host)
	})
}
