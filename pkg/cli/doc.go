// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package cli is vchctl, the command line for operators: what a container VM's
// configuration says, which machines exist, whether a vCenter, a VCH and a
// ProviderSpec fit together, and which image disks and volumes there are.
//
// Commands are thin: they read flags and files, call the packages below (pkg/vch,
// pkg/containervm, pkg/guestinfo, pkg/image, pkg/volume) and write tables or JSON. Only
// image pull, rm and prune, and volume create, rm and prune change anything in vCenter
// or in a volume store. Everything that a process has,
// streams, environment and clock, comes in through Options, so tests run commands
// in their own process.
//
// Answers go to Stdout, progress and errors to Stderr, errors as one line; the exit
// code is 0 or 1. Progress is bars if Stderr is a terminal, and otherwise lines
// without control characters. Secrets are not shown: passwords never, environment
// values and keys of a VM only when asked for.
//
// cmd/vchctl is the only caller.
package cli
