// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vsphere"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration/plugins"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// Options is what a command gets from its process. Stdin to Owner are required;
// outside of tests, the zero value is right for the others.
type Options struct {
	Stdin io.Reader
	// Stderr gets bars that show progress if it is the file of a terminal.
	Stdout, Stderr io.Writer
	// Env returns a variable of the environment, "" when it is not set.
	Env func(name string) string
	// Owner names this process, for others that wait for what it does.
	Owner string

	// VCenter is how vCenters are spoken to.
	VCenter vcenter.Options
	// Clock is what times are taken from. Default: the real one.
	Clock clock.WithTicker
	// Settle is how long a removal waits until nobody can be about to use what it
	// removes. Default: vsphere.DefaultSettle.
	Settle time.Duration
	// ImageStore returns the image store of a VCH. Default: the one on its datastore.
	ImageStore func(client *vcenter.Client, host *vch.Config) image.Store
	// Volumes returns the volume stores of a VCH. Default: those of its configuration.
	Volumes func(client *vcenter.Client, host *vch.Config) *volume.Set
	// Migrations read and bring up to date the data of VMs that older versions made.
	// Default: plugins.Shipped.
	Migrations *migration.Set
}

func (o Options) migrations() *migration.Set {
	if o.Migrations == nil {
		return plugins.Shipped()
	}
	return o.Migrations
}

func (o Options) clock() clock.WithTicker {
	if o.Clock == nil {
		return clock.RealClock{}
	}
	return o.Clock
}

func (o Options) settle() time.Duration { return cmp.Or(o.Settle, vsphere.DefaultSettle) }

// Run runs vchctl with the arguments that follow the program's name and returns
// the exit code, 0 or 1. An error has been written to Stderr in one line.
func Run(ctx context.Context, args []string, opts Options) int {
	cmd := NewCommand(opts) //nolint:contextcheck // commands get theirs from ExecuteContext
	cmd.SetArgs(args)
	// Libraries log what they do; here only the answer counts.
	err := cmd.ExecuteContext(klog.NewContext(ctx, klog.Logger{}))
	if err == nil {
		return 0
	}
	// Nobody is left to tell when the stream of errors fails.
	_, _ = fmt.Fprintf(opts.Stderr, "vchctl: %s\n", oneLine(err.Error()))
	return 1
}

// NewCommand returns the command tree. Its errors are returned, not printed, and
// never come with a usage text.
func NewCommand(opts Options) *cobra.Command {
	root := &cobra.Command{
		Use:   "vchctl",
		Short: "Look at the machines of a Virtual Container Host, and keep its images, volumes and data",
		Long: `vchctl shows what machine-controller-manager's VCH provider made and needs in vCenter.
It changes nothing there but image disks, by image pull, rm and prune, volumes, by volume
create, rm and prune, and container VMs: their names by rename, and data of older
versions by migrate apply and restore.

vCenter is reached by --secret-file, the YAML of a MachineClass's Secret, or else
by govc's variables GOVC_URL, GOVC_USERNAME, GOVC_PASSWORD, GOVC_INSECURE,
GOVC_TLS_CA_CERTS, GOVC_TLS_KNOWN_HOSTS and GOVC_DATACENTER.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(opts.Stdin)
	root.SetOut(opts.Stdout)
	root.SetErr(opts.Stderr)
	root.AddCommand(
		guestinfoCommand(opts), machinesCommand(opts), imageCommand(opts), volumeCommand(opts),
		renameCommand(opts), migrateCommand(opts), kvCommand(opts), doctorCommand(opts), versionCommand(opts),
	)
	return root
}

// group returns a command that only holds others; without one of them it is an
// error, where cobra would print the help and succeed.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errdefs.New(errdefs.InvalidArgument, "%s has no command %q; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
			}
			return errdefs.New(errdefs.InvalidArgument, "%s needs a command; see %s --help", cmd.CommandPath(), cmd.CommandPath())
		},
	}
	cmd.AddCommand(commands...)
	return cmd
}

func versionCommand(opts Options) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of vchctl",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return write(opts.Stdout, []byte(version.String()+"\n"))
		},
	}
}

// write writes an answer.
func write(w io.Writer, data []byte) error {
	if _, err := w.Write(data); err != nil {
		return errdefs.Wrap(errdefs.Unavailable, err, "write the answer")
	}
	return nil
}

// writeJSON writes an answer as indented JSON.
func writeJSON(w io.Writer, answer any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(answer); err != nil {
		return errdefs.Wrap(errdefs.Unavailable, err, "write the answer as JSON")
	}
	return nil
}
