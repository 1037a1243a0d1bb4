// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package cli is vchctl, the command line for operators: what a container VM's
// configuration says, which machines exist, and whether a vCenter, a VCH and a
// ProviderSpec fit together.
//
// Commands are thin: they read flags and files, call the packages below (pkg/vch,
// pkg/containervm, pkg/guestinfo) and write tables or JSON. No command changes
// anything in vCenter. Everything that a process has, streams and environment,
// comes in through Options, so tests run commands in their own process.
//
// Answers go to Stdout, errors as one line to Stderr; the exit code is 0 or 1.
// Secrets are not shown: passwords never, environment values and keys of a VM
// only when asked for.
//
// cmd/vchctl is the only caller.
package cli
