// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Command vchctl shows operators what the provider made and needs in vCenter, and
// keeps its images; the commands are in pkg/cli.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/cmd/internal/owner"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal lets a command clean up, the second ends it.
	context.AfterFunc(ctx, stop)
	code := cli.Run(ctx, os.Args[1:], cli.Options{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Env: os.Getenv, Owner: owner.Name("vchctl")})
	stop()
	os.Exit(code)
}
