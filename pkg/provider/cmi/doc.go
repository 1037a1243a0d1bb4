// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package cmi carries the driver over a wire: Server offers a provider.Driver as
// the gRPC services of the Cloud Machine Interface, version 1, and Driver is a
// provider.Driver that calls such a server. Whoever holds a Driver cannot tell
// whether the work is done in its own process: codes and texts of errors,
// responses and what happens to machines are the same, and one suite
// (pkg/provider/providertest) says so.
//
// # Words
//
// A driver is what MCM calls. A server is a driver's process, a client is who
// talks to it. An endpoint is where they meet: a unix socket that only its
// user may open, or TCP with TLS on both sides.
//
// # What CMI does not say
//
// The protocol (pkg/api/cmi/v1) is older than MCM's driver interface. What it
// lacks travels beside it as metadata, which both sides may leave out, so foreign
// clients and servers work, too:
//
//   - Requests name the Machine's namespace and the MachineClass, for errors and
//     logs. Without, the class is taken for one of ours.
//   - CMI has no InitializeMachine: CreateMachine makes a machine and starts it.
//     A request may say that it stands for one of MCM's two steps only.
//   - Responses bring the machine's addresses.
//
// MCM's code Uninitialized, which gRPC has not, is FailedPrecondition with a
// google.rpc.ErrorInfo of our domain. All other codes have the same number on
// both sides.
//
// # Who does what
//
// Nothing is decided here: requests are unpacked, given to the driver, and
// answers packed. What a server adds is what a process of its own needs: limits,
// logs without secrets, metrics, health, and an end in order.
package cmi
